//! Measures the embeddings client against a mock on the loopback.
//!
//! ```text
//! cargo run --release --example api_bench -- ceiling --seconds 5 --rounds 3
//! cargo run --release --example api_bench -- quota --minutes 10 --no-headers --halve-after 3000
//! cargo run --release --example api_bench -- faults --rows 100000 --share 0.15 --poison 100
//! cargo run --release --example api_bench -- call-api --python .venv/bin/python
//! cargo run --release --example api_bench -- generate --python .venv/bin/python
//! ```
//!
//! `ceiling`: how many rows a second go through the client when the server responds at once, beside a bare loop that
//! posts, parses and decodes and does nothing else, in turns against the same server. `quota`: how much of a rate limit
//! is used, and how many requests are refused. `faults`: whether every row is right when responses are faulty, and what a
//! text costs that the server never takes. `call-api` and `generate`: requests a second of these functions, beside a bare loop and a
//! script with asyncio, httpx and validation (`benches/peers/httpx_rows.py`). Each ends with a verdict, and with exit code 1 when its goal was missed.

#[path = "../tests/support/api_server/mod.rs"]
#[expect(dead_code, reason = "tests use more of the server than this")]
mod api_server;
#[path = "api_bench/functions.rs"]
mod functions;
#[path = "../benches/support/mod.rs"]
#[expect(dead_code, reason = "other benchmarks use the rest")]
mod support;

