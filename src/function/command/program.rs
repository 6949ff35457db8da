//! A running program: its pipes, its lines, and how it ended.

use std::{
    io::{Read, Write as _},
    path::Path,
    process::Stdio,
    sync::Arc,
};

use arrow::{
    array::RecordBatch,
    buffer::Buffer,
    ipc::{reader::StreamDecoder, writer::StreamWriter},
};
use bytes::Bytes;
use datafusion::{
    error::DataFusionError, execution::SendableRecordBatchStream, physical_plan::stream::RecordBatchStreamAdapter,
};
use futures::{StreamExt as _, future::BoxFuture, stream};
use tokio::sync::mpsc;

use crate::{
    function::{Context, FunctionError},
    process::{Lines, Process, explain},
};

/// Variables that every program gets.
const INHERITED: &[&str] = &["PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR"];

/// A program to start.
pub(super) struct Program<'a> {
    pub node: &'a str,
    pub program: &'a Path,
    pub words: &'a [String],
    pub env: Vec<(String, String)>,
    /// True if its stdout is an Arrow stream.
    pub stdout: bool,
}

/// A program that runs. It is killed with all its children when it is dropped.
pub(super) struct Running {
    name: String,
    process: Arc<Process>,
    lines: Vec<Arc<Lines>>,
    /// Feeds stdin.
    sending: Option<BoxFuture<'static, Result<(), DataFusionError>>>,
    output: Option<mpsc::Receiver<std::io::Result<Bytes>>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.process.kill();
    }
}

impl Program<'_> {
    pub(super) fn start(
        self,
        stdin: Option<SendableRecordBatchStream>,
        context: &Context,
    ) -> Result<Running, FunctionError> {
        let name = self.words[0].clone();
        let failed = |error: std::io::Error| FunctionError::Failed(format!("`{name}` cannot be started: {error}"));
        let mut command = std::process::Command::new(self.program);
        command.args(&self.words[1..]).current_dir(&context.service.root).env_clear();
        for variable in INHERITED {
            command.envs(context.service.environment.get(variable).map(|value| (variable, value)));
        }
        command.envs(self.env);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.stdin(if stdin.is_some() { Stdio::piped() } else { Stdio::null() });
        let (process, pipes) = Process::start(&mut command).map_err(failed)?;
        let speaker = context.python.speaker();
        let mut lines = vec![Lines::drain(pipes.errors, Some(self.node), speaker.clone()).map_err(failed)?];
        let output = if self.stdout {
            Some(read(pipes.output).map_err(failed)?)
        } else {
            lines.push(Lines::drain(pipes.output, Some(self.node), speaker.clone()).map_err(failed)?);
            None
        };
        let sending = match (stdin, pipes.input) {
            (Some(rows), Some(mut input)) => {
                let (sender, mut blocks) = mpsc::channel::<Bytes>(4);
                std::thread::Builder::new()
                    .name("command-write".to_owned())
                    .spawn(move || {
                        while let Some(block) = blocks.blocking_recv() {
                            // A program may end without reading all.
                            if input.write_all(&block).is_err() {
                                return;
                            }
                        }
                    })
                    .map_err(failed)?;
                let feed: BoxFuture<'static, _> = Box::pin(feed(sender, rows));
                Some(feed)
            }
            _ => None,
        };
        Ok(Running { name, process, lines, sending, output })
    }
}

/// Sends rows as an Arrow stream.
async fn feed(sender: mpsc::Sender<Bytes>, mut rows: SendableRecordBatchStream) -> Result<(), DataFusionError> {
    let mut writer = StreamWriter::try_new(Vec::new(), &rows.schema())?;
    while let Some(batch) = rows.next().await {
        writer.write(&batch?)?;
        if sender.send(Bytes::from(std::mem::take(writer.get_mut()))).await.is_err() {
            return Ok(());
        }
    }
    writer.finish()?;
    let _ = sender.send(Bytes::from(std::mem::take(writer.get_mut()))).await;
    Ok(())
}

