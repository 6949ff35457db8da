//! One worker: a Python process, the threads at its pipes, and its start.

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::mpsc;

use super::{
    error::PythonError,
    interpreter::Interpreter,
    memory::Verdict,
    protocol::{self, Frame},
};
use crate::process::{self, Lines, Process, Speaker};

/// The program of a worker.
const PROGRAM: &str = concat!(
    include_str!("worker/frames.py"),
    include_str!("worker/kinds.py"),
    include_str!("worker/rows.py"),
    include_str!("worker/tables.py"),
    include_str!("worker/calls.py"),
    include_str!("worker/fingerprints.py"),
    include_str!("worker/kedro.py"),
    include_str!("worker/main.py"),
    "\n\npaths = []\nmain()\n"
);
/// Reads the program from the pipe: as an argument it would be shown by every list of processes.
const BOOTSTRAP: &str = "import os\n\
    def read(n):\n b=b''\n while len(b)<n:\n  c=os.read(0,n-len(b))\n  if not c: os._exit(0)\n  b+=c\n return b\n\
    exec(compile(read(int(read(12))),'<flow worker>','exec'))";
/// The oldest Python that is supported.
const OLDEST: (u64, u64) = (3, 9);
/// How long an interpreter may take to start.
const START: Duration = Duration::from_secs(60);
/// How long a process may take to end by itself, and its last lines to arrive.
const END: Duration = Duration::from_secs(3);
/// Variables that limit the threads of numerical libraries.
const THREADS: &[&str] = &[
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_MAX_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "POLARS_MAX_THREADS",
    "ARROW_NUM_THREADS",
    "RAYON_NUM_THREADS",
];

/// What a worker is started with.
#[derive(Debug, Clone)]
pub(super) struct Start<'a> {
    pub interpreter: &'a Interpreter,
    pub root: &'a Path,
    /// Threads of numerical libraries; variables that are set already are left alone.
    pub threads: usize,
    pub is_set: &'a dyn IsSet,
    /// See [`Worker::id`].
    pub id: u64,
}

/// Whether a variable of the environment is set.
pub(super) trait IsSet: std::fmt::Debug + Send + Sync {
    fn is_set(&self, name: &str) -> bool;
}

/// A running worker. It is killed with all its children when it is dropped.
#[derive(Debug)]
pub(super) struct Worker {
    process: Arc<Process>,
    stderr: Arc<Lines>,
    outgoing: mpsc::Sender<Frame>,
    incoming: mpsc::Receiver<io::Result<Frame>>,
    /// See [`Start::threads`].
    pub threads: usize,
    /// Which one it is.
    pub id: u64,
    /// How often it was called.
    pub calls: u64,
    /// True if it is not called again.
    pub is_last: bool,
    /// True if it holds what later calls need.
    pub keeps: bool,
    /// Why it was ended for its memory.
    verdict: Verdict,
    marks: u64,
    /// False after a function closed stderr: the mark never comes.
    marked: bool,
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.process.kill();
    }
}

#[derive(Deserialize)]
struct Hello {
    python: (u64, u64, u64),
}

