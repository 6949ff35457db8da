//! Which nodes a shard may run, and which partitions of a node are its own.
//!
//! Owns the rule that all shards of a node agree on: the position of a key among the sorted keys of the input with which the chain of
//! selected nodes begins. Reads listings only.

use std::collections::HashSet;

use super::{
    assess::{AssessError, Scope},
    workspace::{Step, Workspace},
};
use crate::{
    data::Partition,
    diagnostic::Diagnostic,
    function::Job,
    graph::NodeId,
    model::{PartitionKey, Shape, Shard},
};

/// What keeps these nodes from being divided into shards.
pub(super) fn problems(workspace: &Workspace, selected: &[NodeId], shard: Shard) -> Vec<Diagnostic> {
    let mut problems = Vec::new();
    let refused = |message: String, step: &Step, label: &str| {
        Diagnostic::error("node::not-divisible", message).at(step.span, label.to_owned())
    };
    for step in selected.iter().map(|id| workspace.step(*id)) {
        let name = &step.name;
        if !matches!(step.job, Job::Partitions(_)) {
            let message = format!("node `{name}` has no partitions that `--shard {shard}` could divide");
            let help = format!(
                "run it once without `--shard`, before the shards (`flow run --nodes {name}`), and select only nodes over \
                 partitions with `--nodes`"
            );
            problems.push(refused(message, &step, "is computed as a whole").help(help));
            continue;
        }
        for dataset in step.memory_outputs() {
            let message = format!("node `{name}` writes `{dataset}`, which is kept in memory and ends with the shard");
            let help = format!("give `{dataset}` a type and a path in the catalog");
            problems.push(refused(message, &step, "writes it").help(help));
        }
        let written = |base: &str| {
            let producer = workspace.graph.dataset(base).and_then(|dataset| dataset.producer);
            producer.filter(|id| selected.contains(id)).map(|id| workspace.graph[id].name.clone())
        };
        let whole = step.inputs.iter().filter(|input| input.dataset.info().shape != Shape::Partitions);
        for (input, producer) in whole.filter_map(|input| Some((input, written(&input.base)?))) {
            let message = format!(
                "node `{name}` reads all of `{}`, and `--shard {shard}` of `{producer}` writes a part of it",
                input.base
            );
            let help = format!("run `{producer}` to its end first, and the shards of `{name}` after it");
            problems.push(refused(message, &step, "reads all of it").help(help));
        }
    }
    problems
}

impl Scope<'_> {
    /// The partitions of a step's input that are computed here, in key order.
    pub(super) async fn own_partitions(
        &self,
        step: &Step,
        mut partitions: Vec<Partition>,
    ) -> Result<Vec<Partition>, AssessError> {
        let Some(shard) = self.shard else { return Ok(partitions) };
        partitions.sort_by(|one, other| one.key.cmp(&other.key));
        let Some(first) = self.first_of_chain(step) else {
            let mut position = 0..;
            partitions.retain(|_| position.next().is_some_and(|position| shard.holds(position)));
            partitions.shrink_to_fit();
            return Ok(partitions);
        };
        // What an earlier node of this shard wrote is a part of its output, so positions in it would be others.
        let input = first.partitions_input().partition_source()?.partitions(self.stores).await?;
        let mut keys: Vec<PartitionKey> = input.into_iter().map(|partition| partition.key).collect();
        keys.sort();
        let mut position = 0..;
        keys.retain(|_| position.next().is_some_and(|position| shard.holds(position)));
        let own: HashSet<PartitionKey> = keys.into_iter().collect();
        partitions.retain(|partition| own.contains(&partition.key));
        Ok(partitions)
    }

    /// The first step of the chain of selected steps whose partitions a step continues; `None` for one that begins a chain.
    fn first_of_chain(&self, step: &Step) -> Option<std::sync::Arc<Step>> {
        let mut first = None;
        let mut base = step.input_of_partitions().base.clone();
        loop {
            let producer = self.workspace.graph.dataset(&base).and_then(|dataset| dataset.producer);
            let Some(id) = producer.filter(|id| self.selected.contains(id)) else { return first };
            let earlier = self.workspace.step(id);
            base.clone_from(&earlier.input_of_partitions().base);
            first = Some(earlier);
        }
    }
}
