//! The `api:` mapping of a `call_api` node: its keys and their meaning.

use super::{
    actions::{self, ResponseActions},
    answers::{Matching, Selector},
    auth::{self, Auth},
    columns::{Column, read_columns},
    paginator::{self, Paginator},
    template::{Template, TemplateUse},
};
use crate::{
    cache::CacheOptions,
    config::{Field, Kind, Map, Node, Record, Value},
    diagnostic::{Diagnostics, Span},
    function::{problems::Problems, service_headers::read_headers},
    model::Secret,
    net::{
        AddressSecret,
        client::{ClientSettings, settings as client_settings},
        prices::Price,
    },
};

/// The keys of `api:`.
pub static FIELDS: &[Field] = &[
    Field::required(
        "key",
        Kind::List(&Kind::Text),
        "The column, or columns, whose values are sent; distinct values are sent once.",
    ),
    Field::optional("batch_size", Kind::Integer(1, 1_000_000), "1", "Values in one request."),
    Field::required("request", Kind::Record(REQUEST), "How values become a request."),
    Field::required("response", Kind::Record(RESPONSE), "How a response becomes columns."),
    Field::optional(
        "cache_version",
        Kind::Record(VERSION),
        "",
        "Where the service says which version it is; asked once a run, and part of what answers are known by.",
    ),
    Field::optional(
        "response_actions",
        Kind::List(&Kind::Record(actions::FIELDS)),
        "",
        "What certain responses mean; the first that applies decides.",
    ),
    Field::optional("paginator", Kind::Record(paginator::FIELDS), "", "How the pages of one answer are found."),
    Field::optional(
        "limits",
        Kind::Record(LIMITS),
        "",
        "Upper bounds of the request rate; `auto` learns them from headers and responses.",
    ),
    client_settings::RETRY,
    client_settings::MAX_OUTAGE,
    Field::optional("errors", Kind::Record(ERRORS), "", "The handling of rows without an answer."),
    CacheOptions::field("Where answers that were paid for are stored."),
    Field::optional(
        "price_per_request",
        Kind::Number(0.0, 1e6),
        "0",
        "In US dollars, for `--max-cost` and `flow plan`; each attempt counts that the service may have billed.",
    ),
];

static REQUEST: &[Field] = &[
    Field::optional("method", Kind::Choice(&["GET", "POST", "PUT"]), "POST", "The HTTP method."),
    Field::required("url", Kind::Any, "The address; `{{ key.x }}` is a value, percent-encoded."),
    Field::optional(
        "params",
        Kind::Map(&Kind::Any),
        "",
        "The query string, percent-encoded; a list is a parameter for each of its values.",
    ),
    Field::optional("headers", Kind::Map(&Kind::Any), "", "Headers of each request; they may be secrets."),
    Field::optional(
        "json",
        Kind::Any,
        "",
        "The body; `{{ batch.x }}` is the list of the values of column `x`, `{{ key.x }}` the value of a single one.",
    ),
    Field::optional("auth", Kind::Record(auth::FIELDS), "", "How requests are authorized."),
    client_settings::TIMEOUT,
];

static RESPONSE: &[Field] = &[
    Field::optional(
        "match",
        Kind::Any,
        "",
        "How answers belong to values: `key`, an object by value; `index`, a list in the same order; `{path: $.id}`, a list \
         whose items name their value. Default: `key`, or for `batch_size: 1` the whole response.",
    ),
    Field::optional("data_selector", Kind::Text, "$", "A JSONPath (RFC 9535) to the answers."),
    Field::required("columns", Kind::Map(&Kind::Any), "Columns by name: a JSONPath in the answer, or `{path, type}`."),
    Field::optional(
        "on_missing",
        Kind::Choice(&["null", "error"]),
        "'null'",
        "A value without an answer: its columns are null, and that is kept; or its row has an error.",
    ),
];

static VERSION: &[Field] = &[
    Field::required("url", Kind::Text, "The address of a JSON document."),
    Field::required("path", Kind::Text, "A JSONPath to the version in it."),
];

static LIMITS: &[Field] = &[
    client_settings::RPM,
    client_settings::CONCURRENCY,
    client_settings::MIN_INTERVAL,
    Field::optional(
        "reset_header",
        Kind::Text,
        "",
        "The header that says when requests are allowed again: seconds, a duration, a time since 1970 or an HTTP date.",
    ),
    Field::optional("remaining_header", Kind::Text, "", "The header that says how many requests are left."),
];

static ERRORS: &[Field] = &[
    Field::optional(
        "max_row_error_rate",
        Kind::Number(0.0, 1.0),
        "0.01",
        "The share of rows with an error above which the run fails.",
    ),
    Field::optional("column", Kind::Text, "api_error", "The column with the error of a row."),
];

