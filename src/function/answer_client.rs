//! Asks a service for answers that are kept in a cache: from the items of some rows to an answer for each.
//!
//! Owns the steps of a call, whatever the protocol: claim what no other call and no other process requests, look up the cache,
//! request the rest, and put everything in order. `net` decides when and how often to send.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::Arc,
};

use serde_json::Value as Json;

use crate::{
    cache::{CacheMode, Claimed, JsonCache},
    model::{Estimate, Fingerprint, ServiceError},
    net::client::{AnswerSource, Awaited, Caller, Client, Halt, Protocol, RequestOutcome, Round},
};

/// A protocol whose answers are kept as JSON.
pub(super) trait KeptProtocol: Protocol {
    /// An answer.
    type Answer: Clone + Send + Sync + 'static;

    /// Where answers are kept.
    fn cache(known: &Self::Known) -> &JsonCache;

    /// The cache's key of each item.
    fn digests(items: &Self::Items) -> &[Fingerprint];

    /// Whether [`KeptProtocol::kept`] may refuse what is kept.
    fn judges_kept(&self) -> bool {
        false
    }

    /// A kept answer; `None` if it is no answer to these settings, and is to be requested.
    fn kept(&self, items: &Self::Items, unit: u32, value: Json) -> Option<Self::Answer>;

    /// The answer at a position of a response.
    fn answer(answers: &Self::Answers, position: usize) -> Self::Answer;
}

/// The answer to an item, or why there is none.
pub(super) type Answered<A> = (Result<A, Arc<str>>, AnswerSource);

/// A round, and what the cache has.
type Prepared<P> = (Round<<P as Protocol>::Answers>, HashMap<u32, <P as KeptProtocol>::Answer>);

/// The opened client of a service.
pub(super) struct AnswerClient<P: KeptProtocol> {
    pub(super) core: Arc<Client<P>>,
    /// Items in one request.
    pub(super) batch_size: usize,
}

impl<P: KeptProtocol> Clone for AnswerClient<P> {
    fn clone(&self) -> Self {
        Self { core: Arc::clone(&self.core), batch_size: self.batch_size }
    }
}

impl<P: KeptProtocol> fmt::Debug for AnswerClient<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnswerClient").field("url", &self.core.url.as_str()).finish_non_exhaustive()
    }
}

/// What a call would send.
#[derive(Debug)]
pub(super) struct ToSend {
    /// The items that would be requested.
    pub(super) units: Vec<u32>,
    /// Multiplies what is counted of them, if only a sample of all items is known.
    scale: Option<f64>,
}

impl ToSend {
    /// A count of what is sent, scaled to all items.
    pub(super) fn scaled(&self, count: u64) -> u64 {
        self.scale.map_or(count, |scale| (count as f64 * scale).ceil() as u64)
    }
}

impl<P: KeptProtocol> AnswerClient<P> {
    fn cache(&self) -> &JsonCache {
        P::cache(&self.core.shared.known)
    }

    /// The cache's key of an item, from its text.
    pub(super) fn digest(&self, text: &str) -> Fingerprint {
        self.cache().key(text)
    }

    /// The answer to each item.
    ///
    /// # Errors
    /// When the call cannot be finished.
    pub(super) async fn ask(&self, items: P::Items) -> Result<Vec<Answered<P::Answer>>, ServiceError> {
        self.core.check_open()?;
        let caller = Caller::new();
        let _stop_when_dropped = caller.wanted.clone().drop_guard();
        let items = Arc::new(items);
        let count = P::digests(&items).len();
        let mut answers: Vec<Option<Answered<P::Answer>>> = vec![None; count];
        let mut open: Vec<u32> = (0..u32::try_from(count).unwrap_or(u32::MAX)).collect();
        let mut looks = 0;
        while !open.is_empty() {
            let (this, all) = (self.clone(), Arc::clone(&items));
            let (round, found) = blocking(move || this.prepare(&all, &open, looks)).await?;
            for (unit, answer) in found {
                answers[unit as usize] = Some((Ok(answer), AnswerSource::Elsewhere));
            }
            let arrived = |awaited: &Awaited<P::Answers>, outcome: &RequestOutcome<P::Answers>| {
                for (ours, theirs) in &awaited.units {
                    let answer = match outcome.find(*theirs) {
                        Some(Ok((found, position))) => Ok(P::answer(found, position)),
                        Some(Err(why)) => Err(why),
                        None => Err("failed: the response has nothing for this value".into()),
                    };
                    answers[*ours as usize] = Some((answer, awaited.from));
                }
            };
            looks = if round.only_looks() { looks + 1 } else { 0 };
            open = self.core.complete(&items, round, &caller, arrived).await?;
        }
        let lost = || (Err("lost: no response was recorded".into()), AnswerSource::Elsewhere);
        Ok(answers.into_iter().map(|answer| answer.unwrap_or_else(lost)).collect())
    }

