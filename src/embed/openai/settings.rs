//! The `model:` mapping of an `openai` provider: its keys and their meaning.

use super::{
    dialect::Dialect,
    dtype::{self, Dtype},
    pack::Limits,
    plan::Rules,
    profile::{KeyHeader, NAMES, Profile},
    request_fields::{self, RequestFields},
};
use crate::{
    cache::{CacheMode, CacheOptions},
    config::{Field, Kind, Record},
    diagnostic::{Diagnostic, Diagnostics},
    embed::OnTooLong,
    model::{Fingerprint, Secret, ServiceError, is_secret_name},
    net::{
        AddressSecret, ServiceEnvironment,
        client::{self, ClientSettings},
        prices::Price,
        tokens::Counter,
    },
};

/// The keys of `model:`.
pub(super) const FIELDS: &[Field] = &[
    Field::optional("profile", Kind::Choice(NAMES), "", "The kind of server; default: derived from `base_url`."),
    Field::optional("model", Kind::Text, "text-embedding-3-small", "The model's name; for Azure, the deployment's.")
        .or(&["model_name", "deployment"]),
    Field::optional(
        "base_url",
        Kind::Text,
        "",
        "The address without `/embeddings`; default: OPENAI_BASE_URL, or OpenAI's.",
    )
    .or(&["openai_api_base", "api_base", "azure_endpoint"]),
    Field::optional("api_key", Kind::Secret, "", "The API key; optional for local servers.").or(&["openai_api_key"]),
    Field::optional("organization", Kind::Text, "", "Sent as `OpenAI-Organization`.").or(&["openai_organization"]),
    Field::optional("project", Kind::Text, "", "Sent as `OpenAI-Project`."),
    Field::optional(
        "api_version",
        Kind::Text,
        "",
        "Azure's `api-version`; with it, the deployment is part of the address.",
    )
    .or(&["openai_api_version"]),
    Field::optional("dimensions", Kind::Integer(1, 65_536), "", "Dimensions of each vector; default: the model's."),
    client::settings::TIMEOUT,
    Field::optional("batch", Kind::Record(BATCH), "", "The limits of one request."),
    Field::optional("chunk_size", Kind::Integer(1, 1_000_000), "", "LangChain's name for `batch.max_inputs`."),
    client::settings::LIMITS,
    client::settings::RETRY,
    client::settings::MAX_RETRIES,
    client::settings::MAX_OUTAGE,
    request_fields::EXTRA_BODY,
    request_fields::HEADERS,
    request_fields::INPUT_TYPE,
    request_fields::PREFIX,
    request_fields::RENAME,
    dtype::FIELD,
    NORMALIZE,
    OnTooLong::FIELD,
    CacheOptions::field("Where vectors that were paid for are stored."),
    Field::optional(
        "price_per_million_tokens",
        Kind::Number(0.0, 1e6),
        "",
        "In US dollars; default: the list price, if known.",
    ),
];

/// `normalize`.
const NORMALIZE: Field = Field::optional(
    "normalize",
    Kind::Bool,
    "false",
    "Whether vectors are given the length 1; by default only by the provider `gemini`, whose server leaves shortened ones as they are.",
);

/// The keys of `model:` for a provider with an API of its own.
pub static NATIVE_FIELDS: &[Field] = &[
    Field::optional("model", Kind::Text, "", "The model's name; default: the provider's usual one.")
        .or(&["model_name"]),
    Field::optional("base_url", Kind::Text, "", "The address, up to the version; default: the provider's."),
    Field::optional("api_key", Kind::Secret, "", "The API key; default: the provider's variable."),
    Field::optional("dimensions", Kind::Integer(1, 65_536), "", "Dimensions of each vector; default: the model's."),
    client::settings::TIMEOUT,
    Field::optional("batch", Kind::Record(BATCH), "", "The limits of one request."),
    client::settings::LIMITS,
    client::settings::RETRY,
    client::settings::MAX_RETRIES,
    client::settings::MAX_OUTAGE,
    request_fields::EXTRA_BODY,
    request_fields::HEADERS,
    request_fields::INPUT_TYPE,
    request_fields::PREFIX,
    dtype::FIELD,
    NORMALIZE,
    OnTooLong::FIELD,
    CacheOptions::field("Where vectors that were paid for are stored."),
    Field::optional(
        "price_per_million_tokens",
        Kind::Number(0.0, 1e6),
        "",
        "In US dollars; default: the list price, if known.",
    ),
];

