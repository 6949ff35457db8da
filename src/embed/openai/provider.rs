//! The opened provider: a call from its texts to its rows.

use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, atomic::Ordering},
};

use arrow::array::{Array, StringArray};
use async_trait::async_trait;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tokio_util::task::TaskTracker;

use super::{
    adapted::Adapted,
    assembly::Assembly,
    dtype::Dtype,
    pack::{self, pack},
    plan::{EmbedPlan, Rules},
    profile::{KeyHeader, Profile},
    protocol::{Embeddings, Known},
    settings::OpenAiSettings,
    wire::Vectors,
};
use crate::{
    cache::{CacheMode, Claimed},
    embed::{DEFAULT_DIMENSIONS, Embedded, EmbeddingCache, Provider},
    model::{Caps, Estimate, Fingerprint, Secret, ServiceError, is_blank},
    net::{
        EndpointKey, EndpointLimits, EndpointRegistry, Http, ServiceContext,
        client::{AnswerSource, Awaited, Caller, Client, Halt, RequestOutcome, Round, Spending},
        prices::Price,
        without_secrets,
    },
};

/// Calls with at most this many bytes of text are planned on the caller's thread.
const INLINE_BYTES: usize = 128 << 10;

/// An opened `openai` provider.
#[derive(Clone)]
pub struct OpenAiProvider {
    core: Arc<Client<Embeddings>>,
    limits: pack::Limits,
    rules: Rules,
    /// What is put before each text.
    prefix: Arc<str>,
    /// Whether base64 is requested at first.
    base64: bool,
    /// The type of numbers.
    dtype: Dtype,
}

impl fmt::Debug for OpenAiProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenAiProvider").field("url", &without_secrets(&self.core.url)).finish_non_exhaustive()
    }
}

/// What is known of a call before anything of a round is sent.
struct Begun {
    assembly: Assembly,
    round: Round<Vectors>,
}

impl OpenAiProvider {
    /// Builds the client; sends nothing. Providers opened with the same `limiters` share their limits.
    ///
    /// # Errors
    /// When the settings are invalid or the cache cannot be opened. Without a required key, only sending is refused.
    pub fn open(
        settings: OpenAiSettings,
        context: &ServiceContext,
        limiters: &EndpointRegistry,
    ) -> Result<Self, ServiceError> {
        let target = settings.target(&context.environment)?;
        let profile = &target.profile;
        let mut settings = settings;
        // Planning needs no key; only sending without one is refused.
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
        let base64 = profile.base64 && settings.dtype == Dtype::Float32 && !settings.request.wants_numbers();
        let (limits, rules) = (settings.limits(profile), settings.rules(profile));
        let prefix = settings.request.prefix.as_str().into();
        let dtype = settings.dtype;
        let source = settings.source(&target);
        let folder = context.root.join(&settings.cache.path);
        let cache_mode = settings.cache_mode();
        let key = credentials(&settings);
        let name = Fingerprint::builder("endpoint")
            .fingerprint(source)
            .text(target.url.as_str())
            .bytes(key.as_ref().map_or(&[], |key| key.as_bytes()))
            .text(settings.organization.as_deref().unwrap_or_default())
            .text(settings.project.as_deref().unwrap_or_default())
            .text(settings.on_too_long.as_str())
            .bytes(folder.as_os_str().as_encoded_bytes())
            .text(cache_mode.as_str())
            .finish();
        let shared = context.clients.endpoint::<Embeddings>(name, || {
            let cache = EmbeddingCache::open(&folder, source, cache_mode)
                .map_err(|error| ServiceError::Refused(error.to_string()))?;
            Ok(Known::new(cache, settings.known_dimensions(profile), base64))
        })?;
        if let Some(refused) = keyless {
            // Later clients of this endpoint have no key either: it is part of the name.
            shared.fatal_error.get_or_init(|| refused);
        }
        let limiter = limiters.limiter(
            EndpointKey { endpoint: target.url.to_string(), key, model: settings.model.clone() },
            EndpointLimits {
                requests_per_minute: settings.client.rpm.map(|n| n as f64),
                tokens_per_minute: settings.client.tpm.map(|n| n as f64),
                concurrency: settings.client.concurrency,
                burst: profile.burst,
                may_exceed: profile.may_exceed,
                first_pause: settings.client.retry.first_pause,
                min_interval: settings.client.min_interval,
                share: 1.0,
            },
        );
        let secrets: Vec<Secret> =
            settings.api_key.iter().chain(settings.request.headers.iter().map(|(_, value)| value)).cloned().collect();
        let core = Client {
            http: Http::new(settings.client.timeout).map_err(|error| ServiceError::Refused(error.to_string()))?,
            settings: settings.client.clone(),
            // Who writes a size knows the server.
            careful_start: profile.careful_start && settings.max_inputs.is_none(),
            protocol: Arc::new(Embeddings::new(
                settings,
                target.url.clone(),
                headers,
                secrets.clone(),
                Arc::clone(&shared.known),
            )),
            secrets,
            url: target.url,
            limiter,
            spending,
            shared,
            notices: context.notices.clone(),
            stopping: context.stopping.clone(),
            requests: TaskTracker::new(),
        };
        Ok(Self { core: Arc::new(core), limits, rules, prefix, base64, dtype })
    }

