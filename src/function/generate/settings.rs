//! The `model:` mapping of a `generate` node: its keys and their meaning.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Map as JsonMap, Value as Json};

use super::{
    api::{self, Api},
    format::ResponseFormat,
};
use crate::{
    cache::CacheOptions,
    config::{Field, Kind, Map, Node, Record, Value},
    diagnostic::Diagnostics,
    function::{column_type::ColumnType, problems::Problems, row_template, service_headers::read_headers},
    model::{Fingerprint, Secret, ServiceError, is_secret_name},
    net::{
        AddressSecret, ServiceEnvironment,
        client::{ClientSettings, settings as client_settings},
        prices::Price,
    },
};

/// The time limit of an attempt: a long answer takes minutes.
const TIMEOUT: Duration = Duration::from_secs(120);

/// The keys of `model:`.
pub static FIELDS: &[Field] = &[
    Field::optional("provider", Kind::Choice(&["openai", "anthropic"]), "openai", "Whose API the server speaks."),
    Field::optional(
        "api",
        Kind::Choice(api::NAMES),
        "chat_completions",
        "Which of its APIs; `messages` for the provider `anthropic`.",
    ),
    Field::required("model", Kind::Text, "The model's name.").or(&["model_name"]),
    Field::optional(
        "base_url",
        Kind::Text,
        "",
        "The address without `/chat/completions`; default: OPENAI_BASE_URL or ANTHROPIC_BASE_URL, or the provider's.",
    )
    .or(&["api_base"]),
    Field::optional("api_key", Kind::Secret, "", "The API key; default: OPENAI_API_KEY or ANTHROPIC_API_KEY."),
    Field::optional("system", Kind::Text, "", "Instructions before the prompt, the same for all rows."),
    Field::required("prompt", Kind::Text, "A template over the row: `{{ name }}` is the value of the column `name`."),
    Field::optional(
        "response_format",
        Kind::Map(&Kind::Any),
        "",
        "The JSON Schema of an object: a column follows from each property. Without one, the text is the column `output`.",
    ),
    Field::optional(
        "on_invalid",
        Kind::Any,
        "retry",
        "An answer that does not fit `response_format`: `retry` asks once more, `null` keeps it as an answer without values, \
         `stop` ends the run.",
    ),
    Field::optional("temperature", Kind::Number(0.0, 2.0), "", "The temperature; default: the server's."),
    Field::optional(
        "max_tokens",
        Kind::Integer(1, 10_000_000),
        "",
        "The most tokens of an answer; needed for `--max-cost`, and by the API `messages`.",
    ),
    Field::optional(
        "seed",
        Kind::Integer(i64::MIN, i64::MAX),
        "",
        "The seed; the n-th repetition has the n-th after it.",
    ),
    Field::optional(
        "repeat",
        Kind::Integer(1, 100),
        "1",
        "Answers to each prompt; columns are lists if it is more than one.",
    ),
    Field::optional(
        "image",
        Kind::Any,
        "",
        "The column with an address or a path of an image for each row, or `{column, detail, max_tokens}`.",
    ),
    Field::optional(
        "extra_body",
        Kind::Map(&Kind::Any),
        "",
        "Fields that are added to the body of each request, such as `{top_p: 0.9}`; they replace those of the client.",
    ),
    Field::optional(
        "headers",
        Kind::Map(&Kind::Any),
        "",
        "Headers of each request. Their values are never shown, and are not part of what answers are known by.",
    ),
    Field::optional("columns", Kind::Record(EXTRA), "", "Names of more columns."),
    client_settings::TIMEOUT,
    client_settings::LIMITS,
    client_settings::RETRY,
    client_settings::MAX_RETRIES,
    client_settings::MAX_OUTAGE,
    Field::optional("errors", Kind::Record(ERRORS), "", "The handling of rows without an answer."),
    CacheOptions::field("Where answers that were paid for are stored."),
    Field::optional(
        "price_per_million_input_tokens",
        Kind::Number(0.0, 1e6),
        "",
        "In US dollars; default: the list price, if known.",
    ),
    Field::optional(
        "price_per_million_output_tokens",
        Kind::Number(0.0, 1e6),
        "",
        "In US dollars; default: the list price, if known.",
    ),
];

