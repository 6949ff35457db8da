//! `flow plan`: what a run would do and what it would cost. Nothing is written.
//!
//! Exact where inputs exist. Where an upstream node has yet to run, its rows are computed as a stream, split into the
//! partitions that it would write, and counted; such numbers are marked as estimates, since the data may change before
//! the run. Numbers that cannot be computed are reported as unknown, never taken from outdated data.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use arrow::array::{Array, AsArray, RecordBatch};
use datafusion::{
    error::DataFusionError, execution::SendableRecordBatchStream, physical_plan::stream::RecordBatchStreamAdapter,
};
use futures::{TryStreamExt, stream};
use serde::{Serialize, Serializer};
use tokio::sync::Mutex;

use super::{
    assess::{AssessError, Judgement, MemoryDigests, PartitionWork, Scope},
    columns,
    needs::Needs,
    occupants,
    outcome::StepError,
    preflight::Refusal,
    simulate::{Simulated, Simulation, UnknownUntil},
    workspace::{Step, Workspace},
};
use crate::{
    data::{DataError, Stores},
    function::{Context, FunctionError, Job, MemoryBudget, PartitionJob, estimate_rows, in_order},
    graph::NodeId,
    model::{Estimate, Fingerprint, OutputTokens, PartitionKey, Shard},
};

/// What is planned besides the selection.
#[derive(Debug, Default, Clone, Copy)]
pub struct PlanOptions {
    /// Recompute what is up to date.
    pub force: bool,
    /// The part of the partitions to compute; `None` for all.
    pub shard: Option<Shard>,
}

/// What a run would do.
#[derive(Debug, Default, Serialize)]
pub struct RunPlan {
    /// The digest of the project ([`Workspace::digest`]), for `--plan-digest`.
    pub plan_digest: String,
    /// The selected nodes, in execution order.
    pub nodes: Vec<NodePlan>,
    /// The totals of all nodes.
    pub total: PlanTotal,
}

/// The total cost of all nodes.
#[derive(Debug, Default, Serialize)]
pub struct PlanTotal {
    /// The sum of all nodes; `None` if the cost of any node is unknown.
    #[serde(flatten, serialize_with = "known_or_null")]
    pub cost: Option<Totals>,
    /// The names of the nodes that have to run before the cost is known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unknown_until: Vec<String>,
}

/// What one node would do.
#[derive(Debug, Serialize)]
pub struct NodePlan {
    /// The name of the node.
    pub name: String,
    /// Whether the node would run.
    pub action: Action,
    /// Why it would run or be skipped, as displayed to the user.
    pub reason: String,
    /// The number of partitions, for a node over partitions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partitions: Option<PartitionCounts>,
    /// True when the numbers are based on an input that an upstream node has yet to write.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub estimate: bool,
    /// The number of output partitions that would be removed, since the input no longer has them.
    #[serde(skip_serializing_if = "is_zero")]
    pub removes: usize,
    /// The number of data files that `flow` did not write and that would be replaced.
    #[serde(skip_serializing_if = "is_zero")]
    pub replaces: usize,
    /// `replaces` as displayed to the user.
    #[serde(skip)]
    pub replacement: Option<String>,
    /// Why a run would be refused or would require `--yes`: files at the location of its output, or partitions that it
    /// would remove.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<String>,
    /// The cost; `None` if it is unknown until another node has run.
    #[serde(flatten, serialize_with = "known_or_null")]
    pub cost: Option<Totals>,
    /// The name of the node that has to run before the cost is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown_until: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "signature required by serde")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// Serializes an unknown cost with every key set to `null`, so that it cannot be mistaken for zero.
fn known_or_null<S: Serializer>(cost: &Option<Totals>, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Unknown {
        rows: (),
        unique_rows: (),
        cached_rows: (),
        requests: (),
        tokens: (),
        cost_usd: (),
    }
    match cost {
        Some(cost) => cost.serialize(serializer),
        None => Unknown { rows: (), unique_rows: (), cached_rows: (), requests: (), tokens: (), cost_usd: () }
            .serialize(serializer),
    }
}

impl NodePlan {
    /// A node that would run, and of which nothing more is known.
    fn running(name: &str, reason: String) -> Self {
        Self {
            name: name.to_owned(),
            action: Action::Run,
            reason,
            partitions: None,
            estimate: false,
            removes: 0,
            replaces: 0,
            replacement: None,
            refused: Vec::new(),
            cost: Some(Totals::default()),
            unknown_until: None,
        }
    }