const BATCH: &[Field] = &[
    Field::optional("max_inputs", Kind::Integer(1, 1_000_000), "2048", "Texts in one request."),
    Field::optional("max_tokens", Kind::Integer(1, 1_000_000_000), "285000", "Tokens in one request."),
    Field::optional("max_bytes", Kind::Bytes, "16MiB", "Bytes in one request."),
];

/// A checked `model:` mapping.
#[derive(Debug, Clone)]
pub struct OpenAiSettings {
    /// The model's name.
    pub model: String,
    /// The base address; `None` for the default.
    pub base_url: Option<String>,
    /// The kind of server; `None` to derive it from the address.
    pub profile: Option<Profile>,
    /// The key.
    pub api_key: Option<Secret>,
    /// The unset variable of the key.
    pub missing_key: Option<String>,
    /// Sent as `OpenAI-Organization`.
    pub organization: Option<String>,
    /// Sent as `OpenAI-Project`.
    pub project: Option<String>,
    /// Azure's `api-version`.
    pub api_version: Option<String>,
    /// The requested dimensions.
    pub dimensions: Option<usize>,
    /// How requests are sent.
    pub client: ClientSettings,
    /// Texts in one request; `None` for the profile's.
    pub max_inputs: Option<usize>,
    /// Tokens in one request; `None` for the profile's.
    pub max_tokens: Option<u64>,
    /// Bytes in one request; `None` for the profile's.
    pub max_bytes: Option<usize>,
    /// What is sent besides the protocol.
    pub request: RequestFields,
    /// How the API differs from OpenAI's; `None` for OpenAI's.
    pub dialect: Option<&'static dyn Dialect>,
    /// The type of numbers.
    pub dtype: Dtype,
    /// Whether vectors are given the length 1.
    pub normalize: bool,
    /// The handling of long texts.
    pub on_too_long: OnTooLong,
    /// Overrides the list price.
    pub price: Option<Price>,
    /// The cache.
    pub cache: CacheOptions,
}

impl Default for OpenAiSettings {
    fn default() -> Self {
        Self {
            model: "text-embedding-3-small".into(),
            base_url: None,
            profile: None,
            api_key: None,
            missing_key: None,
            organization: None,
            project: None,
            api_version: None,
            dimensions: None,
            client: ClientSettings::default(),
            max_inputs: None,
            max_tokens: None,
            max_bytes: None,
            request: RequestFields::default(),
            dialect: None,
            dtype: Dtype::default(),
            normalize: false,
            on_too_long: OnTooLong::default(),
            price: None,
            cache: CacheOptions::default(),
        }
    }
}

