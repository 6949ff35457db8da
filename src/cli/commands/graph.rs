//! `flow graph`: the DAG as dot, Mermaid, JSON or a page.

use std::path::Path;

use crate::{
    cli::{
        Exit,
        app::{App, Outcome, print},
        arguments::SelectionArgs,
    },
    export::{EXPORTERS, GraphView},
};

pub(in crate::cli) fn graph(app: &App, selection: &SelectionArgs, format: &str, file: Option<&Path>) -> Outcome {
    let workspace = app.workspace()?;
    let selected = app.select(&workspace, selection)?;
    let exporter = EXPORTERS.iter().find(|exporter| exporter.name() == format).expect("clap knows the formats");
    let text = exporter.render(&GraphView::new(&workspace.graph, selected));
    let Some(file) = file else { return Ok(print(&text)) };
    std::fs::write(file, text).map_err(|error| app.fail(Exit::Environment, format!("{}: {error}", file.display())))?;
    Ok(Exit::Done)
}
