//! A scripted server that speaks OpenAI's embeddings protocol, faults included.
//!
//! Its own small HTTP/1.1 over a socket, so that it can cut bodies, stall, reset connections and send garbage. Vectors
//! are made from the text alone (BLAKE3, unit length), so that a test can say which vector belongs to which row.
//! Shared by the tests and by `examples/mock_api.rs`; knows nothing of the library.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

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

/// One request as it came in.
#[derive(Debug, Clone)]
pub struct Seen {
    /// From 1.
    pub number: u64,
    /// Since the server began.
    pub at: Duration,
    /// Method and path.
    pub line: String,
    /// Names in lower case, without the key.
    pub headers: BTreeMap<String, String>,
    /// Whether a key came along.
    pub had_key: bool,
    /// The texts, unless the journal is off.
    pub texts: Vec<String>,
    /// How many texts.
    pub rows: usize,
    /// Tokens by the server's count.
    pub tokens: u64,
    /// `encoding_format`.
    pub encoding: String,
    /// `dimensions`.
    pub dimensions: Option<u64>,
    /// The status of the answer; 0 for none.
    pub status: u16,
}

/// A running server. Dropped, it stops.
#[derive(Debug)]
pub struct ApiServer {
    shared: Arc<Shared>,
    address: SocketAddr,
    listener: tokio::task::JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    started: Instant,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    behaviour: Behaviour,
    script: Vec<(When, Fault)>,
    journal: VecDeque<Seen>,
    keep_texts: bool,
    most_kept: usize,
    number: u64,
    requests: Bucket,
    tokens: Bucket,
    connections: u64,
    totals: Totals,
    chance: u64,
    canned: BTreeMap<(usize, bool), Arc<Vec<u8>>>,
}

/// Sums over all requests.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Totals {
    /// Requests seen.
    pub requests: u64,
    /// Answers by status.
    pub by_status: BTreeMap<u16, u64>,
    /// Texts in good answers.
    pub rows: u64,
    /// Tokens in good answers.
    pub tokens: u64,
    /// The first and the last good answer, seconds since the start.
    pub span: Option<(f64, f64)>,
}

/// A bucket that refills all the time.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    level: f64,
    at: Instant,
}

impl Bucket {
    fn refill(&mut self, per_minute: f64, capacity: f64, now: Instant) -> f64 {
        let seconds = now.duration_since(self.at).as_secs_f64();
        self.level = (self.level + per_minute / 60.0 * seconds).min(capacity);
        self.at = now;
        self.level
    }
}

impl ApiServer {
    /// Starts a server on a free port of the loopback.
    pub async fn start(behaviour: Behaviour) -> Self {
        Self::start_on(behaviour, 0).await.expect("a free port on the loopback")
    }