impl OpenAiSettings {
    /// Reads a mapping that was validated by [`FIELDS`]. Problems go to `problems`; `None` if there were any.
    pub(super) fn decode(model: &Record<'_>, problems: &mut Diagnostics) -> Option<Self> {
        let mut settings = Self::default();
        let mut sound = model.is_sound();
        let text = |name: &str| model.text(name).map(str::to_owned).filter(|text| !text.is_empty());
        let count = |record: &Record<'_>, name: &str| record.integer(name).and_then(|n| u64::try_from(n).ok());
        let size = |record: &Record<'_>, name: &str| record.integer(name).and_then(|n| usize::try_from(n).ok());
        if let Some(name) = text("model") {
            settings.model = name;
        }
        settings.base_url = text("base_url");
        if let Some(base_url) = &settings.base_url
            && let Err(why) = address(base_url)
        {
            sound = false;
            problems.push(
                Diagnostic::error("embed::address", format!("`base_url` is not a valid address: {why}"))
                    .at(model.span("base_url"), "this address")
                    .help("write it as `https://host/v1`, without `/embeddings`"),
            );
        } else if let Some(found) = settings.base_url.as_deref().and_then(AddressSecret::find) {
            sound = false;
            problems.push(
                Diagnostic::error("embed::address", format!("`base_url` contains {found}, but would be shown"))
                    .at(model.span("base_url"), "this address")
                    .help(found.way_out_of_a_model()),
            );
        }
        settings.profile = model.word("profile").and_then(Profile::named);
        settings.api_key = model.secret("api_key");
        settings.missing_key = model.missing_secret("api_key").map(str::to_owned);
        settings.organization = text("organization");
        settings.project = text("project");
        settings.api_version = text("api_version");
        settings.dimensions = size(model, "dimensions");
        settings.client = ClientSettings::read(model, &mut sound, problems);
        settings.max_inputs = size(model, "chunk_size");
        if let Some(batch) = model.record("batch") {
            settings.max_inputs = size(&batch, "max_inputs").or(settings.max_inputs);
            settings.max_tokens = count(&batch, "max_tokens");
            settings.max_bytes = batch.bytes("max_bytes").and_then(|n| usize::try_from(n).ok());
        }
        settings.request = RequestFields::decode(model, &mut settings.missing_key, &mut sound, problems);
        settings.on_too_long = OnTooLong::read(model);
        settings.dtype = Dtype::from_word(model.word("dtype"));
        settings.normalize = model.bool("normalize").unwrap_or(false);
        if settings.dtype != Dtype::Float32 && (settings.normalize || settings.on_too_long == OnTooLong::Mean) {
            sound = false;
            let key = if settings.normalize { "normalize" } else { "on_too_long" };
            problems.push(
                Diagnostic::error("embed::dtype", format!("`{key}` needs numbers, but `dtype` asks for bytes"))
                    .at(model.span(key), "here")
                    .help(format!("remove `dtype` or `{key}`")),
            );
        }
        settings.cache = CacheOptions::read(model);
        settings.price = model.number("price_per_million_tokens").map(Price::per_million);
        sound.then_some(settings)
    }

    /// As [`OpenAiSettings::decode`], for a provider with an API of its own.
    pub fn decode_native(
        model: &Record<'_>,
        dialect: &'static dyn Dialect,
        default_model: &str,
        problems: &mut Diagnostics,
    ) -> Option<Self> {
        let mut settings = Self::decode(model, problems)?;
        settings.dialect = Some(dialect);
        if model.text("model").is_none_or(str::is_empty) {
            default_model.clone_into(&mut settings.model);
        }
        if settings.dtype != Dtype::Float32 && !dialect.has_dtypes(&settings.model) {
            problems.push(
                Diagnostic::error("embed::dtype", format!("`{}` makes numbers only", settings.model))
                    .at(model.span("dtype"), "here")
                    .help("remove `dtype`"),
            );
            return None;
        }
        Some(settings)
    }

    /// The mode of the cache: nothing is kept of a text whose vector depends on the others of its request.
    pub(super) fn cache_mode(&self) -> CacheMode {
        if self.request.couples_texts() { CacheMode::Off } else { self.cache.mode }
    }

    /// The target of requests, from the mapping, the environment or the profile.
    ///
    /// # Errors
    /// When there is no address, or an invalid one.
    pub(super) fn target(&self, environment: &ServiceEnvironment) -> Result<Target, ServiceError> {
        let refused = |why: String| ServiceError::Refused(why);
        if let Some(dialect) = self.dialect {
            let profile = dialect.profile();
            let default = || dialect.base_url(environment).or_else(|| profile.base_url.map(str::to_owned));
            let base = self.base_url.clone().or_else(default).ok_or_else(|| {
                refused(format!("provider `{}` has no default address; set `base_url`", profile.name))
            })?;
            let mut url = address(&base).map_err(|why| refused(format!("`base_url`: {why}")))?;
            let path = url.path().trim_end_matches('/').to_owned();
            url.set_path(&format!("{path}/{}", dialect.path(&self.model)));
            return Ok(Target { profile, url });
        }
        let written = self.base_url.clone().or_else(|| match self.profile.map(|profile| profile.name) {
            None | Some("openai" | "compatible") => variable(environment, "OPENAI_BASE_URL"),
            _ => None,
        });
        let profile = self.profile.unwrap_or_else(|| Profile::for_address(written.as_deref()));
        let base_url = written
            .as_deref()
            .or(profile.base_url)
            .ok_or_else(|| refused(format!("profile `{}` has no default address; set `base_url`", profile.name)))?;
        let url = endpoint(base_url, &profile, self).map_err(|why| refused(format!("`base_url`: {why}")))?;
        Ok(Target { profile, url })
    }

