//! The opened client of an API: from the values of some rows to their answers.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::Arc,
};

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value as Json;
use tokio_util::task::TaskTracker;

use super::{
    protocol::{ApiAnswers, Keys, Known, RestApi},
    settings::ApiSettings,
};
use crate::{
    cache::{CacheMode, Claimed, JsonCache},
    model::{Caps, Estimate, Fingerprint, ServiceError},
    net::{
        EndpointKey, EndpointLimits, EndpointRegistry, Http, ServiceContext,
        client::{AnswerSource, Awaited, Caller, Client, Halt, RequestOutcome, Round, Spending},
        prices::Price,
    },
};

/// The answer to a value, or why there is none.
pub type Answered = (Result<Json, Arc<str>>, AnswerSource);

/// A round, and what the cache has.
type Prepared = (Round<ApiAnswers>, HashMap<u32, Json>);

/// The opened client of an API.
#[derive(Clone)]
pub struct ApiClient {
    core: Arc<Client<RestApi>>,
    batch_size: usize,
}

impl fmt::Debug for ApiClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiClient").field("url", &self.core.url.as_str()).finish_non_exhaustive()
    }
}

/// The headers of every request.
///
/// # Errors
/// When a value is not valid in one.
pub fn headers(settings: &ApiSettings) -> Result<HeaderMap, ServiceError> {
    let mut headers = HeaderMap::new();
    headers.insert("accept", HeaderValue::from_static("application/json"));
    if settings.json.is_some() {
        headers.insert("content-type", HeaderValue::from_static("application/json"));
    }
    for (name, value) in &settings.headers {
        let invalid = || ServiceError::Refused(format!("`{name}` of `headers` is not a valid header"));
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid())?;
        let mut value = HeaderValue::from_str(value.expose()).map_err(|_| invalid())?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    if settings.auth.as_ref().is_some_and(|auth| !auth.add_to(&mut headers)) {
        return Err(ServiceError::Refused(
            "the secret of `auth` contains an invalid character; was it copied with a line break?".into(),
        ));
    }
    Ok(headers)
}

impl ApiClient {
    /// Builds the client; sends nothing. `identity` is a digest of everything that answers depend on besides their value.
    ///
    /// # Errors
    /// When the settings cannot work, or the cache cannot be opened.
    pub fn open(
        settings: &Arc<ApiSettings>,
        identity: Fingerprint,
        context: &ServiceContext,
        limiters: &EndpointRegistry,
    ) -> Result<Self, ServiceError> {
        let headers = headers(settings)?;
        let folder = context.root.join(&settings.cache.path);
        let address = settings.url.example();
        let url = url::Url::parse(&address).map_err(|error| ServiceError::Refused(format!("`url`: {error}")))?;
        let secrets = settings.secrets();
        let key = secrets
            .iter()
            .fold(Fingerprint::builder("credentials"), |builder, secret| builder.text(secret.expose()))
            .finish();
        let name = Fingerprint::builder("api endpoint")
            .fingerprint(identity)
            .fingerprint(key)
            .bytes(folder.as_os_str().as_encoded_bytes())
            .text(settings.cache.mode.as_str())
            .finish();
        let shared = context.clients.endpoint::<RestApi>(name, || {
            let cache = JsonCache::open(&folder, "call_api", identity, settings.cache.mode)
                .map_err(|error| ServiceError::Refused(error.to_string()))?;
            Ok(Known::new(cache))
        })?;
        let limits = &settings.client;
        let limiter = limiters.limiter(
            EndpointKey { endpoint: address, key: Some(key), model: String::new() },
            EndpointLimits {
                requests_per_minute: limits.rpm.map(|n| n as f64),
                concurrency: limits.concurrency,
                min_interval: settings.min_interval,
                first_pause: limits.retry.first_pause,
                ..EndpointLimits::default()
            },
        );
        let caps = Caps { cost_nano_usd: context.max_cost_nano_usd, requests: context.max_requests };
        let core = Client {
            http: Http::new(limits.timeout).map_err(|error| ServiceError::Refused(error.to_string()))?,
            settings: limits.clone(),
            careful_start: false,
            protocol: Arc::new(RestApi::new(Arc::clone(settings), headers, Arc::clone(&shared.known))),
            secrets,
            url,
            limiter,
            spending: Spending::new(Arc::clone(&context.usage), caps, Some(Price::per_million(0.0)), "")?,
            shared,
            notices: context.notices.clone(),
            stopping: context.stopping.clone(),
            requests: TaskTracker::new(),
        };
        Ok(Self { core: Arc::new(core), batch_size: settings.batch_size })
    }

