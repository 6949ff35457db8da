//! `call_api` and `generate` beside a bare loop and a Python script, at a server that responds at once with what was prepared.

use std::{
    error::Error,
    io::Write as _,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use bytes::Bytes;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use flow::{
    config::parse_yaml,
    diagnostic::{Diagnostics, SourceId, Span},
    function::{Arguments, Context, FUNCTIONS, Job, PartitionTask},
    model::PartitionKey,
};
use futures::{TryStreamExt as _, stream};
use serde_json::{Map, Value as Json, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::support::{Outcome, context};

/// Different requests of `call_api`: more than are under way at a time, since equal ones would be sent once.
const BATCHES: u64 = 256;
/// Requests in a partition.
const CALL_REQUESTS: u64 = 8;
const GENERATE_REQUESTS: u64 = 1000;
/// Bytes of memory for all partitions.
const MEMORY: u64 = 2 << 30;
/// The goals.
const OF_BARE: f64 = 0.60;
const OF_PYTHON: f64 = 10.0;

/// Which function is measured, and how.
#[derive(Debug, Clone)]
pub struct Measured {
    /// `call_api` or `generate`.
    pub function: &'static str,
    /// How long each of the contestants runs.
    pub time: Duration,
    /// How often.
    pub rounds: usize,
    /// Keys in a request of `call_api`.
    pub batch: u64,
    /// Calls at a time.
    pub calls: usize,
    /// Write answers into a cache on disk, too.
    pub cache: bool,
    /// The Python that has httpx and jsonschema.
    pub python: Option<String>,
}

/// Runs the contestants in turns. True if the goals are met.
pub async fn measure(measured: &Measured) -> Result<bool, Box<dyn Error>> {
    let server = Prepared::start(measured).await?;
    let mut out = std::io::stdout();
    let (mut bare_best, mut ours_best, mut python_best) = (0.0_f64, 0.0_f64, None::<f64>);
    for round in 1..=measured.rounds {
        let bare = bare(&server, measured).await?;
        let ours = through_function(&server, measured).await?;
        let python = measured.python.as_deref().map(|python| script(python, &server, measured)).transpose()?;
        let beside = python.map_or_else(String::new, |python| format!(", Python {python:.0} requests/s"));
        writeln!(out, "round {round}: bare {bare:.0} requests/s, {} {ours:.0} requests/s{beside}", measured.function)?;
        (bare_best, ours_best) = (bare_best.max(bare), ours_best.max(ours));
        python_best = python.map(|python| python_best.map_or(python, |best| best.max(python)));
    }
    let share = ours_best / bare_best;
    let mut met = share >= OF_BARE;
    let mut said = format!("{:.1} % of the bare loop, wanted 60 %", share * 100.0);
    match python_best {
        Some(python) => {
            let times = ours_best / python;
            met &= times >= OF_PYTHON;
            said += &format!("; {times:.1} times the Python script, wanted 10");
        }
        None => said += "; no Python script was run: name one that has httpx and jsonschema with --python",
    }
    writeln!(out, "verdict: {} ({said})", if met { "met" } else { "MISSED" })?;
    Ok(met)
}

fn key(number: u64) -> String {
    format!("CHEBI:{number:07}")
}

/// The body of a request: of a batch of keys, or of a prompt.
fn body(measured: &Measured, number: u64) -> Json {
    if measured.function == "generate" {
        return json!({
            "model": "gpt-4o-mini",
            "messages": [{"role": "user", "content": format!("Which kind of thing is item {number}?")}],
            "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema(), "strict": true}},
            "max_completion_tokens": 60,
        });
    }
    let first = number % BATCHES * measured.batch;
    json!({"curies": (first..first + measured.batch).map(key).collect::<Vec<_>>(), "conflate": true})
}

fn schema() -> Json {
    json!({
        "type": "object", "additionalProperties": false, "required": ["kind", "confidence", "tags"],
        "properties": {
            "kind": {"enum": ["database", "ontology", "vocabulary", "tool"]},
            "confidence": {"type": "number", "minimum": 0, "maximum": 1},
            "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 5},
        },
    })
}

/// A server that looks for the first key of a request and sends what was prepared for it.
struct Prepared {
    url: String,
    _stop: watch::Sender<()>,
}

impl Prepared {
    async fn start(measured: &Measured) -> Outcome<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let responses: Arc<Vec<Bytes>> = Arc::new(match measured.function {
            "generate" => vec![response(&model_answer())],
            _ => (0..BATCHES).map(|batch| response(&answers(batch * measured.batch, measured.batch))).collect(),
        });
        let (stop, mut stopped) = watch::channel(());
        let batch = measured.batch;
        tokio::spawn(async move {
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    _ = stopped.changed() => return,
                };
                let Ok((socket, _)) = accepted else { continue };
                tokio::spawn(serve(socket, Arc::clone(&responses), batch));
            }
        });
        Ok(Self { url, _stop: stop })
    }
}

