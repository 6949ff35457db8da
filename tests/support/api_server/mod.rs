//! A scripted server that speaks OpenAI's embeddings protocol, faults included.
//!
//! Vectors are made from the text alone (BLAKE3, unit length), so that a test can say which vector belongs to which row.
//! Shared by the tests and by `examples/mock_api.rs`; does not depend on the library. Owns the server and its journal;
//! [`behaviour`] is its configuration, [`http`] a small HTTP/1.1 of its own (which truncates bodies, stalls and resets), [`limits`]
//! its rate limits, [`respond`] the choice of a response, and [`vectors`] the bodies; [`nodenorm`] and [`language_model`] are other services on
//! the same port.

mod behaviour;
mod http;
pub mod language_model;
mod limits;
mod nodenorm;
mod respond;
pub mod vectors;

pub use behaviour::{Behaviour, Fault, When};

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

use self::{
    http::{deliver, head, read_request, send},
    limits::Bucket,
};

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
    /// Whether a key was sent.
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
    /// The status of the response; 0 for none.
    pub status: u16,
    /// When the response was handed to the system, since the server began.
    pub responded: Option<Duration>,
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
    /// When each worker has finished what it has.
    busy: Vec<Instant>,
    /// Texts that workers were given.
    computed: u64,
    /// Requests that count against the limit of requests at the same time.
    at_once: usize,
    totals: Totals,
    chance: u64,
    canned: BTreeMap<(usize, bool), Arc<Vec<u8>>>,
}

/// Sums over all requests.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Totals {
    /// Requests seen.
    pub requests: u64,
    /// Responses by status.
    pub by_status: BTreeMap<u16, u64>,
    /// Texts in good responses.
    pub rows: u64,
    /// Tokens in good responses.
    pub tokens: u64,
    /// The first and the last good response, seconds since the start.
    pub span: Option<(f64, f64)>,
}

impl ApiServer {
    /// Starts a server on a free port of the loopback.
    pub async fn start(behaviour: Behaviour) -> Self {
        Self::start_on(behaviour, 0).await.expect("a free port on the loopback")
    }

    /// Starts a server on a port of the loopback; 0 for any.
    ///
    /// # Errors
    /// When the port is in use.
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
                busy: Vec::new(),
                computed: 0,
                at_once: 0,
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
                    // A client that disconnects is not an error of the server.
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

    /// Adds a fault to the script. The first that matches a request is used.
    pub fn fault(&self, when: When, fault: Fault) -> &Self {
        self.shared.lock().script.push((when, fault));
        self
    }

    /// Removes all faults.
    pub fn clear_faults(&self) {
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

    /// How many texts the workers were given, whether or not anybody waited for them.
    pub fn computed(&self) -> u64 {
        self.shared.lock().computed
    }

    /// How many connections were opened.
    pub fn connections(&self) -> u64 {
        self.shared.lock().connections
    }

    /// How often the server sent a vector for each text.
    pub fn embedded(&self) -> BTreeMap<String, usize> {
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

    /// Notes that the response to a request was handed to the system.
    fn responded(&self, number: u64) {
        let now = self.started.elapsed();
        let mut state = self.lock();
        // Of the latest requests, the one asked for is among the last.
        if let Some(seen) = state.journal.iter_mut().rev().find(|seen| seen.number == number) {
            seen.responded = Some(now);
        }
    }

    /// The time, then the journal, as lines of JSON.
    fn lines(&self) -> String {
        let state = self.lock();
        let mut out = serde_json::json!({"now": self.started.elapsed().as_secs_f64()}).to_string();
        for seen in &state.journal {
            let line = serde_json::json!({
                "at": seen.at.as_secs_f64(), "responded": seen.responded.map(|at| at.as_secs_f64()),
                "status": seen.status, "tokens": seen.tokens, "texts": seen.texts,
            });
            out.push('\n');
            out.push_str(&line.to_string());
        }
        out
    }
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
        if request.line.starts_with("GET /__journal") {
            let body = shared.lines().into_bytes();
            send(&mut socket, 200, &[], &body).await?;
            continue;
        }
        if nodenorm::serves(&request.line) {
            let (status, body) = nodenorm::respond(&request.line, &request.body);
            send(&mut socket, status, &[], body.as_bytes()).await?;
            continue;
        }
        if language_model::serves(&request.line) {
            let fault = shared.lock().is_faulty();
            let (status, body) = language_model::respond(&request.line, &request.body, fault);
            let latency = shared.lock().latency();
            if !latency.is_zero() {
                tokio::time::sleep(latency).await;
            }
            send(&mut socket, status, &[], body.as_bytes()).await?;
            continue;
        }
        let canned = shared.canned(&request);
        if let Some(body) = canned {
            socket.write_all(&head(200, &[], body.len())).await?;
            socket.write_all(&body).await?;
            socket.flush().await?;
            continue;
        }
        let (number, reply) = shared.respond(request);
        if !reply.latency.is_zero() {
            tokio::time::sleep(reply.latency).await;
        }
        if reply.counted {
            shared.lock().at_once -= 1;
        }
        let goes_on = deliver(&mut socket, reply).await?;
        shared.responded(number);
        if !goes_on {
            return Ok(());
        }
    }
    Ok(())
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
