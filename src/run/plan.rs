//! `flow plan`: what a run would do and what it would cost, without doing it.
//!
//! Exact where inputs are there. Where an earlier node has yet to run, its rows are computed here as a stream, cut into
//! the partitions it would write, and counted; such numbers are marked as an estimate, since the data may change
//! before the run.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use arrow::array::{Array, AsArray, RecordBatch};
use datafusion::{
    error::DataFusionError, execution::SendableRecordBatchStream, physical_plan::stream::RecordBatchStreamAdapter,
};
use futures::{TryStreamExt, stream};
use serde::Serialize;
use tokio::sync::Mutex;

use super::{
    assess::{Judgement, Scope},
    outcome::StepError,
    preflight::Refusal,
    workspace::{Step, Workspace},
};
use crate::{
    data::Stores,
    embed::Estimate,
    function::{Context, FunctionError, Job, Tables},
    graph::NodeId,
    model::Fingerprint,
};

/// What a run would do.
#[derive(Debug, Default, Serialize)]
pub struct Plan {
    /// In execution order.
    pub nodes: Vec<NodePlan>,
    /// All of them together.
    pub total: Totals,
}

/// What one node would do.
#[derive(Debug, Serialize)]
pub struct NodePlan {
    /// The node.
    pub name: String,
    /// `run` or `skip`.
    pub action: Action,
    /// Why, for people.
    pub reason: String,
    /// Partitions of a node over partitions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partitions: Option<PartitionCounts>,
    /// True when numbers come from an input that an earlier node has yet to write.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub estimate: bool,
    /// What it would cost.
    #[serde(flatten)]
    pub cost: Totals,
}

/// Whether a node would run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It would.
    Run,
    /// It is up to date.
    Skip,
}

/// How many partitions would be computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PartitionCounts {
    /// All of them.
    pub total: usize,
    /// To compute.
    pub run: usize,
    /// There already.
    pub skip: usize,
}

/// Rows and what they cost.
#[derive(Debug, Default, Clone, Copy, PartialEq, Serialize)]
pub struct Totals {
    /// Rows to compute.
    pub rows: u64,
    /// Different texts among them.
    pub unique_rows: u64,
    /// Rows the cache would answer.
    pub cached_rows: u64,
    /// Requests to send.
    pub requests: u64,
    /// Tokens to be billed.
    pub tokens: u64,
    /// Their price; null when it is not known.
    pub cost_usd: Option<f64>,
}

impl Totals {
    fn of(estimate: &Estimate) -> Self {
        Self {
            rows: estimate.rows,
            unique_rows: estimate.unique_rows,
            cached_rows: estimate.cached_rows,
            requests: estimate.requests,
            tokens: estimate.tokens,
            cost_usd: estimate.cost_nano_usd.map(|nano| nano as f64 / 1e9),
        }
    }

    fn add(&mut self, other: &Self) {
        self.rows += other.rows;
        self.unique_rows += other.unique_rows;
        self.cached_rows += other.cached_rows;
        self.requests += other.requests;
        self.tokens += other.tokens;
        self.cost_usd = match (self.cost_usd, other.cost_usd) {
            (Some(a), Some(b)) => Some(a + b),
            (a, b) => a.or(b),
        };
    }
}

/// What an earlier node of the plan would leave.
enum Upcoming {
    /// A table that would be written anew.
    Table(Arc<Step>),
    /// Partitions that would be written anew.
    Partitions,
}

/// Plans the steps `selected`, given in execution order.
pub(crate) async fn plan(
    workspace: &Workspace,
    stores: &Stores,
    context: &Context,
    selected: &[NodeId],
    force: bool,
) -> Result<Plan, Refusal> {
    let _survey = stores.survey();
    let chosen: HashSet<NodeId> = selected.iter().copied().collect();
    let foresight = Scope { workspace, stores, selected: &chosen, force }.foresee(selected).await;
    let obstacles = foresight.obstacles();
    if !obstacles.is_empty() {
        return Err(Refusal::Environment(obstacles));
    }
    let mut plan = Plan::default();
    let mut upcoming: HashMap<String, Upcoming> = HashMap::new();
    for (step, judgement) in foresight.steps {
        let node = node(stores, context, &step, judgement, &upcoming).await?;
        if node.action == Action::Run {
            mark(&mut upcoming, &step);
        }
        plan.total.add(&node.cost);
        plan.nodes.push(node);
    }
    Ok(plan)
}

