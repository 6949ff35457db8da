//! One HTTP attempt: a request, its response of bounded size, and every kind of failure.

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
use url::Url;

/// Servers close idle connections after a minute or more; closing first avoids a race.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// An HTTP/1.1 client that follows no redirect.
#[derive(Debug, Clone)]
pub struct Http {
    client: reqwest::Client,
}

/// A request.
#[derive(Debug, Clone)]
pub struct Request {
    /// The method.
    pub method: reqwest::Method,
    /// The address.
    pub url: Url,
    /// The headers, credentials included; secret values are marked sensitive.
    pub headers: HeaderMap,
    /// The body, shared by all attempts.
    pub body: Bytes,
    /// The time limit of the attempt, from opening the connection to the last byte. Nothing else bounds it.
    pub timeout: Duration,
    /// The limit on the size of the decompressed body.
    pub max_body: usize,
}

/// A complete response.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, decompressed.
    pub body: Vec<u8>,
}

/// Why there is no complete response. Messages never contain headers or credentials.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The response was not complete in time.
    #[error("no response within {:.1} s", .after.as_secs_f64())]
    Timeout {
        /// The time limit.
        after: Duration,
        /// Whether sending had begun: then the server may have done the work.
        sent: bool,
    },
    /// No connection: refused, unreachable, unknown host.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// A kept connection was closed under the request before a response began.
    #[error("the connection was closed before a response began")]
    Closed,
    /// The connection broke, or the response is not HTTP.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// The response is larger than any valid one.
    #[error("the response is larger than {0} bytes")]
    TooLarge(usize),
    /// A retry cannot succeed: an untrusted certificate, an invalid address.
    #[error("{0}")]
    Permanent(String),
}

impl WireError {
    /// True when it may be a sign of overload.
    pub fn is_congestion(&self) -> bool {
        matches!(self, Self::Timeout { .. } | Self::Connect(_) | Self::Broken(_))
    }
}

impl Http {
    /// A client whose attempts take no longer than `timeout`. If a host has several addresses, each gets a share of it to
    /// connect.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(timeout: Duration) -> Result<Self, WireError> {
        let client = reqwest::Client::builder()
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(timeout)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(usize::MAX)
            .tcp_nodelay(true)
            .user_agent(concat!("flow/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| WireError::Permanent(format!("cannot set up HTTP: {}", causes(&error))))?;
        Ok(Self { client })
    }

    /// Sends a request and reads the response, whatever its status.
    ///
    /// # Errors
    /// When there is no complete response.
    pub async fn send(&self, request: &Request) -> Result<Response, WireError> {
        // Of a request without a body it is unknown whether sending had begun.
        let (begin, sent) = (Instant::now(), Arc::new(AtomicBool::new(request.body.is_empty())));
        let result = tokio::time::timeout(request.timeout, self.exchange(request, &sent)).await;
        match result {
            Ok(Err(Failure::Timeout)) | Err(_) => {
                Err(WireError::Timeout { after: begin.elapsed(), sent: sent.load(Ordering::Relaxed) })
            }
            Ok(Err(Failure::Wire(error))) => Err(error),
            Ok(Ok(response)) => Ok(response),
        }
    }

    async fn exchange(&self, request: &Request, sent: &Arc<AtomicBool>) -> Result<Response, Failure> {
        let body = TrackedBody { bytes: request.body.clone(), sent: Arc::clone(sent) };
        let mut response = self
            .client
            .request(request.method.clone(), request.url.clone())
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
                // The beginning of an error is enough: some servers echo the whole request.
                if status >= 400 {
                    body.extend_from_slice(&chunk[..request.max_body - body.len()]);
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

/// A body that records when sending begins, which is when a connection is open.
struct TrackedBody {
    bytes: Bytes,
    sent: Arc<AtomicBool>,
}

impl http_body::Body for TrackedBody {
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
        return WireError::Permanent(text);
    }
    if error.is_connect() && lower.contains("corrupt message") {
        return WireError::Permanent(format!(
            "TLS: {text}; should the address begin with http:// instead of https://?"
        ));
    }
    // rustls names the certificate in every error about one; such errors are permanent.
    if lower.contains("certificate") || lower.contains("invalid dns name") {
        return WireError::Permanent(format!("TLS: {text}"));
    }
    if error.is_connect() {
        return WireError::Connect(text);
    }
    if error.is_request() && lower.contains("connection closed before message completed") {
        return WireError::Closed;
    }
    WireError::Broken(text)
}

/// An error and its causes, without the address, which may contain credentials.
fn causes(error: &reqwest::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        // Wrappers repeat the message of their source.
        if parts.last().is_none_or(|last| !last.contains(&text)) {
            parts.push(text);
        }
        next = cause.source();
    }
    if parts.is_empty() { "the request could not be sent".to_owned() } else { parts.join(": ") }
}

/// An address without user, password and query, each of which may be secret.
pub fn without_secrets(url: &Url) -> String {
    let mut url = url.clone();
    // These cannot fail for an address with a host.
    let _ = (url.set_username(""), url.set_password(None));
    url.set_query(None);
    url.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_other_timeout_is_shorter_than_that_of_an_attempt() {
        // `Debug` of a client shows every time-out of all its requests.
        let limited = reqwest::Client::builder().read_timeout(Duration::from_secs(20)).build().expect("a client");
        assert!(format!("{limited:?}").contains("timeout"));
        let http = Http::new(Duration::from_secs(300)).expect("a client");
        assert!(!format!("{http:?}").contains("timeout"), "{http:?}");
    }
}