    /// Starts a server on a port of the loopback; 0 for any.
    ///
    /// # Errors
    /// When the port cannot be had.
    pub async fn start_on(behaviour: Behaviour, port: u16) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let address = listener.local_addr()?;
        let started = Instant::now();
        let full = Bucket { level: f64::INFINITY, at: started };
        let shared = Arc::new(Shared {
            started,
            state: Mutex::new(State {
                behaviour,
                script: Vec::new(),
                journal: VecDeque::new(),
                keep_texts: true,
                most_kept: 100_000,
                number: 0,
                requests: full,
                tokens: full,
                connections: 0,
                totals: Totals::default(),
                chance: 0x9E37_79B9_7F4A_7C15,
                canned: BTreeMap::new(),
            }),
        });
        let accepting = Arc::clone(&shared);
        let listener = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let shared = Arc::clone(&accepting);
                shared.lock().connections += 1;
                tokio::spawn(async move {
                    // A client that goes away is no concern of the server's.
                    let _ = serve(&shared, socket).await;
                });
            }
        });
        Ok(Self { shared, address, listener })
    }

    /// `http://127.0.0.1:<port>/v1`.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Adds a fault to the script. Of several that fit a request, the first counts.
    pub fn fault(&self, when: When, fault: Fault) -> &Self {
        self.shared.lock().script.push((when, fault));
        self
    }

    /// Takes all faults away.
    pub fn mend(&self) {
        self.shared.lock().script.clear();
    }

    /// Changes how the server behaves from now on.
    pub fn change(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.shared.lock().behaviour);
    }

    /// Keeps no journal from now on: for measurements.
    pub fn forget(&self) {
        let mut state = self.shared.lock();
        state.keep_texts = false;
        state.most_kept = 0;
        state.journal.clear();
    }

    /// Every request so far.
    pub fn journal(&self) -> Vec<Seen> {
        self.shared.lock().journal.iter().cloned().collect()
    }

    /// Sums over all requests so far.
    pub fn totals(&self) -> Totals {
        self.shared.lock().totals.clone()
    }

    /// How many requests came in.
    pub fn requests(&self) -> u64 {
        self.shared.lock().number
    }

    /// How many connections were opened.
    pub fn connections(&self) -> u64 {
        self.shared.lock().connections
    }

    /// How often each text was answered with a vector.
    pub fn answered(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for seen in self.shared.lock().journal.iter().filter(|seen| seen.status == 200) {
            for text in &seen.texts {
                *counts.entry(text.clone()).or_default() += 1;
            }
        }
        counts
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The vector of a text: numbers from a hash, of unit length.
pub fn vector(text: &str, dimensions: usize) -> Vec<f32> {
    let mut bytes = vec![0; dimensions * 4];
    blake3::Hasher::new().update(text.as_bytes()).finalize_xof().fill(&mut bytes);
    let mut values: Vec<f32> = bytes
        .chunks_exact(4)
        .map(|four| i32::from_le_bytes(four.try_into().expect("four bytes")) as f32 / 2_147_483_648.0)
        .collect();
    let length = values.iter().map(|v| v * v).sum::<f32>().sqrt();
    values.iter_mut().for_each(|v| *v /= length);
    values
}

/// Tokens by the server's count: one for every four bytes, at least one.
pub fn tokens(text: &str) -> u64 {
    (text.len() as u64).div_ceil(4).max(1)
}

#[derive(serde::Deserialize)]
struct Body {
    model: String,
    input: Input,
    dimensions: Option<u64>,
    encoding_format: Option<String>,
}

#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Input {
    Many(Vec<String>),
    One(String),
}

/// A request as read from the socket.
struct Incoming {
    line: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

async fn read_request(socket: &mut BufReader<TcpStream>) -> std::io::Result<Option<Incoming>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = match socket.read_u8().await {
            Ok(byte) => byte,
            Err(_) if head.is_empty() => return Ok(None),
            Err(error) => return Err(error),
        };
        head.push(byte);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut lines = head.split("\r\n").filter(|line| !line.is_empty());
    let line = lines.next().unwrap_or_default().to_owned();
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    socket.read_exact(&mut body).await?;
    Ok(Some(Incoming { line, headers, body }))
}

/// What the server decided to do about a request.
struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    latency: Duration,
    fault: Option<Fault>,
}

async fn serve(shared: &Shared, socket: TcpStream) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    let mut socket = BufReader::with_capacity(64 << 10, socket);
    while let Some(request) = read_request(&mut socket).await? {
        if request.line.starts_with("GET /__stats") {
            let body = stats(&shared.lock().totals).into_bytes();
            send(&mut socket, 200, &[], &body).await?;
            continue;
        }
        let canned = shared.canned(&request);
        if let Some(body) = canned {
            socket.write_all(&head(200, &[], body.len())).await?;
            socket.write_all(&body).await?;
            socket.flush().await?;
            continue;
        }
        let reply = shared.answer(request);
        if !reply.latency.is_zero() {
            tokio::time::sleep(reply.latency).await;
        }
        if !deliver(&mut socket, reply).await? {
            return Ok(());
        }
    }
    Ok(())
}

