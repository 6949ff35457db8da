//! Files in the locations of outputs that `flow` did not write, and symbolic links in the locations of datasets that it
//! writes.
//!
//! Used by `flow plan` and by the checks before a run. What may be replaced is decided in `data`.

use super::workspace::{Step, Workspace};
use crate::{
    data::{DataError, Dataset, Occupants, Stores},
    function::Job,
    model::base_name,
};

/// The foreign files and links at the location of an output of a step.
pub(super) async fn of_output(
    workspace: &Workspace,
    stores: &Stores,
    step: &Step,
    output: &dyn Dataset,
) -> Result<Occupants, DataError> {
    let columns = columns(workspace, stores, step).await;
    output.occupants(stores, columns.as_deref()).await
}

/// Error messages about links among the partitions of a step's inputs, for inputs that nodes of this project write.
pub(super) async fn of_inputs(workspace: &Workspace, stores: &Stores, step: &Step) -> Vec<String> {
    let mut wrong = Vec::new();
    for input in &step.inputs {
        if producer(workspace, &input.base).is_none() {
            continue;
        }
        // A location that cannot be listed is reported when it is read.
        let Ok(found) = input.dataset.occupants(stores, None).await else { continue };
        if let [first, others @ ..] = found.links() {
            let more = if others.is_empty() { String::new() } else { format!(" and {} more", others.len()) };
            wrong.push(format!(
                "input `{}` of node `{}` is written by flow, and {first}{more} in it is a link\nhelp: put a folder in the place of \
                 the link, or remove it",
                input.dataset.info().name,
                step.name
            ));
        }
    }
    wrong
}

/// The columns of the partitions that a step will write; `None` if they are unknown until its inputs are written.
async fn columns(workspace: &Workspace, stores: &Stores, step: &Step) -> Option<Vec<String>> {
    let Job::Partitions(_) = step.job else { return None };
    let input = step.partitions_input();
    let base = base_name(&input.info().name).to_owned();
    let declared = producer(workspace, &base).map(|producer| producer.partition_columns()).unwrap_or_default();
    if !declared.is_empty() {
        return Some(declared);
    }
    let partitions = input.as_partition_source()?.partitions(stores).await.ok()?;
    partitions.first().map(|first| first.key.columns().map(|(column, _)| column.to_owned()).collect())
}

fn producer(workspace: &Workspace, base: &str) -> Option<std::sync::Arc<Step>> {
    workspace.graph.dataset(base)?.producer.map(|id| workspace.step(id))
}
