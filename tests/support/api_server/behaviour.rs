//! What can be configured: the server's behaviour when no fault is due, and the faults.

use std::time::Duration;

/// How the server behaves when no fault is due.
#[derive(Debug, Clone)]
pub struct Behaviour {
    /// Numbers in a vector when the request names none.
    pub dimensions: usize,
    /// Shortest and longest time until a response.
    pub latency: (Duration, Duration),
    /// So many workers, each of which takes this long for a text, and goes on when the client has left.
    pub workers: Option<(usize, Duration)>,
    /// A gateway in front of the server responds with 504 after this time.
    pub gateway: Option<Duration>,
    /// Requests at the same time; more are refused, with a wait of a minute.
    pub at_once: Option<usize>,
    /// Each request with a number divisible by this is refused, at any pace.
    pub refuse_each: Option<u64>,
    /// Requests a minute.
    pub rpm: Option<f64>,
    /// Tokens a minute.
    pub tpm: Option<f64>,
    /// Burst: so many seconds of the limit may be used at once; OpenAI allows 60.
    pub burst_seconds: f64,
    /// The number of requests after which both limits are halved.
    pub halve_after: Option<u64>,
    /// Whether responses carry `x-ratelimit-…` headers, and refusals `Retry-After`.
    pub headers: bool,
    /// Share of requests that get one of the usual transient faults: 500, 502, 503, a cut or truncated body, a reset
    /// connection, a vector too few, another order, garbage with status 200.
    pub faults: f64,
    /// Whether some of these requests get no response at all.
    pub hangs: bool,
    /// Most inputs in a request; a request with more gets a 413.
    pub max_inputs: usize,
    /// Most bytes in a body; a request with more gets a 413.
    pub max_bytes: usize,
    /// Whether `encoding_format: base64` is understood; otherwise the response is a 400.
    pub base64: bool,
    /// The API key that requests must send.
    pub key: Option<String>,
    /// Sends the same prepared vectors for all texts: for measuring clients.
    pub canned: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            dimensions: 8,
            latency: (Duration::ZERO, Duration::ZERO),
            workers: None,
            gateway: None,
            at_once: None,
            refuse_each: None,
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

/// What a request gets instead of a good response.
#[derive(Debug, Clone)]
pub enum Fault {
    /// A status with headers and a body.
    Status(u16, Vec<(String, String)>, String),
    /// These bytes, after which the connection is closed.
    Raw(Vec<u8>),
    /// A good response with these headers as well.
    Headers(Vec<(String, String)>),
    /// A good response, changed.
    Edit(fn(String) -> String),
    /// A good response whose vectors are changed first.
    Vectors(fn(&mut Vec<Vec<f32>>)),
    /// A good response with numbers instead of base64, or base64 instead of numbers.
    OtherEncoding,
    /// Base64 of doubles.
    Doubles,
    /// Only the first part of a good response, then the connection is closed.
    Cut(f64),
    /// Only the first part of a good response, announced as if it were whole.
    Truncated(f64),
    /// One byte at a time, with this pause between two.
    Drip(Duration),
    /// Nothing, for this long; then a good response.
    Delay(Duration),
    /// No response, without end.
    Stall,
    /// The connection is reset before a response.
    Reset,
    /// The connection is closed before a response.
    Close,
    /// A good response, after which the connection is closed without a `Connection: close` header.
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
    /// Requests with a text that contains this.
    Text(String),
    /// Requests with more texts than this.
    MoreThan(usize),
    /// Requests with a text of more bytes than this.
    Longer(usize),
}