use std::{
    io::Write,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use api_server::{ApiServer, Behaviour, Fault, When};
use arrow::array::{Array, AsArray, StringArray};
use clap::{Parser, Subcommand};
use flow::{
    cache::{CacheMode, CacheOptions},
    embed::{
        Provider,
        openai::{OpenAiProvider, OpenAiSettings},
    },
    model::Usage,
    net::{EndpointRegistry, ServiceContext, ServiceEnvironment},
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures the embeddings client against a mock on the loopback.
#[derive(Debug, Parser)]
struct Options {
    #[command(subcommand)]
    measure: Measure,
}

#[derive(Debug, Clone, Subcommand)]
enum Measure {
    /// Rows a second without limits, beside a bare loop.
    Ceiling {
        #[arg(long, default_value_t = 5.0)]
        seconds: f64,
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// Texts in a request.
        #[arg(long, default_value_t = 500)]
        batch: usize,
        /// Numbers in a vector.
        #[arg(long, default_value_t = 100)]
        dimensions: usize,
        /// Calls at a time.
        #[arg(long, default_value_t = 10)]
        calls: usize,
        /// Write vectors into a cache on disk, too.
        #[arg(long)]
        cache: bool,
    },
    /// The share of a limit that is used.
    Quota {
        #[arg(long, default_value_t = 3.0)]
        minutes: f64,
        #[arg(long, default_value_t = 600.0)]
        rpm: f64,
        #[arg(long, default_value_t = 300_000.0)]
        tpm: f64,
        #[arg(long, default_value_t = 60.0)]
        burst_seconds: f64,
        /// Texts of 25 tokens in a request.
        #[arg(long, default_value_t = 20)]
        batch: usize,
        #[arg(long)]
        no_headers: bool,
        #[arg(long)]
        halve_after: Option<u64>,
        #[arg(long, default_value_t = 0.0)]
        faults: f64,
    },
    /// Requests a second of `call_api`, beside a bare loop and a Python script.
    CallApi(FunctionOptions),
    /// Requests a second of `generate`, beside a bare loop and a Python script.
    Generate(FunctionOptions),
    /// Correct rows from faulty responses.
    Faults {
        #[arg(long, default_value_t = 100_000)]
        rows: usize,
        /// Share of responses that are faulty.
        #[arg(long, default_value_t = 0.15)]
        share: f64,
        /// Texts that always get a 500.
        #[arg(long, default_value_t = 0)]
        poison: usize,
        /// Texts in a request.
        #[arg(long, default_value_t = 500)]
        batch: usize,
    },
}

/// How a function is measured.
#[derive(Debug, Clone, clap::Args)]
struct FunctionOptions {
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Keys in a request of `call_api`.
    #[arg(long, default_value_t = 1000)]
    batch: u64,
    /// Partitions at a time.
    #[arg(long, default_value_t = 10)]
    calls: usize,
    /// Write answers into a cache on disk, too.
    #[arg(long)]
    cache: bool,
    /// A Python that has httpx and jsonschema.
    #[arg(long)]
    python: Option<String>,
}

impl FunctionOptions {
    fn of(self, function: &'static str) -> functions::Measured {
        let Self { seconds, rounds, batch, calls, cache, python } = self;
        functions::Measured { function, time: Duration::from_secs_f64(seconds), rounds, batch, calls, cache, python }
    }
}

/// The targets.
const CEILING: f64 = 0.70;
const USED: f64 = 0.97;
const REFUSED: f64 = 0.01;
const REQUESTS_A_POISON_ROW: f64 = 25.0;

fn verdict(met: bool, what: &str) -> Result<bool, std::io::Error> {
    writeln!(std::io::stdout(), "verdict: {} ({what})", if met { "met" } else { "MISSED" })?;
    Ok(met)
}

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    Ok(if measure().await? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn measure() -> Result<bool, Box<dyn std::error::Error>> {
    match Options::parse().measure {
        Measure::Ceiling { seconds, rounds, batch, dimensions, calls, cache } => {
            ceiling(Duration::from_secs_f64(seconds), rounds, batch, dimensions, calls, cache).await
        }
        Measure::Quota { minutes, rpm, tpm, burst_seconds, batch, no_headers, halve_after, faults } => {
            let behaviour = Behaviour {
                latency: (Duration::from_millis(200), Duration::from_millis(800)),
                rpm: Some(rpm),
                tpm: Some(tpm),
                burst_seconds,
                headers: !no_headers,
                halve_after,
                faults,
                ..Behaviour::default()
            };
            quota(behaviour, Duration::from_secs_f64(minutes * 60.0), batch).await
        }
        Measure::Faults { rows, share, poison, batch } => faults(rows, share, poison, batch).await,
        Measure::CallApi(options) => functions::measure(&options.of("call_api")).await,
        Measure::Generate(options) => functions::measure(&options.of("generate")).await,
    }
}

/// Texts of a hundred bytes, no two alike.
fn texts(call: u64, count: usize) -> StringArray {
    let filler = "a name and a category as found in a table of things, clipped to a hundred characters or so";
    StringArray::from_iter_values((0..count).map(|row| format!("{call:08}{row:06} {}", &filler[..85])))
}

fn settings(server: &ApiServer, dimensions: usize, batch: usize) -> OpenAiSettings {
    OpenAiSettings {
        base_url: Some(server.base_url()),
        dimensions: Some(dimensions),
        max_inputs: Some(batch),
        ..OpenAiSettings::default()
    }
}

fn client(server: &ApiServer, dimensions: usize, batch: usize, cache: Option<&std::path::Path>) -> OpenAiProvider {
    open(settings(server, dimensions, batch), cache)
}

fn open(mut settings: OpenAiSettings, cache: Option<&std::path::Path>) -> OpenAiProvider {
    let mode = if cache.is_some() { CacheMode::ReadWrite } else { CacheMode::Off };
    settings.cache = CacheOptions { path: "cache".into(), mode };
    let context = ServiceContext {
        root: cache.map_or_else(std::env::temp_dir, Into::into),
        usage: Arc::new(Usage::default()),
        max_cost_nano_usd: None,
        max_requests: None,
        environment: ServiceEnvironment::default(),
        notices: Default::default(),
        stopping: Default::default(),
        clients: Default::default(),
    };
    OpenAiProvider::open(settings, &context, &EndpointRegistry::default()).expect("the settings work")
}

async fn ceiling(
    time: Duration,
    rounds: usize,
    batch: usize,
    dimensions: usize,
    calls: usize,
    cache: bool,
) -> Result<bool, Box<dyn std::error::Error>> {
    let server = ApiServer::start(Behaviour { dimensions, canned: true, ..Behaviour::default() }).await;
    server.forget();
    let mut out = std::io::stdout();
    let (mut bare_best, mut client_best) = (Rate::default(), Rate::default());
    for round in 1..=rounds {
        let bare = bare(&server, time, batch, dimensions, calls).await?;
        // A cache of its own for each round, or the second would find everything.
        let folder = tempfile::tempdir()?;
        let provider = Arc::new(client(&server, dimensions, batch, cache.then(|| folder.path())));
        let ours = through_client(&provider, time, batch, calls).await;
        writeln!(out, "round {round}: {}", beside(bare, ours))?;
        (bare_best, client_best) = (bare_best.better(bare), client_best.better(ours));
    }
    writeln!(out, "best: {}", beside(bare_best, client_best))?;
    let share = client_best.rows_a_second / bare_best.rows_a_second;
    Ok(verdict(share >= CEILING, &format!("{:.1} % of the bare loop, wanted 70 %", share * 100.0))?)
}

/// How fast rows went through, and the processor time of each, the server's included.
#[derive(Debug, Clone, Copy)]
struct Rate {
    rows_a_second: f64,
    /// In microseconds. Unlike the rate it does not depend on what else the machine does.
    cpu_a_row: f64,
}

impl Default for Rate {
    fn default() -> Self {
        Self { rows_a_second: 0.0, cpu_a_row: f64::INFINITY }
    }
}

impl Rate {
    fn new(rows: usize, start: Instant, cpu: f64) -> Self {
        let rows = rows as f64;
        Self {
            rows_a_second: rows / start.elapsed().as_secs_f64(),
            cpu_a_row: (processor_seconds() - cpu) * 1e6 / rows,
        }
    }

    fn better(self, other: Self) -> Self {
        Self {
            rows_a_second: self.rows_a_second.max(other.rows_a_second),
            cpu_a_row: self.cpu_a_row.min(other.cpu_a_row),
        }
    }
}

fn beside(bare: Rate, client: Rate) -> String {
    format!(
        "bare {:.0} rows/s, client {:.0} rows/s, {:.1} %; processor time a row: bare {:.2} µs, client {:.2} µs, {:.1} %",
        bare.rows_a_second,
        client.rows_a_second,
        100.0 * client.rows_a_second / bare.rows_a_second,
        bare.cpu_a_row,
        client.cpu_a_row,
        100.0 * bare.cpu_a_row / client.cpu_a_row,
    )
}

/// What this process has used of all processors so far; not a number where the system does not say.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the program may hold anything, blanks and brackets too.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |field: usize| fields.get(field).and_then(|ticks| ticks.parse::<f64>().ok()).unwrap_or(f64::NAN);
    (ticks(11) + ticks(12)) / 100.0
}

async fn through_client(provider: &Arc<OpenAiProvider>, time: Duration, batch: usize, calls: usize) -> Rate {
    let next = Arc::new(AtomicU64::new(0));
    let (start, cpu) = (Instant::now(), processor_seconds());
    let workers: Vec<_> = (0..calls)
        .map(|_| {
            let (provider, next) = (Arc::clone(provider), Arc::clone(&next));
            tokio::spawn(async move {
                let mut rows = 0;
                while start.elapsed() < time {
                    let texts = texts(next.fetch_add(1, Ordering::Relaxed), batch);
                    let embedded = provider.embed(&texts).await.expect("the mock responds");
                    assert_eq!(embedded.tally.ok, batch as u64);
                    rows += batch;
                }
                rows
            })
        })
        .collect();
    let mut rows = 0;
    for worker in workers {
        rows += worker.await.expect("no panic");
    }
    Rate::new(rows, start, cpu)
}

#[derive(serde::Serialize)]
struct Request<'a> {
    model: &'a str,
    dimensions: usize,
    encoding_format: &'a str,
    input: Vec<&'a str>,
}

#[derive(serde::Deserialize)]
struct Response<'a> {
    #[serde(borrow)]
    data: Vec<Item<'a>>,
}