    /// What was adapted to the endpoint so far.
    pub fn adapted(&self) -> Adapted {
        Adapted::of(&self.core, self.base64)
    }

    fn plan(&self, texts: &StringArray) -> EmbedPlan {
        let prefixed = with_prefix(texts, &self.prefix);
        EmbedPlan::new(prefixed.as_ref().unwrap_or(texts), self.rules, |text| self.core.shared.known.cache.key(text))
    }

    /// The first round of a call.
    fn begin(&self, texts: &StringArray) -> Result<(Arc<EmbedPlan>, Begun), ServiceError> {
        let plan = Arc::new(self.plan(texts));
        let assembly = Assembly::new(Arc::clone(&plan), self.core.shared.known.dimensions.get().copied());
        let all: Vec<u32> = (0..u32::try_from(plan.units()).unwrap_or(u32::MAX)).collect();
        let begun = self.prepare(assembly, &plan, (&all, 0))?;
        Ok((plan, begun))
    }

    /// Claims the texts that no other call requests, reads what the cache has, and packs the rest into requests.
    /// `looks` is the number of rounds before in which only other processes were at work.
    fn prepare(
        &self,
        mut assembly: Assembly,
        plan: &EmbedPlan,
        (open, looks): (&[u32], u32),
    ) -> Result<Begun, ServiceError> {
        // Claimed before the cache is read, so that what another call stores meanwhile is found in one of the two.
        let wanted = open.iter().map(|unit| (plan.key(*unit), *unit));
        let (mut claim, elsewhere) = self.core.shared.in_flight.claim(wanted);
        let units: Vec<u32> = claim.units().collect();
        let mut found = HashSet::new();
        self.look_up(&mut assembly, plan, &units, &mut found)?;
        // Only what would be paid for is worth asking other processes.
        let missing: Vec<u32> = units.iter().copied().filter(|unit| !found.contains(unit)).collect();
        let keys: Vec<Fingerprint> = missing.iter().map(|unit| plan.key(*unit)).collect();
        let cache = &self.core.shared.known.cache;
        let claimed = cache.claim(&keys, false)?;
        let which = |wanted| {
            let claimed = missing.iter().zip(&claimed).filter(move |(_, claimed)| **claimed == wanted);
            claimed.map(|(unit, _)| *unit).collect::<Vec<u32>>()
        };
        let stored = which(Claimed::Stored);
        self.look_up(&mut assembly, plan, &stored, &mut found)?;
        let mut other_processes = which(Claimed::Elsewhere);
        // Damaged, or of another length: requested again.
        let useless: Vec<u32> = stored.into_iter().filter(|unit| !found.contains(unit)).collect();
        let keys: Vec<Fingerprint> = useless.iter().map(|unit| plan.key(*unit)).collect();
        let claimed = useless.iter().zip(cache.claim(&keys, true)?);
        other_processes.extend(claimed.filter(|(_, claimed)| *claimed == Claimed::Elsewhere).map(|(unit, _)| *unit));
        tracing::debug!(texts = units.len(), found = found.len(), elsewhere = other_processes.len(), "cache looked up");
        if !found.is_empty() || !other_processes.is_empty() {
            let theirs: HashSet<u32> = other_processes.iter().copied().collect();
            claim.keep(|unit| !found.contains(&unit) && !theirs.contains(&unit));
        }
        let units: Vec<u32> = claim.units().collect();
        let requests = pack(units.iter().map(|unit| plan.unit(*unit)), self.limits, self.rules.counter);
        let requests = requests.into_iter().map(|range| Arc::from(&units[range])).collect();
        Ok(Begun { assembly, round: Round { claim, requests, elsewhere, other_processes, looks } })
    }