    /// The key to send, from the settings or, if a key is required, from the environment.
    ///
    /// # Errors
    /// When a key is required and there is none.
    pub(super) fn key(
        &self,
        profile: &Profile,
        environment: &ServiceEnvironment,
    ) -> Result<Option<Secret>, ServiceError> {
        let written = self.api_key.clone().filter(|key| !key.expose().trim().is_empty());
        let name = profile.key_variable;
        let key = written.or_else(|| variable(environment, name).filter(|_| !profile.keyless).map(Secret::new));
        match key {
            None if !profile.keyless => Err(ServiceError::Refused(format!(
                "the `{}` endpoint requires a key; write `api_key: ${{oc.env:{name}}}` under `model:` and export the variable",
                profile.name
            ))),
            key => Ok(key),
        }
    }

    /// The limits of one request.
    pub(super) fn limits(&self, profile: &Profile) -> Limits {
        let most = self.dialect.map_or(usize::MAX, |dialect| dialect.max_inputs(&self.model));
        // A vector must not depend on which texts happen to be beside its own.
        let most = if self.request.couples_texts() { 1 } else { most };
        Limits {
            inputs: self.max_inputs.unwrap_or(if self.dialect.is_some() { most } else { profile.max_inputs }).min(most),
            tokens: self.max_tokens.unwrap_or(profile.max_tokens).min(self.client.tpm.unwrap_or(u64::MAX)),
            bytes: self.max_bytes.unwrap_or(profile.max_bytes),
        }
    }

    /// How texts become units.
    pub(super) fn rules(&self, profile: &Profile) -> Rules {
        let counter = Counter::of(&self.model);
        let known_limit = counter.is_exact().then_some(8192);
        let most = self.limits(profile).tokens;
        Rules {
            max_input_tokens: profile.max_input_tokens.or(known_limit).map(|limit| limit.min(most)),
            on_too_long: self.on_too_long,
            counter,
        }
    }

    /// The dimensions, if known before the first response. The name of a model tells nothing where anybody can give it to
    /// another one.
    pub(super) fn known_dimensions(&self, profile: &Profile) -> Option<usize> {
        let by_name = || match self.dialect {
            Some(dialect) => dialect.default_dimensions(&self.model),
            None => profile.default_dimensions(&self.model),
        };
        self.dimensions.or_else(by_name).map(|dimensions| self.dtype.length(dimensions))
    }

    /// What is sent as `dimensions`: nothing to a model with fixed dimensions.
    pub(super) fn requested_dimensions(&self) -> Option<usize> {
        self.dimensions.filter(|_| !self.model.ends_with("text-embedding-ada-002"))
    }

    /// What a vector depends on besides its text: a part of the cache's keys. The encoding (base64 or numbers) does not change
    /// vectors.
    pub(super) fn source(&self, target: &Target) -> Fingerprint {
        let builder = Fingerprint::builder("openai")
            .text(&target.address())
            .text(&self.model)
            .number(self.dimensions.unwrap_or(0) as u64);
        let mut builder = self.request.fingerprint(builder);
        if let Some(dialect) = self.dialect {
            // How a long text is handled is part of the request.
            builder = builder.text("dialect").text(dialect.profile().name).text(self.on_too_long.as_str());
        }
        if let Some(dtype) = self.dtype.word() {
            builder = builder.text("dtype").text(dtype);
        }
        if self.normalize {
            builder = builder.text("normalize");
        }
        builder.finish()
    }

