//! The workers of a run: started when they are needed, used again, and ended together.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use tokio::{
    sync::{Notify, OnceCell, OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use super::{
    describe::{DescribeRequest, Described},
    error::PythonError,
    interpreter::{Interpreter, InterpreterSettings},
    memory::{INTERVAL, MemoryWatch},
    project_start::ProjectStart,
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
    pub set: Arc<HashSet<String>>,
}

impl fmt::Debug for WorkersSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkersSettings").field("root", &self.root).field("cores", &self.cores).finish_non_exhaustive()
    }
}

impl IsSet for HashSet<String> {
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
    /// How the Kedro project is loaded, and whether all its nodes need one process.
    project: Mutex<Option<(ProjectStart, bool)>>,
    /// The number of the next process.
    next: AtomicU64,
    /// The processes in use.
    lent: Mutex<HashSet<u64>>,
    /// Something changed in `idle` or `lent`.
    returned: Notify,
    /// What processes hold that nobody needs any more.
    let_go: Mutex<HashMap<u64, Vec<String>>>,
    descriptions: Mutex<HashMap<DescribeRequest, Arc<Description>>>,
    memory: MemoryWatch,
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
            project: Mutex::default(),
            next: AtomicU64::new(0),
            lent: Mutex::default(),
            returned: Notify::new(),
            let_go: Mutex::default(),
            descriptions: Mutex::default(),
            memory: MemoryWatch::default(),
        }
    }
}

/// A worker in use. It goes back by [`Workers::give_back`]; if it is dropped, the process is killed.
#[derive(Debug)]
pub(super) struct Lent {
    pub worker: Worker,
    registration: Registration,
    _permit: OwnedSemaphorePermit,
}

/// Notes that a process is in use, as long as it lives.
#[derive(Debug)]
struct Registration {
    id: u64,
    shared: Arc<Shared>,
}