    /// Fills in the vectors that the cache has of some units.
    fn look_up(
        &self,
        assembly: &mut Assembly,
        plan: &EmbedPlan,
        units: &[u32],
        found: &mut HashSet<u32>,
    ) -> Result<(), ServiceError> {
        let keys: Vec<Fingerprint> = units.iter().map(|unit| plan.key(*unit)).collect();
        let mut saved = 0;
        let length = self.core.shared.known.dimensions.get().copied();
        let count = |text: &str| self.rules.counter.count(text);
        self.core.shared.known.cache.get_many(&keys, &mut |slot, vector| {
            // A vector of another length was stored before the server changed its dimensions.
            if length.is_none_or(|length| length == vector.len()) {
                let unit = units[slot];
                saved += plan.unit(unit).len() as u64;
                assembly.fill(unit, vector, AnswerSource::Elsewhere, count);
                found.insert(unit);
            }
        })?;
        if saved > 0 {
            self.core.spending.saved(saved.div_ceil(4));
        }
        Ok(())
    }
}

#[async_trait]
impl Provider for OpenAiProvider {
    async fn embed(&self, texts: &StringArray) -> Result<Embedded, ServiceError> {
        self.core.check_open()?;
        let caller = Caller::new();
        let _stop_when_dropped = caller.wanted.clone().drop_guard();
        // Without a cache, moving a few texts to another thread would take longer than planning.
        let inline =
            self.core.shared.known.cache.mode() == CacheMode::Off && texts.get_buffer_memory_size() <= INLINE_BYTES;
        let (plan, mut begun) = if inline {
            self.begin(texts)?
        } else {
            let texts = texts.clone();
            self.blocking(move |this| this.begin(&texts)).await?
        };
        let mut assembly = loop {
            let Begun { mut assembly, round } = begun;
            let fill = |awaited: &Awaited<Vectors>, outcome: &RequestOutcome<Vectors>| {
                self.fill(&mut assembly, awaited, outcome);
            };
            let looks = if round.only_looks() { round.looks + 1 } else { 0 };
            let lost = self.core.complete(&plan, round, &caller, fill).await?;
            if lost.is_empty() {
                break assembly;
            }
            let plan = Arc::clone(&plan);
            begun = self.blocking(move |this| this.prepare(assembly, &plan, (&lost, looks))).await?;
        };
        if assembly.dimensions().is_none() && plan.len() > 0 {
            // The column needs a length even if no row has a vector.
            let length = match self.core.shared.known.dimensions.get() {
                Some(length) => *length,
                None => match self.core.probe(None, &caller).await {
                    Ok(vectors) => vectors.map_err(ServiceError::Stopped)?.dimensions(),
                    Err(Halt::Error(error)) => return Err(error),
                    Err(Halt::Abandoned) => 0,
                },
            };
            assembly.expect_dimensions(length);
        }
        assembly.finish(self.dtype)
    }