fn response(body: &Json) -> Bytes {
    let body = body.to_string();
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into()
}

fn answers(first: u64, count: u64) -> Json {
    let one = |number: u64| {
        let node = json!({
            "id": {"identifier": format!("N:{number}"), "label": format!("node {number}")},
            "equivalent_identifiers": [{"identifier": key(number)}, {"identifier": format!("X:{number}")}],
            "type": ["biolink:SmallMolecule", "biolink:NamedThing"],
            "information_content": 47.7,
        });
        (key(number), node)
    };
    Json::Object((first..first + count).map(one).collect::<Map<_, _>>())
}

fn model_answer() -> Json {
    let text = json!({"kind": "ontology", "confidence": 0.87, "tags": ["anatomy", "cells"]}).to_string();
    json!({
        "id": "chatcmpl-1", "object": "chat.completion", "model": "gpt-4o-mini",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text, "refusal": null}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 80, "completion_tokens": 20, "total_tokens": 100},
    })
}

async fn serve(mut socket: TcpStream, responses: Arc<Vec<Bytes>>, batch: u64) -> Option<()> {
    socket.set_nodelay(true).ok()?;
    let mut bytes: Vec<u8> = Vec::with_capacity(64 << 10);
    loop {
        let head = loop {
            if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            if socket.read_buf(&mut bytes).await.ok()? == 0 {
                return None;
            }
        };
        let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
        let length: usize = text.split("content-length:").nth(1)?.lines().next()?.trim().parse().ok()?;
        while bytes.len() < head + length {
            if socket.read_buf(&mut bytes).await.ok()? == 0 {
                return None;
            }
        }
        let number = match responses.len() {
            1 => 0,
            _ => first_key(&bytes[head..])? / batch % BATCHES,
        };
        socket.write_all(&responses[usize::try_from(number).ok()?]).await.ok()?;
        bytes.drain(..head + length);
    }
}

fn first_key(body: &[u8]) -> Option<u64> {
    let begin = body.windows(6).position(|six| six == b"CHEBI:")? + 6;
    std::str::from_utf8(body.get(begin..begin + 7)?).ok()?.parse().ok()
}

/// The least work possible: a POST and a parse, without a look at what came.
async fn bare(server: &Prepared, measured: &Measured) -> Outcome<f64> {
    let http = reqwest::Client::builder().http1_only().tcp_nodelay(true).build()?;
    let (next, start) = (Arc::new(AtomicU64::new(0)), Instant::now());
    let workers: Vec<_> = (0..measured.calls * 4)
        .map(|_| {
            let (http, next, url, measured) = (http.clone(), Arc::clone(&next), server.url.clone(), measured.clone());
            tokio::spawn(async move {
                let mut requests = 0u64;
                while start.elapsed() < measured.time {
                    let body = serde_json::to_vec(&body(&measured, next.fetch_add(1, Ordering::Relaxed)))?;
                    let request = http.post(&url).header("content-type", "application/json").body(body);
                    let bytes = request.send().await?.bytes().await?;
                    std::hint::black_box(serde_json::from_slice::<Json>(&bytes)?);
                    requests += 1;
                }
                Ok::<_, Box<dyn Error + Send + Sync>>(requests)
            })
        })
        .collect();
    let mut requests = 0;
    for worker in workers {
        requests += worker.await?.map_err(|error| error.to_string())?;
    }
    Ok(requests as f64 / start.elapsed().as_secs_f64())
}

/// What the function is told.
fn settings(server: &Prepared, measured: &Measured) -> String {
    let url = &server.url;
    let cache = if measured.cache { "readwrite" } else { "off" };
    match measured.function {
        "generate" => format!(
            "model: {{model: gpt-4o-mini, base_url: '{url}/v1', prompt: 'Which kind of thing is {{{{ name }}}}?', max_tokens: 60, \
             response_format: {}, cache: {{mode: {cache}}}}}",
            schema()
        ),
        _ => format!(
            "api: {{key: name, batch_size: {}, request: {{url: '{url}', json: {{curies: '{{{{ batch.name }}}}', conflate: true}}}}, \
             response: {{match: key, columns: {{normalized: $.id.identifier, categories: {{path: $.type, type: 'list<string>'}}, \
             content: {{path: $.information_content, type: float64}}}}}}, cache: {{mode: {cache}}}}}",
            measured.batch
        ),
    }
}