/// Sends a reply; false when the connection ends with it.
async fn deliver(socket: &mut BufReader<TcpStream>, reply: Reply) -> std::io::Result<bool> {
    let Reply { status, headers, body, fault, .. } = reply;
    match fault {
        Some(Fault::Raw(bytes)) => {
            socket.write_all(&bytes).await?;
            socket.shutdown().await?;
            return Ok(false);
        }
        Some(Fault::Cut(share)) => {
            socket.write_all(&head(status, &headers, body.len())).await?;
            socket.write_all(&body[..(body.len() as f64 * share) as usize]).await?;
            socket.flush().await?;
            socket.shutdown().await?;
            return Ok(false);
        }
        Some(Fault::Truncated(share)) => {
            send(socket, status, &headers, &body[..(body.len() as f64 * share) as usize]).await?;
        }
        Some(Fault::Drip(pause)) => {
            socket.write_all(&head(status, &headers, body.len())).await?;
            for byte in body {
                socket.write_all(&[byte]).await?;
                socket.flush().await?;
                tokio::time::sleep(pause).await;
            }
        }
        Some(Fault::Delay(pause)) => {
            tokio::time::sleep(pause).await;
            send(socket, status, &headers, &body).await?;
        }
        Some(Fault::Stall) => std::future::pending::<()>().await,
        Some(Fault::Reset) => {
            // With unread bytes or no linger, closing sends RST instead of FIN.
            socket.get_ref().set_zero_linger()?;
            return Ok(false);
        }
        Some(Fault::Close) => return Ok(false),
        Some(Fault::CloseAfter) => {
            send(socket, status, &headers, &body).await?;
            return Ok(false);
        }
        Some(Fault::Endless) => {
            socket
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
                .await?;
            let chunk = vec![b' '; 64 << 10];
            loop {
                socket.write_all(format!("{:x}\r\n", chunk.len()).as_bytes()).await?;
                socket.write_all(&chunk).await?;
                socket.write_all(b"\r\n").await?;
            }
        }
        Some(Fault::GzipBomb(size)) => {
            let mut all = headers.clone();
            all.push(("content-encoding".into(), "gzip".into()));
            send(socket, 200, &all, &gzip_of_blanks(size)).await?;
        }
        _ => send(socket, status, &headers, &body).await?,
    }
    Ok(true)
}

fn head(status: u16, headers: &[(String, String)], length: usize) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status} {}\r\n", reason(status));
    let has = |name: &str| headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
    if !has("content-type") {
        head.push_str("content-type: application/json\r\n");
    }
    if !has("content-length") && !has("transfer-encoding") {
        head.push_str(&format!("content-length: {length}\r\n"));
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    head.into_bytes()
}

async fn send(
    socket: &mut BufReader<TcpStream>,
    status: u16,
    headers: &[(String, String)],
    body: &[u8],
) -> std::io::Result<()> {
    let mut all = head(status, headers, body.len());
    all.extend_from_slice(body);
    socket.write_all(&all).await?;
    socket.flush().await
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        413 => "Payload Too Large",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Status",
    }
}

/// Gzip of so many blanks: one literal, then "the last byte 258 times" again and again, in fixed Huffman codes. Its
/// checksum is wrong; nobody should get as far as that.
fn gzip_of_blanks(size: usize) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let (mut bits, mut count) = (0u32, 0);
    let mut push = |out: &mut Vec<u8>, code: u32, length: u32| {
        // Huffman codes go in from their highest bit.
        for bit in (0..length).rev() {
            bits |= (code >> bit & 1) << count;
            count += 1;
            if count == 8 {
                out.push(bits as u8);
                (bits, count) = (0, 0);
            }
        }
    };
    push(&mut out, 1, 1);
    push(&mut out, 0b10, 2);
    push(&mut out, 0x30 + u32::from(b' '), 8);
    for _ in 0..size / 258 {
        push(&mut out, 0b1100_0101, 8);
        push(&mut out, 0, 5);
    }
    push(&mut out, 0, 7);
    push(&mut out, 0, 7);
    out.extend_from_slice(&[0; 8]);
    out
}

/// The totals as one line of JSON.
pub fn stats(totals: &Totals) -> String {
    let statuses: Vec<String> = totals.by_status.iter().map(|(status, n)| format!("\"{status}\":{n}")).collect();
    let (first, last) = totals.span.unwrap_or_default();
    format!(
        "{{\"requests\":{},\"by_status\":{{{}}},\"rows\":{},\"tokens\":{},\"first_s\":{first:.3},\"last_s\":{last:.3}}}\n",
        totals.requests,
        statuses.join(","),
        totals.rows,
        totals.tokens
    )
}

fn error(status: u16, code: &str, message: &str) -> (u16, Vec<(String, String)>, Vec<u8>) {
    let kind = if status == 429 { "tokens" } else { "invalid_request_error" };
    let body = serde_json::json!({"error": {"message": message, "type": kind, "param": null, "code": code}});
    (status, Vec::new(), body.to_string().into_bytes())
}