    fn dimensions(&self) -> Option<usize> {
        self.core.shared.known.dimensions.get().copied()
    }

    fn bytes_per_row(&self) -> usize {
        let dimensions = self.core.shared.known.dimensions.get().copied().unwrap_or(DEFAULT_DIMENSIONS);
        // A response is dropped once it is decoded, and is larger than its vectors: 16 bytes for three numbers in base64, ten to
        // thirteen bytes per number in decimal. The rest covers the few that are being decoded, which are held twice.
        if self.core.shared.known.base64.load(Ordering::Relaxed) { dimensions * 8 } else { dimensions * 16 }
    }

    fn estimate(&self, texts: &StringArray, estimate: &mut Estimate) -> Result<(), ServiceError> {
        let plan = self.plan(texts);
        let keys: Vec<Fingerprint> =
            (0..u32::try_from(plan.units()).unwrap_or(u32::MAX)).map(|unit| plan.key(unit)).collect();
        let cached = self.core.shared.known.cache.contains_many(&keys)?;
        // Without a writable cache, a later call pays again for the texts of an earlier one.
        let stores = self.core.shared.known.cache.mode() == CacheMode::ReadWrite;
        let (known, fraction) = estimate.seen.check(&keys);
        // If only a sample of the texts seen so far is known, the same fraction of the others is new.
        let exact = estimate.seen.is_exact();
        let mut units = Vec::new();
        let mut requested = HashSet::new();
        let mut unknown_texts = HashSet::new();
        let mut new_texts = HashSet::new();
        for (((unit, key), cached), known) in (0u32..).zip(&keys).zip(&cached).zip(&known) {
            let new = if exact { *known == Some(true) } else { true };
            if new {
                new_texts.insert(plan.text_of(unit));
            }
            if !cached {
                unknown_texts.insert(plan.text_of(unit));
            }
            if !cached && (new || !stores) && requested.insert(*key) {
                units.push(unit);
            }
        }
        let scaled = |count: u64, fraction: f64| if exact { count } else { (count as f64 * fraction).ceil() as u64 };
        let all = (0..u32::try_from(plan.texts()).unwrap_or(u32::MAX)).filter(|text| plan.is_sent(*text));
        let rows = |text: u32| plan.rows_of(text).len() as u64;
        estimate.cached_rows += all.filter(|text| !unknown_texts.contains(text)).map(rows).sum::<u64>();
        estimate.unique_rows += scaled(new_texts.len() as u64, fraction);
        estimate.rows += plan.len() as u64;
        let fraction = if stores { fraction } else { 1.0 };
        let requests = pack(units.iter().map(|unit| plan.unit(*unit)), self.limits, self.rules.counter);
        estimate.requests += scaled(requests.len() as u64, fraction);
        let tokens: u64 = units.iter().map(|unit| self.rules.counter.count(plan.unit(*unit))).sum();
        let tokens = scaled(tokens, fraction);
        estimate.tokens += tokens;
        if let Some(price) = self.core.spending.price() {
            estimate.cost_nano_usd = Some(estimate.cost_nano_usd.unwrap_or(0) + price.nano_usd(tokens));
        }
        Ok(())
    }

    async fn ping(&self) -> Result<(), ServiceError> {
        self.core.check_open()?;
        match self.core.probe(None, &Caller::new()).await {
            Ok(Ok(_)) | Err(Halt::Abandoned) => Ok(()),
            Ok(Err(why)) => Err(ServiceError::Stopped(why)),
            Err(Halt::Error(error)) => Err(error),
        }
    }

