//! A mock of OpenAI's embeddings API, of language models (`/v1/chat/completions`, `/v1/responses`, `/v1/messages`), and of a service
//! that normalizes identifiers (`POST /1.5/get_normalized_nodes`), for benchmarks and for trying pipelines out.
//!
//! ```text
//! cargo run --release --example mock_api -- --rpm 600 --tpm 300000 --latency-ms 200..800
//! ```
//!
//! Prints its address on stdout, and what it has seen when it ends (SIGTERM, Ctrl-C) or on `GET /__stats`. With `--journal`,
//! `GET /__journal` lists every request with its texts, and when its response was sent.

#[path = "../tests/support/api_server/mod.rs"]
#[expect(dead_code, reason = "tests use more of the server than this")]
mod api_server;

use std::{io::Write, str::FromStr, time::Duration};

use api_server::{ApiServer, Behaviour};
use clap::Parser;

/// A mock of OpenAI's embeddings API.
#[derive(Debug, Parser)]
struct Options {
    /// The port on 127.0.0.1; 0 for any.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Requests a minute.
    #[arg(long)]
    rpm: Option<f64>,
    /// Tokens a minute; a token is four bytes here.
    #[arg(long)]
    tpm: Option<f64>,
    /// Burst: so many seconds of the limits may be used at once.
    #[arg(long, default_value_t = 60.0)]
    burst_seconds: f64,
    /// Milliseconds until a response: `300`, or `200..800`.
    #[arg(long, default_value = "0")]
    latency_ms: Range,
    /// Send no rate limit headers.
    #[arg(long)]
    no_headers: bool,
    /// Share of requests that fail in one of the usual ways.
    #[arg(long, default_value_t = 0.0)]
    faults: f64,
    /// Halve the limits after this many requests.
    #[arg(long)]
    halve_after: Option<u64>,
    /// Numbers in a vector when the request names none.
    #[arg(long, default_value_t = 1536)]
    dimensions: usize,
    /// Most texts in a request; more is refused with 413.
    #[arg(long, default_value_t = 2048)]
    max_inputs: usize,
    /// The key that must be sent.
    #[arg(long)]
    key: Option<String>,
    /// Send the same vectors for all texts: a server that costs almost nothing.
    #[arg(long)]
    canned: bool,
    /// Keep every request with its texts, for `GET /__journal`.
    #[arg(long)]
    journal: bool,
}

#[derive(Debug, Clone, Copy)]
struct Range(Duration, Duration);

impl FromStr for Range {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (low, high) = text.split_once("..").unwrap_or((text, text));
        let milliseconds = |text: &str| text.parse().map(Duration::from_millis).map_err(|error| format!("{error}"));
        let (low, high) = (milliseconds(low)?, milliseconds(high)?);
        if low <= high { Ok(Self(low, high)) } else { Err("the shorter one comes first".into()) }
    }
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let options = Options::parse();
    let behaviour = Behaviour {
        dimensions: options.dimensions,
        latency: (options.latency_ms.0, options.latency_ms.1),
        rpm: options.rpm,
        tpm: options.tpm,
        burst_seconds: options.burst_seconds,
        halve_after: options.halve_after,
        headers: !options.no_headers,
        faults: options.faults,
        max_inputs: options.max_inputs,
        key: options.key,
        canned: options.canned,
        ..Behaviour::default()
    };
    let server = ApiServer::start_on(behaviour, options.port).await?;
    if !options.journal {
        server.forget();
    }
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{}", server.base_url())?;
    stdout.flush()?;
    ended().await?;
    // The reader may have closed the pipe.
    let _ = stdout.write_all(api_server::stats(&server.totals()).as_bytes());
    Ok(())
}

#[cfg(unix)]
async fn ended() -> std::io::Result<()> {
    let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        _ = term.recv() => Ok(()),
        interrupted = tokio::signal::ctrl_c() => interrupted,
    }
}

#[cfg(not(unix))]
async fn ended() -> std::io::Result<()> {
    tokio::signal::ctrl_c().await
}
