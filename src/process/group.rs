//! A process and all its children: they are killed together, and none is left behind.

use std::{
    io,
    process::{Child, Command, ExitStatus},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::watch;

/// A started process in a group of its own.
#[derive(Debug)]
pub struct Process {
    #[cfg(unix)]
    group: rustix::process::Pid,
    /// True once its number may belong to another process.
    reaped: Mutex<bool>,
    #[cfg(not(unix))]
    child: Mutex<Child>,
    ended: watch::Receiver<Option<ExitStatus>>,
}

impl Process {
    /// Starts the command, whose stdout and stderr are pipes, and a thread that waits for its end.
    ///
    /// # Errors
    /// When the system does not start it.
    pub fn start(command: &mut Command) -> io::Result<(Arc<Self>, Pipes)> {
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(command, 0);
        let mut child = command.spawn()?;
        let missing = || io::Error::other("a pipe is missing");
        let pipes = Pipes {
            input: child.stdin.take(),
            output: child.stdout.take().ok_or_else(missing)?,
            errors: child.stderr.take().ok_or_else(missing)?,
        };
        let (ending, ended) = watch::channel(None);
        Ok((Self::watched(child, ending, ended)?, pipes))
    }

    #[cfg(unix)]
    fn watched(
        mut child: Child,
        ending: watch::Sender<Option<ExitStatus>>,
        ended: watch::Receiver<Option<ExitStatus>>,
    ) -> io::Result<Arc<Self>> {
        use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
        let group = Pid::from_child(&child);
        let process = Arc::new(Self { group, reaped: Mutex::new(false), ended });
        let waiting = process.clone();
        std::thread::Builder::new().name("process-wait".to_owned()).spawn(move || {
            // Its number is its own until it is reaped: only then is it safe to kill what it left behind.
            while let Err(rustix::io::Errno::INTR) =
                waitid(WaitId::Pid(group), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)
            {}
            let mut reaped = waiting.reaped.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
            let status = child.wait();
            *reaped = true;
            drop(reaped);
            let _ = ending.send(status.ok());
        })?;
        Ok(process)
    }

    #[cfg(not(unix))]
    fn watched(
        child: Child,
        ending: watch::Sender<Option<ExitStatus>>,
        ended: watch::Receiver<Option<ExitStatus>>,
    ) -> io::Result<Arc<Self>> {
        let process = Arc::new(Self { reaped: Mutex::new(false), child: Mutex::new(child), ended });
        let waiting = process.clone();
        std::thread::Builder::new().name("process-wait".to_owned()).spawn(move || {
            loop {
                let status = waiting.child.lock().unwrap_or_else(PoisonError::into_inner).try_wait();
                match status {
                    Ok(None) => std::thread::sleep(std::time::Duration::from_millis(20)),
                    status => {
                        *waiting.reaped.lock().unwrap_or_else(PoisonError::into_inner) = true;
                        let _ = ending.send(status.ok().flatten());
                        return;
                    }
                }
            }
        })?;
        Ok(process)
    }

    /// The number of the process; `None` once it may belong to another one.
    pub fn number(&self) -> Option<u32> {
        let reaped = self.reaped.lock().unwrap_or_else(PoisonError::into_inner);
        if *reaped {
            return None;
        }
        #[cfg(unix)]
        return u32::try_from(self.group.as_raw_nonzero().get()).ok();
        #[cfg(not(unix))]
        return Some(self.child.lock().unwrap_or_else(PoisonError::into_inner).id());
    }

    /// Kills the process and its children.
    pub fn kill(&self) {
        let reaped = self.reaped.lock().unwrap_or_else(PoisonError::into_inner);
        if *reaped {
            return;
        }
        // It may have ended by itself.
        #[cfg(unix)]
        let _ = rustix::process::kill_process_group(self.group, rustix::process::Signal::KILL);
        #[cfg(not(unix))]
        let _ = self.child.lock().unwrap_or_else(PoisonError::into_inner).kill();
    }

    /// Waits for its end.
    pub async fn ended(&self) -> Option<ExitStatus> {
        let mut ended = self.ended.clone();
        ended.wait_for(Option::is_some).await.ok().and_then(|status| *status)
    }
}

/// The pipes to a process.
#[derive(Debug)]
pub struct Pipes {
    /// Its stdin, if that is a pipe.
    pub input: Option<std::process::ChildStdin>,
    /// Its stdout.
    pub output: std::process::ChildStdout,
    /// Its stderr.
    pub errors: std::process::ChildStderr,
}

/// How a process ended, as displayed to the user, with the likely cause.
pub fn explain(status: Option<ExitStatus>) -> String {
    let Some(status) = status else { return "ended".to_owned() };
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return match signal {
            9 => "was killed by SIGKILL, which the system does when memory runs out".to_owned(),
            11 => "crashed with SIGSEGV, a fault in compiled code that the function calls".to_owned(),
            6 => "aborted with SIGABRT, a fault in compiled code that the function calls".to_owned(),
            7 => "crashed with SIGBUS, a fault in compiled code or a file that became shorter".to_owned(),
            8 => "crashed with SIGFPE, a fault in compiled code that the function calls".to_owned(),
            4 => "crashed with SIGILL: compiled code is for another processor".to_owned(),
            15 => "was ended by SIGTERM".to_owned(),
            signal => format!("was killed by signal {signal}"),
        };
    }
    match status.code() {
        Some(code) => format!("ended with exit code {code} in the middle of the call, as by `os._exit`"),
        None => "ended".to_owned(),
    }
}