static EXTRA: &[Field] = &[
    Field::optional("raw", Kind::Text, "", "The name of the column with the text as the model wrote it."),
    Field::optional("tokens", Kind::Text, "", "The name of the column with all tokens of the request and its answer."),
    Field::optional("input_tokens", Kind::Text, "", "The name of the column with the tokens of the request."),
    Field::optional("output_tokens", Kind::Text, "", "The name of the column with the tokens of the answer."),
];

static ERRORS: &[Field] = &[
    Field::optional(
        "max_row_error_rate",
        Kind::Number(0.0, 1.0),
        "0.01",
        "The share of rows with an error above which the run fails.",
    ),
    Field::optional("column", Kind::Text, "generate_error", "The column with the reason why a row has no answer."),
];

static IMAGE: &[Field] = &[
    Field::required("column", Kind::Text, "The column with an address, or a path relative to the project."),
    Field::optional("detail", Kind::Text, "", "How closely the model looks: `low`, `high`, `auto`."),
    Field::optional(
        "max_tokens",
        Kind::Integer(0, 1_000_000),
        "2000",
        "The most tokens of an image, for `--max-cost` and `flow plan`.",
    ),
];

/// What happens to an answer that does not fit the schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnInvalid {
    /// It is asked for once more.
    Retry,
    /// It is kept as an answer without values.
    Null,
    /// The run ends.
    Stop,
}

/// The image of a row.
#[derive(Debug, Clone)]
pub struct ImageColumn {
    /// The column.
    pub column: String,
    /// How closely the model looks.
    pub detail: Option<String>,
    /// The most tokens of an image.
    pub max_tokens: u64,
}

/// A column besides those of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extra {
    /// The text as written.
    Raw,
    /// Tokens of request and answer.
    Tokens,
    /// Tokens of the request.
    InputTokens,
    /// Tokens of the answer.
    OutputTokens,
}

impl Extra {
    /// The type of its column.
    pub fn kind(self) -> ColumnType {
        if self == Self::Raw { ColumnType::String } else { ColumnType::Int64 }
    }
}

/// A checked `model:` mapping.
#[derive(Debug, Clone)]
pub struct GenerateSettings {
    /// The API.
    pub api: &'static dyn Api,
    /// Whether the server speaks Anthropic's API.
    pub anthropic: bool,
    /// The model's name.
    pub model: String,
    /// The base address; `None` for the default.
    pub base_url: Option<String>,
    /// The key.
    pub api_key: Option<Secret>,
    /// Instructions before the prompt.
    pub system: Option<String>,
    /// The prompt's template.
    pub prompt: String,
    /// What an answer has to look like.
    pub format: ResponseFormat,
    /// What happens if it does not.
    pub on_invalid: OnInvalid,
    /// The temperature.
    pub temperature: Option<f64>,
    /// The most tokens of an answer.
    pub max_tokens: Option<u64>,
    /// The seed.
    pub seed: Option<i64>,
    /// Answers to each prompt.
    pub repeat: u32,
    /// The image of a row.
    pub image: Option<ImageColumn>,
    /// Fields that are added to the body.
    pub extra_body: JsonMap<String, Json>,
    /// Headers; their values may be keys.
    pub headers: Vec<(String, Secret)>,
    /// More columns by name.
    pub extra: Vec<(String, Extra)>,
    /// How requests are sent.
    pub client: ClientSettings,
    /// The share of rows with an error above which the run fails.
    pub max_row_error_rate: f64,
    /// The column of reasons.
    pub error_column: String,
    /// The cache.
    pub cache: CacheOptions,
    /// Overrides the list price.
    pub price: Option<Price>,
    /// Variables of secrets that are not set.
    pub missing_secrets: Vec<String>,
}

