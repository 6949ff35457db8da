//! `flow report`: a page about a run, or about all processes of a submission, from the ledgers and the graph.

use std::path::Path;

use serde_json::json;

use crate::{
    cli::{
        Exit,
        app::{App, Outcome, Stop, print_raw},
        ledgers::LedgersToRead,
        output_file,
    },
    export::{GraphView, is_page, page},
    report::{PastRuns, document},
    run::Run,
};

pub(in crate::cli) fn report(
    app: &App,
    run: &str,
    file: Option<&Path>,
    compare: Option<&str>,
    location: Option<&str>,
) -> Outcome {
    let workspace = app.workspace()?;
    let mut read = app.existing_ledgers(&workspace.project, location)?;
    let shown = find(app, &read, run)?;
    let earlier = match (compare, shown.as_slice()) {
        (Some(other), _) => find(app, &read, other)?,
        (None, [run]) => read.ledgers.before(run).into_iter().collect(),
        (None, _) => Vec::new(),
    };
    let whole: Vec<&str> = shown.iter().chain(&earlier).map(|run| run.run.as_str()).collect();
    read.load(app, &whole)?;
    let past = |runs: &[Run]| PastRuns::read(&read.ledgers, runs).map_err(|error| read.unreadable(app, &error));
    let earlier = if earlier.is_empty() { None } else { Some(past(&earlier)?) };
    let view = GraphView::of_pipelines(&workspace.graph, Run::common_pipeline(&shown));
    let graph = serde_json::to_value(&view).expect("plain data becomes JSON");
    let past = past(&shown)?;
    let document = document(&past, earlier.as_ref(), (view.title(), graph), &view.locations());
    let text = match (app.json(), file) {
        (true, None) => return Ok(app.document(&document)),
        _ => page(document),
    };
    let Some(file) = file else { return Ok(print_raw(&text)) };
    output_file::write(app, file, &text, "flow report", is_page)?;
    if app.json() {
        let compared = earlier.map(|run| run.id);
        return Ok(app.document(&json!({"file": file.display().to_string(), "run": past.id, "compare": compared})));
    }
    Ok(Exit::Done)
}

/// The runs that a word names: a run by its id, or all processes of a submission by the name of their group. `last` is the last run, with
/// all of its submission.
fn find(app: &App, read: &LedgersToRead, word: &str) -> Result<Vec<Run>, Stop> {
    let unreadable = |error: std::io::Error| read.unreadable(app, &error);
    let group = |name: &str| read.ledgers.group(name).map_err(unreadable);
    if word != "last" {
        let members = group(word)?;
        if !members.is_empty() {
            return Ok(members);
        }
    }
    let run = read.ledgers.run(&read.find(app, word)?).map_err(unreadable)?;
    match &run.group {
        Some(name) if word == "last" => group(name),
        _ => Ok(vec![run]),
    }
}
