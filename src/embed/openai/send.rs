//! One request from the first attempt to the last: waiting, sending, judging, trying again, dividing.
//!
//! The only retry loop of the client. What is shared by all requests of a provider is the [`Core`].

use std::{
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures::future::{BoxFuture, join_all};
use reqwest::header::HeaderMap;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    endpoint::Endpoint,
    keep::LARGE_ANSWER,
    plan::EmbedPlan,
    settings::Settings,
    spend::Spending,
    too_long::TooLong,
    verdict::{Cause, Sent, Verdict, judge, judge_wire},
    wire::{RequestBody, Vectors, encode, largest_answer},
};
use crate::{
    embed::{EmbedError, INVALID_VECTOR, OnTooLong, TOO_LONG, tokens::Counter},
    net::{AcquireError, EndpointLimiter, Hints, Http, Outcome, Permit, Request, RequestKind},
};

/// Attempts of a request that may itself be the cause of its failure, before smaller ones are tried.
const SUSPECT_ATTEMPTS: u32 = 3;
/// A text that any working endpoint can embed.
const CANARY: &str = "flow";

/// What all requests of one client share.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) settings: Settings,
    pub(super) http: Http,
    pub(super) url: url::Url,
    pub(super) headers: HeaderMap,
    pub(super) limiter: Arc<EndpointLimiter>,
    pub(super) spending: Spending,
    pub(super) counter: Counter,
    pub(super) shared: Arc<Endpoint>,
    pub(super) on_wire: OnWire,
}

/// What came of one request, and of those it was divided into.
#[derive(Debug, Default)]
pub(super) struct RequestOutcome {
    pub(super) leaves: Vec<Leaf>,
}

/// Texts that shared one fate.
#[derive(Debug)]
pub(super) struct Leaf {
    /// Sorted.
    pub(super) units: Vec<u32>,
    pub(super) result: Result<Vectors, Arc<str>>,
}

impl RequestOutcome {
    /// The vector of a unit, or why it has none.
    pub(super) fn find(&self, unit: u32) -> Option<Result<&[f32], Arc<str>>> {
        self.leaves.iter().find_map(|leaf| {
            let row = leaf.units.binary_search(&unit).ok()?;
            Some(match &leaf.result {
                Ok(vectors) => vectors.row(row).map_err(|fault| fault.to_string().into()),
                Err(why) => Err(Arc::clone(why)),
            })
        })
    }
}

impl RequestOutcome {
    /// The vectors of a whole request, when none of them had to be asked for apart and `units` (ours, theirs) are all of
    /// them, in order.
    pub(super) fn column_of(&self, units: &[(u32, u32)]) -> Option<&Vectors> {
        let [Leaf { units: theirs, result: Ok(vectors) }] = &self.leaves[..] else { return None };
        let same = theirs.len() == units.len()
            && units.iter().zip(theirs).zip(0u32..).all(|((unit, there), n)| *unit == (n, n) && *there == n);
        same.then_some(vectors)
    }
}

/// Why a request ended without a fate for its texts.
#[derive(Debug, Clone)]
pub(super) enum Halt {
    /// The call cannot be finished.
    Error(EmbedError),
    /// Nobody waits for it any more.
    Abandoned,
}

impl From<EmbedError> for Halt {
    fn from(error: EmbedError) -> Self {
        Self::Error(error)
    }
}

/// The call that requests are made for.
#[derive(Debug)]
pub(super) struct Caller {
    /// Cancelled when nobody waits for the call any more.
    pub(super) wanted: CancellationToken,
}

impl Caller {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { wanted: CancellationToken::new() })
    }
}

/// Some texts of a call that travel together.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) plan: Arc<EmbedPlan>,
    pub(super) units: Vec<u32>,
    /// The length of all texts together.
    pub(super) bytes: usize,
    /// True for a piece of a request that failed for a reason that may lie in one of its texts.
    pub(super) suspect: bool,
    /// How often the server named the text to blame. One that always names the same place would be asked once a text.
    pub(super) named: u8,
    /// How often its texts came back with a vector that was none.
    pub(super) odd: u8,
}

/// How often a text is cut by what the server says before its row is given up.
const MOST_CUTS: u32 = 4;

/// How often a server is believed when it names the text to blame, before halves are tried.
const MOST_NAMED: u8 = 8;