impl GenerateSettings {
    /// Reads a mapping. Problems go to `diagnostics`; `None` if there were any.
    pub fn read(node: &Node, diagnostics: &mut Diagnostics) -> Option<Self> {
        let record = Record::read(node, "`model`", FIELDS, diagnostics)?;
        let mut sound = record.is_sound();
        let mut client = ClientSettings::read(&record, &mut sound, diagnostics);
        if record.duration("timeout").is_none() {
            client.timeout = TIMEOUT;
        }
        let mut problems = Problems { code: "generate::invalid", diagnostics, sound };
        let text = |name: &str| record.text(name).map(str::to_owned).filter(|text| !text.is_empty());
        let anthropic = record.word("provider") == Some("anthropic");
        let default = if anthropic { "messages" } else { "chat_completions" };
        let api = api::named(record.word("api").unwrap_or(default))?;
        if anthropic != (api.name() == "messages") {
            let provider = if anthropic { "anthropic" } else { "openai" };
            let help = if anthropic { "remove `api`" } else { "write `provider: anthropic`" };
            problems.wrong(format!("provider `{provider}` has no API `{}`", api.name()), record.span("api"), help);
        }
        let mut missing_secrets: Vec<String> =
            record.missing_secret("api_key").map(str::to_owned).into_iter().collect();
        let base_url = text("base_url");
        if let Some(Err(why)) = base_url.as_deref().map(address) {
            let help = "write it as `https://host/v1`, without the path of the API";
            problems.wrong(format!("`base_url` is not a valid address: {why}"), record.span("base_url"), help);
        } else if let Some(found) = base_url.as_deref().and_then(AddressSecret::find) {
            let message = format!("`base_url` contains {found}, but would be shown");
            problems.wrong(message, record.span("base_url"), found.way_out_of_a_model());
        }
        let system = text("system");
        if system.as_ref().is_some_and(|system| system.contains("{{")) {
            let help = "it is the same for all rows; put values of the row into `prompt`";
            problems.wrong("`system` contains a placeholder", record.span("system"), help);
        }
        let prompt = text("prompt");
        if let Some(Err(why)) = prompt.as_deref().map(row_template::check) {
            problems.wrong(
                format!("`prompt` is not a valid template: {why}"),
                record.span("prompt"),
                "it is minijinja's, as Jinja2: `{{ column }}`",
            );
        }
        let format = ResponseFormat::read(record.node("response_format"), &mut problems);
        let on_invalid = match record.node("on_invalid").map(|node| (&node.value, node.as_text())) {
            None | Some((Value::Unresolved, _)) | Some((_, Some("retry"))) => OnInvalid::Retry,
            Some((Value::Null, _) | (_, Some("null"))) => OnInvalid::Null,
            Some((_, Some("stop"))) => OnInvalid::Stop,
            Some(_) => {
                problems.wrong("`on_invalid` is unknown", record.span("on_invalid"), "write `retry`, `null` or `stop`");
                OnInvalid::Retry
            }
        };
        let number = |name: &str| record.integer(name).and_then(|n| u64::try_from(n).ok());
        let max_tokens = number("max_tokens");
        if anthropic && max_tokens.is_none() && problems.sound {
            let help = "the API `messages` needs the most tokens of an answer: `max_tokens: 1024`";
            problems.wrong("`model` has no `max_tokens`", record.record_span(), help);
        }
        let seed = record.integer("seed");
        if anthropic && seed.is_some() {
            problems.wrong("the API `messages` has no `seed`", record.span("seed"), "remove it");
        }
        let mut extra_body = JsonMap::new();
        for (name, entry) in record.map("extra_body").into_iter().flat_map(Map::iter) {
            if matches!(name, "model" | "messages" | "input" | "stream") {
                let help = "the client sets it";
                problems.wrong(format!("`extra_body` must not contain `{name}`"), entry.key_span, help);
            } else if is_secret_name(name) || has_secret(&entry.node) {
                let help = "bodies may be logged by servers; send secrets under `headers`";
                problems.wrong(format!("`{name}` of `extra_body` is a secret"), entry.node.span, help);
            } else {
                extra_body.insert(name.to_owned(), entry.node.to_json());
            }
        }
        let (headers, _) = read_headers(record.map("headers"), &mut missing_secrets, &mut problems);
        let image = read_image(record.node("image"), &mut problems);
        let mut extra = Vec::new();
        if let Some(columns) = record.record("columns") {
            let kinds = [
                ("raw", Extra::Raw),
                ("tokens", Extra::Tokens),
                ("input_tokens", Extra::InputTokens),
                ("output_tokens", Extra::OutputTokens),
            ];
            extra.extend(kinds.iter().filter_map(|(key, kind)| Some((columns.text(key)?.to_owned(), *kind))));
        }
        let errors = record.record("errors");
        let error_column =
            errors.as_ref().and_then(|errors| errors.text("column")).unwrap_or("generate_error").to_owned();
        let mut names: Vec<String> = format.iter().flat_map(ResponseFormat::columns).map(|(name, _)| name).collect();
        names.extend(extra.iter().map(|(name, _)| name.clone()));
        names.push(error_column.clone());
        if let Some((_, twice)) = names.iter().enumerate().find(|(at, name)| names[..*at].contains(name)) {
            let help = "rename the property, or the one under `columns` or `errors`";
            problems.wrong(format!("two columns are called `{twice}`"), record.record_span(), help);
        }
        let price =
            match (record.number("price_per_million_input_tokens"), record.number("price_per_million_output_tokens")) {
                (Some(input), Some(output)) => Some(Price::per_million_read_and_written(input, output)),
                (None, None) => None,
                _ => {
                    let help = "set both `price_per_million_input_tokens` and `price_per_million_output_tokens`";
                    problems.wrong("only one of the two prices is set", record.record_span(), help);
                    None
                }
            };
        let settings = Self {
            api,
            anthropic,
            model: text("model")?,
            base_url,
            api_key: record.secret("api_key"),
            system,
            prompt: prompt?,
            format: format?,
            on_invalid,
            temperature: record.number("temperature"),
            max_tokens,
            seed,
            repeat: number("repeat").and_then(|n| u32::try_from(n).ok()).unwrap_or(1),
            image,
            extra_body,
            headers,
            extra,
            client,
            max_row_error_rate: errors.and_then(|errors| errors.number("max_row_error_rate")).unwrap_or(0.01),
            error_column,
            cache: CacheOptions::read(&record),
            price,
            missing_secrets,
        };
        problems.sound.then_some(settings)
    }

