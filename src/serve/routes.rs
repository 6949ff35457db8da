//! What is at which address.
//!
//! | address | holds |
//! |---|---|
//! | `/` | the page |
//! | `/report/NAME` | the page of a run, or of all runs of a group, as it is now |
//! | `/api/runs` | the runs, latest first |
//! | `/api/runs/ID` | the document of the page for a run, without what its events say |
//! | `/api/live?run=ID` | server-sent events: `runs` (the list, when it changes), `events` (lines of the ledger), `run` (its entry in the list) |
//! | `/api/datasets/NAME?limit=N` | the first rows, the columns and the partitions of a dataset |

use std::{io, sync::Arc};

use axum::{
    Router,
    extract::{
        self, Path, Query,
        rejection::{PathRejection, QueryRejection},
    },
    http::{HeaderName, StatusCode, header::CONTENT_SECURITY_POLICY},
    middleware::from_fn_with_state,
    response::{Html, IntoResponse as _, Response},
    routing::get,
};
use serde::Deserialize;
use serde_json::json;

use super::{
    access::{Access, guard},
    live::live,
    preview::preview,
    response,
    state::{Shared, State, blocking},
};
use crate::{
    export::{GraphView, live_page, page as page_of},
    report::{self, PastRun, PastRuns},
    run::{Run, event::Event, ledger},
};

/// The rows of a preview where the request does not say.
const LIMIT: usize = 20;

/// Everything that is served, for requests that `access` allows.
pub(super) fn router(state: Shared, access: Access) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/report/{name}", get(whole_report))
        .route("/api/runs", get(runs))
        .route("/api/runs/{id}", get(run))
        .route("/api/live", get(live))
        .route("/api/datasets/{name}", get(dataset))
        .fallback(async || response::error(StatusCode::NOT_FOUND, "there is nothing here"))
        .with_state(state)
        .layer(from_fn_with_state(Arc::new(access), guard))
}

async fn page() -> Response {
    let (page, policy) = live_page();
    let policy: [(HeaderName, String); 1] = [(CONTENT_SECURITY_POLICY, policy)];
    (policy, Html(page)).into_response()
}

async fn runs(extract::State(state): extract::State<Shared>) -> Response {
    match blocking(&state, |state| state.runs()).await {
        Ok(runs) => shown(&state, &json!(runs)),
        Err(error) => response::error(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

async fn run(extract::State(state): extract::State<Shared>, id: Result<Path<String>, PathRejection>) -> Response {
    let Ok(Path(id)) = id else { return not_text() };
    state.reload().await;
    let found = blocking(&state, move |state| {
        if !state.ledgers.ids()?.contains(&id) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let run = state.ledgers.run(&id)?;
        let earlier = state.ledgers.before(&run);
        Ok((run, earlier))
    });
    let document = async {
        let (run, earlier) = found.await?;
        state.watch(std::iter::once(&run).chain(&earlier).map(|run| run.run.clone())).await;
        blocking(&state, move |state| document(state, &run, earlier.as_ref())).await
    };
    match document.await {
        Ok(document) => shown(&state, &document),
        Err(error) => unreadable(&error),
    }
}

async fn whole_report(
    extract::State(state): extract::State<Shared>,
    name: Result<Path<String>, PathRejection>,
) -> Response {
    let Ok(Path(name)) = name else { return not_text() };
    state.reload().await;
    let found = blocking(&state, move |state| {
        let group = state.ledgers.group(&name)?;
        if !group.is_empty() {
            return Ok(group);
        }
        if !state.ledgers.ids()?.contains(&name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(vec![state.ledgers.run(&name)?])
    });
    let made = async {
        let runs = found.await?;
        // One at a time: it holds all events.
        let _turn = state.previews.lock().await;
        state.watch(runs.iter().map(|run| run.run.clone())).await;
        blocking(&state, move |state| report_of(state, &runs)).await
    };
    match made.await {
        Ok(page) => Html(page).into_response(),
        Err(error) => unreadable(&error),
    }
}

fn unreadable(error: &io::Error) -> Response {
    match error.kind() {
        io::ErrorKind::NotFound => response::error(StatusCode::NOT_FOUND, "there is no such run"),
        _ => response::error(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

/// How much is to be shown of a dataset.
#[derive(Debug, Deserialize)]
struct Shown {
    limit: Option<usize>,
}

async fn dataset(
    extract::State(state): extract::State<Shared>,
    name: Result<Path<String>, PathRejection>,
    query: Result<Query<Shown>, QueryRejection>,
) -> Response {
    let Ok(Path(name)) = name else { return not_text() };
    let Ok(Query(Shown { limit })) = query else {
        return response::error(StatusCode::BAD_REQUEST, "`limit` is a number of rows");
    };
    let workspace = state.workspace();
    let Ok(dataset) = workspace.dataset(&name) else {
        return response::error(StatusCode::NOT_FOUND, "there is no such dataset");
    };
    // One at a time: its memory is that of one.
    let _turn = state.previews.lock().await;
    match preview(&*dataset, &state.stores, &state.session, limit.unwrap_or(LIMIT), &state.secrets).await {
        Ok(preview) => shown(&state, &preview),
        Err(error) => shown(&state, &json!({"name": name, "error": error})),
    }
}

fn not_text() -> Response {
    response::error(StatusCode::BAD_REQUEST, "the path is not UTF-8")
}

/// JSON without secrets.
fn shown(state: &Shared, value: &serde_json::Value) -> Response {
    response::json(StatusCode::OK, state.shown(&value.to_string()))
}

/// The document of a run whose events are still to come. Blocking.
fn document(state: &State, run: &Run, earlier: Option<&Run>) -> io::Result<serde_json::Value> {
    let workspace = state.workspace();
    let view = GraphView::of_pipelines(&workspace.graph, &run.pipeline);
    let graph = serde_json::to_value(&view).expect("plain data becomes JSON");
    let begun = PastRuns::one(PastRun::begun(run));
    let mut document = report::document(&begun, None, (view.title(), graph), &view.locations());
    document["locations"] = json!(view.locations());
    if let Some(earlier) = earlier {
        let events = ledger::events(state.ledgers.folder(), &earlier.run)?;
        let events = events.map_while(Result::ok).filter_map(|event| Event::from_json(&event));
        let started = earlier.started.map(|time| time.to_rfc3339());
        document["compare"] = report::baseline((&earlier.run, started, &earlier.status), events);
    }
    Ok(document)
}

/// The page of runs with all their events. Blocking.
fn report_of(state: &State, runs: &[Run]) -> io::Result<String> {
    let workspace = state.workspace();
    let view = GraphView::of_pipelines(&workspace.graph, Run::common_pipeline(runs));
    let graph = serde_json::to_value(&view).expect("plain data becomes JSON");
    let past = PastRuns::read(&state.ledgers, runs)?;
    let document = report::document(&past, None, (view.title(), graph), &view.locations());
    Ok(page_of(serde_json::from_str(&state.shown(&document.to_string()))?))
}
