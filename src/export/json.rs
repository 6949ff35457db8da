//! JSON: the whole view, for other programs. Its keys are those of [`GraphView`] and are stable.

use super::{Exporter, GraphView};

pub(super) struct Json;

impl Exporter for Json {
    fn name(&self) -> &'static str {
        "json"
    }

    fn extension(&self) -> &'static str {
        "json"
    }

    fn doc(&self) -> &'static str {
        "nodes, datasets, parameters and edges as one JSON document, for other programs"
    }

    fn render(&self, view: &GraphView) -> String {
        let mut text = serde_json::to_string_pretty(view).expect("plain data becomes JSON");
        text.push('\n');
        text
    }

    fn wrote(&self, beginning: &str) -> bool {
        beginning.starts_with("{\n  \"version\": ") && beginning.contains("\n  \"nodes\": [")
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::*, *};

    #[test]
    fn the_document_has_the_promised_keys() {
        let document: serde_json::Value = serde_json::from_str(&Json.render(&whole(&seed()))).expect("JSON");
        let keys =
            |value: &serde_json::Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
        assert_eq!(
            keys(&document),
            ["version", "nodes", "datasets", "parameters", "edges", "layers", "tags", "namespaces", "pipelines"]
        );
        assert_eq!(
            keys(&document["nodes"][0]),
            ["id", "name", "function", "pipelines", "namespace", "tags", "inputs", "outputs", "after"]
        );
        assert_eq!(
            keys(&document["datasets"][0]),
            ["id", "name", "type", "location", "layer", "free", "persistent", "views"]
        );
        assert_eq!(keys(&document["edges"][0]), ["from", "to", "kind", "port", "view"]);
    }

    #[test]
    fn every_edge_joins_two_things_of_the_document() {
        for graph in [seed(), odd()] {
            let view = whole(&graph);
            let ids: Vec<&str> = (view.nodes.iter().map(|n| n.id.as_str()))
                .chain(view.datasets.iter().map(|d| d.id.as_str()))
                .chain(view.parameters.iter().map(|p| p.id.as_str()))
                .collect();
            for edge in &view.edges {
                assert!(ids.contains(&edge.from.as_str()) && ids.contains(&edge.to.as_str()), "{edge:?}");
            }
        }
    }
}
