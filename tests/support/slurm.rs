//! A real SLURM on this machine: Debian's packages, unpacked into the build directory and not installed, started for one test on the
//! loopback alone, and ended with it.

use std::{
    fmt::Write as _,
    fs,
    net::TcpListener,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

const PACKAGES: &[&str] = &[
    "libhwloc15",
    "liblua5.1-0",
    "libmunge2",
    "munge",
    "slurm-wlm-basic-plugins",
    "slurm-client",
    "slurmd",
    "slurmctld",
];
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
const PLUGINS: &str = "usr/lib/x86_64-linux-gnu/slurm-wlm";
/// Tasks at a time; more than the machine has cores, as the tasks wait for a server.
const CPUS: usize = 8;

/// The daemons of one cluster with one node. Dropped, they and what they started end.
pub struct Slurm {
    programs: PathBuf,
    folder: tempfile::TempDir,
    daemons: Vec<Child>,
}

impl Slurm {
    /// Starts a cluster, or says why there is none.
    pub fn start() -> Result<Self, String> {
        let programs = unpacked()?;
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let mut slurm = Self { programs, folder, daemons: Vec::new() };
        slurm.configure()?;
        let at = |name: &str| slurm.folder.path().join(name).display().to_string();
        let munged = [
            "--foreground".to_owned(),
            "--force".to_owned(),
            format!("--socket={}", at("munge/socket")),
            format!("--key-file={}", at("munge/key")),
            format!("--pid-file={}", at("munge/pid")),
            format!("--log-file={}", at("munge/log")),
            format!("--seed-file={}", at("munge/seed")),
        ];
        let stepd = slurm.programs.join("usr/sbin/slurmstepd-wlm").display().to_string();
        slurm.daemon("munged", &munged)?;
        slurm.until("munged", |slurm| slurm.folder.path().join("munge/socket").exists())?;
        slurm.daemon("slurmctld-wlm", &["-D".to_owned()])?;
        slurm.daemon("slurmd-wlm", &["-D".to_owned(), "-d".to_owned(), stepd])?;
        slurm.until("a node of SLURM", |slurm| slurm.says("sinfo", &["-h", "-o", "%T"]).trim() == "idle")?;
        Ok(slurm)
    }

    fn configure(&self) -> Result<(), String> {
        let error = |error: std::io::Error| error.to_string();
        let root = self.folder.path();
        for name in ["munge", "state", "spool"] {
            fs::create_dir(root.join(name)).map_err(error)?;
        }
        let key: Vec<u8> = (0..1024).map(|_| rand::random()).collect();
        fs::write(root.join("munge/key"), key).map_err(error)?;
        for (path, mode) in [("munge/key", 0o400), ("munge", 0o711), ("", 0o755)] {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
            fs::set_permissions(root.join(path), mode).map_err(error)?;
        }
        let said = |command: &str, arguments: &[&str]| {
            let output = Command::new(command).args(arguments).output().map_err(error)?;
            Ok::<_, String>(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        let (host, user) = (said("hostname", &["-s"])?, said("id", &["-un"])?);
        let [control, node]: [u16; 2] = {
            let free: [TcpListener; 2] = std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").expect("a port"));
            free.map(|listener| listener.local_addr().expect("an address").port())
        };
        let (root, plugins) = (root.display(), self.programs.join(PLUGINS));
        let mut conf = String::new();
        for line in [
            "ClusterName=test".to_owned(),
            format!("SlurmctldHost={host}(127.0.0.1)"),
            format!("SlurmUser={user}"),
            format!("SlurmdUser={user}"),
            "AuthType=auth/munge".to_owned(),
            format!("AuthInfo=socket={root}/munge/socket"),
            "CredType=cred/munge".to_owned(),
            format!("PluginDir={}", plugins.display()),
            "ProctrackType=proctrack/linuxproc".to_owned(),
            "TaskPlugin=task/none".to_owned(),
            "MpiDefault=none".to_owned(),
            "MailProg=/bin/true".to_owned(),
            "ReturnToService=2".to_owned(),
            "SelectType=select/cons_tres".to_owned(),
            "SelectTypeParameters=CR_Core".to_owned(),
            "JobAcctGatherType=jobacct_gather/none".to_owned(),
            "AccountingStorageType=accounting_storage/none".to_owned(),
            // The node may have fewer cores than it says.
            "SlurmdParameters=config_overrides".to_owned(),
            // Nobody else can reach it.
            "CommunicationParameters=NoCtldInAddrAny,NoInAddrAny".to_owned(),
            format!("SlurmctldPort={control}"),
            format!("SlurmdPort={node}"),
            format!("StateSaveLocation={root}/state"),
            format!("SlurmdSpoolDir={root}/spool"),
            format!("SlurmctldPidFile={root}/slurmctld.pid"),
            format!("SlurmdPidFile={root}/slurmd.pid"),
            format!("SlurmctldLogFile={root}/slurmctld.log"),
            format!("SlurmdLogFile={root}/slurmd.log"),
            format!("NodeName={host} NodeAddr=127.0.0.1 CPUs={CPUS} RealMemory=100000"),
            format!("PartitionName=main Nodes={host} Default=YES State=UP"),
        ] {
            writeln!(conf, "{line}").expect("a string takes all");
        }
        fs::write(self.folder.path().join("slurm.conf"), conf).map_err(error)?;
        let cgroup = "CgroupPlugin=cgroup/v1\nConstrainCores=no\nConstrainRAMSpace=no\n";
        fs::write(self.folder.path().join("cgroup.conf"), cgroup).map_err(error)
    }

    fn daemon(&mut self, name: &str, arguments: &[String]) -> Result<(), String> {
        let log =
            fs::File::create(self.folder.path().join(format!("{name}.out"))).map_err(|error| error.to_string())?;
        let errors = log.try_clone().map_err(|error| error.to_string())?;
        let mut command = Command::new(self.programs.join("usr/sbin").join(name));
        command.args(arguments).envs(self.environment()).process_group(0);
        let child = command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn();
        self.daemons.push(child.map_err(|error| format!("{name}: {error}"))?);
        Ok(())
    }

    fn until(&self, what: &str, ready: impl Fn(&Self) -> bool) -> Result<(), String> {
        let begun = Instant::now();
        while !ready(self) {
            if begun.elapsed() > Duration::from_secs(60) {
                return Err(format!("{what} did not start: {}", self.logs()));
            }
            thread::park_timeout(Duration::from_millis(100));
        }
        Ok(())
    }

    /// The last lines of the daemons, for messages.
    pub fn logs(&self) -> String {
        let mut text = String::new();
        for name in ["munged.out", "slurmctld-wlm.out", "slurmd-wlm.out"] {
            let log = fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let _ = writeln!(text, "{name}:\n{}", lines[lines.len().saturating_sub(15)..].join("\n"));
        }
        text
    }

    /// What the commands of SLURM need; `PATH` begins with their folder.
    pub fn environment(&self) -> Vec<(String, String)> {
        let path = |name: &str| self.programs.join(name).display().to_string();
        vec![
            ("SLURM_CONF".to_owned(), self.folder.path().join("slurm.conf").display().to_string()),
            ("LD_LIBRARY_PATH".to_owned(), format!("{}:{}", path(LIBRARIES), path(PLUGINS))),
            ("PATH".to_owned(), format!("{}:/usr/bin:/bin", path("usr/bin"))),
        ]
    }

    /// What a command of SLURM prints.
    pub fn says(&self, command: &str, arguments: &[&str]) -> String {
        let program = self.programs.join("usr/bin").join(command);
        let output = Command::new(program).args(arguments).envs(self.environment()).output();
        output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
    }

    /// Ends the cluster, and gives the processes that outlive it: those that have its configuration in their environment.
    pub fn end(self) -> Vec<String> {
        let configuration = self.folder.path().join("slurm.conf").into_os_string().into_encoded_bytes();
        drop(self);
        let left = || -> Vec<String> {
            let processes = fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path());
            let of_cluster = processes.filter(|process| {
                let environment = fs::read(process.join("environ")).unwrap_or_default();
                environment.windows(configuration.len()).any(|part| part == configuration)
            });
            of_cluster.filter_map(|process| fs::read_to_string(process.join("cmdline")).ok()).collect()
        };
        let begun = Instant::now();
        while !left().is_empty() && begun.elapsed() < Duration::from_secs(15) {
            thread::park_timeout(Duration::from_millis(100));
        }
        left()
    }

    /// Waits until no job is left in the queue.
    #[track_caller]
    pub fn wait(&self, limit: Duration) {
        let begun = Instant::now();
        // Jobs that have ended are listed only when they are asked for.
        while !self.says("squeue", &["-h", "-t", "PD,R,CG,CF,S"]).trim().is_empty() {
            assert!(begun.elapsed() < limit, "jobs do not end: {}\n{}", self.says("squeue", &[]), self.logs());
            thread::park_timeout(Duration::from_millis(200));
        }
    }
}

impl Drop for Slurm {
    fn drop(&mut self) {
        if !self.daemons.is_empty() {
            self.says("scancel", &["--state=RUNNING"]);
            self.says("scancel", &["--state=PENDING"]);
        }
        for daemon in self.daemons.iter_mut().rev() {
            // It may have ended by itself already.
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

/// The packages, unpacked once for all tests of a build directory.
fn unpacked() -> Result<PathBuf, String> {
    static LOCK: Mutex<()> = Mutex::new(());
    let _one_at_a_time = LOCK.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tools/slurm");
    let (done, root) = (folder.join(".unpacked"), folder.join("root"));
    if done.exists() {
        return Ok(root);
    }
    if !cfg!(target_arch = "x86_64") || !Path::new("/etc/debian_version").exists() {
        return Err("the packages of SLURM are those of Debian on x86_64".to_owned());
    }
    let packages = folder.join("packages");
    fs::create_dir_all(&packages).map_err(|error| error.to_string())?;
    let run = |command: &mut Command| {
        let output = command.current_dir(&packages).stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(()) } else { Err(format!("{command:?}: {said}")) }
    };
    let download = || run(Command::new("apt-get").args(["download", "-q"]).args(PACKAGES));
    // The list of packages may be missing or old; to renew it takes root.
    download().or_else(|_| run(Command::new("apt-get").args(["update", "-q"])).and_then(|()| download()))?;
    for entry in fs::read_dir(&packages).map_err(|error| error.to_string())?.flatten() {
        run(Command::new("dpkg-deb").arg("-x").arg(entry.path()).arg(&root))?;
    }
    fs::write(&done, "").map_err(|error| error.to_string())?;
    Ok(root)
}