    /// Claims the items that no other call and no other process requests, reads what the cache has, and packs the rest into
    /// requests. `looks` is the number of rounds before in which only other processes were at work.
    fn prepare(&self, items: &P::Items, open: &[u32], looks: u32) -> Result<Prepared<P>, ServiceError> {
        let all = P::digests(items);
        // Claimed before the cache is read, so that what another call stores meanwhile is found in one of the two.
        let wanted = open.iter().map(|unit| (all[*unit as usize], *unit));
        let (mut claim, elsewhere) = self.core.shared.in_flight.claim(wanted);
        let units: Vec<u32> = claim.units().collect();
        let digests = |units: &[u32]| units.iter().map(|unit| all[*unit as usize]).collect::<Vec<_>>();
        let mut found = HashMap::new();
        let look_up = |units: &[u32], found: &mut HashMap<u32, P::Answer>| {
            self.cache().get_many(&digests(units), &mut |slot, value| {
                if let Some(answer) = self.core.protocol.kept(items, units[slot], value) {
                    found.insert(units[slot], answer);
                }
            })
        };
        look_up(&units, &mut found)?;
        // Only what would be sent is worth asking other processes.
        let missing: Vec<u32> = units.into_iter().filter(|unit| !found.contains_key(unit)).collect();
        let (mut stored, mut other_processes) = (Vec::new(), Vec::new());
        for (unit, claimed) in missing.iter().zip(self.cache().claim(&digests(&missing), false)?) {
            match claimed {
                Claimed::Ours => {}
                Claimed::Stored => stored.push(*unit),
                Claimed::Elsewhere => other_processes.push(*unit),
            }
        }
        look_up(&stored, &mut found)?;
        // Damaged, or no answer: requested again.
        let useless: Vec<u32> = stored.into_iter().filter(|unit| !found.contains_key(unit)).collect();
        let claimed = useless.iter().zip(self.cache().claim(&digests(&useless), true)?);
        other_processes.extend(claimed.filter(|(_, claimed)| *claimed == Claimed::Elsewhere).map(|(unit, _)| *unit));
        let theirs: HashSet<u32> = other_processes.iter().copied().collect();
        claim.keep(|unit| !found.contains_key(&unit) && !theirs.contains(&unit));
        let rest: Vec<u32> = claim.units().collect();
        let requests = rest.chunks(self.batch_size).map(Arc::from).collect();
        Ok((Round { claim, requests, elsewhere, other_processes, looks }, found))
    }

    /// Whether the cache has an answer to each item.
    fn are_kept(&self, items: &P::Items) -> Result<Vec<bool>, ServiceError> {
        let digests = P::digests(items);
        if !self.core.protocol.judges_kept() {
            return Ok(self.cache().contains_many(digests)?);
        }
        let mut kept = vec![false; digests.len()];
        self.cache().get_many(digests, &mut |slot, value| {
            let unit = u32::try_from(slot).unwrap_or(u32::MAX);
            kept[slot] = self.core.protocol.kept(items, unit, value).is_some();
        })?;
        Ok(kept)
    }

    /// Adds the rows and requests of [`AnswerClient::ask`] for these items, each of so many rows, to an estimate. Says which
    /// items would be requested.
    ///
    /// # Errors
    /// When the cache cannot be read.
    pub(super) fn estimate(
        &self,
        items: &P::Items,
        rows: &[u64],
        estimate: &mut Estimate,
    ) -> Result<ToSend, ServiceError> {
        let digests = P::digests(items);
        let cached = self.are_kept(items)?;
        let stores = self.cache().mode() == CacheMode::ReadWrite;
        let (known, fraction) = estimate.seen.check(digests);
        let exact = estimate.seen.is_exact();
        let (mut new, mut sent, mut units) = (0u64, HashSet::new(), Vec::new());
        for (at, digest) in digests.iter().enumerate() {
            let is_new = !exact || known[at] == Some(true);
            new += u64::from(is_new);
            if cached[at] {
                estimate.cached_rows += rows[at];
            } else if (is_new || !stores) && sent.insert(*digest) {
                units.push(u32::try_from(at).unwrap_or(u32::MAX));
            }
        }
        let all = ToSend { units: Vec::new(), scale: (!exact).then_some(fraction) };
        estimate.unique_rows += all.scaled(new);
        let to_send = ToSend { units, scale: all.scale.filter(|_| stores) };
        estimate.requests += to_send.scaled(to_send.units.len().div_ceil(self.batch_size) as u64);
        Ok(to_send)
    }

    /// Checks that the service responds.
    ///
    /// # Errors
    /// With what is wrong.
    pub(super) async fn ping(&self) -> Result<(), ServiceError> {
        self.core.check_open()?;
        match self.core.probe(None, &Caller::new()).await {
            Ok(_) | Err(Halt::Abandoned) => Ok(()),
            Err(Halt::Error(error)) => Err(error),
        }
    }

    /// Reports what was adapted to the server, and waits until everything that was paid for is on the disk.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) async fn flush(&self) -> Result<(), ServiceError> {
        let (learned, concurrency) = self.core.limiter.shape();
        let (refused, _) = self.core.shared.refused_sizes();
        let size = if self.batch_size > 1 { learned.into_iter().chain(refused).min() } else { None };
        let batch = size.map(|most| format!("batch_size: {most}"));
        let limits = concurrency.map(|most| format!("limits: {{concurrency: {most}}}"));
        let keys: Vec<String> = batch.into_iter().chain(limits).collect();
        self.core.report_adapted(if keys.is_empty() { String::new() } else { format!("{{{}}}", keys.join(", ")) });
        self.core.settle().await;
        let this = self.clone();
        blocking(move || Ok(this.cache().flush()?)).await
    }
}

/// Runs something on a thread for blocking work.
pub(super) async fn blocking<T: Send + 'static, E: From<ServiceError> + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    tokio::task::spawn_blocking(work).await.map_err(ServiceError::from)?
}
