//! The workers of a run: started when they are needed, used again, and ended together.

use std::{
    collections::HashMap,
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use serde_json::json;
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};

use super::{
    describe::{DescribeRequest, Described},
    error::PythonError,
    interpreter::{Interpreter, InterpreterSettings},
    protocol::Frame,
    worker::{IsSet, Start, Worker},
};
use crate::{net::work_clock, process::Speaker};

/// How workers are started.
#[derive(Clone, Default)]
pub struct WorkersSettings {
    /// What names the interpreter.
    pub interpreter: InterpreterSettings,
    /// The project's folder.
    pub root: PathBuf,
    /// Cores of this process.
    pub cores: usize,
    /// Variables that are set, so that those of numerical libraries are left alone.
    pub set: Arc<std::collections::HashSet<String>>,
}

impl fmt::Debug for WorkersSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkersSettings").field("root", &self.root).field("cores", &self.cores).finish_non_exhaustive()
    }
}

impl IsSet for std::collections::HashSet<String> {
    fn is_set(&self, name: &str) -> bool {
        self.contains(name)
    }
}

/// Python processes that call functions, shared by all clones. None is started before it is needed.
#[derive(Debug, Clone, Default)]
pub struct Workers(Arc<Shared>);

/// A function that is described once, however many nodes ask at the same time.
type Description = OnceCell<Result<Described, PythonError>>;

#[derive(Debug)]
struct Shared {
    settings: WorkersSettings,
    speaker: Speaker,
    idle: Mutex<Vec<Worker>>,
    /// As many processes as cores work at once, unless a node has a number of its own.
    permits: Arc<Semaphore>,
    interpreter: OnceLock<Result<Interpreter, String>>,
    descriptions: Mutex<HashMap<DescribeRequest, Arc<Description>>>,
}

impl Default for Shared {
    fn default() -> Self {
        Self::new(WorkersSettings { cores: 1, ..WorkersSettings::default() })
    }
}

impl Shared {
    fn new(settings: WorkersSettings) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(settings.cores.max(1))),
            settings,
            speaker: Speaker::default(),
            idle: Mutex::default(),
            interpreter: OnceLock::new(),
            descriptions: Mutex::default(),
        }
    }
}

/// A worker in use. It goes back by [`Workers::give_back`]; if it is dropped, the process is killed.
#[derive(Debug)]
pub(super) struct Lent {
    pub worker: Worker,
    _permit: OwnedSemaphorePermit,
}

impl Workers {
    /// Workers that are started when they are needed.
    pub fn new(settings: WorkersSettings) -> Self {
        Self(Arc::new(Shared::new(settings)))
    }

    /// Where lines on stderr go.
    pub fn speaker(&self) -> &Speaker {
        &self.0.speaker
    }

    /// Cores of this process.
    pub fn cores(&self) -> usize {
        self.0.settings.cores.max(1)
    }

    /// The interpreter.
    ///
    /// # Errors
    /// When there is none.
    pub fn interpreter(&self) -> Result<&Interpreter, PythonError> {
        let settings = &self.0.settings;
        let found = self.0.interpreter.get_or_init(|| Interpreter::find(&settings.interpreter, &settings.root));
        found.as_ref().map_err(|error| PythonError::Unavailable(error.clone()))
    }

    /// Waits for a free process, or starts one. `limit` replaces the limit of one process per core.
    pub(super) async fn lend(&self, threads: usize, limit: Option<Arc<Semaphore>>) -> Result<Lent, PythonError> {
        let waiting = work_clock::waiting();
        let permits = limit.unwrap_or_else(|| self.0.permits.clone());
        let permit = permits.acquire_owned().await.expect("the semaphore is never closed");
        let idle = {
            let mut idle = self.0.idle.lock().unwrap_or_else(PoisonError::into_inner);
            let fitting = idle.iter().rposition(|worker| worker.threads == threads);
            fitting.map(|at| idle.swap_remove(at))
        };
        let worker = match idle {
            Some(worker) => worker,
            None => self.start(threads).await?,
        };
        drop(waiting);
        Ok(Lent { worker, _permit: permit })
    }

    async fn start(&self, threads: usize) -> Result<Worker, PythonError> {
        let interpreter = self.interpreter()?;
        let settings = &self.0.settings;
        let start = Start { interpreter, root: &settings.root, threads, is_set: &*settings.set };
        Worker::start(start, self.0.speaker.clone()).await
    }

    /// Takes a worker back whose call has ended. More than one per core are not kept.
    pub(super) async fn give_back(&self, mut lent: Lent) {
        lent.worker.settle().await;
        let mut idle = self.0.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.push(lent.worker);
        if idle.len() > self.cores() + 1 {
            idle.remove(0);
        }
    }

    /// Describes a function. Each question is asked once.
    ///
    /// # Errors
    /// When it cannot be imported, or does not take these inputs.
    pub async fn describe(&self, request: &DescribeRequest) -> Result<Described, PythonError> {
        let cell = {
            let mut all = self.0.descriptions.lock().unwrap_or_else(PoisonError::into_inner);
            all.entry(request.clone()).or_default().clone()
        };
        let described = cell.get_or_init(|| self.ask(request)).await;
        described.as_ref().map_err(PythonError::copied).cloned()
    }

    /// What an earlier [`Self::describe`] found.
    ///
    /// # Errors
    /// As there, or when there was none.
    pub fn described(&self, request: &DescribeRequest) -> Result<Described, PythonError> {
        let all = self.0.descriptions.lock().unwrap_or_else(PoisonError::into_inner);
        match all.get(request).and_then(|cell| cell.get()) {
            Some(described) => described.as_ref().map_err(PythonError::copied).cloned(),
            None => Err(PythonError::Unavailable(format!("`{}` was not imported", request.function))),
        }
    }

    async fn ask(&self, request: &DescribeRequest) -> Result<Described, PythonError> {
        let mut lent = self.lend(self.cores(), None).await?;
        let mut question = serde_json::to_value(request).expect("plain data becomes JSON");
        question["op"] = json!("describe");
        lent.worker.belongs_to(None);
        lent.worker.send(&question).await;
        let answer = match lent.worker.receive().await {
            Ok(Frame::Message(answer)) => answer,
            Ok(_) => return Err(PythonError::Died("the Python process sent rows without being asked".to_owned())),
            Err(PythonError::Died(error)) => {
                return Err(PythonError::Raised(format!("importing `{}` failed: {error}", request.function)));
            }
            Err(error) => return Err(error),
        };
        self.give_back(lent).await;
        let answer: serde_json::Value =
            serde_json::from_slice(&answer).map_err(|error| PythonError::Died(error.to_string()))?;
        if let Some(error) = answer["error"].as_str() {
            return Err(PythonError::Raised(error.to_owned()));
        }
        serde_json::from_value(answer).map_err(|error| PythonError::Died(error.to_string()))
    }

    /// Ends all processes that are not in use.
    pub async fn shut_down(&self) {
        let idle = std::mem::take(&mut *self.0.idle.lock().unwrap_or_else(PoisonError::into_inner));
        futures::future::join_all(idle.into_iter().map(Worker::shut_down)).await;
    }
}
