//! Probes: a harmless text is sent to decide whether the endpoint is at fault or the texts are.

use std::{sync::atomic::Ordering, time::Duration};

use tokio::time::Instant;

use super::{
    client_core::{Caller, Core, Halt},
    response_verdict::ResponseVerdict,
};
use crate::{
    model::ServiceError,
    net::{Outcome, RequestKind},
};

/// A text that any working endpoint can embed.
const PROBE_TEXT: &str = "flow";

impl Core {
    /// Waits until the endpoint works again. The first waiter probes it with a harmless text: if work was sent instead, a few
    /// texts that the server fails on would look like an outage.
    pub(super) async fn wait_until_up(&self, caller: &Caller) -> Result<(), Halt> {
        let _one_at_a_time = self.shared.probe.lock().await;
        while self.limiter.is_down() {
            // The limiter has recorded the outcome.
            let _ = self.embed_probe(caller).await?;
        }
        Ok(())
    }

    /// Whether the endpoint is able to embed a harmless text. Concurrent callers share one probe. `successes` is the number of
    /// successful requests before the failure in question.
    pub(super) async fn endpoint_works(&self, successes: u64, caller: &Caller) -> Result<bool, Halt> {
        let _one_at_a_time = self.shared.probe.lock().await;
        if self.limiter.successes() > successes {
            return Ok(true);
        }
        Ok(self.embed_probe(caller).await?.is_ok())
    }

    /// One attempt with a harmless text: the length of its vector, or the endpoint's error.
    pub(super) async fn embed_probe(&self, caller: &Caller) -> Result<Result<usize, String>, Halt> {
        let started = Instant::now();
        loop {
            let acquired = self.try_acquire(RequestKind::Probe, 2, Duration::ZERO, caller).await?;
            let permit = acquired.map_err(|why| self.acquire_failed(why))?;
            let reservation = self.spending.reserve(8, true).await.map_err(|error| self.fail(error))?;
            let base64 = self.shared.base64.load(Ordering::Relaxed);
            let body = self.body(std::iter::once(PROBE_TEXT), PROBE_TEXT.len(), base64);
            let (verdict, hints) = self.attempt(body, 1, base64).await;
            if let ResponseVerdict::Vectors(vectors) = &verdict {
                reservation.spent(vectors.tokens.filter(|tokens| *tokens > 0).unwrap_or(1).min(8));
            } else {
                reservation.end(&verdict);
            }
            return match verdict {
                ResponseVerdict::Vectors(vectors) => {
                    let tokens = vectors.tokens.filter(|tokens| *tokens > 0);
                    permit.finish(Outcome::Success { tokens }, &hints);
                    Ok(match vectors.row(0) {
                        Ok(vector) => Ok(vector.len()),
                        Err(fault) => Err(fault.to_string()),
                    })
                }
                ResponseVerdict::RateLimited { rate_limit, why } => {
                    permit.finish(Outcome::RateLimited(rate_limit), &hints);
                    self.spending.usage().throttled();
                    if self.limiter.stalled(started) > self.settings.retry.deadline {
                        return Ok(Err(self.message(&why)));
                    }
                    continue;
                }
                ResponseVerdict::NoBase64 => {
                    permit.finish(Outcome::Rejected, &hints);
                    self.request_numbers();
                    continue;
                }
                ResponseVerdict::Retry { why, congested, .. } => {
                    permit.finish(Outcome::Failed { congested, outage: true }, &hints);
                    Ok(Err(self.message(&why)))
                }
                ResponseVerdict::InconsistentDimensions(why) | ResponseVerdict::OneVector(why) => {
                    permit.finish(Outcome::Failed { congested: false, outage: false }, &hints);
                    Ok(Err(self.message(&why)))
                }
                ResponseVerdict::Divide { why, .. } => {
                    permit.finish(Outcome::Rejected, &hints);
                    Ok(Err(self.message(&why)))
                }
                ResponseVerdict::Refused(why) => {
                    permit.finish(Outcome::Rejected, &hints);
                    Err(self.fail(ServiceError::Refused(self.message(&why))).into())
                }
                ResponseVerdict::Exhausted(why) => {
                    permit.finish(Outcome::Rejected, &hints);
                    Err(self.fail(self.stopped(&why)).into())
                }
            };
        }
    }
}
