//! Judges what a step has to do from the current state of its datasets.
//!
//! Owns the fingerprints of steps and partitions, and the reasons displayed to the user. Reads only listings and
//! receipts, and writes nothing. What others need of a step is the concern of `needs`.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{
    finished,
    row_errors::RowErrors,
    workspace::{Input, Step, Workspace},
};
use crate::{
    data::{DataError, Dataset, Partition, PartitionReceipt, Stores},
    function::{Context, FunctionError, Job, PartitionJob},
    graph::NodeId,
    model::{Fingerprint, PartitionKey, Shape, Shard},
};

/// What a step has to do.
#[derive(Debug, Clone)]
pub(crate) enum Judgement {
    /// Nothing: the output is up to date.
    UpToDate { partitions: usize, rows: RowErrors },
    /// Nothing to compute, but the output fails: more rows have errors than allowed. `error` is the message.
    TooManyErrors { partitions: usize, rows: RowErrors, error: String },
    /// Nothing: the output is kept in memory only, and everything that reads it is up to date. `receipt` would identify
    /// the output.
    NotNeeded { receipt: Fingerprint },
    /// Compute the table; `receipt` will identify it.
    Table {
        receipt: Fingerprint,
        reason: String,
        /// True if nothing but outputs in memory is missing.
        memory_only: bool,
    },
    /// Compute these partitions.
    Partitions(PartitionWork),
    /// Unknown until an upstream step of the selection has written this dataset.
    Waits { dataset: String },
    /// The step depends on this node, which will fail without computing anything.
    Blocked { because: String },
}

impl Judgement {
    /// True when the step computes its output, now or after its inputs are written.
    pub(crate) fn computes(&self) -> bool {
        matches!(self, Self::Table { .. } | Self::Partitions(_) | Self::Waits { .. })
    }
}

/// The work of a step over partitions.
#[derive(Debug, Clone)]
pub(crate) struct PartitionWork {
    /// The first partition of the input, whose columns all others must match.
    pub first: Option<Partition>,
    /// Input partitions to compute, in key order.
    pub todo: Vec<Todo>,
    /// The number of output partitions that are up to date.
    pub done: usize,
    /// All keys of the complete output, and the fingerprints that name their files.
    pub keys: BTreeMap<PartitionKey, Fingerprint>,
    /// The number of failed rows in partitions that are up to date.
    pub rows: RowErrors,
    /// The number of partitions that the output contains now.
    pub existing: usize,
    /// The number of existing partitions to remove, since the input no longer has them.
    pub removes: usize,
    /// Why the step runs, as displayed to the user.
    pub reason: String,
}

impl PartitionWork {
    /// A message about the partitions to remove, as displayed to the user.
    pub(crate) fn removal(&self, step: &Step) -> Option<String> {
        let output = &step.output().info().name;
        (self.removes > 0).then(|| {
            format!(
                "node `{}` removes {} of the {} partitions of `{output}`, since its input no longer has them",
                step.name, self.removes, self.existing
            )
        })
    }

    /// A message that `--yes` is required, if the work would remove most of the existing partitions and compute few.
    pub(crate) fn needs_consent(&self, step: &Step) -> Option<String> {
        if !is_sweeping(self.existing, self.removes, self.todo.len()) {
            return None;
        }
        let input = &step.partitions_input().info().name;
        Some(format!(
            "node `{}` would remove {} of the {} partitions of `{}`, since its input `{input}` no longer has them, and compute \
             {}\n  help: correct the `path` or `filename_suffix` of `{input}`; if the partitions are to go, run again with `--yes`",
            step.name,
            self.removes,
            self.existing,
            step.output().info().name,
            self.todo.len()
        ))
    }
}

/// True for at least three partitions, more than half of the existing ones, and more than are computed.
pub(super) fn is_sweeping(existing: usize, removes: usize, computes: usize) -> bool {
    removes >= 3 && removes * 2 > existing && computes < removes
}

/// One partition to compute.
#[derive(Debug, Clone)]
pub(crate) struct Todo {
    /// The input partition.
    pub partition: Partition,
    /// The fingerprint that will name its output file.
    pub fingerprint: Fingerprint,
}

/// Digests of datasets that are kept in memory: the receipts of the steps that write them.
pub(crate) type MemoryDigests = HashMap<String, Fingerprint>;