impl Shared {
    /// The answer of a server that only pretends to look at the texts.
    fn canned(&self, request: &Incoming) -> Option<Arc<Vec<u8>>> {
        let mut state = self.lock();
        if !state.behaviour.canned {
            return None;
        }
        let start = request.body.windows(9).position(|nine| nine == b"\"input\":[")?;
        // The list ends at the first bracket behind a quote that no backslash is before.
        let texts = &request.body[start..];
        let end = texts.windows(3).position(|three| three[1..] == *b"\"]" && three[0] != b'\\').unwrap_or(texts.len());
        let mut rows = 1;
        let mut rest = &texts[..end];
        while let Some(comma) = rest.iter().position(|byte| *byte == b',') {
            rows += usize::from(rest.get(comma + 1) == Some(&b'"') && comma > 0 && rest[comma - 1] == b'"');
            rest = &rest[comma + 1..];
        }
        // Clients name the encoding before their texts or behind them.
        let behind = &request.body[request.body.len().saturating_sub(256).max(start)..];
        let base64 =
            [&request.body[..start], behind].iter().any(|part| part.windows(8).any(|name| name == b"\"base64\""));
        state.number += 1;
        let dimensions = state.behaviour.dimensions;
        let known = state.canned.entry((rows, base64)).or_insert_with(|| {
            let vectors: Vec<Vec<f32>> = (0..rows).map(|row| vector(&row.to_string(), dimensions)).collect();
            Arc::new(render(&vectors, base64, false, "canned", rows as u64 * 25))
        });
        Some(Arc::clone(known))
    }

    /// Decides on a request and writes it into the journal.
    fn answer(&self, request: Incoming) -> Reply {
        let now = Instant::now();
        let parsed = serde_json::from_slice::<Body>(&request.body);
        let (texts, asked, encoding, model) = match parsed {
            Ok(body) => (
                match body.input {
                    Input::Many(texts) => texts,
                    Input::One(text) => vec![text],
                },
                body.dimensions,
                body.encoding_format.unwrap_or_else(|| "float".into()),
                body.model,
            ),
            Err(_) => (Vec::new(), None, String::new(), String::new()),
        };
        let count: u64 = texts.iter().map(|text| tokens(text)).sum();
        let mut state = self.lock();
        let state = &mut *state;
        state.number += 1;
        let number = state.number;
        let latency = state.latency();
        let fault = state.fault_for(number, &texts);
        let admitted = if fault.is_none() || matches!(fault, Some(Fault::Delay(_))) {
            state.admit(count as f64, now)
        } else {
            Ok(Vec::new())
        };
        let key = request
            .headers
            .get("authorization")
            .cloned()
            .or_else(|| request.headers.get("api-key").map(|key| format!("Bearer {key}")));
        let behaviour = &state.behaviour;
        let dimensions = asked.map_or(behaviour.dimensions, |asked| asked as usize);
        let wrong_key =
            behaviour.key.as_ref().is_some_and(|wanted| key.as_deref() != Some(&format!("Bearer {wanted}")));
        let (status, headers, body) = match (&fault, admitted) {
            (Some(Fault::Status(status, headers, body)), _) => (*status, headers.clone(), body.clone().into_bytes()),
            _ if wrong_key => error(401, "invalid_api_key", "Incorrect API key provided: sk-abc***def. Check it."),
            _ if texts.is_empty() || texts.iter().any(String::is_empty) => {
                error(400, "", "'$.input' is invalid. Please check the API reference.")
            }
            _ if texts.len() > behaviour.max_inputs => error(
                413,
                "",
                &format!("batch size {} > maximum allowed batch size {}", texts.len(), behaviour.max_inputs),
            ),
            _ if request.body.len() > behaviour.max_bytes => error(413, "", "length limit exceeded"),
            _ if encoding == "base64" && !behaviour.base64 => {
                error(400, "", "encoding_format: only `float` is supported")
            }
            (_, Err((wait, limit, used))) => {
                let message = format!(
                    "Rate limit reached for {model} on tokens per min (TPM): Limit {limit:.0}, Used {used:.0}, Requested {count}. Please try again in {}ms.",
                    wait.as_millis()
                );
                if behaviour.headers {
                    let (status, mut headers, body) = error(429, "rate_limit_exceeded", &message);
                    headers.push(("retry-after-ms".into(), wait.as_millis().max(1).to_string()));
                    headers.push(("retry-after".into(), wait.as_secs_f64().ceil().max(1.0).to_string()));
                    headers.extend(state.limit_headers(now));
                    (status, headers, body)
                } else {
                    (429, Vec::new(), b"{\"error\":{\"message\":\"Too many requests\"}}".to_vec())
                }
            }
            (fault, Ok(headers)) => {
                let mut headers = headers;
                if let Some(Fault::Headers(more)) = fault {
                    headers.extend(more.iter().cloned());
                }
                let mut vectors: Vec<Vec<f32>> = texts.iter().map(|text| vector(text, dimensions)).collect();
                if let Some(Fault::Vectors(change)) = fault {
                    change(&mut vectors);
                }
                let base64 = (encoding == "base64") != matches!(fault, Some(Fault::OtherEncoding));
                let body = render(&vectors, base64, matches!(fault, Some(Fault::Doubles)), &model, count);
                let body = match fault {
                    Some(Fault::Edit(edit)) => {
                        edit(String::from_utf8(body).expect("the server writes UTF-8")).into_bytes()
                    }
                    _ => body,
                };
                (200, headers, body)
            }
        };
        let answered = !matches!(fault, Some(Fault::Raw(_) | Fault::Stall | Fault::Reset | Fault::Close));
        state.note(
            Seen {
                number,
                at: now.duration_since(self.started),
                line: request.line,
                headers: without_key(request.headers),
                had_key: key.is_some(),
                rows: texts.len(),
                texts: if state.keep_texts { texts } else { Vec::new() },
                tokens: count,
                encoding,
                dimensions: asked,
                status: if answered { status } else { 0 },
            },
            self.started,
        );
        Reply { status, headers, body, latency, fault }
    }
}

