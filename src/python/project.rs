//! Kedro projects: what they are, and calls of their nodes. What a node leaves in memory stays in the process that computed it;
//! another process gets it pickled.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use serde_json::{Value as Json, json};

use super::{
    call::Call,
    error::PythonError,
    pool::{Lent, Workers},
    project_start::ProjectStart,
    protocol::Frame,
};

/// How long a node waits for a process in use before another is started, which takes seconds itself.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes of an object that are sent at once.
const FRAME: usize = 1 << 20;

/// A dataset in the memory of Python processes, which let go of it when this is dropped.
pub struct Held {
    name: String,
    workers: Workers,
    /// The processes that have it.
    places: Mutex<Vec<u64>>,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Held {
    fn places(&self) -> Vec<u64> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.workers.let_go(&self.places(), &self.name);
    }
}

/// A call of a node of the project.
#[derive(Debug)]
pub struct NodeRequest<'a> {
    /// The pipeline that has it.
    pub pipeline: &'a str,
    /// Its name.
    pub node: &'a str,
    /// Its inputs that are in memory.
    pub held: Vec<&'a Held>,
}

/// A call of a node in progress.
#[derive(Debug)]
pub struct NodeCall {
    /// The call.
    pub call: Call,
    workers: Workers,
    worker: u64,
}

impl NodeCall {
    /// A dataset that the node left in memory.
    pub fn held(&self, name: &str) -> Held {
        Held { name: name.to_owned(), workers: self.workers.clone(), places: Mutex::new(vec![self.worker]) }
    }
}

impl Workers {
    /// Asks the project what it is. All later calls of its nodes load it in the same way.
    ///
    /// # Errors
    /// When there is no Python, or the project cannot be loaded.
    pub async fn ask_project(&self, start: ProjectStart) -> Result<Json, PythonError> {
        let mut lent = self.lend(self.cores(), None).await?;
        lent.worker.belongs_to(None);
        lent.worker.send(&json!({"op": "kedro_ask", "start": start.json()})).await;
        let (_, answer) = answer(&mut lent).await?;
        self.give_back(lent).await;
        self.set_project(start, answer["single"] == json!(true));
        Ok(answer)
    }

    /// Begins a call of a node.
    ///
    /// # Errors
    /// When no process can be started, or the one that holds an input is gone.
    pub async fn call_node(&self, request: NodeRequest<'_>) -> Result<NodeCall, PythonError> {
        let Some((start, single)) = self.project() else {
            return Err(PythonError::Unavailable("the Kedro project was not loaded".to_owned()));
        };
        // The process that has most of its inputs.
        let places: Vec<u64> = request.held.iter().flat_map(|held| held.places()).collect();
        let most = places.iter().copied().max_by_key(|id| places.iter().filter(|other| *other == id).count());
        let mut given = Vec::new();
        for held in request.held.iter().filter(|held| most.is_some_and(|id| !held.places().contains(&id))) {
            given.push((*held, self.fetch(held, &start).await?));
        }
        let mut lent = match most {
            Some(id) => self.lend_one(id).await?.ok_or_else(|| gone(request.held.first().map(|held| &*held.name)))?,
            None => self.lend_patiently((!single).then_some(PATIENCE)).await?,
        };
        let worker = lent.worker.id;
        lent.worker.keeps = true;
        lent.worker.belongs_to(Some(request.node));
        let names: Vec<&str> = given.iter().map(|(held, _)| held.name.as_str()).collect();
        let message = json!({
            "op": "kedro_run", "start": start.json(), "pipeline": request.pipeline, "node": request.node, "given": names,
            "release": self.released(worker),
        });
        lent.worker.send(&message).await;
        let outgoing = lent.worker.outgoing();
        let mut objects = Vec::new();
        for (held, object) in given {
            held.places.lock().unwrap_or_else(PoisonError::into_inner).push(worker);
            objects.push(object);
        }
        let sending = Box::pin(async move {
            for (stream, object) in objects.into_iter().enumerate() {
                let stream = u16::try_from(stream).expect("a node has fewer than 65,536 inputs");
                for part in object {
                    let _ = outgoing.send(Frame::Data(stream, part)).await;
                }
                let _ = outgoing.send(Frame::End(stream)).await;
            }
            Ok(())
        });
        Ok(NodeCall { call: Call::begin(self.clone(), lent, sending), workers: self.clone(), worker })
    }

    /// An object that another process holds, pickled.
    async fn fetch(&self, held: &Held, start: &ProjectStart) -> Result<Vec<Bytes>, PythonError> {
        let id = held.places().first().copied().unwrap_or_default();
        let mut lent = self.lend_one(id).await?.ok_or_else(|| gone(Some(&held.name)))?;
        lent.worker.belongs_to(None);
        lent.worker.send(&json!({"op": "kedro_give", "start": start.json(), "name": held.name})).await;
        let (parts, _) = answer(&mut lent).await?;
        self.give_back(lent).await;
        Ok(parts
            .into_iter()
            .flat_map(|part| (0..part.len()).step_by(FRAME).map(move |at| part.slice(at..part.len().min(at + FRAME))))
            .collect())
    }
}

fn gone(name: Option<&str>) -> PythonError {
    let name = name.unwrap_or("an input");
    PythonError::Raised(format!(
        "`{name}` was in the memory of a Python process that has ended\nhelp: run again; an entry in the catalog keeps it"
    ))
}

/// The data and the message with which a process answers a question that is no call.
async fn answer(lent: &mut Lent) -> Result<(Vec<Bytes>, Json), PythonError> {
    let mut parts = Vec::new();
    loop {
        match lent.worker.receive().await? {
            Frame::Data(_, part) => parts.push(part),
            Frame::End(_) | Frame::Parts(..) => {}
            Frame::Message(message) => {
                let answer: Json =
                    serde_json::from_slice(&message).map_err(|error| PythonError::Died(error.to_string()))?;
                return match answer["error"].as_str() {
                    Some(error) => Err(PythonError::Raised(error.to_owned())),
                    None => Ok((parts, answer)),
                };
            }
        }
    }
}
