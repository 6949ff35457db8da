//! One attempt: sends a request, and judges its response.

use std::sync::Arc;

use tokio::time::Instant;
use tracing::{Instrument as _, Span, field::Empty};

use super::{
    client::Client,
    part::Part,
    protocol::Protocol,
    verdict::{ResponseVerdict, judge_failure},
};
use crate::net::{Hints, Request, WireError};

/// Responses and answers of at least this many bytes are decoded and stored on a thread for blocking work.
pub const LARGE_RESPONSE: usize = 1 << 20;

impl<P: Protocol> Client<P> {
    /// Sends one attempt, and judges its response.
    pub(super) async fn attempt(
        &self,
        part: &Part<P::Items>,
        request: &Request,
        sent: &P::Sent,
    ) -> (ResponseVerdict<P::Answers>, Hints) {
        let span = tracing::info_span!(
            "request",
            items = part.units.len(),
            http.request.method = %request.method,
            server.address = self.url.host_str().unwrap_or_default(),
            server.port = self.url.port_or_known_default().unwrap_or_default(),
            url.full = self.endpoint(),
            http.response.status_code = Empty,
            "error.type" = Empty,
            error = Empty,
        );
        let begun = Instant::now();
        self.shared.health.sent(begun);
        let exchange = self.exchange(part, request, sent).instrument(span.clone());
        let (verdict, hints, failure) = self.reporting(exchange).await;
        if let Some(failure) = &failure {
            let why = self.without_key(&failure.to_string());
            span.record("error.type", "no_response").record("error", why.as_str());
        }
        self.report_attempt(&verdict, begun, failure.as_ref());
        (verdict, hints)
    }

    async fn exchange(
        &self,
        part: &Part<P::Items>,
        request: &Request,
        sent: &P::Sent,
    ) -> (ResponseVerdict<P::Answers>, Hints, Option<WireError>) {
        match self.http.send(request).await {
            Ok(response) => {
                let span = Span::current();
                span.record("http.response.status_code", response.status);
                if response.status >= 400 {
                    span.record("error.type", response.status.to_string())
                        .record("error", "the server refused the request");
                }
                let hints = self.protocol.hints(&response);
                if response.body.len() < LARGE_RESPONSE {
                    return (self.protocol.judge(part, &response, &hints, sent), hints, None);
                }
                let judged = {
                    let (protocol, part, hints, sent) =
                        (Arc::clone(&self.protocol), part.clone(), hints.clone(), sent.clone());
                    self.shared.permits.run(move || Ok(protocol.judge(&part, &response, &hints, &sent))).await
                };
                let verdict = judged.unwrap_or_else(|error| {
                    ResponseVerdict::retry_suspect(format!("the response could not be decoded: {error}"), true)
                });
                (verdict, hints, None)
            }
            Err(error) => (judge_failure(&error), Hints::default(), Some(error)),
        }
    }
}