/// A checked `api:` mapping.
#[derive(Debug, Clone)]
pub struct ApiSettings {
    /// The columns whose values are sent.
    pub key: Vec<String>,
    /// Values in one request.
    pub batch_size: usize,
    /// The method.
    pub method: reqwest::Method,
    /// The address.
    pub url: Template,
    /// The query string.
    pub params: Vec<(String, Template)>,
    /// Headers; their values may be secrets.
    pub headers: Vec<(String, Secret)>,
    /// The headers on whose values answers depend, for their identity.
    pub open_headers: Vec<(String, String)>,
    /// The body.
    pub json: Option<Template>,
    /// How requests are authorized.
    pub auth: Option<Auth>,
    /// How answers belong to values.
    pub matching: Matching,
    /// Where the answers are.
    pub data: Selector,
    /// The columns.
    pub columns: Vec<Column>,
    /// Whether a value without an answer is an error.
    pub missing_is_error: bool,
    /// Where the service says which version it is.
    pub version: Option<(String, Selector)>,
    /// What certain responses mean.
    pub actions: ResponseActions,
    /// How the pages of one answer are found.
    pub paginator: Option<Paginator>,
    /// How requests are sent.
    pub client: ClientSettings,
    /// Names of the headers of a limit.
    pub reset_header: Option<String>,
    /// See `reset_header`.
    pub remaining_header: Option<String>,
    /// The share of rows with an error above which the run fails.
    pub max_row_error_rate: f64,
    /// The column of errors.
    pub error_column: String,
    /// The cache.
    pub cache: CacheOptions,
    /// The price of a request.
    pub price: Price,
    /// Variables of secrets that are not set.
    pub missing_secrets: Vec<String>,
}

