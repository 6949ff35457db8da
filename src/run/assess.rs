//! What a step has to do, judged from what lies there now.
//!
//! Owns the fingerprints of steps and partitions and the reasons people read. Reads listings and receipts only, and
//! writes nothing. There is one judgement: a plan and the checks before a start ask [`Scope::foresee`] about all steps,
//! a run asks [`Scope::judge`] about each step when its turn comes.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::Arc,
};

use indexmap::IndexMap;

use super::{
    row_errors::RowErrors,
    workspace::{Input, Step, Workspace},
};
use crate::{
    data::{DataError, Dataset, Partition, Stores},
    function::{Context, FunctionError, Job, PartitionJob, TableJob},
    graph::NodeId,
    model::{Fingerprint, PartitionKey, Shape},
};

/// What a step has to do.
#[derive(Debug, Clone)]
pub(crate) enum Judgement {
    /// Nothing: its output is what it would write.
    UpToDate { partitions: usize, rows: RowErrors },
    /// Nothing, and what is there is a failure: more rows carry errors than are allowed. `error` says so.
    TooManyErrors { partitions: usize, rows: RowErrors, error: String },
    /// Nothing: output is kept in memory only, and everything that reads it is up to date. `receipt` is what the
    /// output would be known by.
    NotNeeded { receipt: Fingerprint },
    /// Compute the whole table; `receipt` is what it will be known by.
    Table { receipt: Fingerprint, reason: String },
    /// Compute these partitions.
    Partitions(PartitionWork),
    /// An earlier step of the selection writes this dataset first; only then it can be told.
    Waits { dataset: String },
    /// This node fails, without anything being computed, and the step needs it.
    Blocked { because: String },
}

impl Judgement {
    /// True when the step has something to compute, now or once its inputs are written.
    pub(crate) fn computes(&self) -> bool {
        matches!(self, Self::Table { .. } | Self::Partitions(_) | Self::Waits { .. })
    }
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
    /// How the rows of the partitions came out that are there already.
    pub rows: RowErrors,
    /// How many partitions the output holds now.
    pub there: usize,
    /// How many of them go, since the input no longer has them.
    pub removes: usize,
    /// Why.
    pub reason: String,
}

impl PartitionWork {
    /// What goes, for people.
    pub(crate) fn removal(&self, step: &Step) -> Option<String> {
        let output = &step.output().info().name;
        (self.removes > 0).then(|| {
            format!(
                "node `{}` removes {} of the {} partitions of `{output}`, since its input no longer has them",
                step.name, self.removes, self.there
            )
        })
    }

    /// What to ask before the work begins, when it would remove most of what is there and compute little.
    pub(crate) fn needs_consent(&self, step: &Step) -> Option<String> {
        if !is_sweeping(self.there, self.removes, self.todo.len()) {
            return None;
        }
        let input = &step.partitions_input().info().name;
        Some(format!(
            "node `{}` would remove {} of the {} partitions of `{}`, since its input `{input}` no longer has them, and compute \
             {}\n  help: correct the `path` or `filename_suffix` of `{input}`; if the partitions are to go, run again with `--yes`",
            step.name,
            self.removes,
            self.there,
            step.output().info().name,
            self.todo.len()
        ))
    }
}

/// A few partitions at least, more than half of what is there, and more than are computed.
fn is_sweeping(there: usize, removes: usize, computes: usize) -> bool {
    removes >= 3 && removes * 2 > there && computes < removes
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
    #[error(transparent)]
    Function(#[from] FunctionError),
    #[error("input `{dataset}` is missing{}", place(.location))]
    MissingInput { dataset: String, location: Option<String> },
    #[error(
        "input `{dataset}` holds no partition, though there are {files} files at {location}: none of their names ends with its \
         `filename_suffix`\n  help: correct its `path` or its `filename_suffix`"
    )]
    NoPartition { dataset: String, location: String, files: usize },
}

fn place(location: &Option<String>) -> String {
    location.as_ref().map(|l| format!(": nothing at `{l}`")).unwrap_or_default()
}

