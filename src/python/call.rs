//! One call of a function: its inputs go to the worker as they are read, its outputs come as they are computed.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::Arc,
};

use arrow::{
    array::RecordBatch,
    buffer::Buffer,
    datatypes::{Schema, SchemaRef},
    ipc::reader::StreamDecoder,
};
use datafusion::{error::DataFusionError, execution::SendableRecordBatchStream};
use futures::future::BoxFuture;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use tokio::{
    sync::{Mutex, Semaphore},
    task::spawn_blocking,
};

use super::{
    columns,
    error::PythonError,
    plain::{plain_batch, plain_schema},
    pool::{Lent, Workers},
    protocol::Frame,
    send::send_table,
};

/// How a question for a partition begins.
const LOAD: &[u8] = b"{\"op\": \"load\"";

/// A call of a function.
#[derive(Debug)]
pub struct CallRequest {
    /// Its dotted name; its name in `program`, where there is one.
    pub function: String,
    /// A program of `flow`'s own that holds it, instead of a module of the project.
    pub program: Option<&'static str>,
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
    /// The process is replaced after so many calls.
    pub max_calls: Option<u64>,
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
    /// Partitions, each of which is read when the function asks for it.
    Partitions(PartitionsInput),
}

/// Partitions that a function gets as a dictionary.
pub struct PartitionsInput {
    /// The keys of the dictionary.
    pub keys: Vec<String>,
    /// As what one partition is passed.
    pub kind: &'static str,
    /// Reads the partition with this number.
    pub read: PartitionReader,
}

/// Reads the partition with a number.
pub type PartitionReader =
    Arc<dyn Fn(usize) -> BoxFuture<'static, Result<SendableRecordBatchStream, DataFusionError>> + Send + Sync>;

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
    /// A dictionary of partitions, of which so many are awaited at once, each for so many seconds.
    Partitions(usize, f64),
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
            Self::Partitions(..) => "partitions",
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
    /// Partitions.
    Partitions(PartitionsOutput),
    /// Python keeps the output with this number in its memory.
    Held(usize),
}

/// A call in progress. It is cancelled, and its process killed, when it and its tables are dropped before the end.
#[derive(Debug, Clone)]
pub struct Call(Arc<Mutex<State>>);

struct State {
    workers: Workers,
    /// `None` after the end.
    lent: Option<Lent>,
    /// Sends the inputs.
    sending: Option<BoxFuture<'static, Result<(), DataFusionError>>>,
    /// What is sent after that.
    next: VecDeque<BoxFuture<'static, Result<(), DataFusionError>>>,
    /// Inputs that are sent when they are asked for, by stream.
    partitions: HashMap<u16, (PartitionsInput, String)>,
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
    /// The function asks for a partition of an input.
    Load {
        stream: u16,
        at: usize,
    },
    /// It could compute a partition.
    Want {
        key: String,
    },
    /// The rows of a partition follow.
    Partition {
        key: String,
    },
    #[serde(rename = "partitions_end")]
    PartitionsEnd,
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
    Held,
    Partitions,
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
        lent.worker.calls += 1;
        lent.worker.is_last = request.max_calls.is_some_and(|most| lent.worker.calls >= most);
        let (mut tables, mut streams) = (Vec::new(), 0_u16);
        let mut inputs = Vec::new();
        let mut partitions = HashMap::new();
        for input in request.inputs {
            let mut item = json!({"port": input.port, "positional": input.positional, "kind": input.kind});
            match input.data {
                InputData::Value(value) => item["value"] = value,
                InputData::Table(rows) => {
                    item["stream"] = json!(streams);
                    tables.push((streams, rows, input.kind.starts_with("rows"), input.port));
                    streams += 1;
                }
                InputData::Partitions(given) => {
                    item["stream"] = json!(streams);
                    item["keys"] = json!(given.keys);
                    item["as"] = json!(given.kind);
                    partitions.insert(streams, (given, input.port));
                    streams += 1;
                }
            }
            inputs.push(item);
        }
        let output = |(stream, output): (usize, &CallOutput)| {
            let dataset = if let OutputForm::Dataset(dataset) = &output.form { dataset.clone() } else { Json::Null };
            let (workers, timeout) =
                if let OutputForm::Partitions(workers, timeout) = output.form { (workers, timeout) } else { (1, 0.0) };
            json!({
                "stream": stream, "port": output.port, "form": output.form.word(), "dataset": dataset, "workers": workers,
                "timeout": timeout,
            })
        };
        let outputs: Vec<Json> = request.outputs.iter().enumerate().map(output).collect();
        lent.worker
            .send(&json!({
                "op": "call", "function": request.function, "program": request.program, "inputs": inputs, "tables": streams,
                "outputs": outputs,
            }))
            .await;
        let outgoing = lent.worker.outgoing();
        let sending = Box::pin(async move {
            for (stream, rows, plain, port) in tables {
                send_table(&outgoing, stream, rows, plain, &port).await?;
            }
            Ok(())
        });
        let call = Call::begin(self.clone(), lent, sending);
        call.0.lock().await.partitions = partitions;
        Ok(call)
    }
}

