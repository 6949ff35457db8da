//! `confirms:` of nodes: which datasets' checkpoints move after which node.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crate::{
    config::Project,
    data::Dataset,
    diagnostic::{Diagnostic, Diagnostics, did_you_mean},
};

/// The names of the datasets that each node confirms. Those that do not exist or have no checkpoint are reported.
pub(super) fn datasets(
    project: &Project,
    datasets: &BTreeMap<String, Arc<dyn Dataset>>,
    problems: &mut Diagnostics,
) -> HashMap<String, Vec<String>> {
    let mut out: HashMap<String, Vec<String>> = HashMap::new();
    let mut reported = Vec::new();
    for node in project.pipelines.iter().flat_map(|pipeline| &pipeline.nodes) {
        for name in &node.confirms {
            let problem = match datasets.get(&name.value) {
                Some(dataset) if dataset.as_checkpointed().is_some() || !dataset.info().supported => {
                    let names = out.entry(node.name.value.clone()).or_default();
                    if !names.contains(&name.value) {
                        names.push(name.value.clone());
                    }
                    continue;
                }
                Some(dataset) => {
                    let kind = &dataset.info().type_name;
                    let message =
                        format!("`confirms` names `{}`, which is of type `{kind}` and has no checkpoint", name.value);
                    Diagnostic::error("graph::no-checkpoint", message)
                        .help("a dataset of type `incremental` has one (Kedro's `partitions.IncrementalDataset`)")
                }
                // An entry that could not be read was reported.
                None if project.catalog.entries.contains_key(&name.value) || project.broken.contains(&name.value) => {
                    continue;
                }
                None => {
                    let message = format!("dataset `{}` is not in the catalog", name.value);
                    Diagnostic::error("graph::unknown-dataset", message)
                        .help_opt(did_you_mean(&name.value, datasets.keys().map(String::as_str)))
                }
            };
            // A node may be in several pipelines.
            if !reported.contains(&name.span) {
                reported.push(name.span);
                problems.push(problem.at(name.span, format!("in node `{}`", node.name.value)));
            }
        }
    }
    out
}