fn open(server: &Prepared, measured: &Measured, context: &Context) -> Outcome<Arc<dyn PartitionTask>> {
    let mut problems = Diagnostics::default();
    let values = parse_yaml(SourceId(0), &settings(server, measured), &mut problems).ok_or("no YAML")?;
    let span = Span { source: SourceId(0), start: 0, end: 0 };
    let arguments = Arguments {
        node: "bench",
        span,
        function: (measured.function, span),
        inputs: Vec::new(),
        outputs: Vec::new(),
        options: indexmap::IndexMap::new(),
        values: values.as_map().into_iter().flat_map(|map| map.iter()).map(|(k, e)| (k.to_owned(), &e.node)).collect(),
        tables: Vec::new(),
        unknown: Vec::new(),
        providers: &[],
        root: context.service.root.clone(),
        engine: Default::default(),
    };
    let function = FUNCTIONS.iter().find(|function| function.name() == measured.function).ok_or("no such function")?;
    match function.prepare(&arguments, &mut problems) {
        Some(Job::Partitions(job)) => Ok(job.open(context)?),
        _ => Err(format!("{problems:?}").into()),
    }
}

/// Partitions through the function, as a run computes them.
async fn through_function(server: &Prepared, measured: &Measured) -> Outcome<f64> {
    let folder = tempfile::tempdir()?;
    let context = context(folder.path().to_path_buf(), MEMORY)?;
    let task = open(server, measured, &context)?;
    let (requests_a_call, rows_a_request) =
        if measured.function == "generate" { (GENERATE_REQUESTS, 1) } else { (CALL_REQUESTS, measured.batch) };
    let (next, start) = (Arc::new(AtomicU64::new(0)), Instant::now());
    let workers: Vec<_> = (0..measured.calls)
        .map(|_| {
            let (task, next, measured) = (Arc::clone(&task), Arc::clone(&next), measured.clone());
            let memory = context.memory.shared_by(measured.calls);
            tokio::spawn(async move {
                let mut requests = 0u64;
                while start.elapsed() < measured.time {
                    let first = next.fetch_add(1, Ordering::Relaxed) * requests_a_call;
                    let names: ArrayRef = match measured.function {
                        "generate" => Arc::new(StringArray::from_iter_values(
                            (first..first + requests_a_call).map(|number| format!("item {number}")),
                        )),
                        _ => {
                            let keys = (first..first + requests_a_call).flat_map(|batch| {
                                let first = batch % BATCHES * measured.batch;
                                (first..first + measured.batch).map(key)
                            });
                            Arc::new(StringArray::from_iter(keys.map(Some)))
                        }
                    };
                    let rows = RecordBatch::try_from_iter([("name", names)])?;
                    let input = RecordBatchStreamAdapter::new(rows.schema(), stream::iter([Ok(rows)]));
                    let mut output = task.run(&PartitionKey::new([]), Box::pin(input), &memory).await?;
                    while let Some(chunk) = output.chunks.try_next().await? {
                        if chunk.tally.error > 0 {
                            return Err(chunk.last_error.map_or_else(String::new, |error| error.to_string()).into());
                        }
                        requests += chunk.batch.num_rows() as u64 / rows_a_request;
                    }
                }
                Ok::<_, Box<dyn Error + Send + Sync>>(requests)
            })
        })
        .collect();
    let mut requests = 0;
    for worker in workers {
        requests += worker.await?.map_err(|error| error.to_string())?;
    }
    let rate = requests as f64 / start.elapsed().as_secs_f64();
    task.flush().await?;
    Ok(rate)
}

/// The script that does the same with httpx and jsonschema.
fn script(python: &str, server: &Prepared, measured: &Measured) -> Outcome<f64> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peers/httpx_rows.py");
    let output = tokio::task::block_in_place(|| {
        Command::new(python)
            .args([script, measured.function, &server.url])
            .args([
                measured.time.as_secs_f64().to_string(),
                (measured.calls * 4).to_string(),
                measured.batch.to_string(),
            ])
            .output()
    })?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().parse()?)
}
