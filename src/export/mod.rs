//! Graph formats, for display and for other programs.
//!
//! Owns [`GraphView`], a neutral description of a selection, and the [`EXPORTERS`] that write it. Output depends on the view
//! alone and is the same on every run. Owns the [`page()`] too, which draws a document. Must not know runs, the catalog or how data is opened; only names, types and
//! locations reach it, so no secret can.
//!
//! Adding a format: one file with a type that implements [`Exporter`], one line in [`EXPORTERS`].

mod dot;
mod exporter;
mod html;
mod json;
mod kedro_viz;
mod mermaid;
mod page;
#[cfg(test)]
mod testing;
mod view;

pub use exporter::Exporter;
pub use kedro_viz::kedro_viz;
pub use page::{is_page, live_page, page};
pub use view::{DatasetView, EdgeKind, EdgeView, GraphView, NodeView, ParameterView, PortView, TranscodedView};

/// All formats; the first is the default.
pub static EXPORTERS: &[&dyn Exporter] = &[&dot::Dot, &mermaid::Mermaid, &json::Json, &html::Html];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{testing::*, *};

    #[test]
    fn formats_have_names_endings_and_a_line_of_help() {
        let mut names = HashSet::new();
        for exporter in EXPORTERS {
            assert!(names.insert(exporter.name()), "{} is a duplicate", exporter.name());
            assert!(exporter.name().bytes().all(|b| b.is_ascii_lowercase()), "{}", exporter.name());
            assert!(!exporter.extension().is_empty() && !exporter.extension().starts_with('.'));
            assert!(exporter.doc().len() > 10 && !exporter.doc().contains('\n'), "{}", exporter.name());
        }
    }

    #[test]
    fn every_format_writes_every_graph_and_the_same_on_every_call() {
        for (what, graph) in [("seed", seed()), ("odd", odd()), ("empty", crate::graph::testing::Sketch::new().graph())]
        {
            let view = whole(&graph);
            for exporter in EXPORTERS {
                let text = exporter.render(&view);
                assert_eq!(text, exporter.render(&whole(&graph)), "{what} as {}", exporter.name());
                assert!(text.ends_with('\n') && !text.ends_with("\n\n"), "{what} as {}", exporter.name());
                for node in &view.nodes {
                    let plain = node.name.chars().all(|c| c.is_alphanumeric() || "._-".contains(c));
                    assert!(!plain || text.contains(&node.name), "{what} as {}: no {}", exporter.name(), node.name);
                }
            }
        }
    }

    #[test]
    fn a_file_of_each_format_is_recognized_by_its_beginning_and_no_other() {
        let foreign = [
            "",
            "digraph mine {\n",
            "flowchart LR\n    a --> b\n",
            "{\n  \"version\": 2,\n  \"packages\": []\n}\n",
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<title>Mine</title>\n",
            "nodes: {type: csv, path: data/nodes.csv}\n",
        ];
        for exporter in EXPORTERS {
            for graph in [seed(), odd(), crate::graph::testing::Sketch::new().graph()] {
                let text = exporter.render(&whole(&graph));
                let beginning: String = text.chars().take(1000).collect();
                for other in EXPORTERS {
                    assert_eq!(other.wrote(&beginning), other.name() == exporter.name(), "{beginning}");
                }
            }
            assert!(!foreign.iter().any(|text| exporter.wrote(text)), "{}", exporter.name());
        }
    }

    #[test]
    fn every_format_looks_as_it_did() {
        for (what, graph) in [("seed", seed()), ("odd", odd())] {
            let view = whole(&graph);
            for exporter in EXPORTERS {
                let text = exporter.render(&view);
                // Only the data: the code of the page may change.
                let text = match text.split_once("id=\"data\">") {
                    Some((_, rest)) => rest.split_once("</script>").expect("the data ends").0.trim().to_owned(),
                    None => text,
                };
                insta::assert_snapshot!(format!("{what}_{}", exporter.name()), text);
            }
        }
    }
}
