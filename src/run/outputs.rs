//! Executes a step whose work is a program of its own, with any number of outputs. Each old output is kept until the new one
//! is complete.

use datafusion::error::DataFusionError;
use indexmap::IndexMap;
use tokio::time::Instant;

use super::{
    context::RunContext,
    counted::RowsRead,
    dictionary::{self, partitions_of},
    event::{EventKind, PartitionTally},
    finished,
    outcome::{StepEnd, StepError},
    table::StopRequests,
    workspace::Step,
};
use crate::{
    data::{Dataset, WriteRequest, Written},
    function::{FunctionError, NodeInput, NodeOutput, OutputsJob},
    model::{Fingerprint, Shape},
};

/// Runs the program and replaces the outputs; `receipt` identifies them. A process that dies is tried once more.
pub(super) async fn execute(
    run: &RunContext,
    step: &Step,
    job: &dyn OutputsJob,
    (receipt, reason): (Fingerprint, String),
) -> Result<StepEnd, StepError> {
    let (node, function) = (step.name.clone(), step.function.clone());
    run.events.send(EventKind::NodeStarted { node: node.clone(), function, reason, partitions: None, skipped: 0 });
    let begin = Instant::now();
    // What a program does may cost money: the first request to stop lets it finish.
    let stop = StopRequests::new(vec![run.shutdown.abort.clone()]);
    let mut attempt = attempt(run, step, job, receipt, &stop).await;
    if let Err(error) = &attempt
        && error.is_crash()
        && !stop.is_requested()
    {
        tracing::warn!(node, %error, "tried once more");
        attempt = self::attempt(run, step, job, receipt, &stop).await.map_err(StepError::died_twice);
    }
    let Gave { rows, bytes, rows_in } = match attempt {
        Err(error) if stop.is_requested() && !error.failure().halts => return Ok(StepEnd::Stopped),
        attempt => attempt?,
    };
    run.remember(step, receipt);
    step.job.succeeded(&run.functions);
    finished::write(&run.functions.service.root, step, receipt);
    if let Some(bytes) = bytes {
        run.node(&node).wrote(bytes);
    }
    if let Some(rows) = rows_in {
        run.node(&node).read(rows);
    }
    let partitions = PartitionTally::default();
    run.node_finished(node, rows, partitions, (begin, receipt));
    Ok(StepEnd::Done { rows_with_errors: 0, skipped: false })
}

/// What a program gave.
struct Gave {
    rows: u64,
    /// Their size, where it is known.
    bytes: Option<u64>,
    /// The rows that it was given, where they are known.
    rows_in: Option<u64>,
}

/// Runs the program once.
async fn attempt(
    run: &RunContext,
    step: &Step,
    job: &dyn OutputsJob,
    receipt: Fingerprint,
    stop: &StopRequests,
) -> Result<Gave, StepError> {
    let (mut read, mut read_otherwise) = (RowsRead::default(), false);
    let started = async {
        let mut inputs = IndexMap::new();
        for input in &step.inputs {
            let dataset = &*input.dataset;
            let data = match dataset.info().shape {
                _ if dataset.as_external().is_some() && job.opens(&input.port, &run.functions) => {
                    read_otherwise = true;
                    NodeInput::External
                }
                Shape::Partitions if job.takes_partitions(&input.port, &run.functions) => {
                    read_otherwise = true;
                    partitions_of(&input.dataset, &run.stores).await?
                }
                Shape::Value => {
                    let document = dataset.document()?;
                    match document.held(&run.stores) {
                        Some(object) => NodeInput::Held(object),
                        None => NodeInput::Value(document.value(&run.stores).await?),
                    }
                }
                Shape::Table | Shape::Partitions => {
                    NodeInput::Table(read.of(dataset.table_source()?.table(&run.stores).await?))
                }
            };
            inputs.insert(input.port.clone(), data);
        }
        Ok::<_, StepError>(job.run(inputs, &run.functions).await?)
    };
    let stopped = || StepError::from(FunctionError::from(DataFusionError::Execution("the run was stopped".to_owned())));
    let mut outputs = tokio::select! {
        biased;
        () = stop.requested() => return Err(stopped()),
        outputs = started => outputs?,
    };
    let mut rows = 0;
    let mut bytes = None;
    let mut left = step.outputs.iter();
    loop {
        let output = tokio::select! {
            biased;
            () = stop.requested() => return Err(stopped()),
            output = outputs.next() => output?,
        };
        match (output, left.next()) {
            (Some(output), Some((_, dataset))) => {
                let known = !matches!(output, NodeOutput::External | NodeOutput::Held(_));
                let written = match output {
                    NodeOutput::Partitions(given) => {
                        dictionary::write(run, step, &**dataset, given, receipt, stop).await?
                    }
                    output => write(run, step, &**dataset, output, receipt, stop).await?,
                };
                dataset.synced(&run.stores).await?;
                rows += written.rows;
                if known {
                    bytes = Some(bytes.unwrap_or(0) + written.bytes);
                }
            }
            (None, None) => {
                let rows_in = if read_otherwise { None } else { read.rows() };
                return Ok(Gave { rows, bytes, rows_in });
            }
            _ => {
                return Err(
                    FunctionError::Failed("it gave another number of outputs than the node has".to_owned()).into()
                );
            }
        }
    }
}

async fn write(
    run: &RunContext,
    step: &Step,
    dataset: &dyn Dataset,
    output: NodeOutput,
    receipt: Fingerprint,
    stop: &StopRequests,
) -> Result<Written, StepError> {
    let (events, node) = (run.events.clone(), step.name.clone());
    let progress = move |rows| events.send(EventKind::TableProgress { node: node.clone(), rows });
    let _unbatched = run.stores.sync_unbatched();
    Ok(match output {
        NodeOutput::Table(table) => {
            let request =
                WriteRequest { table: stop.interruptible(table), receipt, progress: &progress, computed: &|| None };
            dataset.table_sink()?.write_table(&run.stores, request).await?
        }
        NodeOutput::Partitions(_) => unreachable!("written by `dictionary`"),
        NodeOutput::External => {
            if let Some(external) = dataset.as_external() {
                external.written(&run.stores, receipt).await?;
            }
            Written { partitions: 1, ..Written::default() }
        }
        NodeOutput::Held(object) => {
            dataset.document()?.hold(&run.stores, object, receipt)?;
            Written { partitions: 1, ..Written::default() }
        }
        NodeOutput::Value(value) => dataset.document()?.write_value(&run.stores, &value, receipt).await?,
    })
}