    /// A node whose datasets cannot be opened without credentials.
    fn closed(step: &Step, error: &AssessError) -> Self {
        let mut node = Self::running(&step.name, "what there is to do is not known without credentials".to_owned());
        node.refused.push(error.to_string());
        if step.job.rows().is_some() {
            node.is_unknown_until(step.name.clone());
        }
        node
    }
}

/// Whether a node would run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// The node would run.
    Run,
    /// The node would be skipped.
    Skip,
}

/// The number of partitions of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PartitionCounts {
    /// All partitions.
    pub total: usize,
    /// Partitions to compute.
    pub run: usize,
    /// Partitions that are up to date.
    pub skip: usize,
}

impl PartitionCounts {
    fn all_up_to_date(partitions: usize) -> Self {
        Self { total: partitions, run: 0, skip: partitions }
    }
}

/// The number of rows to compute, and their cost.
#[derive(Debug, Default, Clone, Copy, PartialEq, Serialize)]
pub struct Totals {
    /// Rows to compute.
    pub rows: u64,
    /// Distinct texts among these rows.
    pub unique_rows: u64,
    /// Rows whose results are cached.
    pub cached_rows: u64,
    /// Requests to send.
    pub requests: u64,
    /// Tokens that would be billed; those that are sent, where a model writes more.
    pub tokens: u64,
    /// Tokens that models may write.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_tokens: Option<OutputTokens>,
    /// The cost in US dollars; `None` if the price is unknown. The least, if models may write more or less.
    pub cost_usd: Option<f64>,
    /// The most that it can be, if models may write more or less.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub most_usd: Option<f64>,
}

impl Totals {
    fn of(estimate: &Estimate) -> Self {
        Self {
            rows: estimate.rows,
            unique_rows: estimate.unique_rows,
            cached_rows: estimate.cached_rows,
            requests: estimate.requests,
            tokens: estimate.tokens,
            output_tokens: estimate.output_tokens,
            cost_usd: estimate.cost_nano_usd.map(|nano| nano as f64 / 1e9),
            most_usd: estimate.most_nano_usd.map(|nano| nano as f64 / 1e9),
        }
    }

    fn add(&mut self, other: &Self) {
        self.rows += other.rows;
        self.unique_rows += other.unique_rows;
        self.cached_rows += other.cached_rows;
        self.requests += other.requests;
        self.tokens += other.tokens;
        let sum = |a: Option<f64>, b: Option<f64>| a.zip(b).map(|(a, b)| a + b).or(a).or(b);
        self.most_usd = match (self.most_usd, other.most_usd) {
            (None, None) => None,
            // A node whose cost is known exactly costs that at most.
            (a, b) => sum(a.or(self.cost_usd), b.or(other.cost_usd)),
        };
        self.cost_usd = sum(self.cost_usd, other.cost_usd);
        self.output_tokens = match (self.output_tokens, other.output_tokens) {
            (Some(a), Some(b)) => {
                Some(OutputTokens { least: a.least + b.least, most: a.most.zip(b.most).map(|(a, b)| a + b) })
            }
            (a, b) => a.or(b),
        };
    }
}

