//! `flow ls`: lists, one item per line, or one JSON array.

use serde_json::{Value as Json, json};

use crate::{
    cli::{
        app::{App, Outcome, print},
        arguments::{ListCommand, SelectionArgs},
    },
    model::{Shape, visible_line},
};

pub(in crate::cli) fn ls(app: &App, what: &ListCommand) -> Outcome {
    let rows = match what {
        ListCommand::Functions => functions(app),
        ListCommand::Types => types(app),
        ListCommand::Providers => providers(app),
        ListCommand::Pipelines => {
            let workspace = app.workspace()?;
            let list = workspace.project.pipelines.iter().map(|pipeline| {
                json!({"name": pipeline.name, "nodes": pipeline.nodes.len(), "description": pipeline.description})
            });
            list.collect()
        }
        ListCommand::Nodes(selection) => nodes(app, selection)?,
        ListCommand::Datasets => {
            let workspace = app.workspace()?;
            let list = workspace.datasets.values().map(|dataset| {
                let info = dataset.info();
                let shape = shape(info.shape);
                json!({"name": info.name, "type": info.type_name, "shape": shape, "location": info.location, "layer": info.layer})
            });
            list.collect()
        }
    };
    if app.json() {
        return Ok(app.document(&rows));
    }
    Ok(print(&table(&rows)))
}

fn shape(shape: Shape) -> &'static str {
    match shape {
        Shape::Table => "table",
        Shape::Partitions => "partitions",
        Shape::Value => "value",
    }
}

fn nodes(app: &App, selection: &SelectionArgs) -> Result<Vec<Json>, crate::cli::app::Stop> {
    let workspace = app.workspace_of(&selection.pipeline)?;
    let selected = app.select(&workspace, selection)?;
    let names = |links: &[crate::graph::Link]| links.iter().map(|link| link.dataset.to_string()).collect::<Vec<_>>();
    Ok(selected
        .into_iter()
        .map(|id| {
            let node = &workspace.graph[id];
            json!({
                "name": node.name,
                "function": node.function,
                "pipeline": node.pipeline,
                "inputs": names(&node.inputs),
                "outputs": names(&node.outputs),
                "tags": node.tags,
            })
        })
        .collect())
}

fn functions(app: &App) -> Vec<Json> {
    let ports = |ports: &[crate::model::Port]| {
        let list = ports.iter().map(|port| {
            let mut one =
                json!({"name": port.name, "shape": shape(port.shape), "required": port.required, "doc": port.doc});
            if port.or_table {
                one["or"] = json!(shape(Shape::Table));
            }
            one
        });
        list.collect::<Vec<_>>()
    };
    app.registry
        .functions
        .iter()
        .map(|function| {
            let signature = function.signature();
            json!({"name": function.name(), "doc": function.doc(), "inputs": ports(signature.inputs), "outputs": ports(signature.outputs)})
        })
        .collect()
}

fn types(app: &App) -> Vec<Json> {
    let list = app
        .registry
        .datasets
        .iter()
        .map(|kind| json!({"name": kind.name(), "doc": kind.doc(), "aliases": kind.aliases()}));
    list.collect()
}

fn providers(app: &App) -> Vec<Json> {
    app.registry.providers.iter().map(|provider| json!({"name": provider.name(), "doc": provider.doc()})).collect()
}

/// A table: names, then their most important properties.
fn table(rows: &[Json]) -> String {
    let cell = |row: &Json, key: &str| {
        let text = match &row[key] {
            Json::Null => String::new(),
            Json::String(text) => text.clone(),
            Json::Array(list) => list.iter().filter_map(Json::as_str).collect::<Vec<_>>().join(", "),
            other => other.to_string(),
        };
        visible_line(text.trim_end()).into_owned()
    };
    let columns: Vec<&str> =
        ["name", "function", "type", "shape", "nodes", "inputs", "outputs", "location", "description", "doc"]
            .into_iter()
            .filter(|key| {
                rows.iter().any(|row| {
                    row.get(*key).is_some_and(|value| value.as_array().is_none_or(|a| a.iter().all(Json::is_string)))
                })
            })
            .collect();
    let widths: Vec<usize> = columns
        .iter()
        .map(|key| rows.iter().map(|row| cell(row, key).chars().count()).max().unwrap_or_default())
        .collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (key, width) in columns.iter().zip(&widths) {
            let text = cell(row, key);
            line.push_str(&text);
            line.extend(std::iter::repeat_n(' ', width + 2 - text.chars().count()));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}