    async fn flush(&self) -> Result<(), ServiceError> {
        self.core.report_adapted(self.adapted().settings());
        self.core.settle().await;
        self.blocking(|this| Ok(this.core.shared.known.cache.flush()?)).await
    }
}

impl OpenAiProvider {
    /// Runs blocking work on a thread for it.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(Self) -> Result<T, ServiceError> + Send + 'static,
    ) -> Result<T, ServiceError> {
        let this = self.clone();
        let span = tracing::Span::current();
        tokio::task::spawn_blocking(move || span.in_scope(|| work(this))).await?
    }

    /// Fills in the vectors of a request.
    fn fill(&self, assembly: &mut Assembly, awaited: &Awaited<Vectors>, outcome: &RequestOutcome<Vectors>) {
        if outcome.whole(&awaited.units).is_some_and(|vectors| assembly.adopt(vectors, awaited.from)) {
            return;
        }
        let weight = |text: &str| self.rules.counter.count(text);
        for (ours, theirs) in &awaited.units {
            match outcome.find(*theirs) {
                Some(Ok((vectors, row))) => match vectors.row(row) {
                    Ok(vector) => assembly.fill(*ours, vector, awaited.from, weight),
                    Err(fault) => assembly.fail(*ours, &fault.to_string().into()),
                },
                Some(Err(why)) => assembly.fail(*ours, &why),
                None => assembly.fail(*ours, &"failed: the response has nothing for this text".into()),
            }
        }
    }
}

/// A digest of everything that tells the server who asks: the key and the configured headers.
fn credentials(settings: &OpenAiSettings) -> Option<Fingerprint> {
    let key = settings.api_key.as_ref().map(|key| Fingerprint::of(key.expose()));
    if settings.request.headers.is_empty() {
        return key;
    }
    let builder = Fingerprint::builder("credentials").bytes(key.as_ref().map_or(&[], |key| key.as_bytes()));
    let headers = settings.request.headers.iter();
    Some(headers.fold(builder, |builder, (name, value)| builder.text(name).text(value.expose())).finish())
}

/// The texts with the configured prefix; those that are not sent stay as they are. `None` without a prefix.
fn with_prefix(texts: &StringArray, prefix: &str) -> Option<StringArray> {
    let prefixed = |text: &str| if is_blank(text) { text.to_owned() } else { format!("{prefix}{text}") };
    (!prefix.is_empty()).then(|| texts.iter().map(|text| text.map(prefixed)).collect())
}

/// The headers of every request.
///
/// # Errors
/// When a value is not valid in a header.
pub(super) fn headers(settings: &OpenAiSettings, profile: &Profile) -> Result<HeaderMap, ServiceError> {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    headers.insert("accept", HeaderValue::from_static("application/json"));
    if let Some(key) = &settings.api_key {
        let (name, value) = match profile.key_header {
            KeyHeader::Bearer => ("authorization", format!("Bearer {}", key.expose())),
            KeyHeader::ApiKey => ("api-key", key.expose().to_owned()),
            KeyHeader::Google => ("x-goog-api-key", key.expose().to_owned()),
        };
        let mut value = HeaderValue::from_str(&value)
            .ok()
            .filter(|_| !key.expose().contains(char::is_whitespace))
            .ok_or_else(|| {
                ServiceError::Refused(
                    "`api_key` contains white space or an invalid character; was it copied with a line break?".into(),
                )
            })?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    for (name, value) in [("openai-organization", &settings.organization), ("openai-project", &settings.project)] {
        if let Some(value) = value {
            let value = HeaderValue::from_str(value).map_err(|_| {
                ServiceError::Refused(format!("`{name}` contains a character that is not valid in a header"))
            })?;
            headers.insert(name, value);
        }
    }
    for (name, value) in &settings.request.headers {
        let invalid = || ServiceError::Refused(format!("`{name}` of `headers` is not a valid header"));
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid())?;
        let mut value = HeaderValue::from_str(value.expose()).map_err(|_| invalid())?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}
