//! Graphs for the tests of all formats.

use super::GraphView;
use crate::graph::{Graph, testing::Sketch};

pub(super) fn whole(graph: &Graph) -> GraphView {
    GraphView::new(graph, graph.nodes().iter().map(|node| node.id))
}

/// A table that is partitioned and embedded.
pub(super) fn seed() -> Graph {
    Sketch::new()
        .node("embeddings", "bucketize_nodes", &["df=nodes", "bucket_size=params:batch_size"], &["bucketized@table"])
        .function("bucketize_nodes", "bucketize")
        .tags("bucketize_nodes", &["argowf.fuse", "argowf.fuse-group.node_embeddings"])
        .node(
            "embeddings",
            "add_embeddings",
            &["dfs=bucketized@partitioned", "model=params:model"],
            &["embeddings@partitioned"],
        )
        .function("add_embeddings", "embed")
        .tags("add_embeddings", &["argowf.fuse"])
        .dataset("nodes", |facts| facts.layer = Some("raw".into()))
        .dataset("bucketized@table", |facts| facts.layer = Some("feature".into()))
        .dataset("bucketized@partitioned", |facts| facts.layer = Some("feature".into()))
        .graph()
}

/// Names that need escaping, a node alone, a node after another, and data in memory.
pub(super) fn odd() -> Graph {
    let quoted = r#"say "hi" \n & <b>"#;
    Sketch::new()
        .node("p", "alone", &[], &[])
        .node("p", "hermit", &[], &[])
        .node("p", "größe", &["Ünïcode", quoted], &["`tick` | pipe]"])
        .node("p", "a.b", &["`tick` | pipe]", "parameters"], &["kept # in ; memory"])
        .node("p", "</script><script>alert(1)</script>", &["kept # in ; memory", "Ünïcode"], &["end"])
        .node("p", "same", &["end"], &["same"])
        .after("alone", &["same"])
        .tags("a.b", &["two words", "quote\"d"])
        .namespace("a.b", "a")
        .dataset("kept # in ; memory", |facts| {
            facts.persistent = false;
            facts.location = None;
            facts.type_name = "memory".into();
        })
        .dataset("end", |facts| facts.layer = Some("the \"end\"".into()))
        .graph()
}