/// What is judged: the selected steps of a project.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scope<'a> {
    pub workspace: &'a Workspace,
    pub stores: &'a Stores,
    /// What the values of functions are read from besides the project's files.
    pub context: &'a Context,
    pub selected: &'a HashSet<NodeId>,
    /// Recompute what is up to date.
    pub force: bool,
}

/// What every selected step would have to do if the run began now.
#[derive(Debug, Default)]
pub(crate) struct Foresight {
    /// In execution order. A step that cannot be judged is not among them.
    pub steps: Vec<(Arc<Step>, Judgement)>,
    /// Inputs that no selected step writes and that hold nothing, in the order of the steps.
    pub missing: Vec<MissingInput>,
    /// What datasets in memory hold that need not be computed again.
    pub memory: MemoryDigests,
    /// Everything else that is in the way of a step, by its name.
    pub problems: Vec<(String, AssessError)>,
}

impl Foresight {
    /// All that keeps steps from being judged, in words; what several meet is said once.
    pub(crate) fn obstacles(&self) -> Vec<String> {
        let mut nodes: IndexMap<String, Vec<String>> = IndexMap::new();
        for (node, error) in &self.problems {
            nodes.entry(error.to_string()).or_default().push(format!("`{node}`"));
        }
        let others = nodes.into_iter().map(|(error, nodes)| {
            format!("{} {}: {error}", if nodes.len() == 1 { "node" } else { "nodes" }, nodes.join(", "))
        });
        self.missing.iter().map(MissingInput::to_string).chain(others).collect()
    }
}

/// An input that holds nothing, and who reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MissingInput {
    /// The catalog's name, with its view.
    pub dataset: String,
    /// Where it was looked for; `None` for memory.
    pub location: Option<String>,
    /// The selected nodes that read it.
    pub nodes: Vec<String>,
    /// The node that writes it and is not selected.
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

