//! The provider itself: from texts to rows.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    ops::ControlFlow,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use arrow::array::{Array, StringArray};
use async_trait::async_trait;
use futures::{StreamExt, stream::FuturesUnordered};
use reqwest::header::{HeaderMap, HeaderValue};
use tokio::sync::watch;
use tracing::Instrument as _;

use super::{
    assembly::{Assembly, VectorSource},
    endpoint::Endpoint,
    in_flight::{Claim, Outcome, Waiter},
    pack::{self, pack},
    plan::{EmbedPlan, Rules},
    profile::{KeyHeader, Profile},
    send::{Caller, Core, Halt, Part, RequestOutcome},
    settings::Settings,
    spend::Spending,
};
use crate::{
    embed::{
        EmbedError, Embedded, Estimate, Provider, ProviderContext, USUAL_DIMENSIONS,
        cache::{CacheMode, EmbeddingCache},
        prices::Price,
    },
    model::{Caps, Fingerprint},
    net::{EndpointKey, EndpointLimits, EndpointRegistry, Http, work_clock},
};

/// How long `flush` waits for requests that are still on the wire after everybody stopped waiting for them.
const LAST_LANDING: Duration = Duration::from_secs(30);

/// Bytes of text that are looked through on the caller's own thread.
const AT_ONCE: usize = 128 << 10;

/// An opened `openai` provider.
pub struct OpenAiProvider {
    core: Arc<Core>,
    limits: pack::Limits,
    rules: Rules,
}

impl fmt::Debug for OpenAiProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenAiProvider").field("url", &self.core.url.as_str()).finish_non_exhaustive()
    }
}

/// What one round of a call found out before anything was sent.
struct Round {
    assembly: Assembly,
    /// Requests of this call.
    requests: Vec<Arc<[u32]>>,
    claim: Claim,
    /// Units that other calls are asking for.
    elsewhere: Vec<(u32, Waiter)>,
}

/// Units of this call and the request that carries them; for each, its number there.
struct Awaited {
    units: Vec<(u32, u32)>,
    arrival: watch::Receiver<Outcome>,
    from: VectorSource,
}

impl OpenAiProvider {
    /// Builds the client; sends nothing. Providers opened with the same `limiters` share their limits.
    ///
    /// # Errors
    /// When the settings cannot work: no address, a cache that cannot be opened. Without a key where one is needed,
    /// only sending is refused.
    pub fn open(
        settings: Settings,
        context: &ProviderContext,
        limiters: &EndpointRegistry,
    ) -> Result<Self, EmbedError> {
        let target = settings.target(&context.environment)?;
        let profile = &target.profile;
        let mut settings = settings;
        // A plan needs no key; whoever wants to send without one is refused then.
        let keyless = match settings.key(profile, &context.environment) {
            Ok(key) => {
                settings.api_key = key;
                None
            }
            Err(refused) => Some(refused),
        };
        let headers = headers(&settings, profile)?;
        let price = settings.price.or_else(|| Price::of(&settings.model));
        let caps = Caps { cost_nano_usd: context.max_cost_nano_usd, requests: context.max_requests };
        let spending = Spending::new(Arc::clone(&context.usage), caps, price, &settings.model)?;
        let (limits, rules) = (settings.limits(profile), settings.rules(profile));
        let source = settings.source(&target);
        let folder = context.root.join(&settings.cache.path);
        let key = settings.api_key.as_ref().map(|key| Fingerprint::of(key.expose()));
        let name = Fingerprint::builder("endpoint")
            .fingerprint(source)
            .text(target.url.as_str())
            .bytes(key.as_ref().map_or(&[], |key| key.as_bytes()))
            .text(settings.organization.as_deref().unwrap_or_default())
            .text(settings.project.as_deref().unwrap_or_default())
            .text(settings.on_too_long.as_str())
            .bytes(folder.as_os_str().as_encoded_bytes())
            .text(settings.cache.mode.as_str())
            .finish();
        let shared = context.clients.endpoint(name, || {
            let cache = EmbeddingCache::open(&folder, source, settings.cache.mode)
                .map_err(|error| EmbedError::Refused(error.to_string()))?;
            Ok(Endpoint::new(cache, settings.known_dimensions(), profile.base64))
        })?;
        if let Some(refused) = keyless {
            // Whoever comes later has no key either: the key is part of the name.
            shared.over.get_or_init(|| refused);
        }
        let limiter = limiters.limiter(
            EndpointKey { endpoint: target.url.to_string(), key, model: settings.model.clone() },
            EndpointLimits {
                requests_per_minute: settings.rpm.map(|n| n as f64),
                tokens_per_minute: settings.tpm.map(|n| n as f64),
                concurrency: settings.concurrency,
                burst: profile.burst,
                may_exceed: profile.may_exceed,
                first_pause: settings.retry.first_pause,
            },
        );
        let core = Core {
            http: Http::new(settings.timeout).map_err(|error| EmbedError::Refused(error.to_string()))?,
            url: target.url,
            headers,
            limiter,
            spending,
            counter: rules.counter,
            shared,
            on_wire: super::send::OnWire::default(),
            settings,
        };
        Ok(Self { core: Arc::new(core), limits, rules })
    }