impl State {
    /// The next frame, while the inputs are sent.
    async fn receive(&mut self) -> Result<Frame, PythonError> {
        loop {
            let frame = self.receive_any().await?;
            match &frame {
                Frame::Message(message) if message.starts_with(LOAD) => match serde_json::from_slice(message) {
                    Ok(Message::Load { stream, at }) => self.load(stream, at)?,
                    _ => return Ok(frame),
                },
                _ => return Ok(frame),
            }
        }
    }

    /// Sends a partition that the function asks for.
    fn load(&mut self, stream: u16, at: usize) -> Result<(), PythonError> {
        let (Some(lent), Some((input, port))) = (&self.lent, self.partitions.get(&stream)) else { return Err(ended()) };
        let (read, plain, port) = (input.read.clone(), input.kind.starts_with("rows"), port.clone());
        let outgoing = lent.worker.outgoing();
        let send = Box::pin(async move { send_table(&outgoing, stream, read(at).await?, plain, &port).await });
        match self.sending {
            None => self.sending = Some(send),
            Some(_) => self.next.push_back(send),
        }
        Ok(())
    }

    async fn receive_any(&mut self) -> Result<Frame, PythonError> {
        let Some(lent) = &mut self.lent else { return Err(ended()) };
        loop {
            let Some(sending) = &mut self.sending else { return lent.worker.receive().await };
            tokio::select! {
                biased;
                frame = lent.worker.receive() => return frame,
                sent = sending => {
                    self.sending = self.next.pop_front();
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
        if let Some(mut sending) = self.sending.take()
            && !matches!(futures::poll!(&mut sending), std::task::Poll::Ready(Ok(())))
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
    /// A call whose message was sent; `sending` sends its inputs.
    pub(super) fn begin(
        workers: Workers,
        lent: Lent,
        sending: BoxFuture<'static, Result<(), DataFusionError>>,
    ) -> Self {
        Self(Arc::new(Mutex::new(State {
            workers,
            lent: Some(lent),
            sending: Some(sending),
            next: VecDeque::new(),
            partitions: HashMap::new(),
            waiting: None,
        })))
    }

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
            Message::Output { form: Form::Partitions, .. } => {
                Ok(Some(OutputData::Partitions(PartitionsOutput { call: self.clone() })))
            }
            Message::Output { form: Form::Held, stream, .. } => Ok(Some(OutputData::Held(stream.into()))),
            Message::Output { stream, form, .. } => {
                drop(state);
                Ok(Some(OutputData::Table(TableOutput::of(self.clone(), stream, form).await?)))
            }
            _ => Err(unexpected()),
        }
    }
}

fn unexpected() -> PythonError {
    PythonError::Died("the Python process sent a message out of its order".to_owned())
}

/// The partitions that a function gives.
#[derive(Debug)]
pub struct PartitionsOutput {
    call: Call,
}

/// What happens to a partition that a function gives.
#[derive(Debug)]
pub enum PartitionEvent {
    /// It could be computed; [`PartitionsOutput::answer`] says whether it shall.
    Offered(String),
    /// It was.
    Computed(String, TableOutput),
}

impl PartitionsOutput {
    /// What comes next; `None` after the last partition.
    ///
    /// # Errors
    /// When the function failed, or the process died.
    pub async fn next(&mut self) -> Result<Option<PartitionEvent>, PythonError> {
        let mut state = self.call.0.lock().await;
        match state.message().await? {
            Message::PartitionsEnd => Ok(None),
            Message::Want { key } => Ok(Some(PartitionEvent::Offered(key))),
            Message::Partition { key } => match state.message().await? {
                Message::Output { stream, form, .. } => {
                    drop(state);
                    let table = TableOutput::of(self.call.clone(), stream, form).await?;
                    Ok(Some(PartitionEvent::Computed(key, table)))
                }
                Message::Error { error, shapes } => Err(state.error(error, &shapes).await),
                _ => Err(unexpected()),
            },
            Message::Error { error, shapes } => Err(state.error(error, &shapes).await),
            _ => Err(unexpected()),
        }
    }

    /// Says whether an offered partition shall be computed.
    pub async fn answer(&mut self, wanted: bool) {
        let state = self.call.0.lock().await;
        if let Some(lent) = &state.lent {
            lent.worker.send(&json!({"op": "wanted", "wanted": wanted})).await;
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
    async fn of(call: Call, stream: u16, form: Form) -> Result<Self, PythonError> {
        let decoder = match form {
            Form::Rows => Decoder::Rows(None),
            _ => Decoder::Arrow(Box::new(StreamDecoder::new()), Buffer::from(Vec::<u8>::new())),
        };
        let schema = Arc::new(Schema::empty());
        let mut table = Self { call, stream, decoder, schema, first: None, ended: false };
        table.begin().await?;
        Ok(table)
    }

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
                        let schema = known.clone();
                        let read = spawn_blocking(move || columns::read(&bytes, schema.as_ref())).await;
                        let batch = read.map_err(|error| wrong(error.to_string()))?.map_err(wrong)?;
                        known.get_or_insert_with(|| batch.schema());
                        return Ok(Some(batch));
                    }
                },
                Frame::End(stream) if stream == self.stream => self.ended = true,
                Frame::Data(..) | Frame::Parts(..) | Frame::End(_) => {}
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
