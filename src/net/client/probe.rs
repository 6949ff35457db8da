//! Probes: a harmless request is sent to decide whether the endpoint is at fault or the items are.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    client::{Caller, Client, Halt},
    part::Part,
    protocol::{Answers as _, Protocol},
    verdict::ResponseVerdict,
};
use crate::{
    model::ServiceError,
    net::{Outcome, RequestKind},
};

impl<P: Protocol> Client<P> {
    /// Waits until the endpoint works again. The first waiter probes it with a harmless request: if work was sent instead, a
    /// few items that the server fails on would look like an outage.
    pub(super) async fn wait_until_up(&self, part: &Part<P::Items>, caller: &Caller) -> Result<(), Halt> {
        let _one_at_a_time = self.shared.probe.lock().await;
        while self.limiter.is_down() {
            // The limiter has recorded the outcome.
            let _ = self.probe(Some(part), caller).await?;
        }
        Ok(())
    }

    /// Whether the endpoint is able to serve a harmless request. Concurrent callers share one probe. `successes` is the number of
    /// successful requests before the failure in question.
    pub(super) async fn endpoint_works(
        &self,
        part: &Part<P::Items>,
        successes: u64,
        caller: &Caller,
    ) -> Result<bool, Halt> {
        let _one_at_a_time = self.shared.probe.lock().await;
        if self.limiter.successes() > successes {
            return Ok(true);
        }
        Ok(self.probe(Some(part), caller).await?.is_ok())
    }

    /// One attempt with a harmless request: its answers, or the endpoint's error. `part` is one that failed, if any.
    ///
    /// # Errors
    /// When no request can succeed.
    pub async fn probe(
        &self,
        part: Option<&Part<P::Items>>,
        caller: &Caller,
    ) -> Result<Result<P::Answers, String>, Halt> {
        let started = Instant::now();
        loop {
            let Some(probe) = self.protocol.probe(part) else {
                return Ok(Err("there is nothing to probe the endpoint with".to_owned()));
            };
            let acquired = self.try_acquire(RequestKind::Probe, probe.reserved, Duration::ZERO, caller).await?;
            let permit = acquired.map_err(|why| self.acquire_failed(why))?;
            let reservation = self.spending.reserve(probe.most, true).await.map_err(|error| self.fail(error))?;
            let (request, sent) = self.protocol.request(&probe.part, &mut P::Draft::default());
            let (verdict, hints) = self.attempt(&probe.part, &request, &sent).await;
            if let ResponseVerdict::Answers(answers) = &verdict {
                reservation.spent(self.protocol.settle_probe(answers, &probe));
            } else {
                reservation.end(verdict.may_be_billed());
            }
            return match verdict {
                ResponseVerdict::Answers(answers) => {
                    let tokens = answers.tokens().filter(|tokens| *tokens > 0);
                    permit.finish(Outcome::Success { tokens }, &hints);
                    Ok(match answers.fault(0) {
                        None => Ok(answers),
                        Some(fault) => Err(fault),
                    })
                }
                ResponseVerdict::RateLimited { rate_limit, why } => {
                    let own_wait = permit.finish(Outcome::RateLimited(rate_limit), &hints);
                    self.report_refusal(&why);
                    self.spending.usage().throttled();
                    if self.limiter.stalled(started) > self.settings.retry.deadline {
                        return Ok(Err(self.message(&why)));
                    }
                    if let Some(wait) = own_wait {
                        self.sleep(wait, caller).await?;
                    }
                    continue;
                }
                ResponseVerdict::Resend => {
                    permit.finish(Outcome::Rejected, &hints);
                    continue;
                }
                ResponseVerdict::Retry { why, congested, .. } => {
                    permit.finish(Outcome::Failed { congested, outage: true }, &hints);
                    Ok(Err(self.message(&why)))
                }
                ResponseVerdict::Inconsistent(why) | ResponseVerdict::OneAnswer(why) => {
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
                ResponseVerdict::Exhausted(why) | ResponseVerdict::Stop(why) => {
                    permit.finish(Outcome::Rejected, &hints);
                    Err(self.fail(self.stopped(&why)).into())
                }
            };
        }
    }
}