impl Scope<'_> {
    /// Judges one step. Every input must be as it will be when the step runs.
    pub(crate) async fn judge(&self, step: &Step, memory: &MemoryDigests) -> Result<Judgement, AssessError> {
        let judgement = self.judge_alone(step, memory).await?;
        match judgement {
            Judgement::Table { receipt, .. }
                if !step.output().info().persistent
                    && !self.force
                    && self.nobody_needs(step, receipt, memory).await =>
            {
                Ok(Judgement::NotNeeded { receipt })
            }
            other => Ok(other),
        }
    }

    /// Judges all selected steps, each as it is before any of them has run.
    pub(crate) async fn foresee(&self, selected: &[NodeId]) -> Foresight {
        let mut foresight = Foresight::default();
        let mut pending: HashSet<String> = HashSet::new();
        let mut failing: HashMap<NodeId, String> = HashMap::new();
        for step in selected.iter().map(|id| self.workspace.step(*id)) {
            let judged = match self.missing_inputs(&step, &mut foresight).await {
                Ok(0) => {
                    let needs = self.workspace.graph.dependencies(step.id);
                    let fails = needs.into_iter().find_map(|id| failing.get(&id).cloned());
                    let waits = step.inputs.iter().find(|input| pending.contains(&input.base));
                    match (fails, waits) {
                        (Some(because), _) => Ok(Some(Judgement::Blocked { because })),
                        (None, Some(input)) => Ok(Some(Judgement::Waits { dataset: input.base.clone() })),
                        (None, None) => self.judge(&step, &foresight.memory).await.map(Some),
                    }
                }
                Ok(_) => Ok(None),
                Err(error) => Err(error),
            };
            match &judged {
                Ok(Some(Judgement::UpToDate { .. })) => {}
                Ok(Some(Judgement::TooManyErrors { .. })) => drop(failing.insert(step.id, step.name.clone())),
                Ok(Some(Judgement::Blocked { because })) => drop(failing.insert(step.id, because.clone())),
                Ok(Some(Judgement::NotNeeded { receipt })) => {
                    foresight.memory.insert(step.output_base().to_owned(), *receipt);
                }
                _ => pending.extend(step.outputs.iter().map(|(name, _)| name.base().to_owned())),
            }
            match judged {
                Ok(Some(judgement)) => foresight.steps.push((step, judgement)),
                Ok(None) => {}
                Err(error) => foresight.problems.push((step.name.clone(), error)),
            }
        }
        foresight
    }

    /// Notes the inputs of a step that hold nothing and that no selected step writes. Gives their number.
    async fn missing_inputs(&self, step: &Step, foresight: &mut Foresight) -> Result<usize, AssessError> {
        let mut missing = 0;
        // Code that is still to come reads nothing.
        let reads = !matches!(step.job, Job::Placeholder);
        for input in step.inputs.iter().filter(|_| reads) {
            let producer = self.workspace.graph.dataset(&input.base).and_then(|dataset| dataset.producer);
            if producer.is_some_and(|id| self.selected.contains(&id)) {
                continue;
            }
            if input.dataset.state(self.stores).await?.digest.is_some() {
                continue;
            }
            missing += 1;
            let info = input.dataset.info();
            match foresight.missing.iter_mut().find(|found| found.dataset == info.name) {
                Some(found) => found.nodes.push(step.name.clone()),
                None => foresight.missing.push(MissingInput {
                    dataset: info.name.clone(),
                    location: info.location.clone(),
                    nodes: vec![step.name.clone()],
                    producer: producer.map(|id| self.workspace.graph[id].name.clone()),
                }),
            }
        }
        Ok(missing)
    }

    /// Judges one step by its own inputs and output.
    async fn judge_alone(&self, step: &Step, memory: &MemoryDigests) -> Result<Judgement, AssessError> {
        match &step.job {
            Job::Table(job) => self.judge_table(step, &**job, memory).await,
            Job::Partitions(job) => self.judge_partitions(step, &**job).await,
            Job::Placeholder => Ok(Judgement::Table {
                receipt: Fingerprint::of("placeholder"),
                reason: "its function is a placeholder".to_owned(),
            }),
        }
    }

    async fn judge_table(
        &self,
        step: &Step,
        job: &dyn TableJob,
        memory: &MemoryDigests,
    ) -> Result<Judgement, AssessError> {
        let mut receipt = Fingerprint::builder("table")
            .fingerprint(step.code)
            .fingerprint(job.fingerprint())
            .fingerprint(step.save_options);
        for input in &step.inputs {
            let digest = self.digest(input, memory).await?;
            receipt = receipt.text(&input.port).fingerprint(digest);
        }
        let receipt = receipt.finish();
        let output = step.output();
        if !output.info().persistent {
            return Ok(Judgement::Table { receipt, reason: "output is kept in memory only".to_owned() });
        }
        let state = output.state(self.stores).await?;
        let reason = match (state.receipt, state.digest) {
            _ if self.force => "forced",
            (Some(found), _) if found == receipt => {
                return Ok(Judgement::UpToDate { partitions: 0, rows: RowErrors::default() });
            }
            (Some(_), _) => "input, parameters or function changed",
            (None, Some(_)) => "output was modified outside flow or is incomplete",
            (None, None) => "output is missing",
        };
        Ok(Judgement::Table { receipt, reason: reason.to_owned() })
    }

    async fn judge_partitions(&self, step: &Step, job: &dyn PartitionJob) -> Result<Judgement, AssessError> {
        let input = step.input_of_partitions();
        let partitions = input.dataset.partition_source()?.partitions(self.stores).await?;
        partitions.iter().try_for_each(|partition| partition.check_whole(input.dataset.info()))?;
        if partitions.is_empty() {
            self.check_empty(input).await?;
        }
        self.judge_given(step, job, partitions).await
    }

    /// Judges a step over partitions by these partitions of its input, and what is there of its output.
    pub(crate) async fn judge_given(
        &self,
        step: &Step,
        job: &dyn PartitionJob,
        partitions: Vec<Partition>,
    ) -> Result<Judgement, AssessError> {
        let base = partition_work(step, job, self.context)?;
        let there: HashMap<PartitionKey, Partition> = step
            .output()
            .partition_source()?
            .partitions(self.stores)
            .await?
            .into_iter()
            .map(|p| (p.key.clone(), p))
            .collect();
        let mut work = PartitionWork {
            first: partitions.first().cloned(),
            todo: Vec::new(),
            done: 0,
            keys: partitions.iter().map(|p| p.key.clone()).collect(),
            rows: RowErrors::default(),
            there: there.len(),
            removes: 0,
            reason: String::new(),
        };
        let mut stale = 0;
        let total = partitions.len();
        for partition in partitions {
            let fingerprint = of_partition(base, partition.digest);
            match there.get(&partition.key).map(|present| present.receipt) {
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
        let leftover = there.len() - (work.done + stale);
        let leftover = if step.write_options().overwrite { leftover } else { 0 };
        if work.todo.is_empty() && leftover == 0 {
            let (partitions, rows) = (work.done, work.rows);
            return Ok(match rows.exceed(job.max_row_error_rate()) {
                Some(error) => Judgement::TooManyErrors { partitions, rows, error },
                None => Judgement::UpToDate { partitions, rows },
            });
        }
        work.removes = leftover;
        work.reason = reason(total, work.todo.len(), stale, leftover, self.force);
        Ok(Judgement::Partitions(work))
    }

    /// Refuses an input without partitions, unless that is what a write has left there.
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

    /// True when a selected step writes an input.
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
            // What an earlier step of this run wrote may hold no partition at all.
            None if self.writes(input) && input.dataset.info().shape == Shape::Partitions => {
                Ok(Fingerprint::of("empty"))
            }
            None => Err(missing(&*input.dataset)),
        }
    }

    /// True when a step keeps its output in memory and every selected step that would read it is up to date already, so
    /// that nobody needs it. `receipt` is what the output would be known by.
    async fn nobody_needs(&self, step: &Step, receipt: Fingerprint, memory: &MemoryDigests) -> bool {
        let mut memory = memory.clone();
        let mut open = vec![(step.output_base().to_owned(), receipt)];
        while let Some((base, receipt)) = open.pop() {
            memory.insert(base.clone(), receipt);
            let Some(dataset) = self.workspace.graph.dataset(&base) else { return false };
            let consumers: Vec<_> = dataset.consumers.iter().filter(|id| self.selected.contains(*id)).collect();
            if consumers.is_empty() {
                return false;
            }
            for id in consumers {
                let consumer = self.workspace.step(*id);
                match self.judge_alone(&consumer, &memory).await {
                    Ok(Judgement::UpToDate { .. } | Judgement::TooManyErrors { .. }) => {}
                    Ok(Judgement::Table { receipt, .. }) if !consumer.output().info().persistent => {
                        open.push((consumer.output_base().to_owned(), receipt));
                    }
                    _ => return false,
                }
            }
        }
        true
    }
}

