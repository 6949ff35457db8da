//! HTTP/1.1 as far as a read-only page needs it: requests without a body, one response a connection.
//!
//! Must not know what is served.

use std::{io, time::Duration};

use futures::{StreamExt as _, stream::BoxStream};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::timeout,
};

/// The largest head of a request.
const HEAD: usize = 16 << 10;
/// How many headers a request may have.
const HEADERS: usize = 100;
/// How long a request may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(10);
/// How long a client may take to read a response that has an end, or a part of one that has none.
const DEPARTURE: Duration = Duration::from_secs(30);

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    /// `HEAD` wants no body.
    pub(super) head: bool,
    /// The path, decoded, in its parts.
    pub(super) path: Vec<String>,
    /// The parameters after the `?`, decoded.
    query: Vec<(String, String)>,
    headers: Vec<(String, String)>,
}

impl Request {
    /// A parameter after the `?`.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A header, by its name in lower case. `None` where there are several.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(key, _)| key == name);
        match (values.next(), values.next()) {
            (Some((_, value)), None) => Some(value),
            _ => None,
        }
    }
}

/// A response.
pub(super) struct Response {
    pub(super) status: u16,
    kind: &'static str,
    headers: Vec<(&'static str, String)>,
    pub(super) body: Body,
}

/// The body of a response.
pub(super) enum Body {
    /// All of it.
    Whole(String),
    /// Parts, until the client or the server has had enough.
    Parts(BoxStream<'static, String>),
}

impl Response {
    /// A response with a text.
    pub(super) fn text(status: u16, kind: &'static str, body: impl Into<String>) -> Self {
        Self { status, kind, headers: Vec::new(), body: Body::Whole(body.into()) }
    }

    /// A response with JSON.
    pub(super) fn json(status: u16, body: &serde_json::Value) -> Self {
        Self::text(status, "application/json", body.to_string())
    }

    /// An error, as JSON.
    pub(super) fn error(status: u16, message: impl AsRef<str>) -> Self {
        Self::json(status, &serde_json::json!({"error": message.as_ref()}))
    }

    /// Server-sent events.
    pub(super) fn events(parts: BoxStream<'static, String>) -> Self {
        Self { status: 200, kind: "text/event-stream", headers: Vec::new(), body: Body::Parts(parts) }
    }

    /// With one more header.
    #[must_use]
    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn head(&self) -> String {
        let reason = match self.status {
            200 => "OK",
            400 => "Bad Request",
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            408 => "Request Timeout",
            431 => "Request Header Fields Too Large",
            _ => "Error",
        };
        let mut head = format!("HTTP/1.1 {} {reason}\r\nContent-Type: {}; charset=utf-8\r\n", self.status, self.kind);
        head.push_str("Connection: close\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n");
        head.push_str(
            "X-Frame-Options: DENY\r\nReferrer-Policy: no-referrer\r\nCross-Origin-Resource-Policy: same-origin\r\n",
        );
        if let Body::Whole(body) = &self.body {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        head
    }
}

/// Reads the head of a request. `Err` holds the response to one that is wrong; `None` is a client that went away.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<Result<Request, Response>> {
    let arrive = async {
        let mut head = Vec::new();
        let mut part = [0; 4096];
        loop {
            match stream.read(&mut part).await {
                Ok(0) | Err(_) => return None,
                Ok(length) => head.extend_from_slice(&part[..length]),
            }
            if let Some(parsed) = parse(&head) {
                return Some(parsed);
            }
        }
    };
    match timeout(ARRIVAL, arrive).await {
        Ok(request) => request,
        Err(_) => Some(Err(Response::error(408, "the request did not arrive in time"))),
    }
}

/// A request; `None` while its head is incomplete.
fn parse(bytes: &[u8]) -> Option<Result<Request, Response>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    let wrong = |status, message: &str| Some(Err(Response::error(status, message)));
    match parsed.parse(bytes) {
        Ok(httparse::Status::Partial) if bytes.len() < HEAD => return None,
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return wrong(431, "the head of the request is too large");
        }
        Ok(httparse::Status::Complete(_)) => {}
        Err(error) => return wrong(400, &format!("this is not HTTP: {error}")),
    }
    let head = match parsed.method {
        Some("GET") => false,
        Some("HEAD") => true,
        _ => return wrong(405, "everything here is read-only: only GET and HEAD are supported"),
    };
    let target = parsed.path.unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if !path.starts_with('/') {
        return wrong(400, "the target of the request is not a path");
    }
    let headers = parsed.headers.iter().map(|header| {
        let value = std::str::from_utf8(header.value).ok()?;
        Some((header.name.to_ascii_lowercase(), value.trim().to_owned()))
    });
    let Some(headers) = headers.collect::<Option<Vec<_>>>() else { return wrong(400, "a header is not text") };
    let parts = path[1..].split('/').map(decoded).collect::<Option<Vec<_>>>();
    let Some(path) = parts else { return wrong(400, "the path is not UTF-8") };
    let query = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    Some(Ok(Request { head, path, query, headers }))
}