/// An answer without its last vector.
fn one_too_few(body: String) -> String {
    edit_data(&body, |data| {
        data.pop();
    })
}

/// An answer with its vectors the other way round, each with its own index.
fn reversed(body: String) -> String {
    edit_data(&body, |data| data.reverse())
}

fn edit_data(body: &str, edit: impl Fn(&mut Vec<serde_json::Value>)) -> String {
    let mut json: serde_json::Value = serde_json::from_str(body).expect("the server writes JSON");
    edit(json["data"].as_array_mut().expect("the server writes vectors"));
    json.to_string()
}

fn without_key(mut headers: BTreeMap<String, String>) -> BTreeMap<String, String> {
    headers.remove("authorization");
    headers.remove("api-key");
    headers
}

/// The body of a good answer.
fn render(vectors: &[Vec<f32>], base64: bool, doubles: bool, model: &str, tokens: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(vectors.len() * (64 + vectors.first().map_or(0, Vec::len) * 6));
    out.extend_from_slice(b"{\"object\":\"list\",\"data\":[");
    for (index, vector) in vectors.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(format!("{{\"object\":\"embedding\",\"index\":{index},\"embedding\":").as_bytes());
        if base64 {
            let bytes: Vec<u8> = if doubles {
                vector.iter().flat_map(|value| f64::from(*value).to_le_bytes()).collect()
            } else {
                vector.iter().flat_map(|value| value.to_le_bytes()).collect()
            };
            out.push(b'"');
            out.extend_from_slice(base64_simd::STANDARD.encode_to_string(&bytes).as_bytes());
            out.push(b'"');
        } else {
            let numbers: Vec<String> =
                vector.iter().map(|value| if value.is_nan() { "NaN".into() } else { value.to_string() }).collect();
            out.extend_from_slice(format!("[{}]", numbers.join(",")).as_bytes());
        }
        out.push(b'}');
    }
    out.extend_from_slice(
        format!("],\"model\":{model:?},\"usage\":{{\"prompt_tokens\":{tokens},\"total_tokens\":{tokens}}}}}")
            .as_bytes(),
    );
    out
}

impl State {
    fn random(&mut self) -> f64 {
        // Xorshift: any chance will do, as long as it is the same in every run.
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        (self.chance >> 11) as f64 / (1u64 << 53) as f64
    }

    fn latency(&mut self) -> Duration {
        let (low, high) = self.behaviour.latency;
        if high.is_zero() { Duration::ZERO } else { low + (high - low).mul_f64(self.random()) }
    }

