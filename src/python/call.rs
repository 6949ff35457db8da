//! One call of a function: its inputs go to the worker as they are read, its outputs come as they are computed.

use std::{fmt, sync::Arc};

use arrow::{
    array::RecordBatch,
    buffer::Buffer,
    compute::cast,
    datatypes::{DataType, Field, Schema, SchemaRef},
    ipc::{reader::StreamDecoder, writer::StreamWriter},
};
use bytes::Bytes;
use datafusion::{error::DataFusionError, execution::SendableRecordBatchStream};
use futures::{StreamExt as _, future::BoxFuture};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use tokio::sync::{Mutex, Semaphore, mpsc};

use super::{
    columns,
    error::PythonError,
    pool::{Lent, Workers},
    protocol::Frame,
};

/// Bytes of a table that are sent at once.
const FRAME: usize = 1 << 20;

/// A call of a function.
#[derive(Debug)]
pub struct CallRequest {
    /// Its dotted name.
    pub function: String,
    /// Whose stderr is shown under this name.
    pub node: String,
    /// In the order of its arguments.
    pub inputs: Vec<CallInput>,
    /// In the order of what it returns.
    pub outputs: Vec<CallOutput>,
    /// Threads of numerical libraries.
    pub threads: usize,
    /// Processes at once, where it is not one per core.
    pub limit: Option<Arc<Semaphore>>,
}

/// One argument.
pub struct CallInput {
    /// The name of its port.
    pub port: String,
    /// True for an argument by position.
    pub positional: bool,
    /// As what it is passed (see [`super::Described::kinds`]).
    pub kind: String,
    /// What it is.
    pub data: InputData,
}

impl fmt::Debug for CallInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values may be secrets.
        f.debug_struct("CallInput").field("port", &self.port).field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// What an argument is.
pub enum InputData {
    /// A plain value.
    Value(Json),
    /// Rows.
    Table(SendableRecordBatchStream),
}

/// One output.
#[derive(Debug, Clone, PartialEq)]
pub struct CallOutput {
    /// Its key in the dictionary that the function returns; `None` for one by position.
    pub port: Option<String>,
    /// As what it is taken.
    pub form: OutputForm,
}

/// As what an output is taken.
#[derive(Clone, PartialEq)]
pub enum OutputForm {
    /// Rows.
    Table,
    /// A value that JSON has.
    Value,
    /// Any object, pickled where JSON does not have it.
    Object,
    /// Python saves it: the name and the entry of a dataset.
    Dataset(Json),
}

impl fmt::Debug for OutputForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The entry may hold secrets.
        f.write_str(self.word())
    }
}

impl OutputForm {
    fn word(&self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Value => "value",
            Self::Object => "object",
            Self::Dataset(_) => "dataset",
        }
    }
}

/// What an output is.
#[derive(Debug)]
pub enum OutputData {
    /// A plain value.
    Value(Json),
    /// Rows.
    Table(TableOutput),
    /// Python saved it.
    Saved,
}

/// A call in progress. It is cancelled, and its process killed, when it and its tables are dropped before the end.
#[derive(Debug, Clone)]
pub struct Call(Arc<Mutex<State>>);

struct State {
    workers: Workers,
    /// `None` after the end.
    lent: Option<Lent>,
    /// Sends the inputs.
    pump: Option<BoxFuture<'static, Result<(), DataFusionError>>>,
    waiting: Option<Message>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("lent", &self.lent).finish_non_exhaustive()
    }
}

