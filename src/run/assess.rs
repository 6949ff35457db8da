//! What a step has to do, judged from what lies there now.
//!
//! Owns the fingerprints of steps and partitions and the reasons people read. Reads listings and receipts only, and
//! writes nothing; `flow plan` and `flow run` both ask here, so they cannot disagree.

use std::collections::{HashMap, HashSet};

use super::workspace::{Step, Workspace};
use crate::{
    data::{DataError, Dataset, Partition, Stores},
    function::Job,
    graph::NodeId,
    model::{Fingerprint, PartitionKey, Shape},
};

/// What a step has to do.
#[derive(Debug, Clone)]
pub(crate) enum Assessment {
    /// Nothing.
    Done { partitions: usize, rows_with_errors: u64 },
    /// Compute the whole table; `receipt` is what it will be known by.
    Table { receipt: Fingerprint, reason: String },
    /// Compute these partitions.
    Partitions(PartitionWork),
}

/// What a step over partitions has to do.
#[derive(Debug, Clone)]
pub(crate) struct PartitionWork {
    /// The first partition of the input, whose columns all should have.
    pub first: Option<Partition>,
    /// Input partitions to compute, in key order.
    pub todo: Vec<Todo>,
    /// How many are there already.
    pub done: usize,
    /// Every key that the finished output holds.
    pub keys: Vec<PartitionKey>,
    /// Rows with an error of their own in the partitions that are there already.
    pub rows_with_errors: u64,
    /// Rows in the partitions that are there already, where their names tell.
    pub rows_done: u64,
    /// Why.
    pub reason: String,
}

/// One partition to compute.
#[derive(Debug, Clone)]
pub(crate) struct Todo {
    /// The input.
    pub partition: Partition,
    /// The name its output will carry.
    pub fingerprint: Fingerprint,
}

/// Digests of datasets that are kept in memory: the receipt of the step that makes them.
pub(crate) type MemoryDigests = HashMap<String, Fingerprint>;

/// Why a step cannot be judged.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AssessError {
    #[error(transparent)]
    Data(#[from] DataError),
    #[error("input `{dataset}` is not there{}", place(.location))]
    MissingInput { dataset: String, location: Option<String> },
}

fn place(location: &Option<String>) -> String {
    location.as_ref().map(|l| format!(": nothing at `{l}`")).unwrap_or_default()
}

/// Judges one step. Every input must be as it will be when the step runs.
pub(crate) async fn assess(
    step: &Step,
    stores: &Stores,
    memory: &MemoryDigests,
    force: bool,
) -> Result<Assessment, AssessError> {
    match &step.job {
        Job::Table(job) => {
            let mut receipt = Fingerprint::builder("table")
                .fingerprint(step.code)
                .fingerprint(job.fingerprint())
                .fingerprint(step.save_options);
            for input in &step.inputs {
                let digest = digest(step, input, stores, memory).await?;
                receipt = receipt.text(&input.port).fingerprint(digest);
            }
            let receipt = receipt.finish();
            let output = step.output();
            if !output.info().persistent {
                let reason = "its output is kept in memory only".to_owned();
                return Ok(Assessment::Table { receipt, reason });
            }
            let state = output.state(stores).await?;
            let reason = match (state.receipt, state.digest) {
                _ if force => "forced",
                (Some(found), _) if found == receipt => {
                    return Ok(Assessment::Done { partitions: 0, rows_with_errors: 0 });
                }
                (Some(_), _) => "its input, parameters or function changed",
                (None, Some(_)) => "its output was changed by somebody else, or is not whole",
                (None, None) => "its output is not there",
            };
            Ok(Assessment::Table { receipt, reason: reason.to_owned() })
        }
        Job::Partitions(job) => {
            let input = step.partitions_input();
            let base = Fingerprint::builder("partition")
                .fingerprint(step.code)
                .fingerprint(job.fingerprint())
                .fingerprint(step.save_options)
                .finish();
            let partitions = input.partitions(stores).await?;
            partitions.iter().try_for_each(|partition| partition.check_whole(input.info()))?;
            if partitions.is_empty() {
                // An empty input that a step has just written is no mistake; one that nobody wrote is.
                let state = input.state(stores).await?;
                if state.digest.is_none() && !step.has_upstream {
                    return Err(missing(input));
                }
            }
            let there: HashMap<PartitionKey, Partition> =
                step.output().partitions(stores).await?.into_iter().map(|p| (p.key.clone(), p)).collect();
            let mut work = PartitionWork {
                first: partitions.first().cloned(),
                todo: Vec::new(),
                done: 0,
                keys: partitions.iter().map(|p| p.key.clone()).collect(),
                rows_with_errors: 0,
                rows_done: 0,
                reason: String::new(),
            };
            let mut stale = 0;
            let total = partitions.len();
            for partition in partitions {
                let fingerprint = Fingerprint::builder("of").fingerprint(base).fingerprint(partition.digest).finish();
                match there.get(&partition.key).map(|p| p.files.as_slice()) {
                    Some([file]) if file.fingerprint == Some(fingerprint) && !force => {
                        work.done += 1;
                        work.rows_with_errors += file.errors;
                        work.rows_done += file.rows.unwrap_or_default();
                    }
                    found => {
                        stale += usize::from(found.is_some());
                        work.todo.push(Todo { partition, fingerprint });
                    }
                }
            }
            let leftover = there.len() - (work.done + stale);
            let leftover = if step.output().write_options().overwrite { leftover } else { 0 };
            if work.todo.is_empty() && leftover == 0 {
                return Ok(Assessment::Done { partitions: work.done, rows_with_errors: work.rows_with_errors });
            }
            work.reason = reason(total, work.todo.len(), stale, leftover, force);
            Ok(Assessment::Partitions(work))
        }
        Job::Placeholder => Ok(Assessment::Table {
            receipt: Fingerprint::of("placeholder"),
            reason: "its function is a placeholder".to_owned(),
        }),
    }
}

