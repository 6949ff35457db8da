//! Opens the client of a language model: its address, its headers, its limits, its cache.

use std::sync::Arc;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use tokio_util::task::TaskTracker;
use url::Url;

use super::{
    protocol::{Known, LanguageModel},
    settings::{GenerateSettings, is_at},
};
use crate::{
    cache::JsonCache,
    function::answer_client::AnswerClient,
    model::{Caps, Fingerprint, Secret, ServiceError},
    net::{
        EndpointKey, EndpointLimits, EndpointRegistry, Http, ServiceContext,
        client::{Client, Spending},
        prices::Price,
    },
};

/// The version of Anthropic's API.
const ANTHROPIC_VERSION: &str = "2023-06-01";

/// The headers of every request.
///
/// # Errors
/// When a value is not valid in one.
pub fn headers(settings: &GenerateSettings, url: &Url, key: Option<&Secret>) -> Result<HeaderMap, ServiceError> {
    let mut headers = HeaderMap::new();
    headers.insert("accept", HeaderValue::from_static("application/json"));
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    let secret = |value: &str| {
        let mut value = HeaderValue::from_str(value.trim()).map_err(|_| {
            ServiceError::Refused("the API key contains an invalid character; was it copied with a line break?".into())
        })?;
        value.set_sensitive(true);
        Ok::<_, ServiceError>(value)
    };
    if settings.anthropic {
        headers.insert("anthropic-version", HeaderValue::from_static(ANTHROPIC_VERSION));
    }
    if let Some(key) = key {
        let at_azure = url.host_str().is_some_and(|host| is_at(host, "openai.azure.com"));
        match (settings.anthropic, at_azure) {
            (true, _) => headers.insert("x-api-key", secret(key.expose())?),
            (false, true) => headers.insert("api-key", secret(key.expose())?),
            (false, false) => headers.insert(AUTHORIZATION, secret(&format!("Bearer {}", key.expose().trim()))?),
        };
    }
    for (name, value) in &settings.headers {
        let invalid = || ServiceError::Refused(format!("`{name}` of `headers` is not a valid header"));
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid())?;
        let mut value = HeaderValue::from_str(value.expose()).map_err(|_| invalid())?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}

/// The price of the model's tokens, if it is known.
pub fn price(settings: &GenerateSettings) -> Option<Price> {
    settings.price.or_else(|| Price::of(&settings.model))
}

/// Builds the client; sends nothing. Without a required key, only sending is refused.
///
/// # Errors
/// When the settings cannot work, or the cache cannot be opened.
pub fn open(
    settings: &Arc<GenerateSettings>,
    context: &ServiceContext,
    limiters: &EndpointRegistry,
) -> Result<AnswerClient<LanguageModel>, ServiceError> {
    let url = settings.url(&context.environment)?;
    let (key, keyless) = match settings.key(&url, &context.environment) {
        Ok(key) => (key, None),
        Err(refused) => (None, Some(refused)),
    };
    let headers = headers(settings, &url, key.as_ref())?;
    let caps = Caps { cost_nano_usd: context.max_cost_nano_usd, requests: context.max_requests };
    let price = price(settings);
    if caps.cost_nano_usd.is_some() {
        if price.is_none() {
            return Err(ServiceError::Refused(format!(
                "spending is capped, but the price of `{}` is unknown; set `price_per_million_input_tokens` and \
                 `price_per_million_output_tokens` (0 for your own server)",
                settings.model
            )));
        }
        if settings.max_tokens.is_none() {
            return Err(ServiceError::Refused(
                "spending is capped, but nothing limits what an answer can cost; set `max_tokens` under `model:`"
                    .into(),
            ));
        }
    }
    let secrets: Vec<Secret> = key.iter().chain(settings.headers.iter().map(|(_, value)| value)).cloned().collect();
    let credentials = secrets
        .iter()
        .fold(Fingerprint::builder("credentials"), |builder, secret| builder.text(secret.expose()))
        .finish();
    let identity = settings.identity(&url);
    let folder = context.root.join(&settings.cache.path);
    let name = Fingerprint::builder("model endpoint")
        .fingerprint(identity)
        .fingerprint(credentials)
        .text(&format!("{:?}", settings.on_invalid))
        .bytes(folder.as_os_str().as_encoded_bytes())
        .text(settings.cache.mode.as_str())
        .finish();
    let shared = context.clients.endpoint::<LanguageModel>(name, || {
        let cache = JsonCache::open(&folder, "generate", identity, settings.cache.mode)
            .map_err(|error| ServiceError::Refused(error.to_string()))?;
        Ok(Known { cache })
    })?;
    if let Some(refused) = keyless {
        // Later clients of this endpoint have no key either: it is part of the name.
        shared.fatal_error.get_or_init(|| refused);
    }
    let client = &settings.client;
    let limiter = limiters.limiter(
        EndpointKey { endpoint: url.to_string(), key: Some(credentials), model: settings.model.clone() },
        EndpointLimits {
            requests_per_minute: client.rpm.map(|n| n as f64),
            tokens_per_minute: client.tpm.map(|n| n as f64),
            concurrency: client.concurrency,
            min_interval: client.min_interval,
            first_pause: client.retry.first_pause,
            ..EndpointLimits::default()
        },
    );
    let core = Client {
        http: Http::new(client.timeout).map_err(|error| ServiceError::Refused(error.to_string()))?,
        settings: client.clone(),
        careful_start: false,
        protocol: Arc::new(LanguageModel::new(
            Arc::clone(settings),
            url.clone(),
            headers,
            secrets.clone(),
            Arc::clone(&shared.known),
        )),
        secrets,
        url,
        limiter,
        spending: Spending::new(Arc::clone(&context.usage), caps, price, &settings.model)?,
        shared,
        notices: context.notices.clone(),
        stopping: context.stopping.clone(),
        requests: TaskTracker::new(),
    };
    Ok(AnswerClient { core: Arc::new(core), batch_size: 1 })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{diagnostic::Diagnostics, embed::testing::node};

    #[test]
    fn what_answers_are_known_by_does_not_change_with_the_code() {
        let mapping = json!({
            "model": "gpt-4o-mini", "prompt": "{{ name }}", "system": "s", "temperature": 0.5, "max_tokens": 7, "seed": 3,
            "extra_body": {"b": 1, "a": [2]},
        });
        let settings = GenerateSettings::read(&node(&mapping), &mut Diagnostics::default()).expect("settings");
        let url = Url::parse("https://host/v1/chat/completions?api-version=1&api_key=k").expect("an address");
        // Another one would make every answer that is kept be paid again.
        assert_eq!(settings.identity(&url).to_string(), "8b71a5ec44e82a9fd78cba65286730b6");
    }
}