    /// The address of requests, from the mapping, the environment, or the provider's.
    ///
    /// # Errors
    /// When it is not valid.
    pub fn url(&self, environment: &ServiceEnvironment) -> Result<url::Url, ServiceError> {
        let (variable, default) = match self.anthropic {
            true => ("ANTHROPIC_BASE_URL", "https://api.anthropic.com/v1"),
            false => ("OPENAI_BASE_URL", "https://api.openai.com/v1"),
        };
        let from_environment = || environment.get(variable).filter(|value| !value.trim().is_empty());
        let base = self.base_url.clone().or_else(from_environment).unwrap_or_else(|| default.to_owned());
        let mut url = address(&base).map_err(|why| ServiceError::Refused(format!("`base_url`: {why}")))?;
        let path = url.path().trim_end_matches('/').to_owned();
        let path = path.strip_suffix(&format!("/{}", self.api.path())).unwrap_or(&path);
        // Anthropic's own clients are given the address without the version.
        let version = if self.anthropic && !path.ends_with("/v1") { "/v1" } else { "" };
        url.set_path(&format!("{path}{version}/{}", self.api.path()));
        Ok(url)
    }

    /// The key to send. A server of the provider's needs one.
    ///
    /// # Errors
    /// When there is none.
    pub fn key(&self, url: &url::Url, environment: &ServiceEnvironment) -> Result<Option<Secret>, ServiceError> {
        let variable = if self.anthropic { "ANTHROPIC_API_KEY" } else { "OPENAI_API_KEY" };
        let host = url.host_str().unwrap_or_default();
        let needed = ["openai.com", "anthropic.com", "openai.azure.com"].iter().any(|domain| is_at(host, domain));
        let written = self.api_key.clone().filter(|key| !key.expose().trim().is_empty());
        // The key of the environment goes to whom it belongs, and to the server that the environment names.
        let from_environment = || {
            let value = environment.get(variable).filter(|value| !value.trim().is_empty());
            value.filter(|_| needed || self.base_url.is_none()).map(Secret::new)
        };
        match written.or_else(from_environment) {
            None if needed => Err(ServiceError::Refused(format!(
                "{host} requires a key; write `api_key: ${{oc.env:{variable}}}` under `model:` and export the variable"
            ))),
            key => Ok(key),
        }
    }

