//! What a format has to offer.

use super::view::GraphView;

/// A format that graphs are written in.
pub trait Exporter: Sync {
    /// The word after `--format`.
    fn name(&self) -> &'static str;
    /// The usual ending of a file in it, without the dot.
    fn extension(&self) -> &'static str;
    /// One line for help texts.
    fn doc(&self) -> &'static str;
    /// The whole text, with a line break at its end.
    fn render(&self, view: &GraphView) -> String;
}
