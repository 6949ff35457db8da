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
    mut given: Box<dyn OutputPartitions>,
    receipt: Fingerprint,
    stop: &StopRequests,
) -> Result<Written, StepError> {
    let sink = dataset.partition_sink()?;
    let existing = dataset.written_partitions()?.partitions(&run.stores).await?;
    if let Some(known) = given.known_columns() {
        let of_this_work = |partition: &Partition| {
            let of = Fingerprint::builder("of").fingerprint(receipt).text(&partition.key.to_string()).finish();
            partition.receipt.is_some_and(|receipt| receipt.fingerprint == of) && !run.options.force
        };
        locked_columns::add(run, dataset, known, of_this_work).await?;
    }
    let existing: HashMap<PartitionKey, Fingerprint> =
        existing.into_iter().filter_map(|found| Some((found.key, found.receipt?.fingerprint))).collect();
    let mut keep: BTreeMap<PartitionKey, Fingerprint> = BTreeMap::new();
    let mut tally = PartitionTally::default();
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
                let there = existing.get(&key) == Some(&fingerprint) && !run.options.force;
                tally.skipped += usize::from(there);
                keep.insert(key, fingerprint);
                given.answer(!there).await;
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
    sink.retain_partitions(&run.stores, &keep).await?;
    run.count_partitions(tally);
    dataset.accept(&run.stores, receipt).await?;
    Ok(all)
}

fn stopped() -> StepError {
    FunctionError::from(DataFusionError::Execution("the run was stopped".to_owned())).into()
}
