//! Mermaid, for Markdown files and wikis.

use std::{collections::HashMap, fmt::Write as _};

use super::{DatasetView, EdgeKind, Exporter, GraphView};
use crate::model::visible;

pub(super) struct Mermaid;

impl Exporter for Mermaid {
    fn name(&self) -> &'static str {
        "mermaid"
    }

    fn extension(&self) -> &'static str {
        "mmd"
    }

    fn doc(&self) -> &'static str {
        "a Mermaid flowchart, for Markdown files and wikis"
    }

    fn render(&self, view: &GraphView) -> String {
        // Names are not valid Mermaid ids.
        let nodes = view.nodes.iter().enumerate().map(|(i, node)| (node.id.as_str(), format!("n{i}")));
        let datasets = view.datasets.iter().enumerate().map(|(i, dataset)| (dataset.id.as_str(), format!("d{i}")));
        let ids: HashMap<&str, String> = nodes.chain(datasets).collect();
        let mut out = String::from("flowchart LR\n");
        let mut line = |text: String| out.write_fmt(format_args!("{text}\n")).expect("a string takes all");
        for node in &view.nodes {
            let tags =
                if node.tags.is_empty() { String::new() } else { format!("<br>{}", text(&node.tags.join(", "))) };
            let label = format!("{}<br><i>{}</i>{tags}", text(&node.name), text(&node.function));
            line(format!("  {}[\"{label}\"]:::node", ids[node.id.as_str()]));
        }
        for (position, layer) in view.layers.iter().enumerate() {
            line(format!("  subgraph layer{position}[\"{}\"]", text(layer)));
            for dataset in view.datasets.iter().filter(|dataset| dataset.layer.as_ref() == Some(layer)) {
                line(format!("    {}", dataset_text(&ids[dataset.id.as_str()], dataset, true)));
            }
            line("  end".to_owned());
        }
        let layered = |dataset: &DatasetView| dataset.layer.as_ref().is_some_and(|layer| view.layers.contains(layer));
        for dataset in view.datasets.iter().filter(|dataset| !layered(dataset)) {
            line(format!("  {}", dataset_text(&ids[dataset.id.as_str()], dataset, false)));
        }
        for edge in view.edges.iter().filter(|edge| edge.kind != EdgeKind::Parameter) {
            let label = edge.view.as_ref().map(|view| format!("|\"@{}\"|", text(view))).unwrap_or_default();
            let arrow = if edge.kind == EdgeKind::After { "-.->" } else { "-->" };
            line(format!("  {} {arrow}{label} {}", ids[edge.from.as_str()], ids[edge.to.as_str()]));
        }
        out.push_str(STYLES);
        out
    }

    fn wrote(&self, beginning: &str) -> bool {
        // The first node; without one, the styles.
        let rest = beginning.strip_prefix("flowchart LR\n");
        rest.is_some_and(|rest| rest.starts_with("  n0[\"") || rest.starts_with("  classDef node "))
    }
}

const STYLES: &str = "  classDef node fill:#e3ecfa,stroke:#5b6472,color:#1d2430\n  \
                      classDef data fill:#ffffff,stroke:#5b6472,color:#1d2430\n  \
                      classDef free fill:#fdf0d5,stroke:#5b6472,color:#1d2430,stroke-width:2px\n  \
                      classDef memory fill:#ffffff,stroke:#5b6472,color:#1d2430,stroke-dasharray:4 3\n";

fn dataset_text(id: &str, dataset: &DatasetView, framed: bool) -> String {
    // Layers that form a cycle have no frames; each dataset then shows its own.
    let layer =
        dataset.layer.as_ref().filter(|_| !framed).map(|layer| format!("<br>{}", text(layer))).unwrap_or_default();
    let views = dataset.view_names();
    let views = if views.is_empty() { String::new() } else { format!("<br>{}", text(&views.join(" "))) };
    let label = format!("{}{layer}{views}", text(&dataset.name));
    let class = match dataset {
        DatasetView { free: true, .. } => "free",
        DatasetView { persistent: false, .. } => "memory",
        _ => "data",
    };
    if dataset.partitioned() {
        format!("{id}[[\"{label}\"]]:::{class}")
    } else {
        format!("{id}[(\"{label}\")]:::{class}")
    }
}

/// Quoted text: what has a meaning in Mermaid or HTML becomes a character code.
fn text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in visible(&text.replace(['\n', '\r'], " ")).chars() {
        match c {
            '"' | '#' | '&' | '<' | '>' | '`' | ';' | '|' | '\\' | '[' | ']' | '{' | '}' | '(' | ')' => {
                out.write_fmt(format_args!("#{};", u32::from(c))).expect("a string takes all");
            }
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{super::testing::*, *};

    #[test]
    fn nothing_in_a_name_means_anything_to_mermaid() {
        assert_eq!(text("a \"b\" #1 <i>"), "a #34;b#34; #35;1 #60;i#62;");
        assert_eq!(text("été_1.x-y@z"), "été_1.x-y@z");
        let odd = Mermaid.render(&whole(&odd()));
        assert!(!odd.contains("<script>") && odd.contains("#60;/script#62;"), "{odd}");
        assert!(odd.lines().all(|line| line.matches('"').count() % 2 == 0), "{odd}");
    }

    #[test]
    fn partitions_memory_free_inputs_and_order_look_different() {
        let text = Mermaid.render(&whole(&seed()));
        assert!(text.contains("[[\"bucketized<br>@partitioned @table\"]]:::data"), "{text}");
        assert!(text.contains("[(\"nodes\")]:::free"), "{text}");
        let text = Mermaid.render(&whole(&odd()));
        assert!(text.contains(":::memory") && text.contains("-.->"), "{text}");
    }
}