#[derive(serde::Deserialize)]
struct Item<'a> {
    index: usize,
    /// Bytes, not text: base64 need not be UTF-8 before it is decoded.
    embedding: &'a [u8],
}

/// The least work possible: a POST, a parse, a decode into one buffer, without checks and without a cache.
async fn bare(
    server: &ApiServer,
    time: Duration,
    batch: usize,
    dimensions: usize,
    calls: usize,
) -> Result<Rate, Box<dyn std::error::Error>> {
    let http = reqwest::Client::builder().http1_only().tcp_nodelay(true).build()?;
    let next = Arc::new(AtomicU64::new(0));
    let (start, cpu) = (Instant::now(), processor_seconds());
    let url = format!("{}/embeddings", server.base_url());
    let workers: Vec<_> = (0..calls)
        .map(|_| {
            let (http, next, url) = (http.clone(), Arc::clone(&next), url.clone());
            tokio::spawn(async move {
                let mut rows = 0;
                while start.elapsed() < time {
                    let texts = texts(next.fetch_add(1, Ordering::Relaxed), batch);
                    let request_body = Request {
                        model: "text-embedding-3-small",
                        dimensions,
                        encoding_format: "base64",
                        input: texts.iter().flatten().collect(),
                    };
                    let body = serde_json::to_vec(&request_body).expect("JSON");
                    let request = http.post(&url).header("content-type", "application/json").body(body);
                    let bytes = request.send().await.expect("a response").bytes().await.expect("its body");
                    let response: Response<'_> = serde_json::from_slice(&bytes).expect("JSON");
                    let mut vectors = vec![0u8; batch * dimensions * 4];
                    for item in &response.data {
                        let place = &mut vectors[item.index * dimensions * 4..][..dimensions * 4];
                        base64_simd::STANDARD
                            .decode(item.embedding, base64_simd::Out::from_slice(place))
                            .expect("base64");
                    }
                    rows += std::hint::black_box(vectors).len() / dimensions / 4;
                }
                rows
            })
        })
        .collect();
    let mut rows = 0;
    for worker in workers {
        rows += worker.await?;
    }
    Ok(Rate::new(rows, start, cpu))
}

