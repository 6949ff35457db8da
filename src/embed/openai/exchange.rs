//! One attempt: the body of a request out, the verdict on its response back.

use std::{sync::atomic::Ordering, time::SystemTime};

use bytes::Bytes;

use super::{
    client_core::Core,
    keep::LARGE_ANSWER,
    response_verdict::{ResponseVerdict, Sent, judge, judge_wire},
    wire::{RequestBody, encode, largest_answer},
};
use crate::net::{Hints, Request};

impl Core {
    pub(super) fn body<'t>(&self, texts: impl Iterator<Item = &'t str>, bytes: usize, base64: bool) -> Bytes {
        let asking = RequestBody { model: &self.settings.model, dimensions: self.settings.asked_dimensions(), base64 };
        encode(&asking, texts, bytes + bytes / 8 + 4 * 2048)
    }

    /// One attempt on the wire.
    pub(super) async fn attempt(&self, body: Bytes, rows: usize, base64: bool) -> (ResponseVerdict, Hints) {
        let (verdict, hints) = self.exchange(body, rows, base64).await;
        (self.check_dimensions(verdict, rows), hints)
    }

    pub(super) async fn exchange(&self, body: Bytes, rows: usize, base64: bool) -> (ResponseVerdict, Hints) {
        let dimensions = self.shared.dimensions.get().copied();
        let sent = Sent { rows, dimensions, proven: self.shared.proven.load(Ordering::Relaxed), base64 };
        let request = Request {
            url: self.url.clone(),
            headers: self.headers.clone(),
            body,
            timeout: self.settings.timeout,
            max_body: largest_answer(rows, dimensions),
        };
        let _on_wire = self.on_wire.enter();
        match self.http.post(&request).await {
            Ok(answer) => {
                let hints = Hints::read(&answer.headers, SystemTime::now());
                if answer.body.len() < LARGE_ANSWER {
                    return (judge(&answer, &hints, sent), hints);
                }
                let judged = {
                    let hints = hints.clone();
                    self.shared.cores.run(move || Ok(judge(&answer, &hints, sent))).await
                };
                let verdict = judged.unwrap_or_else(|error| ResponseVerdict::Retry {
                    why: format!("the answer could not be read: {error}"),
                    suspect: true,
                    congested: false,
                    at_once: false,
                    billed: true,
                });
                (verdict, hints)
            }
            Err(error) => (judge_wire(&error), Hints::default()),
        }
    }
}
