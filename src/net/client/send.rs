//! One request from the first attempt to the last: waits for permits, sends, retries, divides.
//!
//! The only retry loop of the client.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures::{
    StreamExt,
    future::{BoxFuture, join_all},
    stream::FuturesUnordered,
};
use tokio::{sync::oneshot, time::Instant};

use super::{
    client::{Caller, Client, Halt},
    part::{Attempts, Items, Part, halves},
    protocol::{Answers as _, Protocol},
    request_outcome::PartOutcome,
    too_long::TOO_LONG,
    too_long_part::{Divided, MAX_NAMED},
    verdict::{Cause, ResponseVerdict},
};
use crate::{
    model::ServiceError,
    net::{AcquireError, Hints, Load, Outcome, Permit, RequestKind},
};

/// A request whose connection is cut or whose gateway gives up after this time had no response in time; before, the
/// connection or the gateway failed.
const WAITED: Duration = Duration::from_secs(1);
/// What follows an attempt.
enum Next<P: Protocol> {
    Retry,
    Done(Vec<PartOutcome<P::Answers>>),
    Divide(Vec<Part<P::Items>>),
    /// As [`Next::Divide`]; it is unknown whether one of its items or their number is the cause.
    Halve(Vec<Part<P::Items>>),
    /// The rest is sent when it is known what became of these.
    First(Vec<Part<P::Items>>, Part<P::Items>),
    /// Some of its items have an answer; these parts are requested again.
    Rest(PartOutcome<P::Answers>, Vec<Part<P::Items>>),
}

/// The outcome of a part, or why there is none.
type Sent<P> = Result<Vec<PartOutcome<<P as Protocol>::Answers>>, Halt>;

/// What became of the beginning of a part.
#[derive(Debug, PartialEq)]
enum Head {
    /// It is about to be sent.
    Sent,
    /// Nothing was sent: more fits into a request by now.
    TooSmall,
}