/// Plans the steps `selected`, given in execution order.
pub(crate) async fn plan(
    workspace: &Workspace,
    stores: &Stores,
    context: &Context,
    selected: &[NodeId],
    PlanOptions { force, shard }: PlanOptions,
) -> Result<RunPlan, Refusal> {
    let _listings = stores.keep_listings();
    let chosen: HashSet<NodeId> = selected.iter().copied().collect();
    let scope = Scope { workspace, stores, context, selected: &chosen, force, shard };
    let mut judgements = scope.judge_all(selected).await;
    // A plan of a fresh clone says what needs credentials, and goes on.
    let (closed, problems) = std::mem::take(&mut judgements.problems)
        .into_iter()
        .partition(|(_, error)| matches!(error, AssessError::Data(DataError::NoCredentials { .. })));
    judgements.problems = problems;
    let closed: HashMap<String, AssessError> = Vec::into_iter(closed).collect();
    let errors = judgements.errors();
    if !errors.is_empty() {
        return Err(Refusal::Environment(errors));
    }
    let to_run: HashSet<NodeId> =
        judgements.steps.iter().filter(|(_, judgement)| judgement.computes()).map(|(step, _)| step.id).collect();
    let invalid = columns::check_nodes(workspace, stores, &context.session, &to_run).await;
    if !invalid.is_empty() {
        return Err(Refusal::Invalid(invalid));
    }
    let simulation = Simulation::new(stores, context);
    let mut planner = Planner { scope, context, memory: judgements.memory, needs: Needs::default(), simulation };
    let mut plan = RunPlan { plan_digest: workspace.digest().to_string(), ..RunPlan::default() };
    let mut total = Totals::default();
    let mut judged: HashMap<NodeId, Judgement> =
        judgements.steps.into_iter().map(|(step, judgement)| (step.id, judgement)).collect();
    for step in selected.iter().map(|id| workspace.step(*id)) {
        let mut node = match (judged.remove(&step.id), closed.get(&step.name)) {
            (Some(judgement), _) => {
                let judgement = planner.rejudge(&step, judgement).await?;
                if let Judgement::NotNeeded { receipt } = &judgement {
                    planner.memory.extend(step.memory_outputs().map(|base| (base.to_owned(), *receipt)));
                }
                planner.node(&step, judgement).await?
            }
            (None, Some(error)) => {
                planner.simulation.will_run_unseen(&step);
                NodePlan::closed(&step, error)
            }
            (None, None) => continue,
        };
        node.refused.extend(occupants::of_inputs(workspace, stores, &step).await);
        if node.action == Action::Run && !closed.contains_key(&step.name) {
            for (_, output) in &step.outputs {
                let found = occupants::of_output(workspace, stores, &step, &**output).await.map_err(StepError::from)?;
                let name = &output.info().name;
                node.replaces += found.replaced();
                node.replacement = node.replacement.or(found.replacement(name));
                node.refused.extend(found.refusal(name));
            }
            planner.simulation.will_run(&step);
        }
        if node.action == Action::Skip {
            planner.needs.settle(step.id);
        }
        match (&node.cost, &node.unknown_until) {
            (Some(cost), _) => total.add(cost),
            (None, Some(until)) if !plan.total.unknown_until.contains(until) => {
                plan.total.unknown_until.push(until.clone());
            }
            (None, _) => {}
        }
        plan.nodes.push(node);
    }
    plan.total.cost = plan.total.unknown_until.is_empty().then_some(total);
    Ok(plan)
}

/// Estimates the nodes of a plan.
struct Planner<'a> {
    scope: Scope<'a>,
    context: &'a Context,
    memory: MemoryDigests,
    needs: Needs,
    simulation: Simulation<'a>,
}

