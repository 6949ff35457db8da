//! What the server can be told: how it behaves when no fault is due, and the faults.

use std::time::Duration;

/// How the server behaves when no fault is due.
#[derive(Debug, Clone)]
pub struct Behaviour {
    /// Numbers in a vector when the request names none.
    pub dimensions: usize,
    /// Shortest and longest time an answer takes.
    pub latency: (Duration, Duration),
    /// Requests a minute.
    pub rpm: Option<f64>,
    /// Tokens a minute.
    pub tpm: Option<f64>,
    /// Seconds' worth of the limit that may be used at once; 60 as OpenAI does.
    pub burst_seconds: f64,
    /// After so many requests both limits are half of what they were.
    pub halve_after: Option<u64>,
    /// Whether answers carry `x-ratelimit-…`, and refusals `Retry-After`.
    pub headers: bool,
    /// Share of requests that meet one of the usual transient faults: 500, 502, 503, a cut or truncated body, a reset
    /// connection, a vector too few, another order, garbage with status 200.
    pub faults: f64,
    /// Whether some of them are never answered at all.
    pub hangs: bool,
    /// Most inputs in a request; more is answered with 413.
    pub max_inputs: usize,
    /// Most bytes in a body; more is answered with 413.
    pub max_bytes: usize,
    /// Whether `encoding_format: base64` is understood; else it is answered with 400.
    pub base64: bool,
    /// The key that must be sent.
    pub key: Option<String>,
    /// Answers with the same vectors whatever the texts, rendered once: for measuring clients.
    pub canned: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            dimensions: 8,
            latency: (Duration::ZERO, Duration::ZERO),
            rpm: None,
            tpm: None,
            burst_seconds: 60.0,
            halve_after: None,
            headers: true,
            faults: 0.0,
            hangs: false,
            max_inputs: 2048,
            max_bytes: 64 << 20,
            base64: true,
            key: None,
            canned: false,
        }
    }
}

/// What happens to one request instead of a good answer.
#[derive(Debug, Clone)]
pub enum Fault {
    /// A status with headers and a body.
    Status(u16, Vec<(String, String)>, String),
    /// These very bytes, then the connection is closed.
    Raw(Vec<u8>),
    /// A good answer with these headers as well.
    Headers(Vec<(String, String)>),
    /// A good answer, changed.
    Edit(fn(String) -> String),
    /// A good answer whose vectors are changed first.
    Vectors(fn(&mut Vec<Vec<f32>>)),
    /// A good answer with numbers instead of base64, or base64 instead of numbers.
    OtherEncoding,
    /// Base64 of doubles.
    Doubles,
    /// Only the first part of a good answer, then the connection is closed.
    Cut(f64),
    /// Only the first part of a good answer, announced as if it were whole.
    Truncated(f64),
    /// One byte at a time, with this pause between two.
    Drip(Duration),
    /// Nothing, for this long; then a good answer.
    Delay(Duration),
    /// Nothing, for ever.
    Stall,
    /// The connection is reset before an answer.
    Reset,
    /// The connection is closed before an answer.
    Close,
    /// A good answer, after which the connection is closed without saying so.
    CloseAfter,
    /// A body without end.
    Endless,
    /// A small body that inflates to this many bytes.
    GzipBomb(usize),
}

/// Which requests a fault is for.
#[derive(Debug, Clone)]
pub enum When {
    /// The n-th request that the server sees, from 1.
    Nth(u64),
    /// Every request.
    Always,
    /// The first n requests.
    First(u64),
    /// Requests with a text that holds this.
    Text(String),
    /// Requests with more texts than this.
    MoreThan(usize),
}
