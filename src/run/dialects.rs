//! Whether what one node writes is what another reads: `save_args` and `load_args` of a dataset are two dialects.

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    config::Project,
    data::Dataset,
    diagnostic::{Diagnostic, Diagnostics},
};

/// Warns of each dataset among `written` and `read` that is written in one dialect and read in another.
pub(super) fn check<'a>(
    project: &Project,
    read: impl Iterator<Item = &'a Arc<dyn Dataset>>,
    written: impl Iterator<Item = &'a Arc<dyn Dataset>>,
    problems: &mut Diagnostics,
) {
    let read: BTreeSet<&str> = read.map(|dataset| dataset.info().name.as_str()).collect();
    for dataset in written {
        let name = dataset.info().name.as_str();
        let differences = dataset.differences();
        if differences.is_empty() || !read.contains(name) {
            continue;
        }
        let message = format!("dataset `{name}` is not read as it is written: {}", differences.join("; "));
        let mut warning = Diagnostic::warning("data::dialects-differ", message);
        if let Some(spec) = project.catalog.entries.get(name) {
            warning = warning.at(spec.name_span, "");
        }
        problems.push(warning.help("give the same option under `load_args` and `save_args`"));
    }
}