impl Planner<'_> {
    /// Judges a step again that waits for a dataset which turned out not to be written.
    async fn rejudge(&self, step: &Step, judgement: Judgement) -> Result<Judgement, StepError> {
        if !matches!(judgement, Judgement::Waits { .. }) {
            return Ok(judgement);
        }
        match step.inputs.iter().find(|input| self.simulation.is_pending(&input.base)) {
            Some(input) => Ok(Judgement::Waits { dataset: input.base.clone() }),
            None => Ok(self.scope.judge(step, &self.memory, &self.needs).await?),
        }
    }

    /// The plan of one node.
    async fn node(&self, step: &Arc<Step>, judgement: Judgement) -> Result<NodePlan, StepError> {
        let mut node = NodePlan::running(&step.name, String::new());
        match judgement {
            Judgement::UpToDate { partitions, .. } => {
                node.action = Action::Skip;
                node.reason = "up to date".to_owned();
                if matches!(step.job, Job::Partitions(_)) {
                    node.partitions = Some(PartitionCounts::all_up_to_date(partitions));
                }
            }
            Judgement::TooManyErrors { partitions, error, .. } => {
                node.action = Action::Skip;
                node.reason = format!("fails with the current data: {error}");
                node.partitions = Some(PartitionCounts::all_up_to_date(partitions));
            }
            Judgement::Blocked { because } => {
                node.action = Action::Skip;
                node.reason = format!("not started, because `{because}` fails");
            }
            Judgement::NotNeeded { .. } => {
                node.action = Action::Skip;
                node.reason = "everything that reads it is up to date".to_owned();
            }
            Judgement::Table { reason, .. } => {
                node.reason = reason;
                if let Job::Rows(job) = &step.job {
                    let table = step.input_of_rows().dataset.table_source()?.table(self.scope.stores).await?;
                    let rows = in_order(&self.context.session, table).await?;
                    let estimate = self.estimate_rows(&**job, rows).await?;
                    node.estimate = !estimate.seen.is_exact();
                    node.cost = Some(Totals::of(&estimate));
                }
            }
            Judgement::Partitions(work) => {
                let Job::Partitions(job) = &step.job else { unreachable!("only partition jobs have partition work") };
                let run = work.todo.len();
                node.partitions = Some(PartitionCounts { total: work.done + run, run, skip: work.done });
                let estimate = self.estimate(step, &**job, &work).await?;
                node.estimate = !estimate.seen.is_exact();
                node.cost = Some(Totals::of(&estimate));
                node.removes = work.removes;
                node.refused.extend(work.needs_consent(step));
                node.reason = work.reason;
            }
            Judgement::Waits { dataset } => {
                node.reason = format!("depends on `{dataset}`, which is written first");
                if let Job::Rows(job) = &step.job {
                    node.estimate = true;
                    match self.simulation.rows(&dataset).await? {
                        Ok(rows) => {
                            let estimate = self.estimate_rows(&**job, rows.stream().await?).await?;
                            node.cost = Some(Totals::of(&estimate));
                        }
                        Err(UnknownUntil(until)) => node.is_unknown_until(until),
                    }
                }
                if let Job::Partitions(job) = &step.job {
                    node.estimate = true;
                    match self.simulation.rows(&dataset).await? {
                        Ok(rows) if !rows.writer.partition_columns().is_empty() => {
                            self.estimate_pending(step, &**job, &rows, &mut node).await?;
                        }
                        Ok(rows) => node.is_unknown_until(rows.writer.name.clone()),
                        Err(UnknownUntil(until)) => node.is_unknown_until(until),
                    }
                }
            }
        }
        Ok(node)
    }

    /// The cost of the rows of a table.
    async fn estimate_rows(
        &self,
        job: &dyn PartitionJob,
        rows: SendableRecordBatchStream,
    ) -> Result<Estimate, StepError> {
        let task = job.open(self.context)?;
        let mut estimate = Estimate::default();
        estimate_rows(&*task, rows, &self.context.memory, &mut estimate).await?;
        Ok(estimate)
    }

    /// The cost of partitions that exist.
    async fn estimate(&self, step: &Step, job: &dyn PartitionJob, work: &PartitionWork) -> Result<Estimate, StepError> {
        let (task, memory) = (job.open(self.context)?, self.memory(step));
        let mut estimate = Estimate::default();
        let input = step.partitions_input().partition_source()?;
        for todo in &work.todo {
            let batches = input.load_partition(self.scope.stores, &todo.partition).await?;
            task.estimate(batches, &memory, &mut estimate).await?;
        }
        Ok(estimate)
    }

    /// The cost of partitions that an upstream step has yet to write.
    async fn estimate_pending(
        &self,
        step: &Step,
        job: &dyn PartitionJob,
        rows: &Simulated,
        node: &mut NodePlan,
    ) -> Result<(), StepError> {
        // Without existing output, every partition is computed, and reading the rows once is enough.
        let fresh = step.output().written_partitions()?.partitions(self.scope.stores).await?.is_empty();
        let work = if fresh { None } else { Some(self.judge_pending(step, job, rows).await?) };
        let (keys, work) = match work {
            None => (Vec::new(), None),
            Some((keys, Judgement::Partitions(work))) => (keys, Some(work)),
            Some((keys, judgement)) => {
                node.action = Action::Skip;
                node.reason = match judgement {
                    Judgement::TooManyErrors { error, .. } => format!("fails with the current data: {error}"),
                    _ => format!("up to date: `{}` will write the same partitions again", rows.writer.name),
                };
                node.partitions = Some(PartitionCounts::all_up_to_date(keys.len()));
                return Ok(());
            }
        };
        let todo: Option<HashSet<&PartitionKey>> =
            work.as_ref().map(|work| work.todo.iter().map(|todo| &todo.partition.key).collect());
        let (task, memory) = (job.open(self.context)?, self.memory(step));
        let mut estimate = Estimate::default();
        let (mut keys, mut total) = (keys.iter(), 0);
        let table = (rows.stream().await?, rows.writer.partition_columns());
        for_each_partition(table, async |mut partition| {
            total += 1;
            let key = keys.next();
            if todo.as_ref().is_none_or(|todo| key.is_some_and(|key| todo.contains(key))) {
                return task.estimate(partition, &memory, &mut estimate).await;
            }
            while partition.try_next().await?.is_some() {}
            Ok(())
        })
        .await?;
        let run = work.as_ref().map_or(total, |work| work.todo.len());
        node.partitions = Some(PartitionCounts { total, run, skip: total - run });
        node.cost = Some(Totals::of(&estimate));
        if let Some(work) = &work {
            node.removes = work.removes;
            node.refused.extend(work.needs_consent(step));
        }
        Ok(())
    }

    /// The partitions that an upstream step will write, in order, and the judgement of this step given them.
    async fn judge_pending(
        &self,
        step: &Step,
        job: &dyn PartitionJob,
        rows: &Simulated,
    ) -> Result<(Vec<PartitionKey>, Judgement), StepError> {
        let partitions =
            rows.writer.output().table_sink()?.preview_table(self.scope.stores, rows.stream().await?).await?;
        let keys = partitions.iter().map(|partition| partition.key.clone()).collect();
        Ok((keys, self.scope.judge_given(step, job, partitions).await?))
    }

    fn memory(&self, step: &Step) -> MemoryBudget {
        self.context.memory.shared_by(step.write_options().max_workers)
    }
}