impl Worker {
    /// Starts a worker and waits until it is ready.
    pub(super) async fn start(start: Start<'_>, speaker: Speaker) -> Result<Self, PythonError> {
        let program = &start.interpreter.program;
        let unavailable = |what: String| {
            PythonError::Unavailable(format!(
                "Python at `{}` (found by {}) {what}",
                program.display(),
                start.interpreter.named_by
            ))
        };
        let mut command = Command::new(program);
        command.args(["-u", "-X", "faulthandler", "-c", BOOTSTRAP]).current_dir(start.root);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for name in THREADS {
            if !start.is_set.is_set(name) {
                command.env(name, start.threads.to_string());
            }
        }
        let failed = |error: io::Error| unavailable(format!("cannot be started: {error}"));
        let (process, pipes) = Process::start(&mut command).map_err(failed)?;
        let stderr = Lines::drain(pipes.errors, None, speaker).map_err(failed)?;
        let (outgoing, mut to_write) = mpsc::channel::<Frame>(4);
        let (read, incoming) = mpsc::channel(8);
        let mut input = pipes.input.ok_or_else(|| failed(io::Error::other("a pipe is missing")))?;
        thread("python-write", move || {
            let source = PROGRAM.as_bytes();
            let bootstrap = format!("{:012}", source.len());
            if input.write_all(bootstrap.as_bytes()).and_then(|()| input.write_all(source)).is_err() {
                return;
            }
            while let Some(frame) = to_write.blocking_recv() {
                // A process that is gone is noticed where its frames are read.
                if protocol::write(&mut input, &frame).is_err() {
                    return;
                }
            }
        })
        .map_err(failed)?;
        let mut output = pipes.output;
        thread("python-read", move || {
            loop {
                let frame = protocol::read(&mut output).transpose();
                let Some(frame) = frame else { return };
                let failed = frame.is_err();
                if read.blocking_send(frame).is_err() || failed {
                    return;
                }
            }
        })
        .map_err(failed)?;
        let threads = start.threads;
        let id = start.id;
        let mut worker = Self {
            process,
            stderr,
            outgoing,
            incoming,
            threads,
            id,
            calls: 0,
            is_last: false,
            keeps: false,
            verdict: Verdict::default(),
            marks: 0,
            marked: true,
        };
        let source = start.root.join("src");
        let paths: Vec<PathBuf> = [source, start.root.to_owned()].into_iter().filter(|path| path.is_dir()).collect();
        worker.send(&json!({"root": start.root, "paths": paths})).await;
        let hello = tokio::time::timeout(START, worker.receive()).await;
        let hello = match hello {
            Err(_) => return Err(unavailable(format!("did not start within {} seconds", START.as_secs()))),
            Ok(Err(PythonError::Died(error))) => return Err(unavailable(format!("does not start: {error}"))),
            Ok(frame) => frame?,
        };
        let Frame::Message(message) = hello else { return Err(unavailable("does not start".to_owned())) };
        let Hello { python: (major, minor, patch) } = serde_json::from_slice(&message)
            .map_err(|error| unavailable(format!("does not respond as expected: {error}")))?;
        if (major, minor) < OLDEST {
            let what = format!("is version {major}.{minor}.{patch}, and {}.{} or later is needed", OLDEST.0, OLDEST.1);
            return Err(unavailable(what));
        }
        Ok(worker)
    }

    /// The process, and where it is said why it was ended for its memory.
    pub(super) fn process(&self) -> (&Arc<Process>, &Verdict) {
        (&self.process, &self.verdict)
    }

    /// Lines on stderr belong to this node from now on.
    pub(super) fn belongs_to(&mut self, node: Option<&str>) {
        self.marks = self.stderr.belongs_to(node);
    }

    /// Sends a message. A process that is gone is noticed by [`Self::receive`].
    pub(super) async fn send(&self, message: &serde_json::Value) {
        let _ = self.outgoing.send(Frame::Message(Bytes::from(message.to_string()))).await;
    }

    /// Where frames to the worker go.
    pub(super) fn outgoing(&self) -> mpsc::Sender<Frame> {
        self.outgoing.clone()
    }

    /// The next frame. Cancel safe.
    ///
    /// # Errors
    /// [`PythonError::Died`] when the process is gone.
    pub(super) async fn receive(&mut self) -> Result<Frame, PythonError> {
        match self.incoming.recv().await {
            Some(Ok(frame)) => Ok(frame),
            Some(Err(error)) => {
                self.process.kill();
                Err(PythonError::Died(format!("the Python process sent something that is no message: {error}")))
            }
            None => Err(self.died().await),
        }
    }

    /// Waits until everything that a function wrote to stderr was heard.
    pub(super) async fn settle(&mut self) {
        if self.marked && tokio::time::timeout(Duration::from_secs(1), self.stderr.marked(self.marks)).await.is_err() {
            self.marked = false;
        }
        self.belongs_to(None);
    }

    /// What became of a process whose pipe is closed.
    async fn died(&self) -> PythonError {
        let status = tokio::time::timeout(END, self.process.ended()).await.unwrap_or_default();
        if status.is_none() {
            self.process.kill();
        }
        // The last lines may still be on their way.
        let _ = tokio::time::timeout(END, self.stderr.marked(u64::MAX - 1)).await;
        let last = self.stderr.last_lines();
        let last = if last.is_empty() {
            "; it wrote nothing to stderr".to_owned()
        } else {
            format!("; its last lines:{last}")
        };
        match self.verdict.get() {
            Some(why) => PythonError::Died(format!(
                "the Python process {why}, and was ended{last}\nhelp: raise `--memory-limit`, give the node fewer `workers:`, or take \
                 the rows as an iterator (docs/python.md)"
            )),
            None => PythonError::Died(format!("the Python process {}{last}", process::explain(status))),
        }
    }

    /// Asks the process to end, and waits a moment before it is killed.
    pub(super) async fn shut_down(self) {
        self.send(&json!({"op": "exit"})).await;
        let _ = tokio::time::timeout(END, self.process.ended()).await;
    }
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().name(name.to_owned()).stack_size(256 << 10).spawn(work).map(drop)
}
