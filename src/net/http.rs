//! One HTTP attempt: a request out, a bounded answer back, every way it can go wrong named.

use std::{
    convert::Infallible,
    error::Error as _,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use reqwest::header::HeaderMap;
use tokio::time::Instant;

/// Servers close idle connections after a minute or more; leaving first avoids the race.
const KEEP_IDLE: Duration = Duration::from_secs(30);

/// An HTTP/1.1 client that follows no redirect.
#[derive(Debug, Clone)]
pub struct Http {
    client: reqwest::Client,
}

/// What to send.
#[derive(Debug, Clone)]
pub struct Request {
    /// Where to.
    pub url: reqwest::Url,
    /// Headers, credentials included; values that must not be shown are marked sensitive.
    pub headers: HeaderMap,
    /// The body, shared by all attempts.
    pub body: Bytes,
    /// How long the attempt may take, from opening the connection to the last byte in. Nothing else bounds it.
    pub timeout: Duration,
    /// How large the answer may be, decompressed.
    pub max_body: usize,
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, decompressed.
    pub body: Vec<u8>,
}

/// Why there is no whole answer. Texts never hold headers or credentials.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Nothing came, or not all of it, in time.
    #[error("no answer within {:.1} s", .after.as_secs_f64())]
    Timeout {
        /// How long it was waited for.
        after: Duration,
        /// Whether the request had begun to leave: then the server may have done the work.
        sent: bool,
    },
    /// No connection: refused, unreachable, the name is not known.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// A kept connection was closed under the request before an answer began.
    #[error("the connection was closed before an answer began")]
    Closed,
    /// The connection broke, or what came was no HTTP.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// The answer is larger than any good one could be.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    /// It will never work like this: no certificate that can be trusted, an address that is none.
    #[error("{0}")]
    Hopeless(String),
}

impl WireError {
    /// True when it may be a sign of too much load.
    pub fn is_congestion(&self) -> bool {
        matches!(self, Self::Timeout { .. } | Self::Connect(_) | Self::Broken(_))
    }
}

impl Http {
    /// A client whose attempts take no longer than `timeout`. Of a host with several addresses, each gets a share of it to
    /// open a connection.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(timeout: Duration) -> Result<Self, WireError> {
        let client = reqwest::Client::builder()
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(timeout)
            .pool_idle_timeout(KEEP_IDLE)
            .pool_max_idle_per_host(usize::MAX)
            .tcp_nodelay(true)
            .user_agent(concat!("flow/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| WireError::Hopeless(format!("cannot set up HTTP: {}", causes(&error))))?;
        Ok(Self { client })
    }

    /// Sends a request and reads the answer. Statuses are not judged here.
    ///
    /// # Errors
    /// When no whole answer came.
    pub async fn post(&self, request: &Request) -> Result<Response, WireError> {
        let (begin, sent) = (Instant::now(), Arc::new(AtomicBool::new(false)));
        let result = tokio::time::timeout(request.timeout, self.exchange(request, &sent)).await;
        match result {
            Ok(Err(Failure::Timeout)) | Err(_) => {
                Err(WireError::Timeout { after: begin.elapsed(), sent: sent.load(Ordering::Relaxed) })
            }
            Ok(Err(Failure::Wire(error))) => Err(error),
            Ok(Ok(answer)) => Ok(answer),
        }
    }

    async fn exchange(&self, request: &Request, sent: &Arc<AtomicBool>) -> Result<Response, Failure> {
        let body = Watched { bytes: request.body.clone(), sent: Arc::clone(sent) };
        let mut response = self
            .client
            .post(request.url.clone())
            .headers(request.headers.clone())
            .body(reqwest::Body::wrap(body))
            .send()
            .await
            .map_err(|error| classify(&error))?;
        let status = response.status().as_u16();
        let headers = std::mem::take(response.headers_mut());
        let announced = response.content_length().and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
        let mut body = Vec::with_capacity(announced.min(request.max_body));
        while let Some(chunk) = response.chunk().await.map_err(|error| classify(&error))? {
            if body.len() + chunk.len() > request.max_body {
                // Of an error the beginning will do: some servers repeat all that was sent.
                if status >= 400 {
                    break;
                }
                return Err(Failure::Wire(WireError::TooLarge(request.max_body)));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Response { status, headers, body })
    }
}

enum Failure {
    Timeout,
    Wire(WireError),
}

/// A body that notes when it begins to be sent, which is when there is a connection.
struct Watched {
    bytes: Bytes,
    sent: Arc<AtomicBool>,
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.sent.store(true, Ordering::Relaxed);
        let bytes = std::mem::take(&mut self.bytes);
        Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.len() as u64)
    }
}

fn classify(error: &reqwest::Error) -> Failure {
    if error.is_timeout() {
        return Failure::Timeout;
    }
    Failure::Wire(wire_error(error))
}

fn wire_error(error: &reqwest::Error) -> WireError {
    let text = causes(error);
    let lower = text.to_ascii_lowercase();
    if error.is_builder() {
        return WireError::Hopeless(text);
    }
    if error.is_connect() && lower.contains("corrupt message") {
        return WireError::Hopeless(format!("TLS: {text}; does the address begin with http:// rather than https://?"));
    }
    // rustls names a certificate in every error that is about one; these do not mend themselves.
    if lower.contains("certificate") || lower.contains("invalid dns name") {
        return WireError::Hopeless(format!("TLS: {text}"));
    }
    if error.is_connect() {
        return WireError::Connect(text);
    }
    if error.is_request() && lower.contains("connection closed before message completed") {
        return WireError::Closed;
    }
    WireError::Broken(text)
}

/// An error and what caused it, without the address (it may hold credentials).
fn causes(error: &reqwest::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        // Wrappers repeat what they wrap.
        if parts.last().is_none_or(|last| !last.contains(&text)) {
            parts.push(text);
        }
        next = cause.source();
    }
    if parts.is_empty() { "the request could not be sent".to_owned() } else { parts.join(": ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_undercuts_the_time_that_an_attempt_may_take() {
        // The client shows every time-out that holds for all its requests.
        let limited = reqwest::Client::builder().read_timeout(Duration::from_secs(20)).build().expect("a client");
        assert!(format!("{limited:?}").contains("timeout"));
        let http = Http::new(Duration::from_secs(300)).expect("a client");
        assert!(!format!("{http:?}").contains("timeout"), "{http:?}");
    }
}
