//! DOT, for Graphviz. Parameters are in tooltips, so that the drawing stays readable.

use std::fmt::Write as _;

use super::{DatasetView, EdgeKind, EdgeView, Exporter, GraphView, NodeView};
use crate::model::visible;

pub(super) struct Dot;

impl Exporter for Dot {
    fn name(&self) -> &'static str {
        "dot"
    }

    fn extension(&self) -> &'static str {
        "dot"
    }

    fn doc(&self) -> &'static str {
        "DOT for Graphviz: `flow graph | dot -Tsvg > graph.svg`"
    }

    fn render(&self, view: &GraphView) -> String {
        let mut out = String::from(HEAD);
        for node in &view.nodes {
            statement(&mut out, "  ", &node.id, &node_attributes(node));
        }
        for (position, layer) in view.layers.iter().enumerate() {
            let label = text(layer);
            push(&mut out, format_args!("  subgraph cluster_layer_{position} {{\n    label={label};\n"));
            for dataset in view.datasets.iter().filter(|dataset| dataset.layer.as_ref() == Some(layer)) {
                statement(&mut out, "    ", &dataset.id, &dataset_attributes(dataset, true));
            }
            out.push_str("  }\n");
        }
        let layered = |dataset: &DatasetView| dataset.layer.as_ref().is_some_and(|layer| view.layers.contains(layer));
        for dataset in view.datasets.iter().filter(|dataset| !layered(dataset)) {
            statement(&mut out, "  ", &dataset.id, &dataset_attributes(dataset, false));
        }
        for edge in view.edges.iter().filter(|edge| edge.kind != EdgeKind::Parameter) {
            edge_statement(&mut out, edge);
        }
        out.push_str("}\n");
        out
    }

    fn wrote(&self, beginning: &str) -> bool {
        beginning.starts_with("digraph flow {\n")
    }
}

const HEAD: &str = r##"digraph flow {
  graph [rankdir=LR, nodesep=0.3, ranksep=0.6, fontname="Helvetica", fontsize=11, style="rounded", color="#b8c0cc", fontcolor="#5b6472"];
  node [fontname="Helvetica", fontsize=11, style="filled", color="#5b6472", fillcolor="#ffffff"];
  edge [fontname="Helvetica", fontsize=9, color="#5b6472", fontcolor="#5b6472", arrowsize=0.7];
"##;

fn node_attributes(node: &NodeView) -> Vec<(&'static str, String)> {
    let mut label = vec![node.name.clone(), node.function.clone()];
    if !node.tags.is_empty() {
        label.push(node.tags.join(", "));
    }
    let mut tooltip = vec![format!("node {}", node.name), format!("function {}", node.function)];
    tooltip.push(format!("pipeline {}", node.pipelines.join(", ")));
    let parameters: Vec<_> = node.parameters().collect();
    if !parameters.is_empty() {
        tooltip.push(parameters.join(", "));
    }
    vec![
        ("label", lines(&label)),
        ("shape", "box".to_owned()),
        ("style", text("rounded,filled")),
        ("fillcolor", text("#e3ecfa")),
        ("tooltip", lines(&tooltip)),
    ]
}

fn dataset_attributes(dataset: &DatasetView, framed: bool) -> Vec<(&'static str, String)> {
    let mut label = vec![dataset.name.clone()];
    // Layers that form a cycle have no frames; each dataset then shows its own.
    label.extend(dataset.layer.clone().filter(|_| !framed));
    let views = dataset.view_names();
    if !views.is_empty() {
        label.push(views.join(" "));
    }
    let mut tooltip: Vec<String> =
        dataset.views.iter().map(|view| format!("{}: {}, {}", view.name, view.kind, view.shape)).collect();
    tooltip.extend(dataset.location.clone());
    tooltip.extend(dataset.layer.as_ref().map(|layer| format!("layer {layer}")));
    let mut attributes =
        vec![("label", lines(&label)), ("shape", if dataset.partitioned() { "folder" } else { "cylinder" }.to_owned())];
    if dataset.free {
        attributes.push(("fillcolor", text("#fdf0d5")));
        attributes.push(("penwidth", "1.8".to_owned()));
        tooltip.push("free input: no node here writes it".to_owned());
    }
    if !dataset.persistent {
        attributes.push(("style", text("filled,dashed")));
        tooltip.push("in memory, not kept".to_owned());
    }
    attributes.push(("tooltip", lines(&tooltip)));
    attributes
}

