//! A function that gets whole datasets.

use std::{collections::HashSet, sync::Arc};

use async_trait::async_trait;
use datafusion::{
    error::DataFusionError, execution::SendableRecordBatchStream, physical_plan::stream::RecordBatchStreamAdapter,
};
use futures::stream;
use indexmap::IndexMap;

use super::{
    call::PythonCall,
    key::check_key,
    schema_lock::{self, SchemaLock},
};
use crate::{
    data::RowsFailed,
    function::{
        Context, FunctionError, KnownColumns, NodeInput, NodeOutput, OutputPartition, OutputPartitions, Outputs,
        OutputsJob, in_order,
    },
    model::{Fingerprint, PartitionKey},
    python::{Call, InputData, OutputData, PartitionEvent, PartitionsInput, PartitionsOutput, TableOutput},
};

#[derive(Debug)]
pub(super) struct WholeJob {
    pub call: Arc<PythonCall>,
}

#[async_trait]
impl OutputsJob for WholeJob {
    async fn load(&self, context: &Context) -> Result<(), FunctionError> {
        self.call.load(context).await
    }

    fn needs_python(&self) -> bool {
        true
    }

    fn opens_external(&self) -> bool {
        true
    }

    fn opens(&self, port: &str, context: &Context) -> bool {
        self.call.takes(port, "dataset", context)
    }

    fn takes_partitions(&self, port: &str, context: &Context) -> bool {
        self.call.takes(port, "partitions", context)
    }

    fn missing_secrets(&self) -> Vec<String> {
        self.call.missing_secrets()
    }

    fn changed(&self, context: &Context) -> Option<String> {
        self.call.changed(context)
    }

    fn succeeded(&self, context: &Context) {
        self.call.succeeded(context);
    }

    fn fingerprint(&self, context: &Context) -> Result<Fingerprint, FunctionError> {
        self.call.fingerprint(context)
    }

    async fn run(
        &self,
        mut inputs: IndexMap<String, NodeInput>,
        context: &Context,
    ) -> Result<Box<dyn Outputs>, FunctionError> {
        let described = self.call.described(context)?;
        let mut data = IndexMap::new();
        for (port, input) in inputs.drain(..) {
            let input = match input {
                NodeInput::Value(value) => InputData::Value(value),
                NodeInput::Held(_) => return Err(of_another(&port)),
                NodeInput::Partitions { keys, read } => {
                    let kind = self.call.inputs.iter().find(|input| input.port == port).map_or("pyarrow", |i| i.kind);
                    InputData::Partitions(PartitionsInput { keys, kind, read })
                }
                NodeInput::External => continue,
                NodeInput::Table(table) => InputData::Table(in_order(&context.session, table).await?),
            };
            data.insert(port, input);
        }
        let missing = |port: &str| FunctionError::Failed(format!("input `{port}` was not read"));
        let request = self.call.request(&described, context.python.cores(), |input| {
            data.swap_remove(&input.port).ok_or_else(|| missing(&input.port))
        })?;
        Ok(Box::new(PythonOutputs { call: context.python.call(request).await?, given: 0, node: self.call.clone() }))
    }
}

struct PythonOutputs {
    call: Call,
    node: Arc<PythonCall>,
    /// How many outputs were given.
    given: usize,
}

#[async_trait]
impl Outputs for PythonOutputs {
    async fn next(&mut self) -> Result<Option<NodeOutput>, FunctionError> {
        let output = self.call.next().await?;
        self.given += usize::from(output.is_some());
        Ok(output.map(|output| match output {
            OutputData::Value(value) => NodeOutput::Value(value),
            // Only nodes of Kedro projects leave objects where they are.
            OutputData::Saved | OutputData::Held(_) => NodeOutput::External,
            OutputData::Table(table) => NodeOutput::Table(stream_of(table)),
            OutputData::Partitions(given) => {
                let lock = SchemaLock::new(self.node.declared_of(self.given - 1));
                NodeOutput::Partitions(Box::new(PythonPartitions { given, lock, keys: HashSet::new() }))
            }
        }))
    }
}

fn of_another(port: &str) -> FunctionError {
    FunctionError::Failed(format!("input `{port}` is held by a node of a Kedro project"))
}

fn failed(error: FunctionError) -> DataFusionError {
    DataFusionError::External(Box::new(RowsFailed(Box::new(error))))
}

fn stream_of(table: TableOutput) -> SendableRecordBatchStream {
    let schema = table.schema();
    let rows = stream::try_unfold(table, async |mut table| {
        let wrapped = |error| failed(FunctionError::from(error));
        Ok(table.next().await.map_err(wrapped)?.map(|batch| (batch, table)))
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, rows))
}

/// Partitions that a function returned as a dictionary. All have the columns of the first.
struct PythonPartitions {
    given: PartitionsOutput,
    lock: SchemaLock,
    /// Those that came.
    keys: HashSet<PartitionKey>,
}

impl PythonPartitions {
    /// A partition that may be computed. Whatever a function names must not reach files that are not the dataset's.
    fn offered(&mut self, id: &str) -> Result<PartitionKey, FunctionError> {
        let refused = |why: &str| FunctionError::Failed(format!("partition `{id}` of its result {why}"));
        PartitionKey::check_id(id).map_err(refused)?;
        let key = PartitionKey::of_id(id);
        // Ids may be written in several ways: `day=a b` and `day=a%20b` are one folder.
        if !self.keys.insert(key.clone()) {
            return Err(refused("was given twice\nhelp: join the rows of a partition before you return them"));
        }
        Ok(key)
    }
}

#[async_trait]
impl OutputPartitions for PythonPartitions {
    async fn next(&mut self) -> Result<Option<OutputPartition>, FunctionError> {
        let (id, table) = match self.given.next().await? {
            None => return Ok(None),
            Some(PartitionEvent::Offered(id)) => return Ok(Some(OutputPartition::Offered(self.offered(&id)?))),
            Some(PartitionEvent::Computed(id, table)) => (id, table),
        };
        let key = PartitionKey::of_id(&id);
        let schema = self.lock.lock(&key, &table.schema()).map_err(FunctionError::Failed)?;
        let fitted = schema.clone();
        let state = (table, key.clone());
        let rows = stream::try_unfold(state, move |(mut table, key)| {
            let schema = fitted.clone();
            async move {
                let Some(batch) = table.next().await.map_err(|error| failed(error.into()))? else { return Ok(None) };
                check_key(&batch, &key).map_err(failed)?;
                let batch = schema_lock::fit(&batch, &schema).map_err(|text| failed(FunctionError::Failed(text)))?;
                Ok(Some((batch, (table, key))))
            }
        });
        Ok(Some(OutputPartition::Computed(key, Box::pin(RecordBatchStreamAdapter::new(schema, rows)))))
    }

    async fn answer(&mut self, wanted: bool) {
        self.given.answer(wanted).await;
    }

    fn known_columns(&self) -> Option<&dyn KnownColumns> {
        Some(&self.lock)
    }
}
