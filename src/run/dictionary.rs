//! Partitions as functions have them in Kedro: a dictionary of what loads each comes in, and each that comes out is committed when
//! it is computed. One that is there already, by the same work, is not computed again.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use datafusion::{
    error::DataFusionError, execution::SendableRecordBatchStream, physical_plan::stream::RecordBatchStreamAdapter,
};
use futures::{FutureExt as _, StreamExt as _};
use tokio::time::Instant;

use super::{
    assess::is_sweeping,
    context::RunContext,
    event::{EventKind, PartitionTally},
    locked_columns,
    outcome::StepError,
    table::StopRequests,
    workspace::Step,
};
use crate::{
    data::{DataError, Dataset, Partition, RowOutcomes, Stores, Written},
    function::{FunctionError, NodeInput, OutputPartition, OutputPartitions},
    model::{Fingerprint, PartitionKey},
};

/// The partitions of a dataset, to be read one by one.
pub(super) async fn partitions_of(dataset: &Arc<dyn Dataset>, stores: &Arc<Stores>) -> Result<NodeInput, DataError> {
    let partitions = dataset.partition_source()?.partitions(stores).await?;
    partitions.iter().try_for_each(|partition| partition.check_whole(dataset.info()))?;
    let keys = partitions.iter().map(|partition| partition.key.to_string()).collect();
    let (dataset, stores, partitions) = (dataset.clone(), stores.clone(), Arc::new(partitions));
    let read = move |at: usize| {
        let (dataset, stores, partitions) = (dataset.clone(), stores.clone(), partitions.clone());
        async move {
            let wrapped = |error: DataError| DataFusionError::External(Box::new(error));
            let source = dataset.partition_source().map_err(wrapped)?;
            // As in Kedro: what the files hold, without what their folders say.
            let given = &partitions[at];
            let partition = Partition { key: given.key.clone().without_columns(), ..given.clone() };
            let rows = source.load_partition(&stores, &partition).await.map_err(wrapped)?;
            Ok(without(rows, &given.key))
        }
        .boxed()
    };
    Ok(NodeInput::Partitions { keys, read: Arc::new(read) })
}

/// Rows without the columns that a folder's name gives.
fn without(rows: SendableRecordBatchStream, key: &PartitionKey) -> SendableRecordBatchStream {
    let schema = rows.schema();
    let in_name = |name: &str| key.file().is_none() && key.get(name).is_some();
    let kept: Vec<usize> = (0..schema.fields().len()).filter(|at| !in_name(schema.field(*at).name())).collect();
    if kept.len() == schema.fields().len() {
        return rows;
    }
    let projected = match schema.project(&kept) {
        Ok(projected) => Arc::new(projected),
        Err(_) => return rows,
    };
    let rows = rows.map(move |batch| Ok(batch?.project(&kept)?));
    Box::pin(RecordBatchStreamAdapter::new(projected, rows))
}

/// Writes the partitions that a function gives; returns what was written.
pub(super) async fn write(
    run: &RunContext,
    step: &Step,
    dataset: &dyn Dataset,
    given: Box<dyn OutputPartitions>,
    receipt: Fingerprint,
    stop: &StopRequests,
) -> Result<Written, StepError> {
    let mut tally = PartitionTally::default();
    let written = write_all(run, (step, dataset), given, receipt, stop, &mut tally).await;
    // Those that were committed before a failure are done.
    run.count_partitions(tally);
    let written = written?;
    dataset.accept(&run.stores, receipt).await?;
    Ok(written)
}

async fn write_all(
    run: &RunContext,
    (step, dataset): (&Step, &dyn Dataset),
    mut given: Box<dyn OutputPartitions>,
    receipt: Fingerprint,
    stop: &StopRequests,
    tally: &mut PartitionTally,
) -> Result<Written, StepError> {
    let sink = dataset.partition_sink()?;
    let there = dataset.written_partitions()?.partitions(&run.stores).await?;
    if let Some(known) = given.known_columns() {
        let of_this_work = |partition: &Partition| {
            let of = Fingerprint::builder("of").fingerprint(receipt).text(&partition.key.to_string()).finish();
            partition.receipt.is_some_and(|receipt| receipt.fingerprint == of) && !run.options.force
        };
        locked_columns::add(run, dataset, known, of_this_work).await?;
    }
    let there: HashMap<PartitionKey, Option<Fingerprint>> =
        there.into_iter().map(|found| (found.key, found.receipt.map(|receipt| receipt.fingerprint))).collect();
    let mut keep: BTreeMap<PartitionKey, Fingerprint> = BTreeMap::new();
    let mut all = Written::default();
    let mut begin = Instant::now();
    loop {
        let next = tokio::select! {
            biased;
            () = stop.requested() => return Err(stopped()),
            next = given.next() => next?,
        };
        match next {
            None => break,
            Some(OutputPartition::Offered(key)) => {
                let fingerprint = Fingerprint::builder("of").fingerprint(receipt).text(&key.to_string()).finish();
                let is_done = there.get(&key) == Some(&Some(fingerprint)) && !run.options.force;
                tally.skipped += usize::from(is_done);
                keep.insert(key, fingerprint);
                given.answer(!is_done).await;
            }
            Some(OutputPartition::Computed(key, table)) => {
                let fingerprint = *keep.get(&key).ok_or_else(|| {
                    FunctionError::Failed(format!("it gave partition {key}, which it had not offered"))
                })?;
                let mut table = stop.interruptible(table);
                let mut part = sink.write_partition(&run.stores, &key, fingerprint, table.schema())?;
                while let Some(batch) = table.next().await {
                    part = part.write(batch.map_err(FunctionError::from)?).await?;
                }
                let written = part.commit(RowOutcomes::default()).await?;
                dataset.synced(&run.stores).await?;
                all.rows += written.rows;
                all.bytes += written.bytes;
                all.partitions += 1;
                tally.done += 1;
                let (node, partition) = (step.name.clone(), key.to_string());
                let seconds = begin.elapsed().as_secs_f64();
                let (done, total) = (tally.done + tally.skipped, keep.len());
                run.events.send(EventKind::PartitionFinished {
                    node,
                    partition,
                    rows: written.rows,
                    bytes: written.bytes,
                    seconds,
                    done,
                    total,
                });
                begin = Instant::now();
            }
        }
    }
    if sink.write_options().overwrite {
        let removes = there.keys().filter(|key| !keep.contains_key(key)).count();
        if let Some(message) = removal(step, &dataset.info().name, (there.len(), removes), tally.done, run.options.yes)?
        {
            run.events.send(EventKind::Warning { message });
        }
    }
    sink.retain_partitions(&run.stores, &keep).await?;
    Ok(all)
}

/// What is said of partitions that a function gives no longer; an error if most of a dataset would go without a yes. Which
/// ones that are is known when the function has ended.
fn removal(
    step: &Step,
    dataset: &str,
    (existing, removes): (usize, usize),
    computed: usize,
    yes: bool,
) -> Result<Option<String>, StepError> {
    let what =
        format!("{removes} of the {existing} partitions of `{dataset}`, since its function no longer gives them");
    if is_sweeping(existing, removes, computed) && !yes {
        return Err(StepError::NeedsConsent(format!(
            "node `{}` would remove {what}, and has computed {computed}\n  help: correct the function; if the partitions \
             are to go, run again with `--yes`",
            step.name
        )));
    }
    Ok((removes > 0).then(|| format!("node `{}` removes {what}", step.name)))
}

fn stopped() -> StepError {
    FunctionError::from(DataFusionError::Execution("the run was stopped".to_owned())).into()
}