    fn plan(&self, texts: &StringArray) -> EmbedPlan {
        EmbedPlan::new(texts, self.rules, |text| self.core.shared.cache.key(text))
    }

    /// The first round of a call.
    fn begin(&self, texts: &StringArray) -> Result<(Arc<EmbedPlan>, Round), EmbedError> {
        let plan = Arc::new(self.plan(texts));
        let assembly = Assembly::new(Arc::clone(&plan), self.core.shared.dimensions.get().copied());
        let all: Vec<u32> = (0..u32::try_from(plan.units()).unwrap_or(u32::MAX)).collect();
        let round = self.prepare(assembly, &plan, &all)?;
        Ok((plan, round))
    }

    /// Claims what nobody asks for yet, takes what the cache has, and packs the rest.
    fn prepare(&self, mut assembly: Assembly, plan: &EmbedPlan, open: &[u32]) -> Result<Round, EmbedError> {
        // Claimed before the cache is asked: what another call puts there in between is then found in one or the other.
        let wanted = open.iter().map(|unit| (plan.key(*unit), *unit));
        let (mut claim, elsewhere) = self.core.shared.flights.claim(wanted);
        let units: Vec<u32> = claim.units().collect();
        let keys: Vec<Fingerprint> = units.iter().map(|unit| plan.key(*unit)).collect();
        let mut found = HashSet::new();
        let mut saved = 0;
        let length = self.core.shared.dimensions.get().copied();
        let count = |text: &str| self.rules.counter.count(text);
        self.core.shared.cache.get_many(&keys, &mut |slot, vector| {
            // A vector of another length is one that the server made before it changed its mind.
            if length.is_none_or(|length| length == vector.len()) {
                let unit = units[slot];
                saved += plan.unit(unit).len() as u64;
                assembly.fill(unit, vector, VectorSource::Elsewhere, count);
                found.insert(unit);
            }
        })?;
        tracing::debug!(texts = keys.len(), found = found.len(), "looked for in the cache");
        if !found.is_empty() {
            claim.keep(|unit| !found.contains(&unit));
            self.core.spending.saved(saved.div_ceil(4));
        }
        let units: Vec<u32> = claim.units().collect();
        let requests = pack(units.iter().map(|unit| plan.unit(*unit)), self.limits, self.rules.counter);
        let requests = requests.into_iter().map(|range| Arc::from(&units[range])).collect();
        Ok(Round { assembly, requests, claim, elsewhere })
    }

    /// Sends this call's requests, each a task of its own: what is on the wire lands, and is kept, even when nobody
    /// waits for it any more.
    fn depart(&self, plan: &Arc<EmbedPlan>, round: (Claim, Vec<Arc<[u32]>>), caller: &Arc<Caller>) -> Vec<Awaited> {
        let (claim, requests) = round;
        let departures = claim.depart(requests);
        let mut awaited = Vec::with_capacity(departures.len());
        for (landing, sender, units) in departures {
            let part = Part::new(plan, units.to_vec());
            awaited.push(Awaited {
                units: units.iter().map(|unit| (*unit, *unit)).collect(),
                arrival: sender.subscribe(),
                from: VectorSource::Request,
            });
            let (core, caller) = (Arc::clone(&self.core), Arc::clone(caller));
            let work = async move {
                let landed = match core.send(part, caller).await {
                    Ok(leaves) => Ok(RequestOutcome { leaves }),
                    Err(Halt::Error(error)) => Err(error),
                    Err(Halt::Abandoned) => return,
                };
                drop(landing);
                sender.send_replace(Some(Arc::new(landed)));
            };
            tokio::spawn(work.in_current_span());
        }
        awaited
    }
}

/// Finds out which requests of other calls carry our texts. Texts whose call ended without sending them go to `lost`.
async fn join(elsewhere: Vec<(u32, Waiter)>, lost: &mut Vec<u32>) -> Vec<Awaited> {
    let mut joined: HashMap<usize, Awaited> = HashMap::new();
    for (unit, mut seat) in elsewhere {
        match seat.departure().await {
            Some((arrival, carried)) => joined
                .entry(carried.as_ptr().addr())
                .or_insert_with(|| Awaited { units: Vec::new(), arrival, from: VectorSource::Elsewhere })
                .units
                .push((unit, seat.unit)),
            None => lost.push(unit),
        }
    }
    joined.into_values().collect()
}

