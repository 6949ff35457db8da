//! A scripted HTTP service: a function from requests to replies behind a socket, with a journal.
//!
//! Used for services of any shape; [`super::api_server`] is the one with OpenAI's embeddings and faults of the wire.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::Value as Json;

/// A request.
#[derive(Debug, Clone)]
pub struct Asked {
    /// From 1.
    pub number: u64,
    pub method: String,
    /// Path and query, as they were sent.
    pub target: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    /// `null` without a body.
    pub body: Json,
    /// The status of the reply.
    pub status: u16,
}

/// A reply.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
    pub delay: Duration,
}

impl Reply {
    pub fn json(body: &Json) -> Self {
        Self::status(200, &body.to_string())
    }

    pub fn status(status: u16, body: &str) -> Self {
        Self { status, headers: Vec::new(), body: body.to_owned(), delay: Duration::ZERO }
    }

    pub fn header(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }

    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }
}

type Service = dyn Fn(&Asked) -> Reply + Send + Sync;

struct Shared {
    service: Box<Service>,
    journal: Mutex<Vec<Asked>>,
    number: AtomicU64,
    stopped: AtomicBool,
}

/// A running server. Dropped, it stops.
pub struct RestServer {
    shared: Arc<Shared>,
    address: SocketAddr,
}

impl RestServer {
    /// Starts a server on a free port of the loopback.
    pub fn start(service: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port on the loopback");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            service: Box::new(service),
            journal: Mutex::default(),
            number: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
        });
        let of_thread = Arc::clone(&shared);
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                if of_thread.stopped.load(Ordering::Relaxed) {
                    break;
                }
                let Ok(socket) = socket else { continue };
                let shared = Arc::clone(&of_thread);
                // A client that goes away ends its thread.
                std::thread::spawn(move || serve(&shared, &socket));
            }
        });
        Self { shared, address }
    }

    /// Its address, with a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Every request so far, in order.
    pub fn journal(&self) -> Vec<Asked> {
        self.shared.journal.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many requests there were.
    pub fn requests(&self) -> u64 {
        self.shared.number.load(Ordering::Relaxed)
    }
}

impl Drop for RestServer {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        // Wakes the listener.
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(shared: &Shared, socket: &TcpStream) -> Option<()> {
    socket.set_nodelay(true).ok()?;
    let (mut reader, mut writer) = (BufReader::new(socket), socket);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let mut words = line.split_whitespace();
        let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let body = serde_json::from_slice(&body).unwrap_or(Json::Null);
        let number = shared.number.fetch_add(1, Ordering::Relaxed) + 1;
        let mut asked = Asked { number, method, target, headers, body, status: 0 };
        let reply = (shared.service)(&asked);
        asked.status = reply.status;
        std::thread::sleep(reply.delay);
        shared.journal.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
        let mut head = format!(
            "HTTP/1.1 {} Status\r\ncontent-type: application/json\r\ncontent-length: {}\r\n",
            reply.status,
            reply.body.len()
        );
        for (name, value) in &reply.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        writer.write_all((head + &reply.body).as_bytes()).ok()?;
    }
}