/// A part of a path without percent signs.
fn decoded(part: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let (high, low) = (digit(rest.next())?, digit(rest.next())?);
        bytes.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(bytes).ok()
}

/// Writes a response. Ends early when the client goes away.
///
/// # Errors
/// When the client cannot be written to.
pub(super) async fn write(
    (reader, writer): (&mut (impl AsyncRead + Unpin), &mut (impl AsyncWrite + Unpin)),
    response: Response,
    head: bool,
) -> io::Result<()> {
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    timeout(DEPARTURE, writer.write_all(response.head().as_bytes())).await.map_err(late)??;
    match response.body {
        _ if head => {}
        Body::Whole(body) => timeout(DEPARTURE, writer.write_all(body.as_bytes())).await.map_err(late)??,
        Body::Parts(mut parts) => {
            let mut ignored = [0; 512];
            loop {
                let part = tokio::select! {
                    part = parts.next() => part,
                    // Nothing more is expected from the client: it says that it goes away.
                    read = reader.read(&mut ignored) => match read {
                        Ok(0) | Err(_) => None,
                        Ok(_) => continue,
                    },
                };
                let Some(part) = part else { break };
                timeout(DEPARTURE, async {
                    writer.write_all(part.as_bytes()).await?;
                    writer.flush().await
                })
                .await
                .map_err(late)??;
            }
        }
    }
    timeout(DEPARTURE, writer.shutdown()).await.map_err(late)?
}

/// The request of a text, for tests.
#[cfg(test)]
pub(super) fn parsed(text: &str) -> Request {
    parse(text.as_bytes()).expect("complete").ok().expect("a request")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(text: &str) -> Option<u16> {
        parse(text.as_bytes()).map(|parsed| parsed.map_or_else(|response| response.status, |_| 200))
    }

    #[test]
    fn a_request_is_read_whole_and_what_is_no_request_is_refused() {
        let text = "GET /api/datasets/a%2Fb%20c@x?what=rows&limit=5 HTTP/1.1\r\nHost: h\r\nA: 1\r\nA: 2\r\n\r\n";
        let request = parse(text.as_bytes()).expect("complete").ok().expect("right");
        assert_eq!(request.path, ["api", "datasets", "a/b c@x"]);
        assert_eq!((request.parameter("limit"), request.parameter("none")), (Some("5"), None));
        assert_eq!((request.header("host"), request.header("a")), (Some("h"), None));
        for (length, _) in text.char_indices().skip(1) {
            assert_eq!(status(&text[..length]), None, "{length}");
        }
        let large = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(HEAD));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(HEADERS + 1));
        for (text, expected) in [
            ("POST / HTTP/1.1\r\n\r\n", 405),
            ("DELETE /api/runs HTTP/1.1\r\n\r\n", 405),
            ("HEAD / HTTP/1.1\r\n\r\n", 200),
            ("GET http://other/ HTTP/1.1\r\n\r\n", 400),
            ("GET /%ff HTTP/1.1\r\n\r\n", 400),
            ("GET /%4 HTTP/1.1\r\n\r\n", 400),
            ("\u{16}\u{3}\u{1}\r\n\r\n", 400),
            (large.as_str(), 431),
            (many.as_str(), 431),
        ] {
            assert_eq!(status(text), Some(expected), "{text:.40}");
        }
    }

    #[tokio::test]
    async fn parts_end_when_the_client_goes_away() {
        let (client, server) = tokio::io::duplex(4096);
        let (mut reader, mut writer) = tokio::io::split(server);
        let parts = futures::stream::iter(["data: 1\n\n".to_owned()]).chain(futures::stream::pending());
        let response = Response::events(parts.boxed());
        let reading = async {
            let mut client = client;
            let mut text = Vec::new();
            while !text.ends_with(b"data: 1\n\n") {
                client.read_buf(&mut text).await.expect("readable");
            }
            drop(client);
            String::from_utf8(text).expect("text")
        };
        let (_, text) = tokio::join!(write((&mut reader, &mut writer), response, false), reading);
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && !text.contains("Content-Length"), "{text}");
    }
}