    fn fault_for(&mut self, number: u64, texts: &[String]) -> Option<Fault> {
        let fits = |when: &When| match when {
            When::Nth(n) => *n == number,
            When::Always => true,
            When::First(n) => number <= *n,
            When::Text(marker) => texts.iter().any(|text| text.contains(marker.as_str())),
            When::MoreThan(rows) => texts.len() > *rows,
        };
        if let Some((_, fault)) = self.script.iter().find(|(when, _)| fits(when)) {
            return Some(fault.clone());
        }
        if self.behaviour.faults > 0.0 && self.random() < self.behaviour.faults {
            let status =
                |status: u16| Fault::Status(status, Vec::new(), "<html><title>Bad gateway</title></html>".into());
            let mut kinds = vec![
                status(500),
                status(502),
                status(503),
                Fault::Cut(0.5),
                Fault::Reset,
                Fault::Truncated(0.7),
                Fault::Edit(one_too_few),
                Fault::Edit(reversed),
                status(200),
            ];
            if self.behaviour.hangs {
                kinds.push(Fault::Stall);
            }
            let pick = (self.random() * kinds.len() as f64) as usize;
            return kinds.into_iter().nth(pick);
        }
        None
    }

    fn limits(&self) -> (Option<f64>, Option<f64>) {
        let halved = self.behaviour.halve_after.is_some_and(|after| self.number > after);
        let factor = if halved { 0.5 } else { 1.0 };
        (self.behaviour.rpm.map(|n| n * factor), self.behaviour.tpm.map(|n| n * factor))
    }

    /// Takes one request with so many tokens out of the buckets: the headers of the answer, or how long to wait, the
    /// limit, and what was used of it.
    fn admit(&mut self, tokens: f64, now: Instant) -> Result<Vec<(String, String)>, (Duration, f64, f64)> {
        let (rpm, tpm) = self.limits();
        let share = self.behaviour.burst_seconds / 60.0;
        let wait = |missing: f64, per_minute: f64| Duration::from_secs_f64((missing / (per_minute / 60.0)).max(0.001));
        if let Some(rpm) = rpm {
            let level = self.requests.refill(rpm, (rpm * share).max(1.0), now);
            if level < 1.0 {
                return Err((wait(1.0 - level, rpm), rpm, rpm - level));
            }
        }
        if let Some(tpm) = tpm {
            let level = self.tokens.refill(tpm, tpm * share, now);
            if level < tokens {
                return Err((wait(tokens - level, tpm), tpm, tpm - level));
            }
            self.tokens.level -= tokens;
        }
        if rpm.is_some() {
            self.requests.level -= 1.0;
        }
        Ok(if self.behaviour.headers { self.limit_headers(now) } else { Vec::new() })
    }

    fn limit_headers(&self, _now: Instant) -> Vec<(String, String)> {
        let (rpm, tpm) = self.limits();
        let mut headers = Vec::new();
        for (what, limit, bucket) in [("requests", rpm, self.requests), ("tokens", tpm, self.tokens)] {
            if let Some(limit) = limit {
                let capacity = limit * self.behaviour.burst_seconds / 60.0;
                let remaining = bucket.level.clamp(0.0, capacity);
                let reset = (capacity - remaining) / (limit / 60.0);
                headers.push((format!("x-ratelimit-limit-{what}"), format!("{limit:.0}")));
                headers.push((format!("x-ratelimit-remaining-{what}"), format!("{:.0}", remaining.floor())));
                headers.push((format!("x-ratelimit-reset-{what}"), format!("{:.0}ms", (reset * 1000.0).ceil())));
            }
        }
        headers
    }

    fn note(&mut self, seen: Seen, started: Instant) {
        self.totals.requests += 1;
        *self.totals.by_status.entry(seen.status).or_default() += 1;
        if seen.status == 200 {
            self.totals.rows += seen.rows as u64;
            self.totals.tokens += seen.tokens;
            let now = started.elapsed().as_secs_f64();
            let (first, _) = self.totals.span.unwrap_or((now, now));
            self.totals.span = Some((first, now));
        }
        if self.most_kept > 0 {
            if self.journal.len() >= self.most_kept {
                self.journal.pop_front();
            }
            self.journal.push_back(seen);
        }
    }
}