/// What the limit allows: its rate times the time. On top of that comes what the server's bucket holds when a run begins;
/// it may be used up once, so shares above 100 % are possible. The share of both together is shown beside it.
async fn quota(behaviour: Behaviour, time: Duration, batch: usize) -> Result<bool, Box<dyn std::error::Error>> {
    let (rpm, tpm) = (behaviour.rpm.unwrap_or(f64::INFINITY), behaviour.tpm.unwrap_or(f64::INFINITY));
    let (halve_after, stock) = (behaviour.halve_after, behaviour.burst_seconds);
    let server = ApiServer::start(behaviour).await;
    server.forget();
    let provider = Arc::new(client(&server, 8, batch, None));
    let next = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let mut out = std::io::stdout();
    let workers: Vec<_> = (0..64)
        .map(|_| {
            let (provider, next) = (Arc::clone(&provider), Arc::clone(&next));
            tokio::spawn(async move {
                loop {
                    let texts = texts(next.fetch_add(1, Ordering::Relaxed), batch);
                    if let Err(error) = provider.embed(&texts).await {
                        break error;
                    }
                }
            })
        })
        .collect();
    let mut halved_at = None;
    let mut shown = 0;
    while start.elapsed() < time {
        tokio::time::sleep(Duration::from_millis(100)).await;
        if halved_at.is_none() && halve_after.is_some_and(|after| server.requests() > after) {
            halved_at = Some(start.elapsed());
        }
        let minute = start.elapsed().as_secs() / 15;
        if minute > shown {
            shown = minute;
            write!(out, "{:4} s: {}", start.elapsed().as_secs(), api_server::stats(&server.totals()))?;
        }
    }
    workers.iter().for_each(tokio::task::JoinHandle::abort);
    let totals = server.totals();
    let seconds = start.elapsed().as_secs_f64();
    let full = halved_at.map_or(seconds, |at: Duration| at.as_secs_f64());
    let effective = full + (seconds - full) / 2.0;
    let good = totals.by_status.get(&200).copied().unwrap_or(0) as f64;
    let refused = totals.by_status.get(&429).copied().unwrap_or(0) as f64;
    let used_of = |seconds: f64| (good / (rpm / 60.0 * seconds)).max(totals.tokens as f64 / (tpm / 60.0 * seconds));
    let (used, refused) = (used_of(effective), refused / totals.requests as f64);
    writeln!(
        out,
        "used {:.2} % of what the tighter limit allows in the time, {:.2} % with the full bucket of the start; {:.2} % \
         of {} requests refused",
        used * 100.0,
        used_of(effective + stock) * 100.0,
        refused * 100.0,
        totals.requests
    )?;
    Ok(verdict(used >= USED && refused < REFUSED, "wanted: used 97 % or more, refused less than 1 %")?)
}

