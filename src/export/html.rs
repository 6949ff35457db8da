//! HTML: the graph on the page of `flow report`, without a run.

use serde_json::json;

use super::{
    Exporter, GraphView,
    page::{is_page, page},
};

pub(super) struct Html;

impl Exporter for Html {
    fn name(&self) -> &'static str {
        "html"
    }

    fn extension(&self) -> &'static str {
        "html"
    }

    fn doc(&self) -> &'static str {
        "a self-contained page to explore the graph, offline"
    }

    fn render(&self, view: &GraphView) -> String {
        page(json!({
            "v": 1,
            "title": view.title(),
            "graph": view,
            "run": null,
            "nodes": [],
            "partitions": {},
            "samples": [],
            "messages": [],
            "compare": null,
        }))
    }

    fn wrote(&self, beginning: &str) -> bool {
        is_page(beginning)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::*, *};

    #[test]
    fn nothing_in_a_name_becomes_markup() {
        let page = Html.render(&whole(&odd()));
        assert_eq!(page.matches("<script").count(), 2, "the data and the page's own code");
        assert!(!page.contains("<script>alert(1)") && page.contains("\\u003cscript>alert(1)"));
    }

    #[test]
    fn the_data_in_the_page_reads_back() {
        for graph in [seed(), odd()] {
            let view = whole(&graph);
            let page = Html.render(&view);
            let (_, rest) = page.split_once("id=\"data\">").expect("there");
            let (data, _) = rest.split_once("</script>").expect("ends");
            let data: serde_json::Value = serde_json::from_str(data).expect("JSON");
            assert_eq!(data["graph"], serde_json::to_value(&view).expect("JSON"));
        }
    }
}