impl Registration {
    fn new(id: u64, shared: &Arc<Shared>) -> Self {
        locked(&shared.lent).insert(id);
        Self { id, shared: shared.clone() }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        locked(&self.shared.lent).remove(&self.id);
        self.shared.returned.notify_waiters();
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// All processes and this one hold no more than so many bytes together.
    pub fn limit_memory(&self, bytes: u64) {
        self.0.memory.limit(bytes);
        let started = |worker: &&Worker| self.0.memory.watch(worker.id, worker.process().0, worker.process().1);
        if locked(&self.0.idle).iter().filter(started).count() > 0 {
            self.watch_memory();
        }
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
        let permit = self.permit(limit).await;
        let idle = {
            let mut idle = locked(&self.0.idle);
            let fitting = idle.iter().rposition(|worker| worker.threads == threads);
            fitting.map(|at| self.registered(idle.swap_remove(at)))
        };
        let (worker, registration) = match idle {
            Some(found) => found,
            None => self.registered(self.start(threads).await?),
        };
        drop(waiting);
        Ok(Lent { worker, registration, _permit: permit })
    }

    /// Waits for any process that is there, and starts one where there is none; also when `patience` is over.
    pub(super) async fn lend_patiently(&self, patience: Option<Duration>) -> Result<Lent, PythonError> {
        let waiting = work_clock::waiting();
        let permit = self.permit(None).await;
        let begin = Instant::now();
        let found = loop {
            let returned = self.0.returned.notified();
            let idle = locked(&self.0.idle).pop().map(|worker| self.registered(worker));
            if idle.is_some() || locked(&self.0.lent).is_empty() {
                break idle;
            }
            match patience {
                None => returned.await,
                Some(patience) => {
                    if tokio::time::timeout_at(begin + patience, returned).await.is_err() {
                        break None;
                    }
                }
            }
        };
        let (worker, registration) = match found {
            Some(found) => found,
            None => self.registered(self.start(self.cores()).await?),
        };
        drop(waiting);
        Ok(Lent { worker, registration, _permit: permit })
    }

    /// Waits for one certain process; `None` when it has ended.
    pub(super) async fn lend_one(&self, id: u64) -> Result<Option<Lent>, PythonError> {
        let waiting = work_clock::waiting();
        let permit = self.permit(None).await;
        let found = loop {
            let returned = self.0.returned.notified();
            let idle = {
                let mut idle = locked(&self.0.idle);
                let at = idle.iter().position(|worker| worker.id == id);
                at.map(|at| self.registered(idle.swap_remove(at)))
            };
            if idle.is_some() || !locked(&self.0.lent).contains(&id) {
                break idle;
            }
            returned.await;
        };
        drop(waiting);
        Ok(found.map(|(worker, registration)| Lent { worker, registration, _permit: permit }))
    }

    async fn permit(&self, limit: Option<Arc<Semaphore>>) -> OwnedSemaphorePermit {
        let permits = limit.unwrap_or_else(|| self.0.permits.clone());
        let permit = permits.acquire_owned().await.expect("the semaphore is never closed");
        // As many as fit into memory.
        loop {
            let returned = self.0.returned.notified();
            if locked(&self.0.lent).len() < self.0.memory.most_at_once() {
                return permit;
            }
            returned.await;
        }
    }

    fn registered(&self, worker: Worker) -> (Worker, Registration) {
        let registration = Registration::new(worker.id, &self.0);
        (worker, registration)
    }

    async fn start(&self, threads: usize) -> Result<Worker, PythonError> {
        let interpreter = self.interpreter()?;
        let settings = &self.0.settings;
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        let start = Start { interpreter, root: &settings.root, threads, is_set: &*settings.set, id };
        let worker = Worker::start(start, self.0.speaker.clone()).await?;
        let (process, verdict) = worker.process();
        if self.0.memory.watch(id, process, verdict) {
            self.watch_memory();
        }
        Ok(worker)
    }

    /// Starts a thread that ends processes for their memory, while there are workers at all.
    fn watch_memory(&self) {
        let shared = Arc::downgrade(&self.0);
        let watch = move || {
            while let Some(shared) = shared.upgrade() {
                if let Some(excess) = shared.memory.excess(shared.settings.cores.max(1)) {
                    // One that does nothing and holds nothing that is needed goes first.
                    let spare = {
                        let mut idle = locked(&shared.idle);
                        let at = idle.iter().position(|worker| !worker.keeps && worker.id != excess.id);
                        at.map(|at| idle.remove(at))
                    };
                    match spare {
                        Some(worker) => drop(worker),
                        None => excess.end(),
                    }
                }
                drop(shared);
                std::thread::sleep(INTERVAL);
            }
        };
        if let Err(error) =
            std::thread::Builder::new().name("python-memory".to_owned()).stack_size(256 << 10).spawn(watch)
        {
            tracing::warn!(%error, "the memory of Python processes is not limited");
        }
    }

    /// Takes a worker back whose call has ended. More than one per core are not kept.
    pub(super) async fn give_back(&self, mut lent: Lent) {
        lent.worker.settle().await;
        let Lent { worker, registration, _permit } = lent;
        if worker.is_last {
            worker.shut_down().await;
            return;
        }
        let mut idle = locked(&self.0.idle);
        idle.push(worker);
        if idle.len() > self.cores() + 1 {
            idle.remove(0);
        }
        drop(idle);
        // Who waits for it finds it among the idle ones.
        drop(registration);
    }

    /// How the Kedro project is loaded, from now on.
    pub(super) fn set_project(&self, start: ProjectStart, single: bool) {
        *locked(&self.0.project) = Some((start, single));
    }

    /// See [`Self::set_project`].
    pub(super) fn project(&self) -> Option<(ProjectStart, bool)> {
        locked(&self.0.project).clone()
    }

    /// Nobody needs what these processes hold under this name.
    pub(super) fn let_go(&self, workers: &[u64], name: &str) {
        let mut all = locked(&self.0.let_go);
        workers.iter().for_each(|id| all.entry(*id).or_default().push(name.to_owned()));
    }

    /// What a process is to let go of.
    pub(super) fn released(&self, id: u64) -> Vec<String> {
        locked(&self.0.let_go).remove(&id).unwrap_or_default()
    }

    /// Describes a function. Each question is asked once.
    ///
    /// # Errors
    /// When it cannot be imported, or does not take these inputs.
    pub async fn describe(&self, request: &DescribeRequest) -> Result<Described, PythonError> {
        let cell = {
            let mut all = locked(&self.0.descriptions);
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
        let all = locked(&self.0.descriptions);
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
        let idle = std::mem::take(&mut *locked(&self.0.idle));
        futures::future::join_all(idle.into_iter().map(Worker::shut_down)).await;
    }
}