    /// The cache's key of a value, from its JSON text.
    pub fn digest(&self, text: &str) -> Fingerprint {
        self.core.shared.known.cache.key(text)
    }

    /// The answer to each value.
    ///
    /// # Errors
    /// When the call cannot be finished.
    pub async fn ask(&self, keys: Keys) -> Result<Vec<Answered>, ServiceError> {
        self.core.check_open()?;
        let caller = Caller::new();
        let _stop_when_dropped = caller.wanted.clone().drop_guard();
        let keys = Arc::new(keys);
        let mut answers: Vec<Option<Answered>> = vec![None; keys.count()];
        let mut open: Vec<u32> = (0..u32::try_from(keys.count()).unwrap_or(u32::MAX)).collect();
        let mut looks = 0;
        while !open.is_empty() {
            let (this, all) = (self.clone(), Arc::clone(&keys));
            let (round, found) = tokio::task::spawn_blocking(move || this.prepare(&all, &open, looks))
                .await
                .map_err(|error| ServiceError::Failed(format!("a task of the client failed: {error}")))??;
            for (unit, answer) in found {
                answers[unit as usize] = Some((Ok(answer), AnswerSource::Elsewhere));
            }
            let arrived = |awaited: &Awaited<ApiAnswers>, outcome: &RequestOutcome<ApiAnswers>| {
                for (ours, theirs) in &awaited.units {
                    let answer = match outcome.find(*theirs) {
                        Some(Ok((found, position))) => Ok(found.at(position).clone()),
                        Some(Err(why)) => Err(why),
                        None => Err("failed: the response has nothing for this value".into()),
                    };
                    answers[*ours as usize] = Some((answer, awaited.from));
                }
            };
            looks = if round.only_looks() { looks + 1 } else { 0 };
            open = self.core.complete(&keys, round, &caller, arrived).await?;
        }
        let lost = || (Err("lost: no response was recorded".into()), AnswerSource::Elsewhere);
        Ok(answers.into_iter().map(|answer| answer.unwrap_or_else(lost)).collect())
    }