/// A thread that reads a pipe.
fn read(mut pipe: impl Read + Send + 'static) -> std::io::Result<mpsc::Receiver<std::io::Result<Bytes>>> {
    let (sender, receiver) = mpsc::channel(8);
    std::thread::Builder::new().name("command-read".to_owned()).spawn(move || {
        loop {
            let mut block = vec![0; 256 << 10];
            let read = match pipe.read(&mut block) {
                Ok(0) => return,
                Ok(count) => {
                    block.truncate(count);
                    Ok(Bytes::from(block))
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
            if sender.blocking_send(read).is_err() {
                return;
            }
        }
    })?;
    Ok(receiver)
}

impl Running {
    /// The next bytes of stdout, while stdin is fed; `None` at the end.
    async fn block(&mut self) -> Result<Option<Bytes>, FunctionError> {
        loop {
            let Some(output) = &mut self.output else { return Ok(None) };
            let read = match &mut self.sending {
                None => output.recv().await,
                Some(sending) => tokio::select! {
                    biased;
                    block = output.recv() => block,
                    fed = sending => {
                        self.sending = None;
                        fed?;
                        continue;
                    }
                },
            };
            let wrong = |error: std::io::Error| FunctionError::Failed(format!("its stdout cannot be read: {error}"));
            return read.transpose().map_err(wrong);
        }
    }

    /// Waits for the end; an exit code other than 0 is an error with the last lines.
    pub(super) async fn finish(&mut self) -> Result<(), FunctionError> {
        if let Some(sending) = self.sending.take() {
            let ended = self.process.ended();
            tokio::select! {
                fed = sending => fed?,
                _ = ended => {}
            }
        }
        let status = self.process.ended().await;
        for lines in &self.lines {
            // A child that went on may hold the pipe.
            let _ = tokio::time::timeout(std::time::Duration::from_secs(3), lines.marked(u64::MAX - 1)).await;
        }
        if status.is_some_and(|status| status.success()) {
            return Ok(());
        }
        let ended = match status.and_then(|status| status.code()) {
            Some(code) => format!("ended with exit code {code}"),
            None => explain(status),
        };
        let last: String = self.lines.iter().rev().map(|lines| lines.last_lines()).collect();
        let last = if last.is_empty() { "; it wrote nothing".to_owned() } else { format!("; its last lines:{last}") };
        Err(FunctionError::Failed(format!("`{}` {ended}{last}", self.name)))
    }

    /// The table on stdout. It ends without an error only if the program ends with exit code 0.
    pub(super) async fn table(mut self) -> Result<SendableRecordBatchStream, FunctionError> {
        let mut decoder = Decoder { decoder: StreamDecoder::new(), rest: Buffer::from(Vec::<u8>::new()), ended: false };
        let first = decoder.next(&mut self).await?;
        let schema = match &first {
            Some(batch) => Some(batch.schema()),
            None => decoder.decoder.schema(),
        };
        let name = self.name.clone();
        let schema = schema.ok_or_else(|| {
            FunctionError::Failed(format!("`{name}` ended well and wrote no Arrow IPC stream to stdout"))
        })?;
        let rows = stream::try_unfold((self, decoder, first), async |(mut running, mut decoder, first)| {
            let wrapped = |error: FunctionError| DataFusionError::External(Box::new(error));
            let batch = match first {
                Some(batch) => Some(batch),
                None => decoder.next(&mut running).await.map_err(wrapped)?,
            };
            Ok(batch.map(|batch| (batch, (running, decoder, None))))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }
}

struct Decoder {
    decoder: StreamDecoder,
    rest: Buffer,
    ended: bool,
}

impl Decoder {
    async fn next(&mut self, running: &mut Running) -> Result<Option<RecordBatch>, FunctionError> {
        let name = running.name.clone();
        let wrong = |error: arrow::error::ArrowError| {
            FunctionError::Failed(format!("the stdout of `{name}` is no Arrow IPC stream: {error}"))
        };
        while !self.ended {
            if let Some(batch) = self.decoder.decode(&mut self.rest).map_err(wrong)? {
                return Ok(Some(batch));
            }
            match running.block().await? {
                Some(block) => self.rest = Buffer::from(block),
                None => {
                    self.ended = true;
                    // Why it failed says more than that its stream is incomplete.
                    running.finish().await?;
                    self.decoder.finish().map_err(wrong)?;
                }
            }
        }
        Ok(None)
    }
}