    /// What a row's vector depends on besides the row's text: also the handling of long texts.
    pub(super) fn rows_identity(&self, target: &Target) -> Fingerprint {
        let rules = self.rules(&target.profile);
        let builder = Fingerprint::builder("openai-rows")
            .fingerprint(self.source(target))
            .text(target.profile.name)
            .text(self.on_too_long.as_str())
            .number(rules.max_input_tokens.unwrap_or(0))
            .text(if rules.counter.is_exact() { "counted" } else { "estimated" });
        match self.request.prefix.as_str() {
            "" => builder.finish(),
            prefix => builder.text("prefix").text(prefix).finish(),
        }
    }
}

/// The address of requests, and the kind of server.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) profile: Profile,
    pub(super) url: url::Url,
}

impl Target {
    /// The address as far as vectors depend on it: without `/embeddings` and without secrets.
    fn address(&self) -> String {
        let mut url = self.url.clone();
        // These cannot fail for an address with a host.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(path.strip_suffix("/embeddings").unwrap_or(&path));
        let shown: Vec<(String, String)> = url
            .query_pairs()
            .filter(|(name, _)| !is_secret_name(name))
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect();
        url.set_query(None);
        if !shown.is_empty() {
            url.query_pairs_mut().extend_pairs(shown);
        }
        url.as_str().trim_end_matches('/').to_owned()
    }
}

fn variable(environment: &ServiceEnvironment, name: &str) -> Option<String> {
    environment.get(name).filter(|value| !value.trim().is_empty())
}

/// The full address of requests.
pub(super) fn endpoint(base_url: &str, profile: &Profile, settings: &OpenAiSettings) -> Result<url::Url, String> {
    let mut url = address(base_url)?;
    let path = url.path().trim_end_matches('/').to_owned();
    let path = path.strip_suffix("/embeddings").unwrap_or(&path);
    let names_deployment = path.contains("/deployments/");
    if profile.key_header == KeyHeader::ApiKey && settings.api_version.is_some() && !names_deployment {
        // Azure's older addresses contain the deployment; the newer ones (`/openai/v1`) do not.
        let root = path.strip_suffix("/openai").unwrap_or(path);
        if path.ends_with("/openai/v1") {
            url.set_path(&format!("{path}/embeddings"));
        } else {
            url.set_path(&format!("{root}/openai/deployments/{}/embeddings", settings.model));
        }
    } else {
        url.set_path(&format!("{path}/embeddings"));
    }
    if let Some(version) = &settings.api_version {
        url.query_pairs_mut().append_pair("api-version", version);
    }
    Ok(url)
}