/// Why a step cannot be judged.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AssessError {
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Function(#[from] FunctionError),
    #[error("input `{dataset}` is missing{}", place(.location))]
    MissingInput { dataset: String, location: Option<String> },
    #[error(
        "input `{dataset}` has no partitions: none of the names of the {files} files at {location} ends with its \
         `filename_suffix`\n  help: correct its `path` or its `filename_suffix`"
    )]
    NoPartition { dataset: String, location: String, files: usize },
}

fn place(location: &Option<String>) -> String {
    location.as_ref().map(|l| format!(": nothing at `{l}`")).unwrap_or_default()
}

/// The selected steps of a project, with the resources needed to judge them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scope<'a> {
    pub workspace: &'a Workspace,
    pub stores: &'a Stores,
    /// The resources that functions use.
    pub context: &'a Context,
    pub selected: &'a HashSet<NodeId>,
    /// Recompute what is up to date.
    pub force: bool,
    /// The part of the partitions to judge; `None` for all, and for what the input no longer has.
    pub shard: Option<Shard>,
}

impl Scope<'_> {
    /// Judges one step by its own inputs and output.
    pub(super) async fn judge_alone(&self, step: &Step, memory: &MemoryDigests) -> Result<Judgement, AssessError> {
        match &step.job {
            Job::Table(job) => self.judge_table(step, job.fingerprint(), memory).await,
            Job::Outputs(job) => self.judge_table(step, job.fingerprint(self.context)?, memory).await,
            Job::Partitions(job) => self.judge_partitions(step, &**job).await,
            Job::Rows(job) => self.judge_rows(step, &**job, memory).await,
            Job::Placeholder => Ok(Judgement::Table {
                receipt: Fingerprint::of("placeholder"),
                reason: "its function is a placeholder".to_owned(),
                memory_only: false,
            }),
        }
    }

    /// Judges a step that writes whole datasets; `work` identifies what it does to its inputs.
    pub(super) async fn judge_table(
        &self,
        step: &Step,
        work: Fingerprint,
        memory: &MemoryDigests,
    ) -> Result<Judgement, AssessError> {
        let receipt = self.receipt_of_table(step, work, memory).await?;
        for output in step.outputs.iter().map(|(_, output)| output).filter(|output| output.info().persistent) {
            let state = output.state(self.stores).await?;
            let reason = match (state.receipt, state.digest) {
                _ if self.force => "forced".to_owned(),
                (Some(found), _) if found == receipt || self.nothing_is_new(step).await? => continue,
                (Some(_), _) => step.job.changed(self.context).unwrap_or_else(|| CHANGED.to_owned()),
                (None, Some(_)) => "output was modified outside flow or is incomplete".to_owned(),
                (None, None) => "output is missing".to_owned(),
            };
            return Ok(Judgement::Table { receipt, reason, memory_only: false });
        }
        Ok(
            if step.outputs.is_empty() && !self.force && finished::has_ended(&self.context.service.root, step, receipt)
            {
                Judgement::UpToDate { partitions: 0, rows: RowErrors::default() }
            } else if step.outputs.is_empty() {
                Judgement::Table { receipt, reason: "it has no output".to_owned(), memory_only: false }
            } else if step.memory_outputs().next().is_some() {
                let changed = step.job.changed(self.context);
                let reason = changed.unwrap_or_else(|| "output is kept in memory only".to_owned());
                Judgement::Table { receipt, reason, memory_only: true }
            } else {
                Judgement::UpToDate { partitions: 0, rows: RowErrors::default() }
            },
        )
    }

    /// What identifies the outputs of a step that writes whole datasets; `None` for one over partitions.
    pub(crate) async fn receipt(
        &self,
        step: &Step,
        memory: &MemoryDigests,
    ) -> Result<Option<Fingerprint>, AssessError> {
        let work = match &step.job {
            Job::Table(job) => job.fingerprint(),
            Job::Outputs(job) => job.fingerprint(self.context)?,
            Job::Rows(job) => job.fingerprint(self.context)?,
            Job::Partitions(_) | Job::Placeholder => return Ok(None),
        };
        self.receipt_of_table(step, work, memory).await.map(Some)
    }

    async fn receipt_of_table(
        &self,
        step: &Step,
        work: Fingerprint,
        memory: &MemoryDigests,
    ) -> Result<Fingerprint, AssessError> {
        let mut receipt =
            Fingerprint::builder("table").fingerprint(step.code).fingerprint(work).fingerprint(step.save_options);
        for input in &step.inputs {
            let digest = self.digest(input, memory).await?;
            receipt = receipt.text(&input.port).fingerprint(digest);
        }
        Ok(receipt.finish())
    }

    async fn judge_partitions(&self, step: &Step, job: &dyn PartitionJob) -> Result<Judgement, AssessError> {
        let input = step.input_of_partitions();
        let partitions = input.dataset.partition_source()?.partitions(self.stores).await?;
        if partitions.is_empty() {
            // What was confirmed before stays in the output, even in one that is overwritten.
            if input.dataset.state(self.stores).await?.confirmed {
                return Ok(Judgement::UpToDate { partitions: 0, rows: RowErrors::default() });
            }
            self.check_empty(input).await?;
        }
        self.judge_given(step, job, partitions).await
    }

    /// Judges a step over partitions by the given partitions of its input and the existing ones of its output.
    pub(crate) async fn judge_given(
        &self,
        step: &Step,
        job: &dyn PartitionJob,
        partitions: Vec<Partition>,
    ) -> Result<Judgement, AssessError> {
        let base = partition_work(step, job, self.context)?;
        let first = partitions.first().cloned();
        let partitions = self.own_partitions(step, partitions).await?;
        let info = step.partitions_input().info();
        partitions.iter().try_for_each(|partition| partition.check_whole(info))?;
        let existing = step.output().written_partitions()?.partitions(self.stores).await?;
        let receipts = existing.into_iter().map(|partition| (partition.key, partition.receipt));
        let mut existing: Vec<(PartitionKey, Option<PartitionReceipt>)> = receipts.collect();
        existing.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        let mut work = PartitionWork {
            first,
            todo: Vec::new(),
            done: 0,
            keys: BTreeMap::new(),
            rows: RowErrors::default(),
            existing: existing.len(),
            removes: 0,
            reason: String::new(),
        };
        let mut stale = 0;
        let total = partitions.len();
        for partition in partitions {
            let fingerprint = of_partition(base, partition.digest);
            work.keys.insert(partition.key.clone(), fingerprint);
            let at = existing.binary_search_by(|(key, _)| key.cmp(&partition.key));
            match at.ok().map(|at| existing[at].1) {
                Some(Some(receipt)) if receipt.fingerprint == fingerprint && !self.force => {
                    work.done += 1;
                    work.rows.add_receipt(&receipt);
                }
                found => {
                    stale += usize::from(found.is_some());
                    work.todo.push(Todo { partition, fingerprint });
                }
            }
        }
        // What other shards compute, and what the input no longer has, is none of a shard's concern.
        let removes = step.write_options().overwrite && self.shard.is_none();
        let leftover = if removes { existing.len() - (work.done + stale) } else { 0 };
        if work.todo.is_empty() && leftover == 0 {
            let (partitions, rows) = (work.done, work.rows);
            return Ok(match rows.exceed(&step.name, self.max_row_error_rate(job), None) {
                Some(error) => Judgement::TooManyErrors { partitions, rows, error },
                None => Judgement::UpToDate { partitions, rows },
            });
        }
        work.removes = leftover;
        let changed = if stale > 0 { step.job.changed(self.context) } else { None };
        let changed = changed.as_deref().unwrap_or(CHANGED);
        work.reason = reason(total, (work.todo.len(), stale, leftover), self.force, changed);
        Ok(Judgement::Partitions(work))
    }

    /// The error rate at which a step fails. A shard leaves that to the run that sees all rows.
    pub(crate) fn max_row_error_rate(&self, job: &dyn PartitionJob) -> f64 {
        if self.shard.is_some() { 1.0 } else { job.max_row_error_rate() }
    }

    /// True when an input has partitions, and all of them were confirmed: a table of none would replace the one of those
    /// that were confirmed last.
    async fn nothing_is_new(&self, step: &Step) -> Result<bool, AssessError> {
        for input in &step.inputs {
            if input.dataset.as_checkpointed().is_some() && input.dataset.state(self.stores).await?.confirmed {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Rejects an input without partitions, unless `flow` has written it as empty.
    async fn check_empty(&self, input: &Input) -> Result<(), AssessError> {
        let state = input.dataset.state(self.stores).await?;
        let info = input.dataset.info();
        if state.files > 0 {
            let location = info.location.clone().unwrap_or_default();
            return Err(AssessError::NoPartition { dataset: info.name.clone(), location, files: state.files });
        }
        if state.receipt.is_none() && !self.writes(input) {
            return Err(missing(&*input.dataset));
        }
        Ok(())
    }

    /// True when a selected step writes the input.
    fn writes(&self, input: &Input) -> bool {
        let producer = self.workspace.graph.dataset(&input.base).and_then(|dataset| dataset.producer);
        producer.is_some_and(|id| self.selected.contains(&id))
    }

    async fn digest(&self, input: &Input, memory: &MemoryDigests) -> Result<Fingerprint, AssessError> {
        if let Some(digest) = memory.get(&input.base) {
            return Ok(*digest);
        }
        match input.dataset.state(self.stores).await?.digest {
            Some(digest) => Ok(digest),
            // The output of an upstream step may have no partitions at all.
            None if self.writes(input) && input.dataset.info().shape == Shape::Partitions => {
                Ok(Fingerprint::of("empty"))
            }
            None => Err(missing(&*input.dataset)),
        }
    }
}

/// The part of a partition's fingerprint that all partitions of a step share.
fn partition_work(step: &Step, job: &dyn PartitionJob, context: &Context) -> Result<Fingerprint, FunctionError> {
    Ok(Fingerprint::builder("partition")
        .fingerprint(step.code)
        .fingerprint(job.fingerprint(context)?)
        .fingerprint(step.save_options)
        .finish())
}

/// The fingerprint that names the output file of an input partition.
fn of_partition(work: Fingerprint, input: Fingerprint) -> Fingerprint {
    Fingerprint::builder("of").fingerprint(work).fingerprint(input).finish()
}

/// Why something is out of date, where nothing more is known.
const CHANGED: &str = "input, parameters or function changed";

fn reason(total: usize, (todo, stale, leftover): (usize, usize, usize), force: bool, changed: &str) -> String {
    let noun = if total == 1 { "partition" } else { "partitions" };
    let missing = todo - stale;
    let mut parts = Vec::new();
    if force {
        parts.push("forced".to_owned());
    }
    if missing > 0 && !force {
        parts.push(format!("{missing} of {total} {noun} missing"));
    }
    if stale > 0 && !force {
        parts.push(format!("{stale} of {total} {noun} out of date ({changed})"));
    }
    if leftover > 0 {
        parts.push(format!("{leftover} to remove, since the input no longer has them"));
    }
    parts.join(", ")
}

fn missing(input: &dyn Dataset) -> AssessError {
    let info = input.info();
    AssessError::MissingInput { dataset: info.name.clone(), location: info.location.clone() }
}

#[cfg(test)]
mod tests {
    use super::{CHANGED, is_sweeping};

    fn reason(total: usize, todo: usize, stale: usize, leftover: usize, force: bool) -> String {
        super::reason(total, (todo, stale, leftover), force, CHANGED)
    }

    #[test]
    fn consent_is_required_to_remove_most_partitions_and_compute_few() {
        for (existing, removes, computes, expected) in [
            (10, 10, 0, true),
            (10, 6, 4, true),
            (5, 3, 2, true),
            (10, 5, 0, false),
            (10, 6, 6, false),
            (2, 2, 0, false),
            (0, 0, 9, false),
        ] {
            assert_eq!(
                is_sweeping(existing, removes, computes),
                expected,
                "{removes} of {existing}, {computes} computed"
            );
        }
    }

    #[test]
    fn reasons_read_as_sentences() {
        assert_eq!(reason(24, 3, 0, 0, false), "3 of 24 partitions missing");
        assert_eq!(
            reason(24, 5, 2, 0, false),
            "3 of 24 partitions missing, 2 of 24 partitions out of date (input, parameters or function changed)"
        );
        assert_eq!(reason(1, 0, 0, 4, false), "4 to remove, since the input no longer has them");
        assert_eq!(reason(24, 24, 24, 0, true), "forced");
        assert_eq!(reason(4, 4, 4, 2, true), "forced, 2 to remove, since the input no longer has them");
    }
}
