//! `flow graph`: the DAG as DOT, Mermaid, JSON or HTML.

use std::path::Path;

use serde_json::json;

use crate::{
    cli::{
        Exit,
        app::{App, Outcome, print_raw},
        arguments::SelectionArgs,
        output_file,
    },
    export::{EXPORTERS, GraphView},
};

pub(in crate::cli) fn graph(
    app: &App,
    selection: &SelectionArgs,
    format: Option<&str>,
    file: Option<&Path>,
) -> Outcome {
    // `--output json` prints one document: the graph, or the path it was written to.
    let format = format.unwrap_or(if app.json() && file.is_none() { "json" } else { "dot" });
    if app.json() && file.is_none() && format != "json" {
        let message = format!(
            "`--output json` prints JSON, but `--format {format}` is not JSON: remove one of them, or add `-o FILE`"
        );
        return Err(app.fail(Exit::Wrong, message));
    }
    let workspace = app.workspace_of(&selection.pipeline)?;
    let selected = app.select(&workspace, selection)?;
    let exporter = EXPORTERS.iter().find(|exporter| exporter.name() == format).expect("clap knows the formats");
    let text = exporter.render(&GraphView::new(&workspace.graph, selected));
    let Some(file) = file else { return Ok(print_raw(&text)) };
    let wrote = |beginning: &str| EXPORTERS.iter().any(|exporter| exporter.wrote(beginning));
    output_file::write(app, file, &text, "flow graph", wrote)?;
    if app.json() {
        return Ok(app.document(&json!({"file": file.display().to_string(), "format": format})));
    }
    Ok(Exit::Done)
}