/// Waits for one request and puts its vectors into the rows.
async fn land(mut awaited: Awaited) -> (Awaited, Option<Arc<Result<RequestOutcome, EmbedError>>>) {
    let landed = match awaited.arrival.wait_for(Option::is_some).await {
        Ok(arrival) => arrival.clone(),
        Err(_) => None,
    };
    (awaited, landed)
}

/// Awaits answers. That is no work of the partition: how long an answer may take is `timeout`'s business, and how long
/// the limiter and the pauses after failures may, the retry policy's.
async fn waiting<T>(something: impl Future<Output = T>) -> T {
    let _waiting = work_clock::waiting();
    something.await
}

#[async_trait]
impl Provider for OpenAiProvider {
    async fn embed(&self, texts: &StringArray) -> Result<Embedded, EmbedError> {
        self.core.alive()?;
        let caller = Caller::new();
        let _stop_when_dropped = caller.wanted.clone().drop_guard();
        // A few texts and no files to look into are done before another thread would have begun.
        let at_once = self.core.shared.cache.mode() == CacheMode::Off && texts.get_buffer_memory_size() <= AT_ONCE;
        let (plan, mut round) = if at_once {
            self.begin(texts)?
        } else {
            let texts = texts.clone();
            self.blocking(move |this| this.begin(&texts)).await?
        };
        let mut assembly = loop {
            let mut assembly = round.assembly;
            let mut lost = Vec::new();
            let mut awaited = self.depart(&plan, (round.claim, round.requests), &caller);
            awaited.extend(waiting(join(round.elsewhere, &mut lost)).await);
            let mut landing: FuturesUnordered<_> = awaited.into_iter().map(land).collect();
            while let Some((awaited, landed)) = waiting(landing.next()).await {
                match self.fill(&mut assembly, &awaited, landed.as_deref())? {
                    ControlFlow::Continue(()) => {}
                    ControlFlow::Break(units) => lost.extend(units),
                }
            }
            self.core.alive()?;
            if lost.is_empty() {
                break assembly;
            }
            let plan = Arc::clone(&plan);
            round = self.blocking(move |this| this.prepare(assembly, &plan, &lost)).await?;
        };
        if assembly.dimensions().is_none() && plan.len() > 0 {
            // The column needs a width even where no row has a vector.
            let length = match self.core.shared.dimensions.get() {
                Some(length) => *length,
                None => match self.core.embed_probe(&caller).await {
                    Ok(length) => length.map_err(EmbedError::Stopped)?,
                    Err(Halt::Error(error)) => return Err(error),
                    Err(Halt::Abandoned) => 0,
                },
            };
            assembly.expect_dimensions(length);
        }
        assembly.finish()
    }

    fn dimensions(&self) -> Option<usize> {
        self.core.shared.dimensions.get().copied()
    }

    fn bytes_a_row(&self) -> usize {
        let dimensions = self.core.shared.dimensions.get().copied().unwrap_or(USUAL_DIMENSIONS);
        // An answer is let go of when its vectors are out of it, and is the larger of the two: 16 bytes for three numbers,
        // in decimal ten to thirteen for each. What is on top is for the few that are being read, which are there twice.
        if self.core.shared.base64.load(Ordering::Relaxed) { dimensions * 8 } else { dimensions * 16 }
    }

    fn estimate(&self, texts: &StringArray, estimate: &mut Estimate) -> Result<(), EmbedError> {
        let plan = self.plan(texts);
        let keys: Vec<Fingerprint> =
            (0..u32::try_from(plan.units()).unwrap_or(u32::MAX)).map(|unit| plan.key(unit)).collect();
        let cached = self.core.shared.cache.contains_many(&keys)?;
        // Without a cache to write to, a later call pays again for what an earlier one had.
        let remembers = self.core.shared.cache.mode() == CacheMode::ReadWrite;
        let (told, share) = estimate.seen.tell(&keys);
        // Where the texts seen so far are known in part, a share of those nobody can tell of is new.
        let exact = estimate.seen.is_exact();
        let mut units = Vec::new();
        let mut asked = HashSet::new();
        let mut unknown_texts = HashSet::new();
        let mut new_texts = HashSet::new();
        for (((unit, key), cached), told) in (0u32..).zip(&keys).zip(&cached).zip(&told) {
            let new = if exact { *told == Some(true) } else { true };
            if new {
                new_texts.insert(plan.text_of(unit));
            }
            if !cached {
                unknown_texts.insert(plan.text_of(unit));
            }
            if !cached && (new || !remembers) && asked.insert(*key) {
                units.push(unit);
            }
        }
        let part = |count: u64, share: f64| if exact { count } else { (count as f64 * share).ceil() as u64 };
        let all = (0..u32::try_from(plan.texts()).unwrap_or(u32::MAX)).filter(|text| plan.is_sent(*text));
        let rows = |text: u32| plan.rows_of(text).len() as u64;
        estimate.cached_rows += all.filter(|text| !unknown_texts.contains(text)).map(rows).sum::<u64>();
        estimate.unique_rows += part(new_texts.len() as u64, share);
        estimate.rows += plan.len() as u64;
        let share = if remembers { share } else { 1.0 };
        let requests = pack(units.iter().map(|unit| plan.unit(*unit)), self.limits, self.rules.counter);
        estimate.requests += part(requests.len() as u64, share);
        let tokens: u64 = units.iter().map(|unit| self.rules.counter.count(plan.unit(*unit))).sum();
        let tokens = part(tokens, share);
        estimate.tokens += tokens;
        if let Some(price) = self.core.spending.price() {
            estimate.cost_nano_usd = Some(estimate.cost_nano_usd.unwrap_or(0) + price.nano_usd(tokens));
        }
        Ok(())
    }

