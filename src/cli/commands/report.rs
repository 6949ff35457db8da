//! `flow report`: a page about a run, from the ledger and the graph.

use std::path::Path;

use serde_json::json;

use super::runs::find;
use crate::{
    cli::{
        Exit,
        app::{App, Outcome, print_raw},
    },
    export::{GraphView, page},
    report::{PastRun, document},
    run::{Run, event::Event, ledger},
};

pub(in crate::cli) fn report(app: &App, run: &str, file: Option<&Path>, compare: Option<&str>) -> Outcome {
    let workspace = app.workspace()?;
    let folder = App::state_folder(&workspace.project).join("runs");
    let unreadable = |error: std::io::Error| app.fail(Exit::Environment, format!("{}: {error}", folder.display()));
    let ids = ledger::list(&folder).map_err(unreadable)?;
    let id = find(app, &ids, run)?;
    let shown = Run::read(&folder, id).map_err(unreadable)?;
    let earlier = match compare {
        Some(other) => Some(Run::read(&folder, find(app, &ids, other)?).map_err(unreadable)?),
        None => shown.before(&folder, &ids),
    };
    let past = |run: &Run| -> std::io::Result<PastRun> {
        let events = ledger::read(&folder, &run.run)?;
        Ok(PastRun {
            id: run.run.clone(),
            status: run.status.clone(),
            started: run.started.map(|time| time.to_rfc3339()),
            seconds: run.seconds,
            events: events.iter().filter_map(Event::from_json).collect(),
        })
    };
    let earlier = earlier.as_ref().map(past).transpose().map_err(unreadable)?;
    let view = GraphView::of_pipelines(&workspace.graph, &shown.pipeline);
    let graph = serde_json::to_value(&view).expect("plain data becomes JSON");
    let past = past(&shown).map_err(unreadable)?;
    let document = document(&past, earlier.as_ref(), (view.title(), graph), &view.locations());
    let text = match (app.json(), file) {
        (true, None) => return Ok(app.document(&document)),
        _ => page(document),
    };
    let Some(file) = file else { return Ok(print_raw(&text)) };
    std::fs::write(file, text).map_err(|error| app.fail(Exit::Environment, format!("{}: {error}", file.display())))?;
    if app.json() {
        let compared = earlier.map(|run| run.id);
        return Ok(app.document(&json!({"file": file.display().to_string(), "run": id, "compare": compared})));
    }
    Ok(Exit::Done)
}
