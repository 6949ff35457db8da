//! The warning about a table whose answers are kept nowhere before it is complete.

use super::contract::Arguments;
use crate::{
    cache::CacheMode,
    diagnostic::{Diagnostic, Diagnostics},
};

/// Warns if a node reads a table at `dfs`, and its answers are not stored as they come: partitions are saved one by one, a table is
/// saved at its end. `port` has the mapping that says so.
pub(super) fn warn(arguments: &Arguments<'_>, port: &str, mode: CacheMode, problems: &mut Diagnostics) {
    if mode == CacheMode::ReadWrite || !arguments.takes_table("dfs") {
        return;
    }
    let span = arguments.value(port).map_or(arguments.span, |node| node.span);
    let message = format!(
        "node `{}` reads a table, and `cache: {{mode: {}}}` keeps no answers: a run that is stopped asks, and pays, for all rows again",
        arguments.node,
        mode.as_str()
    );
    problems.push(
        Diagnostic::warning("node::answers-not-kept", message)
            .at(span, "in this mapping")
            .help("set `mode: readwrite`, or cut the table with `bucketize`: partitions are saved one by one"),
    );
}