/// Sends many rows through faults and looks at each of them afterwards.
async fn faults(rows: usize, share: f64, poison: usize, batch: usize) -> Result<bool, Box<dyn std::error::Error>> {
    const DIMENSIONS: usize = 8;
    const ROWS_A_CALL: usize = 5000;
    let server = ApiServer::start(Behaviour { faults: share, hangs: share > 0.0, ..Behaviour::default() }).await;
    server.forget();
    server.fault(When::Text("poison".into()), Fault::Status(500, Vec::new(), String::new()));
    let every = rows.checked_div(poison).unwrap_or(usize::MAX);
    let is_poison = move |row: usize| row % every == every / 2;
    let name = move |row: usize| format!("{} {row}", if is_poison(row) { "poison" } else { "row" });
    let mut settings = settings(&server, DIMENSIONS, batch);
    settings.client.timeout = Duration::from_secs(2);
    let provider = Arc::new(open(settings, None));
    let start = Instant::now();
    let (mut right, mut failed, mut wrong) = (0, 0, 0);
    let mut calls = tokio::task::JoinSet::new();
    for first in (0..rows).step_by(ROWS_A_CALL) {
        let provider = Arc::clone(&provider);
        calls.spawn(async move {
            let range = first..(first + ROWS_A_CALL).min(rows);
            let texts = StringArray::from_iter_values(range.clone().map(name));
            (range, provider.embed(&texts).await)
        });
    }
    while let Some(call) = calls.join_next().await {
        let (range, embedded) = call?;
        let embedded = embedded?;
        for (at, row) in range.enumerate() {
            let vector = embedded.vectors.is_valid(at).then(|| embedded.vectors.value(at));
            let values = vector.as_ref().map(|vector| vector.as_primitive::<arrow::datatypes::Float32Type>().values());
            match (is_poison(row), values) {
                (true, None) if embedded.errors.is_valid(at) => failed += 1,
                (false, Some(values)) if **values == api_server::vectors::vector(&name(row), DIMENSIONS) => right += 1,
                _ => wrong += 1,
            }
        }
    }
    let least = rows.div_ceil(ROWS_A_CALL) * ROWS_A_CALL.min(rows).div_ceil(batch);
    let extra = server.requests().saturating_sub(least as u64);
    let mut out = std::io::stdout();
    writeln!(out, "{}", api_server::stats(&server.totals()).trim_end())?;
    writeln!(
        out,
        "{right} rows right, {failed} of {poison} poisoned rows with an error, {wrong} wrong or missing; {} requests, {extra} \
         more than without faults, in {:.1} s",
        server.requests(),
        start.elapsed().as_secs_f64()
    )?;
    let mut met = wrong == 0 && failed == poison && right == rows - poison;
    if poison > 0 && share == 0.0 {
        let each = extra as f64 / poison as f64;
        writeln!(out, "{each:.1} requests more for each poisoned row")?;
        met &= each <= REQUESTS_A_POISON_ROW;
    }
    Ok(verdict(met, "wanted: every row right, exactly the poisoned ones with an error, at most 25 requests for each")?)
}