/// The work of a step over partitions, whichever partition it is done on.
fn partition_work(step: &Step, job: &dyn PartitionJob, context: &Context) -> Result<Fingerprint, FunctionError> {
    Ok(Fingerprint::builder("partition")
        .fingerprint(step.code)
        .fingerprint(job.fingerprint(context)?)
        .fingerprint(step.save_options)
        .finish())
}

/// The name that the output for one input partition carries.
fn of_partition(work: Fingerprint, input: Fingerprint) -> Fingerprint {
    Fingerprint::builder("of").fingerprint(work).fingerprint(input).finish()
}

fn reason(total: usize, todo: usize, stale: usize, leftover: usize, force: bool) -> String {
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
        parts.push(format!("{stale} of {total} {noun} out of date (input, parameters or function changed)"));
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
    use super::{is_sweeping, reason};

    #[test]
    fn consent_is_asked_for_what_removes_most_and_computes_little() {
        for (there, removes, computes, expected) in [
            (10, 10, 0, true),
            (10, 6, 4, true),
            (5, 3, 2, true),
            (10, 5, 0, false),
            (10, 6, 6, false),
            (2, 2, 0, false),
            (0, 0, 9, false),
        ] {
            assert_eq!(is_sweeping(there, removes, computes), expected, "{removes} of {there}, {computes} computed");
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
