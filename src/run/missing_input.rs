//! An input that is missing, and the message about it.

use std::fmt;

/// A missing input, and the nodes that read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MissingInput {
    /// The name of the dataset, with its view.
    pub dataset: String,
    /// The location; `None` for a dataset in memory.
    pub location: Option<String>,
    /// The names of the selected nodes that read it.
    pub nodes: Vec<String>,
    /// The name of the node that writes it and is not selected.
    pub producer: Option<String>,
}

impl fmt::Display for MissingInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { dataset, location, nodes, producer } = self;
        let nodes: Vec<String> = nodes.iter().map(|node| format!("`{node}`")).collect();
        let noun = if nodes.len() == 1 { "node" } else { "nodes" };
        let readers = format!("{noun} {}", nodes.join(", "));
        match (location, producer) {
            (None, Some(producer)) => write!(
                f,
                "input `{dataset}` of {readers} is kept in memory only, and `{producer}`, which writes it, is not selected\n  \
                 help: select `{producer}` too, or save `{dataset}` to a file"
            ),
            (None, None) => write!(
                f,
                "input `{dataset}` of {readers} is kept in memory only, and no node writes it\n  help: give it a type and a path in the catalog"
            ),
            (Some(location), Some(producer)) => write!(
                f,
                "input `{dataset}` of {readers} is missing: nothing at {location}\n  \
                 help: run `{producer}`, which writes it, or correct its path in the catalog"
            ),
            (Some(location), None) => write!(
                f,
                "input `{dataset}` of {readers} is missing: nothing at {location}\n  \
                 help: put the data there, or correct its path in the catalog"
            ),
        }
    }
}