impl ApiSettings {
    /// Reads a mapping. Problems go to `diagnostics`; `None` if there were any.
    pub fn read(node: &Node, diagnostics: &mut Diagnostics) -> Option<Self> {
        let record = Record::read(node, "`api`", FIELDS, diagnostics)?;
        let (request, response) = (record.record("request"), record.record("response"));
        let (Some(request), Some(response)) = (request, response) else { return None };
        let mut sound = record.is_sound();
        let client_limits = ClientSettings::read(&record, &mut sound, diagnostics);
        let timeout = ClientSettings::read(&request, &mut sound, diagnostics).timeout;
        let mut problems = Problems { code: "api::invalid", diagnostics, sound };
        let mut missing_secrets = Vec::new();
        let key: Vec<String> = record.texts("key").unwrap_or_default().into_iter().map(str::to_owned).collect();
        let batch_size = record.integer("batch_size").and_then(|n| usize::try_from(n).ok()).unwrap_or(1);
        let place = |what, url| TemplateUse { what, url, key: &key, single: batch_size == 1 };
        let url = request.node("url").and_then(|node| match &node.value {
            Value::Secret(_) | Value::MissingSecret { .. } => {
                problems.wrong(
                    "`url` contains a secret but would be shown",
                    node.span,
                    "send secrets with `auth` or `headers`",
                );
                None
            }
            _ => Template::read(node, place("url", true), &mut problems),
        });
        if let Some(url) = &url {
            check_address(&url.example(), request.span("url"), &mut problems);
            // A value that is inserted is no secret of the project.
            refuse_secret("`url`", &url.filled_with(""), request.span("url"), &mut problems);
            if !url.has_fixed_host() {
                let help = "write the host itself; values belong behind it";
                problems.wrong("a value inside the host of `url`", request.span("url"), help);
            }
        }
        let params = template_map(request.map("params"), &place, &mut problems);
        let json = request
            .node("json")
            .filter(|node| node.value != Value::Null)
            .and_then(|node| Template::read(node, place("json", false), &mut problems));
        let (headers, open_headers) = read_headers(request.map("headers"), &mut missing_secrets, &mut problems);
        let method = match request.word("method") {
            Some("GET") => reqwest::Method::GET,
            Some("PUT") => reqwest::Method::PUT,
            _ => reqwest::Method::POST,
        };
        if method == reqwest::Method::GET && json.is_some() {
            problems.wrong("a GET request has no body", request.span("json"), "use `params`, or `method: POST`");
        }
        let sends = |template: &Template| template.inserts();
        if !(url.as_ref().is_some_and(sends)
            || params.iter().any(|(_, template)| sends(template))
            || json.as_ref().is_some_and(sends))
            && problems.sound
        {
            let help =
                format!("write `{{{{ batch.{} }}}}` in `json`, `params` or `url`", key.first().map_or("id", |k| k));
            problems.wrong("the request does not contain its values", request.record_span(), &help);
        }
        let auth = request.record("auth").and_then(|auth| Auth::read(&auth, &mut missing_secrets, &mut problems));
        let matching = Matching::read(response.node("match"), batch_size, response.record_span(), &mut problems);
        if key.len() > 1 && matching.as_ref().is_some_and(|matching| !matching.allows_several_columns()) {
            problems.wrong(
                "answers cannot be matched by several columns",
                record.span("key"),
                "set `match: index`, or `batch_size: 1`, or name one column under `key`",
            );
        }
        let data = Selector::read(
            response.text("data_selector").unwrap_or("$"),
            response.span("data_selector"),
            &mut problems,
        );
        let columns = read_columns(response.map("columns"), response.span("columns"), &mut problems);
        let version = record.record("cache_version").and_then(|version| {
            let url = version.text("url")?.to_owned();
            check_address(&url, version.span("url"), &mut problems);
            refuse_secret("`url` of `cache_version`", &url, version.span("url"), &mut problems);
            Some((url, Selector::read(version.text("path")?, version.span("path"), &mut problems)?))
        });
        let actions = ResponseActions::read(record.node("response_actions"), &mut problems);
        let paginator = record.record("paginator").and_then(|found| Paginator::read(&found, &mut problems));
        if paginator.is_some() && batch_size > 1 {
            problems.wrong(
                "`paginator` is for requests with one value",
                record.span("paginator"),
                "set `batch_size: 1`, or remove `paginator`",
            );
        }
        let limits = record.record("limits");
        let header = |name: &str| limits.as_ref().and_then(|limits| limits.text(name)).map(str::to_ascii_lowercase);
        let errors = record.record("errors");
        let error_column = errors.as_ref().and_then(|errors| errors.text("column")).unwrap_or("api_error").to_owned();
        for (at, column) in columns.iter().enumerate() {
            if column.name == error_column || columns[..at].iter().any(|other| other.name == column.name) {
                problems.wrong(
                    format!("two columns are called `{}`", column.name),
                    response.span("columns"),
                    "rename one; `errors: {column: …}` names the column of errors",
                );
            }
        }
        let settings = Self {
            batch_size,
            method,
            url: url?,
            params,
            headers,
            open_headers,
            json,
            auth,
            matching: matching?,
            data: data?,
            columns,
            missing_is_error: response.word("on_missing") == Some("error"),
            version,
            actions,
            paginator,
            client: ClientSettings { timeout, ..client_limits },
            reset_header: header("reset_header"),
            remaining_header: header("remaining_header"),
            max_row_error_rate: errors.and_then(|errors| errors.number("max_row_error_rate")).unwrap_or(0.01),
            error_column,
            cache: CacheOptions::read(&record),
            price: Price::per_request(record.number("price_per_request").unwrap_or(0.0)),
            missing_secrets,
            key,
        };
        problems.sound.then_some(settings)
    }

    /// All secrets that requests contain.
    pub fn secrets(&self) -> Vec<Secret> {
        let auth = self.auth.iter().flat_map(Auth::secrets);
        auth.chain(self.headers.iter().map(|(_, value)| value)).cloned().collect()
    }
}

fn check_address(address: &str, span: Span, problems: &mut Problems<'_>) {
    let valid = url::Url::parse(address).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    if !valid {
        problems.wrong(format!("`{address}` is not a valid address"), span, "write it in full: `https://host/path`");
    }
}

/// Refuses an address that holds a secret: it is shown, and servers log it.
fn refuse_secret(what: &str, address: &str, span: Span, problems: &mut Problems<'_>) {
    let Some(found) = AddressSecret::find(address) else { return };
    let help = match &found {
        AddressSecret::UserInfo => {
            "remove it, and write `auth: {type: http_basic, username: NAME, password: \"${oc.env:NAME}\"}` under `request`"
                .to_owned()
        }
        AddressSecret::Parameter(name) => format!(
            "remove it, and write `auth: {{type: api_key, location: query, name: {name}, api_key: \"${{oc.env:NAME}}\"}}` \
             under `request`, or send it in `headers`"
        ),
    };
    problems.wrong(format!("{what} contains {found}, but would be shown"), span, &help);
}

fn template_map<'k>(
    map: Option<&Map>,
    place: &impl Fn(&'static str, bool) -> TemplateUse<'k>,
    problems: &mut Problems<'_>,
) -> Vec<(String, Template)> {
    let mut all = Vec::new();
    for (name, entry) in map.into_iter().flat_map(Map::iter) {
        all.extend(Template::read(&entry.node, place("params", false), problems).map(|t| (name.to_owned(), t)));
    }
    all
}
