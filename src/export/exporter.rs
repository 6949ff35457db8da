//! The contract of a graph format.

use super::view::GraphView;

/// A graph format.
pub trait Exporter: Sync {
    /// Its name under `--format`.
    fn name(&self) -> &'static str;
    /// The usual file extension, without the dot.
    fn extension(&self) -> &'static str;
    /// One line for help texts.
    fn doc(&self) -> &'static str;
    /// The graph in this format, with a line break at the end.
    fn render(&self, view: &GraphView) -> String;
    /// True if a text that begins like this is a graph of this format that was written here.
    fn wrote(&self, beginning: &str) -> bool;
}