impl Part {
    /// All the texts of a request.
    pub(super) fn new(plan: &Arc<EmbedPlan>, units: Vec<u32>) -> Self {
        let bytes = units.iter().map(|unit| plan.unit(*unit).len()).sum();
        Self { plan: Arc::clone(plan), units, bytes, suspect: false, named: 0, odd: 0 }
    }

    pub(super) fn with(&self, units: impl Into<Vec<u32>>, suspect: bool) -> Self {
        Self { suspect, named: self.named, odd: self.odd, ..Self::new(&self.plan, units.into()) }
    }

    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        self.units.iter().map(|unit| self.plan.unit(*unit))
    }
}

/// The attempts of one part so far.
pub(super) struct Trials {
    started: Instant,
    successes: u64,
    failures: u32,
    sent: u32,
    /// Time on the wire and in pauses of its own, not in queues.
    spent: Duration,
    at_once: bool,
    asked_probe: bool,
    /// How often the one text came back with a vector that was none.
    pub(super) odd: u8,
}

/// What the loop does after an attempt.
enum Next {
    Again,
    Done(Vec<Leaf>),
    Divide(Vec<Part>),
    /// Some of its texts have a vector; these are asked for again.
    Rest(Leaf, Vec<Part>),
    /// The one text goes again, cut by what the server said; the text is how it said it.
    Shortened(TooLong, String),
}

