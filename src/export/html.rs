//! HTML: a page in one file, without a network. The layout is computed here; the page pans and shows details.

use std::collections::HashMap;

use minijinja::{Environment, UndefinedBehavior, value::Serde};
use serde::Serialize;

use super::{
    DatasetView, EdgeKind, Exporter, GraphView, NodeView,
    layout::{Point, Size, layout},
};
use crate::model::{visible, visible_json};

pub(super) struct Html;

/// Longer labels are clipped; the whole name is in the tooltip and the panel.
const LABEL: usize = 44;

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
        let node_boxes: Vec<NodeBox> =
            view.nodes.iter().map(NodeBox::node).chain(view.datasets.iter().map(NodeBox::dataset)).collect();
        let indices: HashMap<&str, usize> =
            node_boxes.iter().enumerate().map(|(i, node_box)| (node_box.id, i)).collect();
        // Parameters are shown in the panel.
        let edges: Vec<_> = view.edges.iter().filter(|edge| edge.kind != EdgeKind::Parameter).collect();
        let ends: Vec<_> = edges.iter().map(|edge| (indices[edge.from.as_str()], indices[edge.to.as_str()])).collect();
        let sizes: Vec<Size> = node_boxes.iter().map(NodeBox::size).collect();
        let drawn = layout(&sizes, &ends);
        let boxes: Vec<_> = node_boxes
            .iter()
            .zip(&sizes)
            .zip(&drawn.boxes)
            .map(|((node_box, size), at)| node_box.placed(*size, *at))
            .collect();
        let paths: Vec<_> = edges
            .iter()
            .zip(&drawn.edges)
            .map(|(edge, points)| PlacedEdge {
                class: if edge.kind == EdgeKind::After { "edge after" } else { "edge" },
                from: &edge.from,
                to: &edge.to,
                path: path(points),
            })
            .collect();
        let title = match view.pipelines.as_slice() {
            [one] => one.clone(),
            _ => "flow".to_owned(),
        };
        // Ids in the data are compared with those in the markup: both are made visible.
        let data = visible_json(serde_json::to_value(view).expect("plain data becomes JSON")).to_string();
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        let mut page = environment
            .render_named_str(
                "graph.html",
                include_str!("../../templates/graph.html"),
                Serde(Page {
                    title: &title,
                    counts: format!("{} nodes, {} datasets", view.nodes.len(), view.datasets.len()),
                    width: number(drawn.size.width),
                    height: number(drawn.size.height),
                    boxes,
                    edges: paths,
                    // Data must not end the script element that holds it.
                    data: data.replace('<', "\\u003c"),
                }),
            )
            .expect("our own template takes every view");
        page.push('\n');
        visible(&page).into_owned()
    }
}

/// The appearance of a box, before it is laid out.
struct NodeBox<'a> {
    id: &'a str,
    name: &'a str,
    sub: String,
    class: &'static str,
    stacked: bool,
    /// Radius of its corners.
    round: bool,
}

/// The context of the template.
#[derive(Serialize)]
struct Page<'a> {
    title: &'a str,
    counts: String,
    width: String,
    height: String,
    boxes: Vec<PlacedBox<'a>>,
    edges: Vec<PlacedEdge<'a>>,
    data: String,
}

/// A box with its position, for the template.
#[derive(Serialize)]
struct PlacedBox<'a> {
    id: &'a str,
    name: &'a str,
    class: &'static str,
    label: String,
    sub: String,
    stacked: bool,
    x: String,
    y: String,
    x2: String,
    y2: String,
    width: String,
    height: String,
    radius: String,
    middle: String,
    line1: String,
    line2: String,
}

/// An edge with its path, for the template.
#[derive(Serialize)]
struct PlacedEdge<'a> {
    class: &'static str,
    from: &'a str,
    to: &'a str,
    path: String,
}

impl<'a> NodeBox<'a> {
    fn node(node: &'a NodeView) -> Self {
        Self {
            id: &node.id,
            name: &node.name,
            sub: node.function.clone(),
            class: "box node",
            stacked: false,
            round: false,
        }
    }

    fn dataset(dataset: &'a DatasetView) -> Self {
        let mut sub = dataset.view_names();
        sub.splice(0..0, dataset.layer.clone());
        let class = match dataset {
            DatasetView { free: true, persistent: false, .. } => "box data free memory",
            DatasetView { free: true, .. } => "box data free",
            DatasetView { persistent: false, .. } => "box data memory",
            _ => "box data",
        };
        let stacked = dataset.partitioned();
        Self { id: &dataset.id, name: &dataset.name, sub: sub.join(" · "), class, stacked, round: true }
    }

