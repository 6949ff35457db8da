//! A function that gets whole datasets.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::{
    error::DataFusionError, execution::SendableRecordBatchStream, physical_plan::stream::RecordBatchStreamAdapter,
};
use futures::stream;
use indexmap::IndexMap;

use super::call::PythonCall;
use crate::{
    function::{Context, FunctionError, NodeInput, NodeOutput, Outputs, OutputsJob, in_order},
    model::Fingerprint,
    python::{Call, InputData, OutputData, TableOutput},
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
            data.insert(
                port,
                match input {
                    NodeInput::Value(value) => InputData::Value(value),
                    NodeInput::External => continue,
                    NodeInput::Table(table) => InputData::Table(in_order(&context.session, table).await?),
                },
            );
        }
        let missing = |port: &str| FunctionError::Failed(format!("input `{port}` was not read"));
        let request = self.call.request(&described, context.python.cores(), |input| {
            data.swap_remove(&input.port).ok_or_else(|| missing(&input.port))
        })?;
        Ok(Box::new(PythonOutputs { call: context.python.call(request).await? }))
    }
}

struct PythonOutputs {
    call: Call,
}

#[async_trait]
impl Outputs for PythonOutputs {
    async fn next(&mut self) -> Result<Option<NodeOutput>, FunctionError> {
        Ok(self.call.next().await?.map(|output| match output {
            OutputData::Value(value) => NodeOutput::Value(value),
            OutputData::Saved => NodeOutput::External,
            OutputData::Table(table) => NodeOutput::Table(stream_of(table)),
        }))
    }
}

fn stream_of(table: TableOutput) -> SendableRecordBatchStream {
    let schema = table.schema();
    let rows = stream::try_unfold(table, async |mut table| {
        let wrapped = |error| DataFusionError::External(Box::new(FunctionError::from(error)));
        Ok(table.next().await.map_err(wrapped)?.map(|batch| (batch, table)))
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, rows))
}