impl Core {
    /// Sends a part until every one of its texts has a vector or a reason.
    pub(super) fn send(
        self: Arc<Self>,
        part: Part,
        caller: Arc<Caller>,
    ) -> BoxFuture<'static, Result<Vec<Leaf>, Halt>> {
        Box::pin(async move {
            let (first, parts) = match self.fit(&part) {
                Some(parts) => (None, parts),
                None => match self.send_whole(&part, &caller).await? {
                    Next::Done(leaves) => return Ok(leaves),
                    Next::Divide(parts) => (None, parts),
                    Next::Rest(leaf, parts) => (Some(leaf), parts),
                    Next::Again | Next::Shortened(..) => return Err(Halt::Abandoned),
                },
            };
            let all = parts.into_iter().map(|part| Arc::clone(&self).send(part, Arc::clone(&caller)));
            // All of them to the end, whatever becomes of one: what is on the wire is paid for.
            let landed: Result<Vec<_>, _> = join_all(all).await.into_iter().collect();
            // What was asked for again comes before the answer that had no vector for it.
            Ok(landed?.into_iter().flatten().chain(first).collect())
        })
    }

    /// Divides a part that is larger than what the server has shown to take.
    fn fit(&self, part: &Part) -> Option<Vec<Part>> {
        let inputs = self.shared.most_inputs.load(Ordering::Relaxed);
        if part.units.len() > inputs {
            return Some(part.units.chunks(inputs).map(|units| part.with(units, part.suspect)).collect());
        }
        let too_large = part.units.len() > 1 && part.bytes > self.shared.most_bytes.load(Ordering::Relaxed);
        too_large.then(|| halves(part, part.suspect))
    }

    async fn send_whole(self: &Arc<Self>, part: &Part, caller: &Caller) -> Result<Next, Halt> {
        let mut trials = Trials {
            started: Instant::now(),
            successes: self.limiter.successes(),
            failures: 0,
            sent: 0,
            spent: Duration::ZERO,
            at_once: false,
            asked_probe: false,
            odd: 0,
        };
        let mut body: Option<(bool, Bytes)> = None;
        let mut shortened: Option<String> = None;
        let mut limit: Option<TooLong> = None;
        let mut cuts = 0;
        loop {
            let measured = self.measure(part, shortened.as_deref()).await;
            let permit = self.acquire(measured.reserved, &trials, caller).await?;
            if let Some(parts) = self.fit(part) {
                return Ok(Next::Divide(parts));
            }
            let _room = self.make_room(part.units.len())?;
            let reservation =
                self.spending.reserve(measured.most, trials.sent > 0 || part.suspect).await.map_err(|e| self.end(e))?;
            trials.sent += 1;
            trials.spent += permit.held();
            let base64 = self.shared.base64.load(Ordering::Relaxed);
            let bytes = match &body {
                Some((for_base64, bytes)) if *for_base64 == base64 => bytes.clone(),
                _ => {
                    let bytes = match &shortened {
                        Some(text) => self.body(std::iter::once(text.as_str()), text.len(), base64),
                        None => self.body(part.texts(), part.bytes, base64),
                    };
                    body.insert((base64, bytes)).1.clone()
                }
            };
            let sent = Instant::now();
            let (verdict, hints) = self.attempt(bytes, part.units.len(), base64).await;
            trials.spent += sent.elapsed();
            tracing::trace!(
                texts = part.units.len(),
                attempt = trials.sent,
                milliseconds = sent.elapsed().as_millis() as u64,
                ok = matches!(verdict, Verdict::Vectors(_)),
                "request answered"
            );
            let next = match verdict {
                Verdict::Vectors(vectors) => {
                    permit.finish(Outcome::Success { tokens: vectors.tokens.filter(|t| *t > 0) }, &hints);
                    let counted = self.settle(&vectors, part, shortened.as_deref(), measured.counted).await;
                    reservation.spent(counted);
                    let again = self.odd_again(part, &vectors, &mut trials);
                    let leaf = self.keep(part, vectors, shortened.is_some()).await?;
                    match again {
                        None => Next::Done(vec![leaf]),
                        Some(parts) if parts.is_empty() => Next::Again,
                        Some(parts) => Next::Rest(leaf, parts),
                    }
                }
                other => {
                    reservation.end(&other);
                    self.react(other, part, permit, &hints, &mut trials, caller).await?
                }
            };
            match next {
                Next::Again => {}
                Next::Shortened(too_long, why) => {
                    // A server that told what it allows once goes on meaning it.
                    let too_long = match limit {
                        Some(limit) if too_long.allowed.is_none() => TooLong { found: None, ..limit },
                        _ => too_long,
                    };
                    limit = Some(too_long);
                    let text = shortened.as_deref().unwrap_or(part.plan.unit(part.units[0]));
                    let cut = if cuts < MOST_CUTS { too_long.cut(text, self.counter, cuts) } else { None };
                    match cut {
                        Some(cut) => shortened = Some(cut.to_owned()),
                        None => return Ok(Next::Done(vec![failed(part, &self.say(&format!("{TOO_LONG}: {why}")))])),
                    }
                    cuts += 1;
                    body = None;
                }
                done => return Ok(done),
            }
        }
    }

    /// Waits for leave to send a part.
    async fn acquire(&self, tokens: u64, trials: &Trials, caller: &Caller) -> Result<Permit, Halt> {
        loop {
            match self.try_admit(RequestKind::Work, tokens, trials.spent, caller).await? {
                Ok(permit) => return Ok(permit),
                Err(AcquireError::Down) => self.wait_for_life(caller).await?,
                Err(why) => return Err(self.kept_out(why).into()),
            }
        }
    }

    async fn try_admit(
        &self,
        kind: RequestKind,
        tokens: u64,
        spent: Duration,
        caller: &Caller,
    ) -> Result<Result<Permit, AcquireError>, Halt> {
        self.alive()?;
        let patience = self.settings.retry.deadline.saturating_sub(spent);
        let admitted = tokio::select! {
            biased;
            () = caller.wanted.cancelled() => return Err(Halt::Abandoned),
            admitted = self.limiter.acquire(kind, tokens, patience, self.settings.max_outage) => admitted,
        };
        self.alive()?;
        Ok(admitted)
    }

    fn kept_out(&self, why: AcquireError) -> EmbedError {
        let what = match why {
            AcquireError::Closed(_) => ", longer than `retry.deadline` allows",
            AcquireError::Outage(_) => ", longer than `max_outage` allows",
            AcquireError::Down => "",
        };
        self.end(self.stopped(&format!("{why}{what}")))
    }

    /// Waits until the endpoint works again. Whoever waits longest asks it, with a harmless text: were parts of the work
    /// sent to find out, a few poisoned texts among them would pass for an outage that lasts for hours.
    async fn wait_for_life(&self, caller: &Caller) -> Result<(), Halt> {
        let _one_at_a_time = self.shared.probe.lock().await;
        while self.limiter.is_down() {
            // Whatever it says, the limiter has heard it.
            let _ = self.embed_probe(caller).await?;
        }
        Ok(())
    }

    /// One attempt on the wire.
    async fn attempt(&self, body: Bytes, rows: usize, base64: bool) -> (Verdict, Hints) {
        let (verdict, hints) = self.exchange(body, rows, base64).await;
        (self.held_against_others(verdict, rows), hints)
    }

    async fn exchange(&self, body: Bytes, rows: usize, base64: bool) -> (Verdict, Hints) {
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
                let verdict = judged.unwrap_or_else(|error| Verdict::Again {
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

    /// Everything but success.
    async fn react(
        &self,
        verdict: Verdict,
        part: &Part,
        permit: Permit,
        hints: &Hints,
        trials: &mut Trials,
        caller: &Caller,
    ) -> Result<Next, Halt> {
        match verdict {
            Verdict::Vectors(_) => Ok(Next::Again),
            Verdict::Wait { refusal, why } => {
                tracing::debug!(why = %self.say(&why), "too many requests; the request waits for the limit");
                permit.finish(Outcome::Refused(refusal), hints);
                self.spending.usage().throttled();
                let stalled = self.limiter.stalled(trials.started);
                if stalled > self.settings.retry.deadline {
                    let why = format!("nothing but \"too many requests\" for {:.0} s: {why}", stalled.as_secs_f64());
                    return Err(self.end(self.stopped(&why)).into());
                }
                Ok(Next::Again)
            }
            Verdict::Again { at_once: true, .. } if !trials.at_once => {
                trials.at_once = true;
                tracing::debug!("no answer on a kept connection; the request goes out again at once");
                drop(permit);
                Ok(Next::Again)
            }
            Verdict::Again { why, suspect, congested, .. } => {
                let outage = !suspect || self.limiter.successes() <= trials.successes;
                permit.finish(Outcome::Failed { congested, outage }, hints);
                trials.failures += 1;
                self.try_again(&why, suspect, part, hints, trials, caller).await
            }
            // The endpoint works, whatever it sends.
            Verdict::Odd(why) => {
                permit.finish(Outcome::Failed { congested: false, outage: false }, hints);
                if part.odd > 0 && part.units.len() == 1 {
                    return Ok(Next::Done(vec![failed(part, &self.say(&format!("{INVALID_VECTOR}: {why}")))]));
                }
                trials.failures += 1;
                self.try_again(&why, true, part, hints, trials, caller).await
            }
            Verdict::Divide { why, cause } => {
                permit.finish(Outcome::Rejected, hints);
                self.divide(&why, cause, part, trials, caller).await
            }
            Verdict::NoBase64 => {
                permit.finish(Outcome::Rejected, hints);
                self.shared.base64.store(false, Ordering::Relaxed);
                Ok(Next::Again)
            }
            Verdict::Refused(why) => {
                permit.finish(Outcome::Rejected, hints);
                Err(self.end(EmbedError::Refused(self.say(&why))).into())
            }
            Verdict::Exhausted(why) => {
                permit.finish(Outcome::Rejected, hints);
                let why = format!("the account cannot pay for more: {why}");
                Err(self.end(self.stopped(&why)).into())
            }
        }
    }

    /// After a failure that may pass: pause, or give up on this size.
    async fn try_again(
        &self,
        why: &str,
        suspect: bool,
        part: &Part,
        hints: &Hints,
        trials: &mut Trials,
        caller: &Caller,
    ) -> Result<Next, Halt> {
        let retry = self.settings.retry;
        let one = part.units.len() == 1;
        let same_size = match (suspect, part.suspect) {
            (false, _) => retry.max_attempts,
            (true, false) => SUSPECT_ATTEMPTS.min(retry.max_attempts),
            (true, true) if one => 2.min(retry.max_attempts),
            (true, true) => 1,
        };
        let exhausted = trials.failures >= retry.max_attempts || trials.spent > retry.deadline;
        if trials.failures >= same_size || exhausted {
            // Only a working endpoint proves that the fault lies in the texts.
            let mut works = (part.suspect && !one) || self.limiter.successes() > trials.successes;
            if !works && (exhausted || !trials.asked_probe) {
                trials.asked_probe = true;
                works = self.ask_probe(trials.successes, caller).await?;
            }
            if works {
                let why = format!("failed: {why} ({} attempts)", trials.sent);
                return Ok(if one {
                    Next::Done(vec![failed(part, &self.say(&why))])
                } else {
                    Next::Divide(halves(part, true))
                });
            }
            if exhausted {
                let why = format!("no answer worth having in {} attempts, the last: {why}", trials.sent);
                return Err(self.end(self.stopped(&why)).into());
            }
        }
        let now = Instant::now();
        let pause =
            hints.retry_after.unwrap_or_else(|| self.limiter.jitter().backoff(trials.failures, retry.first_pause));
        let pause = pause.max(self.limiter.budget().withdraw(now));
        if pause > retry.deadline.saturating_sub(trials.spent) {
            let why =
                format!("{why}; the next attempt would be in {:.0} s, past `retry.deadline`", pause.as_secs_f64());
            return Err(self.end(self.stopped(&why)).into());
        }
        let seconds = pause.as_secs_f64();
        tracing::debug!(why = %self.say(why), attempts = trials.sent, seconds, "request failed; it is tried again");
        tokio::select! {
            biased;
            () = caller.wanted.cancelled() => return Err(Halt::Abandoned),
            () = tokio::time::sleep(pause) => {}
        }
        trials.spent += pause;
        Ok(Next::Again)
    }

    /// After a refusal that the same request will always get.
    async fn divide(
        &self,
        why: &str,
        cause: Cause,
        part: &Part,
        trials: &mut Trials,
        caller: &Caller,
    ) -> Result<Next, Halt> {
        let one = part.units.len() == 1;
        if cause == Cause::Unclear
            && !part.suspect
            && self.limiter.successes() == 0
            && !self.ask_probe(0, caller).await?
        {
            // Even a harmless text is refused: it is not the texts.
            return Err(self.end(EmbedError::Refused(self.say(why))).into());
        }
        Ok(match cause {
            Cause::TooLong(too_long) if one && self.settings.on_too_long == OnTooLong::Truncate => {
                Next::Shortened(too_long, why.to_owned())
            }
            Cause::TooLong(_) if one => Next::Done(vec![failed(part, &self.say(&format!("{TOO_LONG}: {why}")))]),
            _ if one => Next::Done(vec![failed(part, &self.say(&format!("rejected: {why}")))]),
            Cause::Size => {
                let lower = why.to_ascii_lowercase();
                if ["batch size", "inputs", "maximum allowed batch", "array too long"].iter().any(|w| lower.contains(w))
                {
                    self.shared.most_inputs.fetch_min(part.units.len().div_ceil(2), Ordering::Relaxed);
                } else if lower.starts_with("413") {
                    self.shared.most_bytes.fetch_min(part.bytes.div_ceil(2), Ordering::Relaxed);
                } else {
                    self.shared.scale.too_low();
                }
                Next::Divide(halves(part, part.suspect))
            }
            Cause::Row(Some(row)) | Cause::TooLong(TooLong { row: Some(row), .. })
                if trials.sent == 1 && !part.suspect && part.named < MOST_NAMED =>
            {
                let rest = [&part.units[..row], &part.units[row + 1..]].concat();
                let rest = Part { named: part.named + 1, ..part.with(rest, false) };
                Next::Divide(vec![part.with(vec![part.units[row]], true), rest])
            }
            Cause::Row(_) | Cause::TooLong(_) | Cause::Unclear => Next::Divide(halves(part, true)),
        })
    }

    /// Sends a harmless text, to learn whether it is the endpoint or the texts. Several requests that wonder at once
    /// ask once. `successes` is how many there were when the doubt began.
    async fn ask_probe(&self, successes: u64, caller: &Caller) -> Result<bool, Halt> {
        let _one_at_a_time = self.shared.probe.lock().await;
        if self.limiter.successes() > successes {
            return Ok(true);
        }
        Ok(self.embed_probe(caller).await?.is_ok())
    }

    /// One attempt with a harmless text: the length of its vector, or what the endpoint said.
    pub(super) async fn embed_probe(&self, caller: &Caller) -> Result<Result<usize, String>, Halt> {
        let started = Instant::now();
        loop {
            let admitted = self.try_admit(RequestKind::Probe, 2, Duration::ZERO, caller).await?;
            let permit = admitted.map_err(|why| self.kept_out(why))?;
            let reservation = self.spending.reserve(8, true).await.map_err(|error| self.end(error))?;
            let base64 = self.shared.base64.load(Ordering::Relaxed);
            let body = self.body(std::iter::once(CANARY), CANARY.len(), base64);
            let (verdict, hints) = self.attempt(body, 1, base64).await;
            if let Verdict::Vectors(vectors) = &verdict {
                reservation.spent(vectors.tokens.filter(|tokens| *tokens > 0).unwrap_or(1).min(8));
            } else {
                reservation.end(&verdict);
            }
            return match verdict {
                Verdict::Vectors(vectors) => {
                    let tokens = vectors.tokens.filter(|tokens| *tokens > 0);
                    permit.finish(Outcome::Success { tokens }, &hints);
                    Ok(match vectors.row(0) {
                        Ok(vector) => Ok(vector.len()),
                        Err(fault) => Err(fault.to_string()),
                    })
                }
                Verdict::Wait { refusal, why } => {
                    permit.finish(Outcome::Refused(refusal), &hints);
                    self.spending.usage().throttled();
                    if self.limiter.stalled(started) > self.settings.retry.deadline {
                        return Ok(Err(self.say(&why)));
                    }
                    continue;
                }
                Verdict::NoBase64 => {
                    permit.finish(Outcome::Rejected, &hints);
                    self.shared.base64.store(false, Ordering::Relaxed);
                    continue;
                }
                Verdict::Again { why, congested, .. } => {
                    permit.finish(Outcome::Failed { congested, outage: true }, &hints);
                    Ok(Err(self.say(&why)))
                }
                Verdict::Odd(why) => {
                    permit.finish(Outcome::Failed { congested: false, outage: false }, &hints);
                    Ok(Err(self.say(&why)))
                }
                Verdict::Divide { why, .. } => {
                    permit.finish(Outcome::Rejected, &hints);
                    Ok(Err(self.say(&why)))
                }
                Verdict::Refused(why) => {
                    permit.finish(Outcome::Rejected, &hints);
                    Err(self.end(EmbedError::Refused(self.say(&why))).into())
                }
                Verdict::Exhausted(why) => {
                    permit.finish(Outcome::Rejected, &hints);
                    Err(self.end(self.stopped(&why)).into())
                }
            };
        }
    }

    fn body<'t>(&self, texts: impl Iterator<Item = &'t str>, bytes: usize, base64: bool) -> Bytes {
        let asking = RequestBody { model: &self.settings.model, dimensions: self.settings.asked_dimensions(), base64 };
        encode(&asking, texts, bytes + bytes / 8 + 4 * 2048)
    }

    /// The first error that ends everything; later ones give way to it.
    pub(super) fn end(&self, error: EmbedError) -> EmbedError {
        self.shared.over.get_or_init(|| error).clone()
    }

    /// # Errors
    /// When an earlier answer has made all further requests pointless.
    pub(super) fn alive(&self) -> Result<(), EmbedError> {
        self.shared.over.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    fn stopped(&self, why: &str) -> EmbedError {
        EmbedError::Stopped(format!("{}; what is done is kept, run again later", self.say(why)))
    }

    /// A message with the host in front and no key in it.
    pub(super) fn say(&self, why: &str) -> String {
        let text = super::scrub::scrub(self.settings.api_key.as_ref(), why);
        let row_reason =
            ["rejected:", "failed:", "too_long:", "invalid_vector:"].iter().any(|word| text.starts_with(word));
        if row_reason { text } else { format!("{}: {text}", self.url.host_str().unwrap_or("embeddings")) }
    }
}

fn failed(part: &Part, why: &str) -> Leaf {
    Leaf { units: part.units.clone(), result: Err(why.into()) }
}

fn halves(part: &Part, suspect: bool) -> Vec<Part> {
    let (left, right) = part.units.split_at(part.units.len().div_ceil(2));
    [left, right].into_iter().filter(|half| !half.is_empty()).map(|half| part.with(half, suspect)).collect()
}

/// How many requests are on the wire, for those who must not leave before they have landed.
#[derive(Debug, Default)]
pub(super) struct OnWire {
    count: Mutex<usize>,
    landed: std::sync::Condvar,
}

impl OnWire {
    fn enter(&self) -> OnWireGuard<'_> {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        OnWireGuard(self)
    }

    /// Blocks until nothing is on the wire, but no longer than `patience`.
    pub(super) fn wait(&self, patience: Duration) {
        let count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        // A poisoned lock means a panic elsewhere, which has been reported there.
        drop(self.landed.wait_timeout_while(count, patience, |count| *count > 0));
    }
}

struct OnWireGuard<'w>(&'w OnWire);

impl Drop for OnWireGuard<'_> {
    fn drop(&mut self) {
        *self.0.count.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.landed.notify_all();
    }
}