    fn size(&self) -> Size {
        let label = columns(&clip(self.name)) as f64 * 7.4;
        let sub = columns(&clip(&self.sub)) as f64 * 6.3;
        let height = if self.sub.is_empty() { 30.0 } else { 44.0 };
        Size { width: label.max(sub).max(44.0) + if self.round { 36.0 } else { 24.0 }, height }
    }

    fn placed(&self, size: Size, at: Point) -> PlacedBox<'a> {
        let (x, y) = (at.x - size.width / 2.0, at.y - size.height / 2.0);
        PlacedBox {
            id: self.id,
            name: self.name,
            class: self.class,
            label: clip(self.name),
            sub: clip(&self.sub),
            stacked: self.stacked,
            x: number(x),
            y: number(y),
            x2: number(x + 4.0),
            y2: number(y + 4.0),
            width: number(size.width),
            height: number(size.height),
            radius: number(if self.round { 15.0 } else { 6.0 }),
            middle: number(at.x),
            line1: number(if self.sub.is_empty() { at.y + 4.5 } else { at.y - 2.5 }),
            line2: number(at.y + 13.0),
        }
    }
}

/// Curves with horizontal ends.
fn path(points: &[Point]) -> String {
    let mut out = String::new();
    for (i, to) in points.iter().enumerate() {
        if i == 0 {
            out.push_str(&format!("M{} {}", number(to.x), number(to.y)));
            continue;
        }
        let from = points[i - 1];
        let bend = (to.x - from.x) / 2.0;
        let numbers = [from.x + bend, from.y, to.x - bend, to.y, to.x, to.y].map(number);
        out.push_str(&format!("C{}", numbers.join(" ")));
    }
    out
}

/// One decimal, platform-independent, without a negative zero.
fn number(value: f64) -> String {
    let rounded = (value * 10.0).round() / 10.0;
    if rounded == 0.0 { "0".to_owned() } else { format!("{rounded}") }
}

fn clip(text: &str) -> String {
    if text.chars().count() <= LABEL {
        return text.to_owned();
    }
    let head: String = text.chars().take(LABEL - 1).collect();
    format!("{head}…")
}

/// The width of a string, in Latin letters.
fn columns(text: &str) -> usize {
    text.chars().map(|c| if u32::from(c) >= 0x1100 { 2 } else { 1 }).sum()
}

#[cfg(test)]
mod tests {
    use super::{super::testing::*, *};

    #[test]
    fn nothing_in_a_name_becomes_markup() {
        let page = Html.render(&whole(&odd()));
        assert_eq!(page.matches("<script").count(), 2, "the data and the page's own code");
        assert!(!page.contains("alert(1)</script>"));
        assert!(page.contains("&lt;&#x2f;script&gt;") || page.contains("&lt;/script&gt;"));
    }

    #[test]
    fn the_page_needs_no_network() {
        let page = Html.render(&whole(&seed()));
        for word in ["http://", "https://", "src=", "href=", "import ", "fetch(", "@import"] {
            assert!(!page.contains(word), "{word}");
        }
        assert!(page.contains("default-src 'none'"));
    }

    #[test]
    fn the_data_in_the_page_reads_back() {
        for graph in [seed(), odd()] {
            let view = whole(&graph);
            let page = Html.render(&view);
            let (_, rest) = page.split_once("type=\"application/json\">").expect("there");
            let (data, _) = rest.split_once("</script>").expect("ends");
            let data: serde_json::Value = serde_json::from_str(data).expect("JSON");
            assert_eq!(data, serde_json::to_value(&view).expect("JSON"));
        }
    }

    #[test]
    fn every_box_and_every_edge_is_drawn_once() {
        let view = whole(&odd());
        let page = Html.render(&view);
        assert_eq!(page.matches("data-id=").count(), view.nodes.len() + view.datasets.len());
        let drawn = view.edges.iter().filter(|edge| edge.kind != EdgeKind::Parameter).count();
        assert_eq!(page.matches("data-from=").count(), drawn);
    }

    #[test]
    fn numbers_are_short_and_labels_are_clipped() {
        assert_eq!([number(-0.01), number(1.26), number(30.0)], ["0", "1.3", "30"]);
        assert_eq!(clip(&"x".repeat(50)).chars().count(), LABEL);
        assert_eq!(columns("a漢"), 3);
    }
}
