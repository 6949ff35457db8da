//! What is at which address.
//!
//! | address | holds |
//! |---|---|
//! | `/` | the page |
//! | `/api/runs` | the runs, latest first |
//! | `/api/runs/ID` | the document of the page for a run, without what its events say |
//! | `/api/live?run=ID` | server-sent events: `runs` (the list, when it changes), `events` (lines of the ledger), `run` (its entry in the list) |
//! | `/api/datasets/NAME?limit=N` | the first rows, the columns and the partitions of a dataset |

use std::{io, sync::Arc, time::Duration};

use futures::{StreamExt as _, stream, stream::BoxStream};
use serde_json::json;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use super::{
    http::{Request, Response},
    preview::preview,
    state::State,
    tail::Tail,
};
use crate::{
    export::{GraphView, live_page},
    model::visible_json_text,
    report,
    run::{Run, event::Event, ledger},
};

/// The time between two looks at the ledgers.
const LOOK: Duration = Duration::from_millis(250);
/// A comment is sent after this time without events, so that a connection that is gone is noticed.
const IDLE: u32 = 60;
/// The rows of a preview where the request does not say.
const LIMIT: usize = 20;

/// The response to a request. Streams end when `ending` is cancelled.
pub(super) async fn respond(state: &Arc<State>, request: &Request, ending: &CancellationToken) -> Response {
    let path: Vec<&str> = request.path.iter().map(String::as_str).collect();
    match path.as_slice() {
        [""] => {
            let (page, policy) = live_page();
            Response::text(200, "text/html", page).with("Content-Security-Policy", policy)
        }
        ["api", "runs"] => match blocking(state, |state| state.runs()).await {
            Ok(runs) => masked(state, &json!(runs)),
            Err(error) => Response::error(500, error.to_string()),
        },
        ["api", "runs", id] => {
            state.reload().await;
            let id = (*id).to_owned();
            match blocking(state, move |state| document(state, &id)).await {
                Ok(document) => masked(state, &document),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Response::error(404, "there is no such run"),
                Err(error) => Response::error(500, error.to_string()),
            }
        }
        ["api", "live"] => live(state, request, ending).await,
        ["api", "datasets", name] => datasets(state, name, request).await,
        _ => Response::error(404, "there is nothing here"),
    }
}

async fn blocking<T: Send + 'static>(
    state: &Arc<State>,
    work: impl FnOnce(&State) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let state = Arc::clone(state);
    spawn_blocking(move || work(&state)).await.map_err(io::Error::other)?
}

/// JSON without secrets.
fn masked(state: &State, value: &serde_json::Value) -> Response {
    let text = visible_json_text(&value.to_string()).into_owned();
    Response::text(200, "application/json", state.secrets.mask(&text).into_owned())
}

/// The document of a run whose events are still to come. Blocking.
fn document(state: &State, id: &str) -> io::Result<serde_json::Value> {
    let ids = ledger::list(&state.folder)?;
    if !ids.iter().any(|known| known == id) {
        return Err(io::ErrorKind::NotFound.into());
    }
    let run = Run::read(&state.folder, id)?;
    let workspace = state.workspace();
    let view = GraphView::of_pipelines(&workspace.graph, &run.pipeline);
    let graph = serde_json::to_value(&view).expect("plain data becomes JSON");
    let begun = report::PastRun {
        id: run.run.clone(),
        status: run.status.clone(),
        started: run.started.map(|time| time.to_rfc3339()),
        seconds: run.seconds,
        events: Vec::new(),
    };
    let mut document = report::document(&begun, None, (view.title(), graph), &view.locations());
    document["locations"] = json!(view.locations());
    if let Some(earlier) = run.before(&state.folder, &ids) {
        let events = ledger::events(&state.folder, &earlier.run)?;
        let events = events.map_while(Result::ok).filter_map(|event| Event::from_json(&event));
        let started = earlier.started.map(|time| time.to_rfc3339());
        document["compare"] = report::baseline((&earlier.run, started, &earlier.status), events);
    }
    Ok(document)
}

