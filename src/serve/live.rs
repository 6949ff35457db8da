//! What a page hears while it is open: server-sent events from the ledgers, as they grow.

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use axum::{
    extract::{Query, State},
    http::{HeaderMap, StatusCode},
    response::{
        IntoResponse as _, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures::{StreamExt as _, stream};
use serde::Deserialize;
use serde_json::json;
use tokio::{sync::OwnedSemaphorePermit, task::spawn_blocking};

use super::{
    response,
    state::{Shared, blocking},
    tail::Tail,
};
use crate::run::{Run, ledger};

/// The time between two looks at the ledgers.
const LOOK: Duration = Duration::from_millis(250);
/// A comment is sent after this time without events, so that a connection that is gone is noticed.
const IDLE: Duration = Duration::from_secs(15);

/// What is to be followed.
#[derive(Debug, Deserialize)]
pub(super) struct Followed {
    /// A run; without one, only the list of runs.
    run: Option<String>,
}

/// What a client that follows a run has got so far.
struct Following {
    state: Shared,
    tail: Option<(Tail, String)>,
    /// The list of runs as it was sent last.
    runs: Option<String>,
    /// The entry of the followed run as it was sent last.
    run: Option<String>,
    _permit: OwnedSemaphorePermit,
}

pub(super) async fn live(
    State(state): State<Shared>,
    Query(followed): Query<Followed>,
    headers: HeaderMap,
) -> Response {
    let Ok(permit) = Arc::clone(&state.streams).try_acquire_owned() else {
        return response::error(StatusCode::SERVICE_UNAVAILABLE, "too many pages are open");
    };
    let place = headers.get("last-event-id").and_then(|place| place.to_str().ok()?.parse().ok()).unwrap_or(0);
    let tail = match followed.run {
        None => None,
        Some(id) => {
            let known = blocking(&state, move |state| Ok(state.ledgers.ids()?.into_iter().find(|known| *known == id)));
            let Ok(Some(id)) = known.await else {
                return response::error(StatusCode::NOT_FOUND, "there is no such run");
            };
            state.watch([id.clone()]).await;
            let opened =
                blocking(&state, move |state| Ok((Tail::new(ledger::open(state.ledgers.folder(), &id)?, place), id)));
            match opened.await {
                Ok(opened) => Some(opened),
                Err(_) => return response::error(StatusCode::NOT_FOUND, "there is no such run"),
            }
        }
    };
    let ended = state.end.clone();
    let following = Following { state, tail, runs: None, run: None, _permit: permit };
    let events = stream::unfold(following, |mut following| async {
        loop {
            let event;
            (event, following) = spawn_blocking(move || (following.next(), following)).await.ok()?;
            match event.ok()? {
                Some(event) => return Some((Ok::<_, Infallible>(event), following)),
                None => tokio::time::sleep(LOOK).await,
            }
        }
    })
    .take_until(ended.cancelled_owned());
    Sse::new(events).keep_alive(KeepAlive::new().interval(IDLE)).into_response()
}

impl Following {
    /// What is new; `None` for nothing. Blocking.
    fn next(&mut self) -> io::Result<Option<Event>> {
        let Self { state, tail, .. } = self;
        if let Some((tail, id)) = tail {
            // Looked at before the last events are read: a run that is over has no later ones.
            let run = state.ledgers.run(id);
            if let Some(part) = tail.next()? {
                let events = state.shown(&part.events);
                return Ok(Some(Event::default().id(part.place.to_string()).event("events").data(events)));
            }
            // One whose ledger was removed meanwhile is missing in the list.
            if let Ok(run) = run
                && changes(&mut self.run, without_time(&run))
            {
                return Ok(Some(Event::default().event("run").data(state.shown(&json!(run).to_string()))));
            }
        }
        let runs = state.recent_runs()?;
        if changes(&mut self.runs, runs.iter().map(without_time).collect::<Vec<_>>().join("\n")) {
            return Ok(Some(Event::default().event("runs").data(state.shown(&json!(runs).to_string()))));
        }
        Ok(None)
    }
}

/// True where `now` is not what was sent last.
fn changes(last: &mut Option<String>, now: String) -> bool {
    let changed = last.as_ref() != Some(&now);
    *last = Some(now);
    changed
}

/// The entry of a run without how long it has taken so far, which the page knows.
fn without_time(run: &Run) -> String {
    let mut entry = json!(run);
    if run.status == "running" {
        entry["seconds"] = serde_json::Value::Null;
    }
    entry.to_string()
}
