//! One connection: hyper's HTTP/1.1 with bounds on what a client may send and on how long it may take. One response a connection.
//!
//! Must not know what is served.

use std::{
    io,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};
use tokio_util::sync::CancellationToken;

/// The largest head of a request.
const HEAD: usize = 16 << 10;
/// How many headers a request may have.
const HEADERS: usize = 100;
/// The largest buffer of a connection.
const BUFFER: usize = 64 << 10;
/// How long is waited for a client.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// How long a request may take to arrive.
    pub(super) arrival: Duration,
    /// How long a client may take until it reads on.
    pub(super) departure: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { arrival: Duration::from_secs(10), departure: Duration::from_secs(30) }
    }
}

/// Serves one request of a client. When `end` is cancelled, a response that has begun is finished.
///
/// # Errors
/// When the client sends no HTTP, takes too long or goes away.
pub(super) async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    router: Router,
    patience: Patience,
    end: &CancellationToken,
) -> Result<(), hyper::Error> {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(patience.arrival);
    http.max_headers(HEADERS).max_header_size(HEAD).max_buf_size(BUFFER);
    // A client that connects again waits behind all others.
    http.keep_alive(false).title_case_headers(true);
    let stream = TokioIo::new(Impatient { stream, patience, waiting: None });
    let mut connection = pin!(http.serve_connection(stream, TowerToHyperService::new(router)));
    tokio::select! {
        served = connection.as_mut() => return served,
        () = end.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}

/// A stream that fails when the client does not read on in time.
struct Impatient<S> {
    stream: S,
    patience: Patience,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<S> Impatient<S> {
    fn within<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waiting = None;
            return written;
        }
        let departure = self.patience.departure;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(departure)));
        ready!(waiting.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Impatient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Impatient<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.within(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.within(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = Pin::new(&mut self.stream).poll_shutdown(context);
        self.within(context, ended)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::{Arc, atomic::AtomicUsize, atomic::Ordering},
    };

    use axum::{body::Body, routing::get};
    use futures::StreamExt as _;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
        task::JoinHandle,
        time::Instant,
    };

    use super::*;

    const SHORT: Patience = Patience { arrival: Duration::from_millis(50), departure: Duration::from_millis(50) };

    /// A client of a server that serves `/`, `/endless` and `/parts`.
    fn connected(
        patience: Patience,
    ) -> (DuplexStream, JoinHandle<Result<(), hyper::Error>>, CancellationToken, Arc<AtomicUsize>) {
        let sent = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&sent);
        let endless = move || {
            let counted = Arc::clone(&counted);
            async move {
                let parts = futures::stream::repeat("x".repeat(1000));
                Body::from_stream(parts.map(move |part| {
                    counted.fetch_add(1, Ordering::Relaxed);
                    Ok::<_, Infallible>(part)
                }))
            }
        };
        let parts = async || {
            let first = futures::stream::iter([Ok::<_, Infallible>("data: 1\n\n".to_owned())]);
            Body::from_stream(first.chain(futures::stream::pending()))
        };
        let router =
            Router::new().route("/", get(async || "all")).route("/endless", get(endless)).route("/parts", get(parts));
        let (client, server) = duplex(4096);
        let end = CancellationToken::new();
        let ending = end.clone();
        let serving = tokio::spawn(async move { serve(server, router, patience, &ending).await });
        (client, serving, end, sent)
    }

    async fn status(text: &str) -> Option<u16> {
        let (mut client, serving, ..) = connected(Patience::default());
        // One that is refused early is not read to its end.
        let _ = client.write_all(text.as_bytes()).await;
        let mut response = String::new();
        client.read_to_string(&mut response).await.expect("readable");
        let _ = serving.await.expect("it ends");
        response.split(' ').nth(1).and_then(|status| status.parse().ok())
    }

    #[tokio::test]
    async fn what_is_no_request_and_what_is_too_large_is_refused() {
        let large = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(HEAD));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(HEADERS + 1));
        for (text, expected) in [
            ("GET / HTTP/1.1\r\nHost: h\r\n\r\n", Some(200)),
            ("\u{16}\u{3}\u{1}\r\n\r\n", Some(400)),
            ("GET /\u{7f} HTTP/1.1\r\n\r\n", Some(400)),
            (large.as_str(), Some(431)),
            (many.as_str(), Some(431)),
        ] {
            assert_eq!(status(text).await, expected, "{text:.40}");
        }
    }

    #[tokio::test]
    async fn a_client_that_sends_no_request_is_left() {
        for part in ["", "GET / HTTP/1.1\r\nX:"] {
            let (mut client, serving, ..) = connected(SHORT);
            client.write_all(part.as_bytes()).await.expect("sent");
            let begin = Instant::now();
            assert!(serving.await.expect("it ends").is_err());
            assert!(begin.elapsed() >= SHORT.arrival, "{:?}", begin.elapsed());
        }
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_is_left_and_holds_little() {
        let (mut client, serving, _, sent) = connected(SHORT);
        client.write_all(b"GET /endless HTTP/1.1\r\n\r\n").await.expect("sent");
        let begin = Instant::now();
        assert!(serving.await.expect("it ends").is_err());
        assert!(begin.elapsed() >= SHORT.departure, "{:?}", begin.elapsed());
        let sent = sent.load(Ordering::Relaxed) * 1000;
        assert!(sent < 4 * BUFFER, "{sent} bytes");
    }

    #[tokio::test]
    async fn parts_end_when_the_client_goes_away() {
        let (mut client, serving, ..) = connected(Patience::default());
        client.write_all(b"GET /parts HTTP/1.1\r\n\r\n").await.expect("sent");
        let mut text = Vec::new();
        while !text.windows(9).any(|part| part == b"data: 1\n\n") {
            client.read_buf(&mut text).await.expect("readable");
        }
        drop(client);
        let _ = serving.await.expect("it ends");
    }

    #[tokio::test]
    async fn a_connection_without_a_request_ends_with_the_server() {
        let (_client, serving, end, _) = connected(Patience::default());
        end.cancel();
        let _ = serving.await.expect("it ends");
    }
}
