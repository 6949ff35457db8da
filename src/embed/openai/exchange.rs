//! One attempt: sends the body of a request, and judges its response.

use std::{sync::atomic::Ordering, time::SystemTime};

use bytes::Bytes;

use super::{
    caching::LARGE_RESPONSE,
    client_core::Core,
    response_verdict::{ResponseVerdict, Sent, judge, judge_failure},
    wire::{RequestBody, encode, max_response_bytes},
};
use crate::net::{Hints, Request, WireError};

impl Core {
    /// The body of a request with `bytes` bytes of texts.
    pub(super) fn body<'t>(&self, texts: impl Iterator<Item = &'t str>, bytes: usize, base64: bool) -> Bytes {
        let settings = &self.settings;
        let dimensions = settings.requested_dimensions();
        let request = RequestBody { model: &settings.model, dimensions, base64, fields: &settings.request };
        encode(&request, texts, bytes + bytes / 8 + 4 * 2048)
    }

    /// Sends one attempt, and judges its response.
    pub(super) async fn attempt(&self, body: Bytes, rows: usize, base64: bool) -> (ResponseVerdict, Hints) {
        let (verdict, hints, failure) = self.exchange(body, rows, base64).await;
        let verdict = self.check_dimensions(verdict, rows);
        self.report_attempt(&verdict, &hints, failure.as_ref());
        (verdict, hints)
    }

    async fn exchange(&self, body: Bytes, rows: usize, base64: bool) -> (ResponseVerdict, Hints, Option<WireError>) {
        let dimensions = self.shared.dimensions.get().copied();
        let sent = Sent { rows, dimensions, proven: self.shared.proven.load(Ordering::Relaxed), base64 };
        let request = Request {
            url: self.url.clone(),
            headers: self.headers.clone(),
            body,
            timeout: self.settings.timeout,
            max_body: max_response_bytes(rows, dimensions),
        };
        match self.http.post(&request).await {
            Ok(response) => {
                let hints = Hints::read(&response.headers, SystemTime::now());
                if response.body.len() < LARGE_RESPONSE {
                    return (judge(&response, &hints, sent, self.settings.api_key.as_ref()), hints, None);
                }
                let judged = {
                    let (hints, key) = (hints.clone(), self.settings.api_key.clone());
                    self.shared.permits.run(move || Ok(judge(&response, &hints, sent, key.as_ref()))).await
                };
                let verdict = judged.unwrap_or_else(|error| ResponseVerdict::Retry {
                    why: format!("the response could not be decoded: {error}"),
                    suspect: true,
                    congested: false,
                    at_once: false,
                    billed: true,
                });
                (verdict, hints, None)
            }
            Err(error) => (judge_failure(&error), Hints::default(), Some(error)),
        }
    }
}