async fn datasets(state: &Arc<State>, name: &str, request: &Request) -> Response {
    let limit = request.parameter("limit").and_then(|limit| limit.parse().ok()).unwrap_or(LIMIT);
    let workspace = state.workspace();
    let Ok(dataset) = workspace.dataset(name) else { return Response::error(404, "there is no such dataset") };
    // One at a time: its memory is that of one.
    let _turn = state.previews.lock().await;
    match preview(&*dataset, &state.stores, &state.session, limit, &state.secrets).await {
        Ok(preview) => masked(state, &preview),
        Err(error) => masked(state, &json!({"name": name, "error": error})),
    }
}

/// What a client that follows a run has got so far.
struct Following {
    state: Arc<State>,
    tail: Option<(Tail, String)>,
    /// The list of runs as it was sent last.
    runs: String,
    /// The entry of the followed run as it was sent last.
    run: String,
    idle: u32,
}

async fn live(state: &Arc<State>, request: &Request, ending: &CancellationToken) -> Response {
    let place = request.header("last-event-id").and_then(|place| place.parse().ok()).unwrap_or(0);
    let tail = match request.parameter("run") {
        None => None,
        Some(id) => {
            let id = id.to_owned();
            let opened = blocking(state, move |state| {
                let known = ledger::list(&state.folder)?.contains(&id);
                let file =
                    if known { ledger::open(&state.folder, &id)? } else { return Err(io::ErrorKind::NotFound.into()) };
                Ok((Tail::new(file, place), id))
            });
            match opened.await {
                Ok(opened) => Some(opened),
                Err(_) => return Response::error(404, "there is no such run"),
            }
        }
    };
    let following = Following { state: Arc::clone(state), tail, runs: String::new(), run: String::new(), idle: 0 };
    let ended = ending.clone();
    let parts: BoxStream<'static, String> = stream::unfold(following, |following| async {
        let (part, mut following) = spawn_blocking(move || {
            let mut following = following;
            (following.next(), following)
        })
        .await
        .ok()?;
        match part.ok()? {
            Some(part) => {
                following.idle = 0;
                Some((part, following))
            }
            None => {
                tokio::time::sleep(LOOK).await;
                following.idle += 1;
                let comment = if following.idle % IDLE == 0 { ":\n\n" } else { "" };
                Some((comment.to_owned(), following))
            }
        }
    })
    .filter(|part| std::future::ready(!part.is_empty()))
    .take_until(ended.cancelled_owned())
    .boxed();
    Response::events(parts)
}

impl Following {
    /// What is new; `None` for nothing. Blocking.
    fn next(&mut self) -> io::Result<Option<String>> {
        let Self { state, tail, .. } = self;
        if let Some((tail, id)) = tail {
            // Looked at before the last events are read: a run that is over has no later ones.
            let run = json!(Run::read(&state.folder, id).ok());
            if let Some(part) = tail.next()? {
                let events = visible_json_text(&part.events).into_owned();
                return Ok(Some(format!(
                    "id: {}\nevent: events\ndata: {}\n\n",
                    part.place,
                    state.secrets.mask(&events)
                )));
            }
            // How long a run has taken so far is known to the page.
            let mut compared = run.clone();
            if compared["status"] == "running" {
                compared["seconds"] = serde_json::Value::Null;
            }
            let compared = compared.to_string();
            if compared != self.run {
                self.run = compared;
                return Ok(Some(format!("event: run\ndata: {run}\n\n")));
            }
        }
        let mut runs = json!(self.state.runs()?);
        let sent = runs.to_string();
        for run in runs.as_array_mut().into_iter().flatten() {
            if run["status"] == "running" {
                run["seconds"] = serde_json::Value::Null;
            }
        }
        let compared = runs.to_string();
        if compared != self.runs {
            self.runs = compared;
            return Ok(Some(format!("event: runs\ndata: {sent}\n\n")));
        }
        Ok(None)
    }
}