    /// The seed of a repetition.
    pub fn seed_of(&self, repetition: u32) -> Option<i64> {
        self.seed.map(|seed| seed.wrapping_add(i64::from(repetition)))
    }

    /// What answers depend on besides their prompt.
    pub fn identity(&self, url: &url::Url) -> Fingerprint {
        let optional = |value: Option<String>| value.map_or_else(|| "-".to_owned(), |value| format!("={value}"));
        let mut shown = url.clone();
        // These cannot fail for an address with a host.
        let _ = shown.set_username("");
        let _ = shown.set_password(None);
        let query: Vec<(String, String)> =
            url.query_pairs().filter(|(name, _)| !is_secret_name(name)).map(|(n, v)| (n.into(), v.into())).collect();
        shown.set_query(None);
        if !query.is_empty() {
            shown.query_pairs_mut().extend_pairs(query);
        }
        let image = self.image.as_ref().and_then(|image| image.detail.clone());
        Fingerprint::builder("generate")
            .text(shown.as_str())
            .text(self.api.name())
            .text(&self.model)
            .text(&optional(self.system.clone()))
            .text(&optional(self.format.text()))
            .text(&optional(self.temperature.map(|value| value.to_string())))
            .text(&optional(self.max_tokens.map(|value| value.to_string())))
            .text(&optional(self.seed.map(|value| value.to_string())))
            .text(&optional(image))
            // Keys in order, whatever the order in which they are written.
            .text(&serde_json::to_string(&self.extra_body.iter().collect::<BTreeMap<_, _>>()).expect("plain JSON"))
            .finish()
    }

    /// All columns of answers, in order: their names and types.
    pub fn columns(&self) -> Vec<(String, ColumnType)> {
        let extra = self.extra.iter().map(|(name, extra)| (name.clone(), extra.kind()));
        let all = self.format.columns().into_iter().chain(extra);
        let listed = |kind| if self.repeat > 1 { ColumnType::List(Box::new(kind)) } else { kind };
        all.map(|(name, kind)| (name, listed(kind))).collect()
    }
}

/// Whether a host is one of a domain.
pub fn is_at(host: &str, domain: &str) -> bool {
    host == domain || host.strip_suffix(domain).is_some_and(|before| before.ends_with('.'))
}

fn address(base_url: &str) -> Result<url::Url, String> {
    let url = url::Url::parse(base_url).map_err(|error| error.to_string())?;
    match url.scheme() {
        "http" | "https" if url.has_host() => Ok(url),
        scheme => Err(format!("expected http: or https:, found `{scheme}:`")),
    }
}

fn read_image(node: Option<&Node>, problems: &mut Problems<'_>) -> Option<ImageColumn> {
    let node = node.filter(|node| node.value != Value::Null && !node.is_unresolved())?;
    if let Some(column) = node.as_text() {
        return Some(ImageColumn { column: column.to_owned(), detail: None, max_tokens: 2000 });
    }
    let Some(record) = Record::read(node, "`image`", IMAGE, problems.diagnostics) else {
        problems.sound = false;
        return None;
    };
    problems.sound &= record.is_sound();
    Some(ImageColumn {
        column: record.text("column")?.to_owned(),
        detail: record.text("detail").map(str::to_owned),
        max_tokens: record.integer("max_tokens").and_then(|n| u64::try_from(n).ok()).unwrap_or(2000),
    })
}