#[derive(Debug, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
enum Message {
    Output {
        stream: u16,
        form: Form,
        #[serde(default)]
        value: Json,
    },
    Done,
    Error {
        error: String,
        #[serde(default)]
        shapes: Vec<String>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Form {
    Value,
    Saved,
    Arrow,
    Rows,
}

impl Workers {
    /// Begins a call: waits for a worker and sends the first message.
    ///
    /// # Errors
    /// When no worker can be started.
    pub async fn call(&self, request: CallRequest) -> Result<Call, PythonError> {
        let mut lent = self.lend(request.threads, request.limit).await?;
        lent.worker.belongs_to(Some(&request.node));
        let mut tables = Vec::new();
        let mut inputs = Vec::new();
        for input in request.inputs {
            let mut item = json!({"port": input.port, "positional": input.positional, "kind": input.kind});
            match input.data {
                InputData::Value(value) => item["value"] = value,
                InputData::Table(rows) => {
                    item["stream"] = json!(tables.len());
                    tables.push((rows, input.kind.starts_with("rows"), input.port));
                }
            }
            inputs.push(item);
        }
        let output = |(stream, output): (usize, &CallOutput)| {
            let dataset = if let OutputForm::Dataset(dataset) = &output.form { dataset.clone() } else { Json::Null };
            json!({"stream": stream, "port": output.port, "form": output.form.word(), "dataset": dataset})
        };
        let outputs: Vec<Json> = request.outputs.iter().enumerate().map(output).collect();
        lent.worker
            .send(&json!({
                "op": "call", "function": request.function, "inputs": inputs, "tables": tables.len(), "outputs": outputs,
            }))
            .await;
        let outgoing = lent.worker.outgoing();
        let pump = Box::pin(async move {
            for (stream, (rows, plain, port)) in tables.into_iter().enumerate() {
                let stream = u16::try_from(stream).expect("a function has fewer than 65,536 inputs");
                send_table(&outgoing, stream, rows, plain, &port).await?;
            }
            Ok(())
        });
        Ok(Call(Arc::new(Mutex::new(State {
            workers: self.clone(),
            lent: Some(lent),
            pump: Some(pump),
            waiting: None,
        }))))
    }
}

/// Sends a table as it is read. A process that is gone is noticed elsewhere.
async fn send_table(
    outgoing: &mpsc::Sender<Frame>,
    stream: u16,
    mut rows: SendableRecordBatchStream,
    plain: bool,
    port: &str,
) -> Result<(), DataFusionError> {
    if plain {
        while let Some(batch) = rows.next().await {
            let block = columns::write(&batch?)
                .map_err(|error| DataFusionError::External(format!("input `{port}`: {error}").into()))?;
            if outgoing.send(Frame::Data(stream, Bytes::from(block))).await.is_err() {
                return Ok(());
            }
        }
    } else {
        let mut writer = StreamWriter::try_new(Vec::new(), &rows.schema())?;
        while let Some(batch) = rows.next().await {
            writer.write(&batch?)?;
            if writer.get_ref().len() >= FRAME {
                let bytes = std::mem::take(writer.get_mut());
                if outgoing.send(Frame::Data(stream, Bytes::from(bytes))).await.is_err() {
                    return Ok(());
                }
            }
        }
        writer.finish()?;
        let bytes = std::mem::take(writer.get_mut());
        let _ = outgoing.send(Frame::Data(stream, Bytes::from(bytes))).await;
    }
    let _ = outgoing.send(Frame::End(stream)).await;
    Ok(())
}

impl State {
    /// The next frame, while the inputs are sent.
    async fn receive(&mut self) -> Result<Frame, PythonError> {
        let Some(lent) = &mut self.lent else { return Err(ended()) };
        loop {
            let Some(pump) = &mut self.pump else { return lent.worker.receive().await };
            tokio::select! {
                biased;
                frame = lent.worker.receive() => return frame,
                sent = pump => {
                    self.pump = None;
                    if let Err(error) = sent {
                        self.lent = None;
                        return Err(PythonError::Input(error));
                    }
                }
            }
        }
    }

    async fn message(&mut self) -> Result<Message, PythonError> {
        if let Some(message) = self.waiting.take() {
            return Ok(message);
        }
        loop {
            if let Frame::Message(message) = self.receive().await? {
                return serde_json::from_slice(&message)
                    .map_err(|error| PythonError::Died(format!("the Python process sent a wrong message: {error}")));
            }
            // Rows of an output that nobody reads any more.
        }
    }

    /// Ends the call. A worker whose inputs were not all sent holds half a table, and is not used again.
    async fn finish(&mut self) {
        let Some(lent) = self.lent.take() else { return };
        if let Some(mut pump) = self.pump.take()
            && !matches!(futures::poll!(&mut pump), std::task::Poll::Ready(Ok(())))
        {
            return;
        }
        self.workers.give_back(lent).await;
    }

    async fn error(&mut self, error: String, shapes: &[String]) -> PythonError {
        self.finish().await;
        let shapes: String = shapes.iter().map(|shape| format!("\n  input {shape}")).collect();
        PythonError::Raised(format!("{error}{shapes}"))
    }
}

fn ended() -> PythonError {
    PythonError::Died("the call of the Python function had ended".to_owned())
}

impl Call {
    /// The next output; `None` after the last, when the function is known to have succeeded.
    ///
    /// # Errors
    /// When the function failed, or the process died.
    pub async fn next(&self) -> Result<Option<OutputData>, PythonError> {
        let mut state = self.0.lock().await;
        match state.message().await? {
            Message::Done => {
                state.finish().await;
                Ok(None)
            }
            Message::Error { error, shapes } => Err(state.error(error, &shapes).await),
            Message::Output { form: Form::Value, value, .. } => Ok(Some(OutputData::Value(value))),
            Message::Output { form: Form::Saved, .. } => Ok(Some(OutputData::Saved)),
            Message::Output { stream, form, .. } => {
                drop(state);
                let decoder = match form {
                    Form::Rows => Decoder::Rows(None),
                    _ => Decoder::Arrow(Box::new(StreamDecoder::new()), Buffer::from(Vec::<u8>::new())),
                };
                let mut table = TableOutput {
                    call: self.clone(),
                    stream,
                    decoder,
                    schema: Arc::new(Schema::empty()),
                    first: None,
                    ended: false,
                };
                table.begin().await?;
                Ok(Some(OutputData::Table(table)))
            }
        }
    }
}

/// A table that a function gives.
#[derive(Debug)]
pub struct TableOutput {
    call: Call,
    stream: u16,
    decoder: Decoder,
    schema: SchemaRef,
    first: Option<RecordBatch>,
    ended: bool,
}

#[derive(Debug)]
enum Decoder {
    Arrow(Box<StreamDecoder>, Buffer),
    /// The schema of the first block.
    Rows(Option<SchemaRef>),
}

impl TableOutput {
    /// The columns. Views and large strings are plain strings.
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// Reads until the columns are known.
    async fn begin(&mut self) -> Result<(), PythonError> {
        self.first = self.raw().await?;
        let schema = match (&self.first, &self.decoder) {
            (Some(batch), _) => batch.schema(),
            (None, Decoder::Arrow(decoder, _)) => {
                decoder.schema().ok_or_else(|| PythonError::Died("the Python process sent no columns".to_owned()))?
            }
            (None, Decoder::Rows(schema)) => schema.clone().unwrap_or_else(|| Arc::new(Schema::empty())),
        };
        self.schema = plain_schema(&schema);
        Ok(())
    }

    /// The next rows; `None` at the end, when all have come.
    ///
    /// # Errors
    /// When the function failed meanwhile, or the process died.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>, PythonError> {
        let batch = match self.first.take() {
            Some(batch) => Some(batch),
            None => self.raw().await?,
        };
        batch.map(|batch| plain_batch(&batch, &self.schema)).transpose()
    }

    async fn raw(&mut self) -> Result<Option<RecordBatch>, PythonError> {
        let wrong = |error: String| PythonError::Raised(format!("its result cannot be read: {error}"));
        while !self.ended {
            if let Decoder::Arrow(decoder, rest) = &mut self.decoder
                && let Some(batch) = decoder.decode(rest).map_err(|error| wrong(error.to_string()))?
            {
                return Ok(Some(batch));
            }
            let mut state = self.call.0.lock().await;
            match state.receive().await? {
                Frame::Data(stream, bytes) if stream == self.stream => match &mut self.decoder {
                    Decoder::Arrow(_, rest) => *rest = Buffer::from(bytes),
                    Decoder::Rows(known) => {
                        let batch = columns::read(&bytes, known.as_ref()).map_err(wrong)?;
                        known.get_or_insert_with(|| batch.schema());
                        return Ok(Some(batch));
                    }
                },
                Frame::End(stream) if stream == self.stream => self.ended = true,
                Frame::Data(..) | Frame::End(_) => {}
                Frame::Message(message) => {
                    let message = serde_json::from_slice(&message).map_err(|error| wrong(error.to_string()))?;
                    if let Message::Error { error, shapes } = message {
                        return Err(state.error(error, &shapes).await);
                    }
                    return Err(wrong("it ended too early".to_owned()));
                }
            }
        }
        Ok(None)
    }
}

fn plain_schema(schema: &Schema) -> SchemaRef {
    let field = |field: &Arc<Field>| {
        let kind = plain_type(field.data_type());
        Field::new(field.name(), kind, true)
    };
    Arc::new(Schema::new(schema.fields().iter().map(field).collect::<Vec<_>>()))
}

/// The type that is written: libraries differ in which of the string types they give.
fn plain_type(kind: &DataType) -> DataType {
    match kind {
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary => DataType::Binary,
        DataType::List(item) | DataType::LargeList(item) | DataType::ListView(item) => {
            DataType::List(Arc::new(Field::new("item", plain_type(item.data_type()), true)))
        }
        DataType::FixedSizeList(item, size) => {
            DataType::FixedSizeList(Arc::new(Field::new("item", plain_type(item.data_type()), true)), *size)
        }
        DataType::Struct(fields) => DataType::Struct(
            fields
                .iter()
                .map(|field| Arc::new(Field::new(field.name(), plain_type(field.data_type()), true)))
                .collect(),
        ),
        other => other.clone(),
    }
}

fn plain_batch(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, PythonError> {
    let wrong = |error: arrow::error::ArrowError| PythonError::Raised(format!("its result cannot be read: {error}"));
    let columns = batch.columns().iter().zip(schema.fields()).map(|(column, field)| {
        if column.data_type() == field.data_type() { Ok(column.clone()) } else { cast(column, field.data_type()) }
    });
    let columns = columns.collect::<Result<Vec<_>, _>>().map_err(wrong)?;
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options).map_err(wrong)
}