fn address(base_url: &str) -> Result<url::Url, String> {
    let url = url::Url::parse(base_url).map_err(|error| error.to_string())?;
    match url.scheme() {
        "http" | "https" if url.has_host() => Ok(url),
        scheme => Err(format!("expected http: or https:, found `{scheme}:`")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn with(change: impl FnOnce(&mut OpenAiSettings)) -> OpenAiSettings {
        let mut settings = OpenAiSettings::default();
        change(&mut settings);
        settings
    }

    fn at(address: &str) -> ServiceEnvironment {
        let address = address.to_owned();
        ServiceEnvironment::new(move |name| (name == "OPENAI_BASE_URL").then(|| address.clone()))
    }

    fn both(settings: &OpenAiSettings, environment: &ServiceEnvironment) -> (Fingerprint, Fingerprint) {
        let target = settings.target(environment).expect("an address");
        (settings.source(&target), settings.rows_identity(&target))
    }

    #[test]
    fn identities_differ_if_vectors_may_wherever_it_is_configured() {
        let default = both(&OpenAiSettings::default(), &ServiceEnvironment::default());
        let azure = |version: &str| {
            with(|s| {
                s.profile = Profile::named("azure");
                s.base_url = Some("https://mine.openai.azure.com".into());
                s.api_version = Some(version.into());
            })
        };
        let others = [
            both(&OpenAiSettings::default(), &at("http://one.example/v1")),
            both(&OpenAiSettings::default(), &at("http://two.example/v1")),
            both(&with(|s| s.profile = Profile::named("vllm")), &ServiceEnvironment::default()),
            both(&with(|s| s.profile = Profile::named("ollama")), &ServiceEnvironment::default()),
            both(&with(|s| s.model = "text-embedding-3-large".into()), &ServiceEnvironment::default()),
            both(&with(|s| s.dimensions = Some(100)), &ServiceEnvironment::default()),
            both(&azure("2024-02-01"), &ServiceEnvironment::default()),
            both(&azure("2024-10-21"), &ServiceEnvironment::default()),
        ];
        for (at, one) in others.iter().enumerate() {
            for other in others[at + 1..].iter().chain([&default]) {
                assert!(one.0 != other.0 && one.1 != other.1, "number {at}");
            }
        }
    }

    #[test]
    fn on_too_long_changes_the_identity_of_rows_and_not_of_vectors() {
        let default = both(&OpenAiSettings::default(), &ServiceEnvironment::default());
        for settings in [
            with(|s| s.on_too_long = OnTooLong::Mean),
            with(|s| s.max_tokens = Some(500)),
            with(|s| s.client.tpm = Some(500)),
        ] {
            let changed = both(&settings, &ServiceEnvironment::default());
            assert!(changed.0 == default.0 && changed.1 != default.1, "{settings:?}");
        }
    }

    #[test]
    fn what_is_sent_besides_the_protocol_changes_identities_and_headers_do_not() {
        let default = both(&OpenAiSettings::default(), &ServiceEnvironment::default());
        let body = |json: serde_json::Value| json.as_object().cloned().expect("a map");
        let others = [
            with(|s| s.request.extra_body = body(serde_json::json!({"truncate": "END"}))),
            with(|s| s.request.extra_body = body(serde_json::json!({"truncate": "START"}))),
            with(|s| s.request.input_type = Some("query".into())),
            with(|s| s.request.rename = [("dimensions".to_owned(), Some("output_dimension".to_owned()))].into()),
            with(|s| s.request.rename = [("dimensions".to_owned(), None)].into()),
        ]
        .map(|settings| both(&settings, &ServiceEnvironment::default()));
        for (at, one) in others.iter().enumerate() {
            for other in others[at + 1..].iter().chain([&default]) {
                assert!(one.0 != other.0 && one.1 != other.1, "number {at}");
            }
        }
        let prefixed = both(&with(|s| s.request.prefix = "passage: ".into()), &ServiceEnvironment::default());
        assert!(prefixed.0 == default.0 && prefixed.1 != default.1, "the texts of vectors hold the prefix");
        let headed = with(|s| s.request.headers = vec![("x-key".into(), Secret::new("secret"))]);
        assert_eq!(both(&headed, &ServiceEnvironment::default()), default);
        assert!(!format!("{headed:?}").contains("secret"));
        let order = |json: &str| {
            let extra: serde_json::Value = serde_json::from_str(json).expect("JSON");
            both(&with(|s| s.request.extra_body = body(extra)), &ServiceEnvironment::default())
        };
        assert_eq!(order(r#"{"a": 1, "b": 2}"#), order(r#"{"b": 2, "a": 1}"#));
    }

    #[test]
    fn identities_are_equal_if_vectors_are() {
        let default = both(&OpenAiSettings::default(), &ServiceEnvironment::default());
        for settings in [
            with(|s| s.base_url = Some("https://api.openai.com/v1/".into())),
            with(|s| s.base_url = Some("https://API.openai.com:443/v1/embeddings".into())),
            with(|s| s.base_url = Some("https://user:password@api.openai.com/v1?api_key=secret".into())),
            with(|s| s.api_key = Some(Secret::new("a-key"))),
            with(|s| s.client.timeout = Duration::from_secs(7)),
            with(|s| s.client.tpm = Some(1_000_000)),
            with(|s| s.max_inputs = Some(10)),
        ] {
            assert_eq!(both(&settings, &ServiceEnvironment::default()), default, "{settings:?}");
        }
        let written = with(|s| s.base_url = Some("http://one.example/v1".into()));
        assert_eq!(
            both(&written, &at("http://two.example/v1")),
            both(&OpenAiSettings::default(), &at("http://one.example/v1")),
            "the mapping takes precedence over the environment"
        );
    }
}