fn statement(out: &mut String, indent: &str, id: &str, attributes: &[(&str, String)]) {
    let attributes: Vec<_> = attributes.iter().map(|(key, value)| format!("{key}={value}")).collect();
    push(out, format_args!("{indent}{} [{}];\n", quote(id), attributes.join(", ")));
}

fn edge_statement(out: &mut String, edge: &EdgeView) {
    let mut attributes = Vec::new();
    if edge.kind == EdgeKind::After {
        attributes.push("style=dashed".to_owned());
        attributes.push("tooltip=\"comes after\"".to_owned());
    }
    if let Some(view) = &edge.view {
        attributes.push(format!("label={}", text(&format!("@{view}"))));
    }
    let attributes = if attributes.is_empty() { String::new() } else { format!(" [{}]", attributes.join(", ")) };
    push(out, format_args!("  {} -> {}{attributes};\n", quote(&edge.from), quote(&edge.to)));
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a string takes all");
}

/// An id: quotes and backslashes are escaped, so that ids stay distinct.
fn quote(id: &str) -> String {
    format!("\"{}\"", escape(id))
}

/// Displayed text: character references have a meaning in it.
fn text(text: &str) -> String {
    quote(&text.replace('&', "&amp;"))
}

/// Several lines of text.
fn lines(lines: &[String]) -> String {
    let lines: Vec<_> = lines.iter().map(|line| escape(&line.replace('&', "&amp;"))).collect();
    format!("\"{}\"", lines.join("\\n"))
}

fn escape(text: &str) -> String {
    visible(&text.replace(['\n', '\r'], " ")).replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use super::{super::testing::*, *};

    #[test]
    fn nothing_in_a_name_breaks_out_of_its_quotes() {
        assert_eq!(quote(r#"a"b\"#), r#""a\"b\\""#);
        assert_eq!(text("a & b\n<c>"), r#""a &amp; b <c>""#);
        assert_eq!(lines(&["\"".to_owned(), "\\".to_owned()]), r#""\"\n\\""#);
        // Outside of quotes there are only keywords.
        for graph in [seed(), odd()] {
            let text = Dot.render(&whole(&graph)).replace("\\\\", "").replace("\\\"", "");
            let outside: String = text.split('"').step_by(2).collect();
            assert!(outside.chars().all(|c| c.is_ascii_alphanumeric() || " \n[]{}=,;->._".contains(c)), "{outside}");
        }
    }

    #[test]
    fn datasets_and_nodes_are_distinct_and_nothing_is_lost() {
        let text = Dot.render(&whole(&odd()));
        let line = |start: &str| text.lines().find(|line| line.trim().starts_with(start)).expect(start).to_owned();
        assert!(line("\"node:alone\" [").contains("shape=box"));
        assert!(line("\"data:same\" [").contains("shape=cylinder"));
        assert!(line("\"data:kept # in ; memory\" [").contains("dashed"));
        assert!(line("\"data:Ünïcode\" [").contains("penwidth"), "a free input stands out");
        assert!(line("\"node:same\" -> \"node:alone\"").contains("dashed"));
        assert!(!text.contains("param:"), "parameters are not drawn");
        assert!(line("\"node:a.b\" [").contains("parameters"), "they are listed");
        let seed = Dot.render(&whole(&seed()));
        assert!(seed.lines().any(|line| line.contains("data:bucketized") && line.contains("shape=folder")));
    }

    #[test]
    fn layers_are_frames_and_labels_where_they_form_a_ring() {
        let layer =
            |name: &'static str| move |metadata: &mut crate::graph::DatasetMetadata| metadata.layer = Some(name.into());
        let sketch = crate::graph::testing::Sketch::new()
            .node("p", "a", &["x"], &["y"])
            .node("p", "b", &["y"], &["z"])
            .dataset("x", layer("primary"))
            .dataset("y", layer("feature"));
        let text = Dot.render(&whole(&sketch.clone().graph()));
        assert!(text.contains("label=\"primary\";") && text.contains("[label=\"x\","), "{text}");
        let text = Dot.render(&whole(&sketch.dataset("z", layer("primary")).graph()));
        assert!(!text.contains("subgraph") && text.contains("[label=\"x\\nprimary\","), "{text}");
    }
}