fn has_secret(node: &Node) -> bool {
    match &node.value {
        Value::Secret(_) | Value::MissingSecret { .. } => true,
        Value::List(list) => list.iter().any(has_secret),
        Value::Map(map) => map.iter().any(|(_, entry)| has_secret(&entry.node)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::embed::testing::node;

    fn settings(more: Json) -> GenerateSettings {
        let mut mapping = json!({"model": "gpt-4o-mini", "prompt": "{{ name }}"});
        mapping.as_object_mut().expect("a mapping").extend(more.as_object().cloned().expect("a mapping"));
        let mut diagnostics = Diagnostics::default();
        let settings = GenerateSettings::read(&node(&mapping), &mut diagnostics);
        settings.unwrap_or_else(|| panic!("{mapping}: {:?}", diagnostics.as_slice()))
    }

    fn environment() -> ServiceEnvironment {
        ServiceEnvironment::new(|name| name.ends_with("_API_KEY").then(|| "from the environment".to_owned()))
    }

    #[test]
    fn addresses_end_with_the_path_of_the_api() {
        let anthropic = |base_url: &str| json!({"provider": "anthropic", "max_tokens": 5, "base_url": base_url});
        for (more, expected) in [
            (json!({}), "https://api.openai.com/v1/chat/completions"),
            (json!({"api": "responses"}), "https://api.openai.com/v1/responses"),
            (json!({"base_url": "http://host:1/v1/"}), "http://host:1/v1/chat/completions"),
            (json!({"base_url": "http://host/v1/chat/completions"}), "http://host/v1/chat/completions"),
            (json!({"base_url": "http://host/x?api-version=1"}), "http://host/x/chat/completions?api-version=1"),
            (anthropic("https://host"), "https://host/v1/messages"),
            (anthropic("https://host/v1/messages"), "https://host/v1/messages"),
        ] {
            let url = settings(more.clone()).url(&ServiceEnvironment::default()).expect("an address");
            assert_eq!(url.as_str(), expected, "{more}");
        }
    }

    #[test]
    fn the_key_of_the_environment_goes_to_whom_it_belongs() {
        for (more, expected) in [
            (json!({}), Some("from the environment")),
            (json!({"api_key": "written"}), Some("written")),
            (json!({"base_url": "https://eu.api.openai.com/v1"}), Some("from the environment")),
            (json!({"base_url": "http://127.0.0.1:8000/v1"}), None),
            (json!({"base_url": "https://api.openai.com.evil.example/v1"}), None),
        ] {
            let settings = settings(more.clone());
            let url = settings.url(&environment()).expect("an address");
            let key = settings.key(&url, &environment()).expect("a key or none");
            assert_eq!(key.as_ref().map(Secret::expose), expected, "{more}");
        }
        let none = ServiceEnvironment::default();
        let official = settings(json!({}));
        let url = official.url(&none).expect("an address");
        assert!(official.key(&url, &none).is_err_and(|error| error.to_string().contains("OPENAI_API_KEY")));
    }

    #[test]
    fn answers_are_known_by_everything_that_is_sent_and_by_nothing_else() {
        let identity = |more: Json| {
            let settings = settings(more);
            settings.identity(&settings.url(&environment()).expect("an address"))
        };
        let schema = |kind: &str| json!({"type": "object", "properties": {"a": {"type": kind}}});
        let others: Vec<Fingerprint> = [
            json!({"model": "gpt-4o"}),
            json!({"base_url": "http://host/v1"}),
            json!({"api": "responses"}),
            json!({"system": "Be brief."}),
            json!({"response_format": schema("string")}),
            json!({"response_format": schema("integer")}),
            json!({"temperature": 0.0}),
            json!({"max_tokens": 5}),
            json!({"seed": 5}),
            json!({"extra_body": {"top_p": 0.5}}),
            json!({"image": {"column": "photo", "detail": "low"}}),
        ]
        .map(identity)
        .into();
        let default = identity(json!({}));
        for (at, one) in others.iter().enumerate() {
            assert!(others[at + 1..].iter().chain([&default]).all(|other| other != one), "number {at}");
        }
        for same in [
            json!({"prompt": "{{ id }}"}),
            json!({"api_key": "another"}),
            json!({"headers": {"x-team": "a"}, "timeout": 5, "limits": {"rpm": 5}, "repeat": 3}),
            json!({"columns": {"raw": "raw"}, "errors": {"column": "why"}, "on_invalid": "null"}),
        ] {
            assert_eq!(identity(same.clone()), default, "{same}");
        }
        let variable = |name: &str| {
            (name == "OPENAI_BASE_URL").then(|| "https://user:word@api.openai.com/v1?api_key=secret".to_owned())
        };
        let plain = settings(json!({}));
        let url = plain.url(&ServiceEnvironment::new(variable)).expect("an address");
        assert_eq!(plain.identity(&url), default, "secrets of an address are no part of it");
        assert_eq!(
            identity(json!({"extra_body": {"a": 1, "b": 2}})),
            identity(json!({"extra_body": {"b": 2, "a": 1}}))
        );
    }
}