/// True when a step keeps its output in memory and every selected step that would read it is up to date already, so
/// that nobody needs it. `receipt` is what the output would be known by.
pub(crate) async fn nobody_needs(
    workspace: &Workspace,
    selected: &HashSet<NodeId>,
    stores: &Stores,
    step: &Step,
    receipt: Fingerprint,
    memory: &MemoryDigests,
) -> bool {
    let mut memory = memory.clone();
    let mut open = vec![(step.output_base().to_owned(), receipt)];
    while let Some((base, receipt)) = open.pop() {
        memory.insert(base.clone(), receipt);
        let Some(dataset) = workspace.graph.dataset(&base) else { return false };
        let consumers: Vec<_> = dataset.consumers.iter().filter(|id| selected.contains(*id)).collect();
        if consumers.is_empty() {
            return false;
        }
        for id in consumers {
            let consumer = workspace.step(*id);
            match assess(&consumer, stores, &memory, false).await {
                Ok(Assessment::Done { .. }) => {}
                Ok(Assessment::Table { receipt, .. }) if !consumer.output().info().persistent => {
                    open.push((consumer.output_base().to_owned(), receipt));
                }
                _ => return false,
            }
        }
    }
    true
}

fn reason(total: usize, todo: usize, stale: usize, leftover: usize, force: bool) -> String {
    let noun = if total == 1 { "partition" } else { "partitions" };
    if force {
        return "forced".to_owned();
    }
    let missing = todo - stale;
    let mut parts = Vec::new();
    if missing > 0 {
        parts.push(format!("{missing} of {total} {noun} not there"));
    }
    if stale > 0 {
        parts.push(format!("{stale} of {total} {noun} out of date (input, parameters or function changed)"));
    }
    if leftover > 0 {
        parts.push(format!("{leftover} to remove, since the input no longer has them"));
    }
    parts.join(", ")
}

async fn digest(
    step: &Step,
    input: &super::workspace::Input,
    stores: &Stores,
    memory: &MemoryDigests,
) -> Result<Fingerprint, AssessError> {
    if let Some(digest) = memory.get(&input.base) {
        return Ok(*digest);
    }
    match input.dataset.state(stores).await?.digest {
        Some(digest) => Ok(digest),
        // What an earlier step wrote may hold no partition at all.
        None if step.has_upstream && input.dataset.info().shape == Shape::Partitions => Ok(Fingerprint::of("empty")),
        None => Err(missing(&*input.dataset)),
    }
}

fn missing(input: &dyn Dataset) -> AssessError {
    let info = input.info();
    AssessError::MissingInput { dataset: info.name.clone(), location: info.location.clone() }
}

#[cfg(test)]
mod tests {
    use super::reason;

    #[test]
    fn reasons_read_as_sentences() {
        assert_eq!(reason(24, 3, 0, 0, false), "3 of 24 partitions not there");
        assert_eq!(
            reason(24, 5, 2, 0, false),
            "3 of 24 partitions not there, 2 of 24 partitions out of date (input, parameters or function changed)"
        );
        assert_eq!(reason(1, 0, 0, 4, false), "4 to remove, since the input no longer has them");
        assert_eq!(reason(24, 24, 24, 0, true), "forced");
    }
}