/// What one node would do.
async fn node(
    stores: &Stores,
    context: &Context,
    step: &Step,
    judgement: Judgement,
    upcoming: &HashMap<String, Upcoming>,
) -> Result<NodePlan, StepError> {
    let mut node = NodePlan {
        name: step.name.clone(),
        action: Action::Run,
        reason: String::new(),
        partitions: None,
        estimate: false,
        cost: Totals::default(),
    };
    let room = || context.room.shared_by(step.output().write_options().max_workers);
    let mut estimate = Estimate::default();
    match judgement {
        Judgement::UpToDate { partitions, .. } => {
            node.action = Action::Skip;
            node.reason = "up to date".to_owned();
            if matches!(step.job, Job::Partitions(_)) {
                node.partitions = Some(PartitionCounts { total: partitions, run: 0, skip: partitions });
            }
        }
        Judgement::NotNeeded { .. } => {
            node.action = Action::Skip;
            node.reason = "everything that reads it is up to date".to_owned();
        }
        Judgement::Table { reason, .. } => node.reason = reason,
        Judgement::Partitions(work) => {
            node.reason = work.reason;
            let run = work.todo.len();
            node.partitions = Some(PartitionCounts { total: work.done + run, run, skip: work.done });
            let Job::Partitions(job) = &step.job else { unreachable!("only partition jobs have partition work") };
            let task = job.open(context)?;
            let (input, room) = (step.partitions_input(), room());
            for todo in &work.todo {
                let batches = input.load_partition(stores, &todo.partition).await?;
                task.estimate(batches, &room, &mut estimate).await?;
            }
            node.cost = Totals::of(&estimate);
        }
        Judgement::Waits { dataset } => {
            node.reason = format!("its input `{dataset}` will be written first");
            if let Job::Partitions(job) = &step.job
                && let Some(Upcoming::Table(upstream)) = upcoming.get(&dataset)
                && let Some(table) = simulate(upstream, stores, context).await?
            {
                let (task, room) = (job.open(context)?, room());
                let mut count = 0;
                for_each_partition(table, async |partition| {
                    count += 1;
                    task.estimate(partition, &room, &mut estimate).await
                })
                .await?;
                node.partitions = Some(PartitionCounts { total: count, run: count, skip: 0 });
                node.cost = Totals::of(&estimate);
                node.estimate = true;
            }
        }
    }
    Ok(node)
}

fn mark(upcoming: &mut HashMap<String, Upcoming>, step: &Arc<Step>) {
    let what = match step.job {
        Job::Table(_) => Upcoming::Table(step.clone()),
        _ => Upcoming::Partitions,
    };
    for (name, _) in &step.outputs {
        let what = match &what {
            Upcoming::Table(step) => Upcoming::Table(step.clone()),
            Upcoming::Partitions => Upcoming::Partitions,
        };
        upcoming.insert(name.base().to_owned(), what);
    }
}

/// The rows an earlier step would write, when its own inputs are there.
async fn simulate(
    step: &Step,
    stores: &Stores,
    context: &Context,
) -> Result<Option<(SendableRecordBatchStream, Vec<String>)>, StepError> {
    let Job::Table(job) = &step.job else { return Ok(None) };
    let columns = step.output().partition_columns();
    if columns.is_empty() {
        return Ok(None);
    }
    let mut inputs = Tables::new();
    for input in &step.inputs {
        match input.dataset.state(stores).await?.digest {
            Some(_) => inputs.insert(input.port.clone(), input.dataset.table(stores).await?),
            None => return Ok(None),
        };
    }
    Ok(Some((job.run(inputs, context).await?, columns)))
}

/// A table that is sorted by its partition columns, and how far it was read.
struct Cutting {
    table: SendableRecordBatchStream,
    columns: Vec<String>,
    /// Slices of the batch that was read last, each of one partition.
    slices: VecDeque<(Fingerprint, RecordBatch)>,
}

impl Cutting {
    /// The partition that comes next; `None` at the end.
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

    /// The next rows of this partition; `None` when it is over.
    async fn rows(&mut self, of: Fingerprint) -> Result<Option<RecordBatch>, FunctionError> {
        let next = self.key().await? == Some(of);
        Ok(if next { self.slices.pop_front().map(|(_, rows)| rows) } else { None })
    }
}

/// Cuts a stream that is sorted by its partition columns into partitions, each a stream that must be read to its end.
async fn for_each_partition(
    (table, columns): (SendableRecordBatchStream, Vec<String>),
    mut visit: impl AsyncFnMut(SendableRecordBatchStream) -> Result<(), FunctionError>,
) -> Result<(), StepError> {
    let schema = table.schema();
    let cutting = Arc::new(Mutex::new(Cutting { table, columns, slices: VecDeque::new() }));
    loop {
        let Some(key) = cutting.lock().await.key().await? else { return Ok(()) };
        let rows = stream::try_unfold(Arc::clone(&cutting), move |cutting| async move {
            let rows = cutting.lock().await.rows(key).await.map_err(|error| DataFusionError::External(error.into()))?;
            Ok(rows.map(|rows| (rows, cutting)))
        });
        visit(Box::pin(RecordBatchStreamAdapter::new(schema.clone(), rows))).await?;
    }
}

fn keys(batch: &RecordBatch, columns: &[String]) -> Result<Vec<Fingerprint>, FunctionError> {
    let mut texts = Vec::new();
    for column in columns {
        let array = batch
            .column_by_name(column)
            .ok_or_else(|| FunctionError::Failed(format!("there is no column `{column}` to partition by")))?;
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