    /// Claims the values that no other call and no other process requests, reads what the cache has, and packs the rest into
    /// requests. `looks` is the number of rounds before in which only other processes were at work.
    fn prepare(&self, keys: &Keys, open: &[u32], looks: u32) -> Result<Prepared, ServiceError> {
        // Claimed before the cache is read, so that what another call stores meanwhile is found in one of the two.
        let wanted = open.iter().map(|unit| (keys.digests()[*unit as usize], *unit));
        let (mut claim, elsewhere) = self.core.shared.in_flight.claim(wanted);
        let units: Vec<u32> = claim.units().collect();
        let digests = |units: &[u32]| units.iter().map(|unit| keys.digests()[*unit as usize]).collect::<Vec<_>>();
        let cache = &self.core.shared.known.cache;
        let mut found = HashMap::new();
        cache.get_many(&digests(&units), &mut |slot, answer| {
            found.insert(units[slot], answer);
        })?;
        // Only what would be sent is worth asking other processes.
        let missing: Vec<u32> = units.into_iter().filter(|unit| !found.contains_key(unit)).collect();
        let (mut stored, mut other_processes) = (Vec::new(), Vec::new());
        for (unit, claimed) in missing.iter().zip(cache.claim(&digests(&missing), false)?) {
            match claimed {
                Claimed::Ours => {}
                Claimed::Stored => stored.push(*unit),
                Claimed::Elsewhere => other_processes.push(*unit),
            }
        }
        cache.get_many(&digests(&stored), &mut |slot, answer| {
            found.insert(stored[slot], answer);
        })?;
        // Damaged: requested again.
        let useless: Vec<u32> = stored.into_iter().filter(|unit| !found.contains_key(unit)).collect();
        let claimed = useless.iter().zip(cache.claim(&digests(&useless), true)?);
        other_processes.extend(claimed.filter(|(_, claimed)| *claimed == Claimed::Elsewhere).map(|(unit, _)| *unit));
        let theirs: HashSet<u32> = other_processes.iter().copied().collect();
        claim.keep(|unit| !found.contains_key(&unit) && !theirs.contains(&unit));
        let rest: Vec<u32> = claim.units().collect();
        let requests = rest.chunks(self.batch_size).map(Arc::from).collect();
        Ok((Round { claim, requests, elsewhere, other_processes, looks }, found))
    }

    /// Adds what [`ApiClient::ask`] would send for these values, each of so many rows, to an estimate.
    ///
    /// # Errors
    /// When the cache cannot be read.
    pub fn estimate(&self, keys: &Keys, rows: &[u64], estimate: &mut Estimate) -> Result<(), ServiceError> {
        let cache = &self.core.shared.known.cache;
        let cached = cache.contains_many(keys.digests())?;
        let stores = cache.mode() == CacheMode::ReadWrite;
        let (known, fraction) = estimate.seen.check(keys.digests());
        let exact = estimate.seen.is_exact();
        let (mut new, mut sent) = (0u64, HashSet::new());
        for (at, digest) in keys.digests().iter().enumerate() {
            let is_new = !exact || known[at] == Some(true);
            new += u64::from(is_new);
            if cached[at] {
                estimate.cached_rows += rows[at];
            } else if is_new || !stores {
                sent.insert(*digest);
            }
        }
        let scaled = |count: u64, fraction: f64| if exact { count } else { (count as f64 * fraction).ceil() as u64 };
        estimate.unique_rows += scaled(new, fraction);
        let fraction = if stores { fraction } else { 1.0 };
        estimate.requests += scaled(sent.len().div_ceil(self.batch_size) as u64, fraction);
        estimate.cost_nano_usd.get_or_insert(0);
        Ok(())
    }

    /// Checks that the API responds, with a value that had an answer.
    ///
    /// # Errors
    /// With what is wrong.
    pub async fn ping(&self) -> Result<(), ServiceError> {
        self.core.check_open()?;
        match self.core.probe(None, &Caller::new()).await {
            Ok(_) | Err(Halt::Abandoned) => Ok(()),
            Err(Halt::Error(error)) => Err(error),
        }
    }

    /// Waits until everything that was paid for is on the disk.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn flush(&self) -> Result<(), ServiceError> {
        let (learned, concurrency) = self.core.limiter.shape();
        let (refused, _) = self.core.shared.refused_sizes();
        let batch = learned.into_iter().chain(refused).min().map(|most| format!("batch_size: {most}"));
        let limits = concurrency.map(|most| format!("limits: {{concurrency: {most}}}"));
        let keys: Vec<String> = batch.into_iter().chain(limits).collect();
        self.core.report_adapted(if keys.is_empty() { String::new() } else { format!("{{{}}}", keys.join(", ")) });
        self.core.settle().await;
        let this = self.clone();
        tokio::task::spawn_blocking(move || Ok(this.core.shared.known.cache.flush()?))
            .await
            .map_err(|error| ServiceError::Failed(format!("a task of the client failed: {error}")))?
    }
}