    async fn ping(&self) -> Result<(), EmbedError> {
        self.core.alive()?;
        match self.core.embed_probe(&Caller::new()).await {
            Ok(Ok(_)) | Err(Halt::Abandoned) => Ok(()),
            Ok(Err(why)) => Err(EmbedError::Stopped(why)),
            Err(Halt::Error(error)) => Err(error),
        }
    }

    fn flush(&self) -> Result<(), EmbedError> {
        // Requests that nobody waits for any more are on their way still, and paid for. On a single thread waiting
        // would keep them from landing.
        let runtime = tokio::runtime::Handle::try_current().map(|handle| handle.runtime_flavor());
        if !matches!(runtime, Ok(tokio::runtime::RuntimeFlavor::CurrentThread)) {
            self.core.on_wire.wait(self.core.settings.timeout.min(LAST_LANDING));
        }
        Ok(self.core.shared.cache.flush()?)
    }
}

impl OpenAiProvider {
    /// Runs something that takes its time on a thread of its own.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(Self) -> Result<T, EmbedError> + Send + 'static,
    ) -> Result<T, EmbedError> {
        let this = Self { core: Arc::clone(&self.core), limits: self.limits, rules: self.rules };
        let span = tracing::Span::current();
        tokio::task::spawn_blocking(move || span.in_scope(|| work(this)))
            .await
            .map_err(|error| EmbedError::Failed(format!("a task of the embeddings client ended early: {error}")))?
    }

    /// Puts what has landed into the rows; the units to ask for again when it never did.
    fn fill(
        &self,
        assembly: &mut Assembly,
        awaited: &Awaited,
        landed: Option<&Result<RequestOutcome, EmbedError>>,
    ) -> Result<ControlFlow<Vec<u32>>, EmbedError> {
        let ours = || awaited.units.iter().map(|(ours, _)| *ours).collect();
        let landed = match landed {
            None => return Ok(ControlFlow::Break(ours())),
            Some(Err(error)) => return Err(error.clone()),
            Some(Ok(landed)) => landed,
        };
        if landed.column_of(&awaited.units).is_some_and(|vectors| assembly.adopt(vectors, awaited.from)) {
            return Ok(ControlFlow::Continue(()));
        }
        let weight = |text: &str| self.rules.counter.count(text);
        for (ours, theirs) in &awaited.units {
            match landed.find(*theirs) {
                Some(Ok(vector)) => assembly.fill(*ours, vector, awaited.from, weight),
                Some(Err(why)) => assembly.fail(*ours, &why),
                None => assembly.fail(*ours, &"failed: the answer held nothing for this text".into()),
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// The headers of every request.
///
/// # Errors
/// When a value cannot be sent in a header.
pub(super) fn headers(settings: &Settings, profile: &Profile) -> Result<HeaderMap, EmbedError> {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    headers.insert("accept", HeaderValue::from_static("application/json"));
    if let Some(key) = &settings.api_key {
        let (name, value) = match profile.key_header {
            KeyHeader::Bearer => ("authorization", format!("Bearer {}", key.expose())),
            KeyHeader::ApiKey => ("api-key", key.expose().to_owned()),
        };
        let mut value = HeaderValue::from_str(&value)
            .ok()
            .filter(|_| !key.expose().contains(char::is_whitespace))
            .ok_or_else(|| {
                EmbedError::Refused(
                    "`api_key` holds a blank or a character that no key has; was it copied with a line break?".into(),
                )
            })?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    for (name, value) in [("openai-organization", &settings.organization), ("openai-project", &settings.project)] {
        if let Some(value) = value {
            let value = HeaderValue::from_str(value)
                .map_err(|_| EmbedError::Refused(format!("`{name}` holds a character that cannot be sent")))?;
            headers.insert(name, value);
        }
    }
    Ok(headers)
}