impl<P: Protocol> Client<P> {
    /// Sends a part until each of its items has an answer or an error: at once if it is not too large for the endpoint,
    /// otherwise in smaller ones.
    pub(super) fn send(self: &Arc<Self>, part: Part<P::Items>, caller: Arc<Caller>) -> BoxFuture<'static, Sent<P>> {
        let this = Arc::clone(self);
        Box::pin(async move {
            let (mut running, mut ended) = (FuturesUnordered::new(), Vec::new());
            let mut rest = Some(part);
            while let Some(part) = rest.take() {
                let (head, tail) = this.take_fitting(&part);
                let (started, mut sent) = oneshot::channel();
                let whole = tail.is_some().then(|| part.clone());
                running.push(Arc::clone(&this).send_one(head, whole, Arc::clone(&caller), started));
                rest = tail;
                // More is known about the endpoint when the rest can be sent: it is divided then.
                while rest.is_some() {
                    tokio::select! {
                        biased;
                        head = &mut sent => {
                            if head == Ok(Head::TooSmall) {
                                rest = Some(part);
                            }
                            break;
                        }
                        Some(outcomes) = running.next() => ended.push(outcomes),
                    }
                }
            }
            // All of them to the end, even if one fails: requests in flight are paid for.
            while let Some(outcomes) = running.next().await {
                ended.push(outcomes);
            }
            let ended: Result<Vec<_>, _> = ended.into_iter().collect();
            Ok(ended?.into_iter().flatten().collect())
        })
    }

    /// Sends a part that is not known to be too large; `whole` is what it is the beginning of. `started` is told when it is
    /// about to be sent.
    async fn send_one(
        self: Arc<Self>,
        part: Part<P::Items>,
        whole: Option<Part<P::Items>>,
        caller: Arc<Caller>,
        started: oneshot::Sender<Head>,
    ) -> Sent<P> {
        let next = self.send_whole(&part, whole.as_ref(), &caller, &mut Some(started)).await?;
        let (first, parts, unexplained) = match next {
            Next::Done(outcomes) => return Ok(outcomes),
            Next::Divide(parts) => (None, parts, false),
            Next::Halve(parts) => (None, parts, true),
            Next::First(parts, rest) => {
                let first = self.send_all(parts, &caller).await?;
                let rest = self.send(rest, caller).await?;
                return Ok(first.into_iter().chain(rest).collect());
            }
            Next::Rest(outcome, parts) => (Some(outcome), parts, false),
            Next::Retry => return Err(Halt::Abandoned),
        };
        let completed = self.send_all(parts, &caller).await?;
        if unexplained && completed.iter().all(|outcome| outcome.result.is_ok()) {
            let passed = self.shared.most_passed.load(Ordering::Relaxed);
            if passed < part.units.len() {
                // None of its items is at fault: there were too many.
                self.shared.most_inputs.fetch_min(passed.max(1), Ordering::Relaxed);
            }
        }
        // Answers that were requested again precede the response that had none.
        Ok(completed.into_iter().chain(first).collect())
    }

    async fn send_all(self: &Arc<Self>, parts: Vec<Part<P::Items>>, caller: &Arc<Caller>) -> Sent<P> {
        let all = parts.into_iter().map(|part| self.send(part, Arc::clone(caller)));
        let completed: Result<Vec<_>, _> = join_all(all).await.into_iter().collect();
        Ok(completed?.into_iter().flatten().collect())
    }

    /// Takes off the beginning of a part so that it is not larger than the server's refusals and its speed have shown to be
    /// accepted.
    fn take_fitting(&self, part: &Part<P::Items>) -> (Part<P::Items>, Option<Part<P::Items>>) {
        let whole = Load::amount(part.units.len(), part.bytes);
        let load = self.limiter.largest_load(whole, self.settings.timeout, self.careful_start);
        let inputs = self.shared.most_inputs.load(Ordering::Relaxed);
        part.take(inputs, self.shared.most_bytes.load(Ordering::Relaxed), load)
    }

    async fn send_whole(
        &self,
        part: &Part<P::Items>,
        whole: Option<&Part<P::Items>>,
        caller: &Caller,
        started: &mut Option<oneshot::Sender<Head>>,
    ) -> Result<Next<P>, Halt> {
        let mut attempts = Attempts::new(self.limiter.successes());
        let mut draft = P::Draft::default();
        loop {
            let exact = self.spending.is_capped() || self.limiter.counts_tokens();
            let measured = self.protocol.measure(part, &draft, exact, &self.shared.scale).await;
            let permit = self.acquire(part, measured.reserved, &attempts, caller).await?;
            if self.take_fitting(part).1.is_some() {
                permit.release();
                return Ok(Next::Divide(vec![part.clone()]));
            }
            if let Some(parts) = self.without_too_long(part) {
                permit.release();
                return Ok(Next::Divide(parts));
            }
            let most = whole.map_or(0, |whole| self.take_fitting(whole).0.units.len());
            if most >= 2 * part.units.len()
                && let Some(started) = started.take()
            {
                permit.release();
                let _ = started.send(Head::TooSmall);
                return Ok(Next::Done(Vec::new()));
            }
            let permit = permit.with_load(Load::new(part.units.len(), part.bytes, self.settings.timeout));
            if let Some(started) = started.take() {
                let _ = started.send(Head::Sent);
            }
            let _disk = self.protocol.reserve(part).map_err(|error| self.fail(error))?;
            let reservation = self
                .spending
                .reserve(measured.most, attempts.sent > 0 || part.suspect)
                .await
                .map_err(|e| self.fail(e))?;
            attempts.sent += 1;
            attempts.spent += permit.held();
            let (request, as_sent) = self.protocol.request(part, &mut draft);
            let sent = Instant::now();
            let (verdict, hints) = self.attempt(part, &request, &as_sent).await;
            attempts.waited = sent.elapsed();
            attempts.spent += attempts.waited;
            tracing::trace!(
                items = part.units.len(),
                attempt = attempts.sent,
                milliseconds = sent.elapsed().as_millis() as u64,
                ok = matches!(verdict, ResponseVerdict::Answers(_)),
                "response received"
            );
            let next = match verdict {
                ResponseVerdict::Answers(mut answers) => {
                    permit.finish(Outcome::Success { tokens: answers.tokens().filter(|t| *t > 0) }, &hints);
                    self.shared.most_passed.fetch_max(part.units.len(), Ordering::Relaxed);
                    if !attempts.shortened {
                        self.shared.lengths.passed(part.units.iter().map(|unit| part.items.len(*unit)));
                    }
                    let tokens = self.protocol.settle(&answers, part, &draft, &measured, &self.shared.scale).await;
                    reservation.spent(tokens);
                    match self.protocol.continues(part, &mut answers, &mut draft) {
                        Ok(false) => {}
                        Ok(true) => {
                            attempts = attempts.of_next_page(self.limiter.successes());
                            continue;
                        }
                        Err(why) => return Ok(Next::Done(vec![failed(part, &self.message(&why))])),
                    }
                    let again = self.retry_invalid(part, &answers, &mut attempts);
                    let stored = self.protocol.store(part, answers, &draft, &self.shared.permits).await;
                    let answers = stored.map_err(|error| match error {
                        ServiceError::Failed(_) | ServiceError::Bug(_) => error,
                        lasting => self.fail(lasting),
                    })?;
                    let outcome = PartOutcome { units: part.units.clone(), result: Ok(answers) };
                    match again {
                        None => Next::Done(vec![outcome]),
                        Some(parts) if parts.is_empty() => Next::Retry,
                        Some(parts) => Next::Rest(outcome, parts),
                    }
                }
                other => {
                    reservation.end(other.may_be_billed());
                    self.react((other, &hints), part, &mut draft, permit, &mut attempts, caller).await?
                }
            };
            match next {
                Next::Retry => {}
                done => return Ok(done),
            }
        }
    }

    /// Waits for a permit to send a part.
    async fn acquire(
        &self,
        part: &Part<P::Items>,
        tokens: u64,
        attempts: &Attempts,
        caller: &Caller,
    ) -> Result<Permit, Halt> {
        loop {
            match self.try_acquire(RequestKind::Work, tokens, attempts.spent, caller).await? {
                Ok(permit) => return Ok(permit),
                Err(AcquireError::Down) => self.wait_until_up(part, caller).await?,
                Err(why) => return Err(self.acquire_failed(why).into()),
            }
        }
    }

    /// Handles every verdict but success, with what the response's headers say.
    async fn react(
        &self,
        (verdict, hints): (ResponseVerdict<P::Answers>, &Hints),
        part: &Part<P::Items>,
        draft: &mut P::Draft,
        permit: Permit,
        attempts: &mut Attempts,
        caller: &Caller,
    ) -> Result<Next<P>, Halt> {
        match verdict {
            ResponseVerdict::Answers(_) => Ok(Next::Retry),
            ResponseVerdict::RateLimited { rate_limit, why } => {
                tracing::debug!(why = %self.message(&why), "too many requests; the request waits for the rate limit");
                let own_wait = permit.finish(Outcome::RateLimited(rate_limit), hints);
                self.report_refusal(&why);
                self.spending.usage().throttled();
                let stalled = self.limiter.stalled(attempts.started);
                if stalled > self.settings.retry.deadline {
                    let why = format!("only \"too many requests\" for {:.0} s: {why}", stalled.as_secs_f64());
                    return Err(self.fail(self.stopped(&why)).into());
                }
                if let Some(wait) = own_wait {
                    self.sleep(wait, caller).await?;
                }
                Ok(Next::Retry)
            }
            ResponseVerdict::Retry { why, suspect: false, congested, at_once, billed: true }
                if (congested || at_once) && attempts.waited >= self.settings.timeout.min(WAITED) =>
            {
                let own = attempts.waited >= self.settings.timeout.mul_f64(0.95);
                permit.finish(Outcome::TimedOut { own }, hints);
                attempts.failures += 1;
                self.after_time_out(&why, part, attempts, caller).await
            }
            ResponseVerdict::Retry { at_once: true, .. } if !attempts.at_once => {
                attempts.at_once = true;
                tracing::debug!("no response on an idle connection; the request is sent again at once");
                drop(permit);
                Ok(Next::Retry)
            }
            ResponseVerdict::Retry { why, suspect, congested, .. } => {
                let outage = !suspect || self.limiter.successes() <= attempts.successes;
                permit.finish(Outcome::Failed { congested, outage }, hints);
                attempts.failures += 1;
                self.try_again(&why, suspect, part, hints, attempts, caller).await
            }
            // The endpoint works, whatever it responds.
            ResponseVerdict::Inconsistent(why) => {
                permit.finish(Outcome::Failed { congested: false, outage: false }, hints);
                if part.invalid > 0 && part.units.len() == 1 {
                    return Ok(Next::Done(vec![failed(part, &self.message(&format!("{}: {why}", P::TERMS.invalid)))]));
                }
                attempts.failures += 1;
                self.try_again(&why, true, part, hints, attempts, caller).await
            }
            ResponseVerdict::Divide { why, cause } => {
                permit.finish(Outcome::Rejected, hints);
                self.divide(&why, cause, part, draft, attempts, caller).await
            }
            ResponseVerdict::Resend => {
                permit.finish(Outcome::Rejected, hints);
                Ok(Next::Retry)
            }
            // The endpoint works. The second such response is no coincidence.
            ResponseVerdict::OneAnswer(why) => {
                permit.finish(Outcome::Failed { congested: false, outage: false }, hints);
                attempts.failures += 1;
                if attempts.failures > 1 {
                    self.send_one_by_one(&why);
                    return Ok(Next::Divide(vec![part.clone()]));
                }
                self.try_again(&why, true, part, hints, attempts, caller).await
            }
            ResponseVerdict::Refused(why) => {
                permit.finish(Outcome::Rejected, hints);
                Err(self.fail(ServiceError::Refused(self.message(&why))).into())
            }
            ResponseVerdict::Exhausted(why) => {
                permit.finish(Outcome::Rejected, hints);
                let why = format!("the quota of the account is used up: {why}");
                Err(self.fail(self.stopped(&why)).into())
            }
            ResponseVerdict::Stop(why) => {
                permit.finish(Outcome::Rejected, hints);
                Err(self.fail(self.stopped(&why)).into())
            }
        }
    }

    /// After a request had no response in time: waits until the server responds to a harmless request, because it may still be
    /// computing. By then the limiter has decided whether later requests are smaller.
    async fn after_time_out(
        &self,
        why: &str,
        part: &Part<P::Items>,
        attempts: &mut Attempts,
        caller: &Caller,
    ) -> Result<Next<P>, Halt> {
        let retry = self.settings.retry;
        tracing::debug!(why = %self.message(why), items = part.units.len(), "no response in time");
        while !self.endpoint_works(part, attempts.successes, caller).await? {
            if attempts.failures >= retry.max_attempts || attempts.started.elapsed() > retry.deadline {
                let why = format!("no usable response after {} attempts; last error: {why}", attempts.failures);
                return Err(self.fail(self.stopped(&why)).into());
            }
            attempts.failures += 1;
            let pause = self.limiter.jitter().backoff(attempts.failures, retry.first_pause);
            self.pause(pause, attempts, caller).await?;
        }
        attempts.successes = self.limiter.successes();
        let single = part.units.len() == 1;
        if single && attempts.sent >= P::SUSPECT_ATTEMPTS || attempts.sent >= retry.max_attempts {
            let why = format!("failed: {why} ({} attempts)", attempts.sent);
            return Ok(if single {
                Next::Done(vec![failed(part, &self.message(&why))])
            } else {
                Next::Divide(halves(part, true))
            });
        }
        Ok(Next::Retry)
    }

    async fn pause(&self, pause: Duration, attempts: &mut Attempts, caller: &Caller) -> Result<(), Halt> {
        self.sleep(pause, caller).await?;
        attempts.spent += pause;
        Ok(())
    }

    /// After a failure that may be transient: pauses, or divides, or fails.
    async fn try_again(
        &self,
        why: &str,
        suspect: bool,
        part: &Part<P::Items>,
        hints: &Hints,
        attempts: &mut Attempts,
        caller: &Caller,
    ) -> Result<Next<P>, Halt> {
        let retry = self.settings.retry;
        let single = part.units.len() == 1;
        let same_size = match (suspect, part.suspect) {
            (false, _) => retry.max_attempts,
            (true, false) => P::SUSPECT_ATTEMPTS.min(retry.max_attempts),
            (true, true) if single => 2.min(retry.max_attempts),
            (true, true) => 1,
        };
        let exhausted = attempts.failures >= retry.max_attempts || attempts.spent > retry.deadline;
        if attempts.failures >= same_size || exhausted {
            // Only if the endpoint works, the items are at fault.
            let mut works = (part.suspect && !single) || self.limiter.successes() > attempts.successes;
            if !works && (exhausted || !attempts.probed) {
                attempts.probed = true;
                works = self.endpoint_works(part, attempts.successes, caller).await?;
            }
            if works {
                let why = format!("failed: {why} ({} attempts)", attempts.sent);
                if single {
                    return Ok(Next::Done(vec![failed(part, &self.message(&why))]));
                }
                return Ok(Next::Halve(halves(part, true)));
            }
            if exhausted {
                let why = format!("no usable response after {} attempts; last error: {why}", attempts.sent);
                return Err(self.fail(self.stopped(&why)).into());
            }
        }
        let now = Instant::now();
        let pause =
            hints.retry_after.unwrap_or_else(|| self.limiter.jitter().backoff(attempts.failures, retry.first_pause));
        let pause = pause.max(self.limiter.budget().withdraw(now));
        if pause > retry.deadline.saturating_sub(attempts.spent) {
            let why =
                format!("{why}; the next attempt would be in {:.0} s, past `retry.deadline`", pause.as_secs_f64());
            return Err(self.fail(self.stopped(&why)).into());
        }
        let seconds = pause.as_secs_f64();
        tracing::debug!(why = %self.message(why), attempts = attempts.sent, seconds, "request failed; it is retried");
        self.pause(pause, attempts, caller).await?;
        Ok(Next::Retry)
    }

    /// After a refusal that is permanent for this request: divides it, or fails its row.
    async fn divide(
        &self,
        why: &str,
        cause: Cause,
        part: &Part<P::Items>,
        draft: &mut P::Draft,
        attempts: &mut Attempts,
        caller: &Caller,
    ) -> Result<Next<P>, Halt> {
        let single = part.units.len() == 1;
        if cause == Cause::Unclear
            && !part.suspect
            && self.limiter.successes() == 0
            && self.protocol.probe(Some(part)).is_some()
            && !self.endpoint_works(part, 0, caller).await?
        {
            // Even a harmless request is refused: the items are not at fault.
            return Err(self.fail(ServiceError::Refused(self.message(why))).into());
        }
        if single && matches!(cause, Cause::TooLong(_)) && !attempts.shortened {
            self.shared.lengths.failed(part.bytes);
        }
        Ok(match cause {
            Cause::TooLong(too_long) if single && self.protocol.shorten(part, draft, too_long) => {
                attempts.shortened = true;
                Next::Retry
            }
            Cause::TooLong(_) if single => Next::Done(vec![failed(part, &self.message(&format!("{TOO_LONG}: {why}")))]),
            _ if single => Next::Done(vec![failed(part, &self.message(&format!("rejected: {why}")))]),
            Cause::Size(limit) => {
                self.learn_limit(limit, part, why);
                // It exceeds what was just learned: it is divided by that.
                Next::Divide(vec![part.clone()])
            }
            Cause::TooLong(too_long) => match self.divide_too_long(too_long, part, (why, attempts.sent == 1)) {
                Divided::Parts(parts) => Next::Divide(parts),
                Divided::First(parts, rest) => Next::First(parts, rest),
            },
            Cause::Row(Some(row)) if attempts.sent == 1 && !part.suspect && part.named < MAX_NAMED => {
                let rest = [&part.units[..row], &part.units[row + 1..]].concat();
                let rest = Part { named: part.named + 1, ..part.with(rest, false) };
                Next::Divide(vec![part.with(vec![part.units[row]], true), rest])
            }
            Cause::Row(_) | Cause::Unclear => Next::Divide(halves(part, true)),
        })
    }
}

fn failed<I: Items, A>(part: &Part<I>, why: &str) -> PartOutcome<A> {
    PartOutcome { units: part.units.clone(), result: Err(why.into()) }
}
