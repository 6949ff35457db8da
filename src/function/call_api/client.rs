//! Opens the client of an API: its headers, its limits, its cache.

use std::sync::Arc;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tokio_util::task::TaskTracker;

use super::{
    protocol::{Known, RestApi},
    settings::ApiSettings,
};
use crate::{
    cache::JsonCache,
    function::answer_client::AnswerClient,
    model::{Caps, Fingerprint, ServiceError},
    net::{
        EndpointKey, EndpointLimits, EndpointRegistry, Http, ServiceContext,
        client::{Client, Spending},
    },
};

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

/// Builds the client of an API; sends nothing. `identity` is a digest of everything that answers depend on besides their
/// value.
///
/// # Errors
/// When the settings cannot work, or the cache cannot be opened.
pub fn open(
    settings: &Arc<ApiSettings>,
    identity: Fingerprint,
    context: &ServiceContext,
    limiters: &EndpointRegistry,
) -> Result<AnswerClient<RestApi>, ServiceError> {
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
            min_interval: limits.min_interval,
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
        spending: Spending::new(Arc::clone(&context.usage), caps, Some(settings.price), "")?,
        shared,
        notices: context.notices.clone(),
        stopping: context.stopping.clone(),
        requests: TaskTracker::new(),
    };
    Ok(AnswerClient { core: Arc::new(core), batch_size: settings.batch_size })
}
