//! Measures the embeddings client against a mock on the loopback.
//!
//! ```text
//! cargo run --release --example api_bench -- ceiling --seconds 5 --rounds 3
//! cargo run --release --example api_bench -- quota --minutes 3 --no-headers --halve-after 900
//! ```
//!
//! `ceiling`: how many rows a second go through the client when the server answers at once, beside a bare loop that
//! posts, parses and decodes and does nothing else, in turns against the same server. `quota`: how much of a rate limit
//! is used, and how many requests are refused.

#[path = "../tests/support/api_server.rs"]
#[expect(dead_code, reason = "tests use more of the server than this")]
mod api_server;

use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use api_server::{ApiServer, Behaviour};
use arrow::array::StringArray;
use clap::{Parser, Subcommand};
use flow::{
    embed::{
        CacheOptions, Environment, Provider, ProviderContext,
        cache::CacheMode,
        openai::{OpenAiProvider, Settings},
    },
    model::Usage,
    net::Lanes,
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
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
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
    }
}

/// Texts of a hundred bytes, no two alike.
fn texts(call: u64, count: usize) -> StringArray {
    let filler = "a name and a category as they stand in a table of things, clipped to a hundred characters or so";
    StringArray::from_iter_values((0..count).map(|row| format!("{call:08}{row:06} {}", &filler[..85])))
}

fn client(server: &ApiServer, dimensions: usize, batch: usize, cache: Option<&std::path::Path>) -> OpenAiProvider {
    let settings = Settings {
        base_url: Some(server.base_url()),
        dimensions: Some(dimensions),
        max_inputs: Some(batch),
        cache: CacheOptions {
            path: "cache".into(),
            mode: if cache.is_some() { CacheMode::ReadWrite } else { CacheMode::Off },
        },
        ..Settings::default()
    };
    let context = ProviderContext {
        root: cache.map_or_else(std::env::temp_dir, Into::into),
        usage: Arc::new(Usage::default()),
        max_cost_nano_usd: None,
        max_requests: None,
        environment: Environment::default(),
    };
    OpenAiProvider::open(settings, &context, &Lanes::default()).expect("the settings work")
}

async fn ceiling(
    time: Duration,
    rounds: usize,
    batch: usize,
    dimensions: usize,
    calls: usize,
    cache: bool,
) -> Result<(), Box<dyn std::error::Error>> {
    let server = ApiServer::start(Behaviour { dimensions, canned: true, ..Behaviour::default() }).await;
    server.forget();
    let folder = tempfile::tempdir()?;
    let mut out = std::io::stdout();
    let (mut bare_best, mut client_best) = (0.0f64, 0.0f64);
    for round in 1..=rounds {
        let bare = bare(&server, time, batch, dimensions, calls).await?;
        let provider = Arc::new(client(&server, dimensions, batch, cache.then(|| folder.path())));
        let ours = through_client(&provider, time, batch, calls).await;
        writeln!(out, "round {round}: bare {bare:.0} rows/s, client {ours:.0} rows/s, {:.1} %", 100.0 * ours / bare)?;
        (bare_best, client_best) = (bare_best.max(bare), client_best.max(ours));
    }
    writeln!(
        out,
        "best: bare {bare_best:.0} rows/s, client {client_best:.0} rows/s, {:.1} %",
        100.0 * client_best / bare_best
    )?;
    Ok(())
}

async fn through_client(provider: &Arc<OpenAiProvider>, time: Duration, batch: usize, calls: usize) -> f64 {
    let next = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let workers: Vec<_> = (0..calls)
        .map(|_| {
            let (provider, next) = (Arc::clone(provider), Arc::clone(&next));
            tokio::spawn(async move {
                let mut rows = 0;
                while start.elapsed() < time {
                    let texts = texts(next.fetch_add(1, Ordering::Relaxed), batch);
                    let embedded = provider.embed(&texts).await.expect("the mock answers");
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
    rows as f64 / start.elapsed().as_secs_f64()
}

#[derive(serde::Serialize)]
struct Question<'a> {
    model: &'a str,
    dimensions: usize,
    encoding_format: &'a str,
    input: Vec<&'a str>,
}

#[derive(serde::Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    data: Vec<Item<'a>>,
}

#[derive(serde::Deserialize)]
struct Item<'a> {
    index: usize,
    embedding: &'a str,
}

/// What nobody can do without: a post, a parse, a decode into one buffer. Nothing is checked, nothing is kept.
async fn bare(
    server: &ApiServer,
    time: Duration,
    batch: usize,
    dimensions: usize,
    calls: usize,
) -> Result<f64, Box<dyn std::error::Error>> {
    let http = reqwest::Client::builder().http1_only().tcp_nodelay(true).build()?;
    let next = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let url = format!("{}/embeddings", server.base_url());
    let workers: Vec<_> = (0..calls)
        .map(|_| {
            let (http, next, url) = (http.clone(), Arc::clone(&next), url.clone());
            tokio::spawn(async move {
                let mut rows = 0;
                while start.elapsed() < time {
                    let texts = texts(next.fetch_add(1, Ordering::Relaxed), batch);
                    let question = Question {
                        model: "text-embedding-3-small",
                        dimensions,
                        encoding_format: "base64",
                        input: texts.iter().flatten().collect(),
                    };
                    let body = serde_json::to_vec(&question).expect("JSON");
                    let request = http.post(&url).header("content-type", "application/json").body(body);
                    let bytes = request.send().await.expect("an answer").bytes().await.expect("its body");
                    let answer: Answer<'_> = serde_json::from_slice(&bytes).expect("JSON");
                    let mut vectors = vec![0u8; batch * dimensions * 4];
                    for item in &answer.data {
                        let place = &mut vectors[item.index * dimensions * 4..][..dimensions * 4];
                        base64_simd::STANDARD
                            .decode(item.embedding.as_bytes(), base64_simd::Out::from_slice(place))
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
    Ok(rows as f64 / start.elapsed().as_secs_f64())
}

async fn quota(behaviour: Behaviour, time: Duration, batch: usize) -> Result<(), Box<dyn std::error::Error>> {
    let (rpm, tpm) = (behaviour.rpm.unwrap_or(f64::INFINITY), behaviour.tpm.unwrap_or(f64::INFINITY));
    let halve_after = behaviour.halve_after;
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
    let allowed_requests = rpm / 60.0 * effective;
    let allowed_tokens = tpm / 60.0 * effective;
    let good = totals.by_status.get(&200).copied().unwrap_or(0) as f64;
    let refused = totals.by_status.get(&429).copied().unwrap_or(0) as f64;
    let used = (good / allowed_requests).max(totals.tokens as f64 / allowed_tokens);
    writeln!(
        out,
        "used {:.2} % of the tighter limit, {:.2} % of {} requests refused",
        used * 100.0,
        100.0 * refused / totals.requests as f64,
        totals.requests
    )?;
    Ok(())
}