impl NodePlan {
    fn is_unknown_until(&mut self, node: String) {
        self.cost = None;
        self.unknown_until = Some(node);
    }
}

/// Splits a table that is sorted by its partition columns into partitions.
struct PartitionSlicer {
    table: SendableRecordBatchStream,
    columns: Vec<String>,
    /// Slices of the last batch, each of one partition.
    slices: VecDeque<(Fingerprint, RecordBatch)>,
}

impl PartitionSlicer {
    /// The key of the next slice; `None` at the end.
    async fn key(&mut self) -> Result<Option<Fingerprint>, FunctionError> {
        while self.slices.is_empty() {
            let Some(batch) = self.table.try_next().await? else { return Ok(None) };
            let keys = keys(&batch, &self.columns)?;
            let mut start = 0;
            for part in keys.chunk_by(Fingerprint::eq) {
                self.slices.push_back((part[0], batch.slice(start, part.len())));
                start += part.len();
            }
        }
        Ok(self.slices.front().map(|(key, _)| *key))
    }

    /// The next rows of the partition `of`; `None` at its end.
    async fn rows(&mut self, of: Fingerprint) -> Result<Option<RecordBatch>, FunctionError> {
        let next = self.key().await? == Some(of);
        Ok(if next { self.slices.pop_front().map(|(_, rows)| rows) } else { None })
    }
}

/// Splits a stream that is sorted by its partition columns into partitions. `visit` must read each to its end.
async fn for_each_partition(
    (table, columns): (SendableRecordBatchStream, Vec<String>),
    mut visit: impl AsyncFnMut(SendableRecordBatchStream) -> Result<(), FunctionError>,
) -> Result<(), StepError> {
    let schema = table.schema();
    let slicer = Arc::new(Mutex::new(PartitionSlicer { table, columns, slices: VecDeque::new() }));
    loop {
        let Some(key) = slicer.lock().await.key().await? else { return Ok(()) };
        let rows = stream::try_unfold(Arc::clone(&slicer), move |slicer| async move {
            let rows = slicer.lock().await.rows(key).await.map_err(|error| DataFusionError::External(error.into()))?;
            Ok(rows.map(|rows| (rows, slicer)))
        });
        visit(Box::pin(RecordBatchStreamAdapter::new(schema.clone(), rows))).await?;
    }
}

fn keys(batch: &RecordBatch, columns: &[String]) -> Result<Vec<Fingerprint>, FunctionError> {
    let mut texts = Vec::new();
    for column in columns {
        let array = batch
            .column_by_name(column)
            .ok_or_else(|| FunctionError::Failed(format!("missing partition column `{column}`")))?;
        texts.push(
            arrow::compute::cast(array, &arrow::datatypes::DataType::Utf8)
                .map_err(|error| FunctionError::Failed(format!("column `{column}`: {error}")))?,
        );
    }
    Ok((0..batch.num_rows())
        .map(|row| {
            let mut key = Fingerprint::builder("key");
            for text in &texts {
                let text = text.as_string::<i32>();
                key = key.text(if text.is_null(row) { "\0null" } else { text.value(row) });
            }
            key.finish()
        })
        .collect())
}
