//! The `model:` mapping: which provider it names, and the keys that several providers read alike.
//!
//! Owns [`decode`] and the meaning of `provider`, `object`, `errors`, `cache` and `on_too_long`. Must not know what a
//! provider does with its own keys.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{ProviderSpec, ProviderType, cache::CacheMode};
use crate::{
    config::{Field, Kind, Map, Node, Record, Value},
    diagnostic::{Diagnostic, Diagnostics, did_you_mean},
};

/// The provider of a `model:` mapping that names none: it needs no key and no network.
pub const DEFAULT_PROVIDER: &str = "static";

/// What every provider's mapping may hold besides the provider's own keys.
pub static COMMON: &[Field] = &[
    Field::optional("provider", Kind::Text, DEFAULT_PROVIDER, "What turns text into vectors; see `flow ls providers`."),
    Field::optional(
        "object",
        Kind::Text,
        "",
        "A class as Kedro projects name it; `langchain_openai.OpenAIEmbeddings` means `provider: openai`.",
    ),
    Field::optional("errors", Kind::Record(ERRORS), "", "What is done about rows that cannot be embedded."),
];

static ERRORS: &[Field] = &[Field::optional(
    "max_row_error_rate",
    Kind::Number(0.0, 1.0),
    "0.01",
    "The share of rows that may lack a vector before the run counts as failed.",
)];

/// The options of a run that the provider's mapping holds but that are not the provider's to follow.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CommonOptions {
    /// The share of rows, 0 to 1, that may carry an error of their own before the run counts as failed.
    pub max_row_error_rate: f64,
}

impl Default for CommonOptions {
    fn default() -> Self {
        Self { max_row_error_rate: 0.01 }
    }
}

/// Reads a `model:` mapping: finds its provider and lets it check its keys. Pure: opens nothing. `None` when there
/// were errors; all of them are in `problems`.
///
/// A key that only another provider knows is a warning: an environment's overlay may change the provider, and cannot
/// take the other's keys away.
pub fn decode(
    model: &Node,
    providers: &[&'static dyn ProviderType],
    problems: &mut Diagnostics,
) -> Option<(Arc<dyn ProviderSpec>, CommonOptions)> {
    let Some(map) = model.as_map() else {
        problems.push(
            Diagnostic::error("config::wrong-type", format!("`model` must be a mapping, not {}", model.kind()))
                .at(model.span, "")
                .help("write `model: {provider: static}`, say"),
        );
        return None;
    };
    let own = |key: &str, fields: &[Field]| fields.iter().any(|f| f.name == key || f.aliases.contains(&key));
    let Some(provider) = find_provider(map, providers, problems) else {
        // Which keys there are depends on the provider; those that all of them have can be wrong all the same.
        let common = map.iter().filter(|(key, _)| own(key, COMMON) && !matches!(*key, "provider" | "object"));
        let entries = common.map(|(key, entry)| (key.to_owned(), entry.clone())).collect();
        Record::read(&Node::new(Value::Map(Map { entries }), model.span), "`model`", COMMON, problems);
        return None;
    };
    let mut kept = Map::default();
    for (key, entry) in map.iter() {
        let known = own(key, COMMON) || own(key, provider.fields());
        match providers.iter().find(|other| !known && own(key, other.fields())) {
            Some(other) => problems.push(
                Diagnostic::warning(
                    "embed::ignored-key",
                    format!("`{key}` means nothing to provider `{}`, and is not looked at", provider.name()),
                )
                .at(entry.key_span, "")
                .help(format!("it is a key of provider `{}`", other.name())),
            ),
            None => {
                kept.entries.insert(key.to_owned(), entry.clone());
            }
        }
    }
    let kept = Node::new(Value::Map(kept), model.span);
    let what = format!("`model` of provider `{}`", provider.name());
    let record = Record::read_tables(&kept, &what, &[COMMON, provider.fields()], problems)?;
    let spec = provider.decode(&record, problems);
    let errors = record.record("errors");
    let rate = errors.and_then(|errors| errors.number("max_row_error_rate"));
    let common = rate.map_or_else(CommonOptions::default, |max_row_error_rate| CommonOptions { max_row_error_rate });
    spec.filter(|_| record.is_sound()).map(|spec| (spec, common))
}

/// The provider under `provider:`; else the one that `object:` stands for; else the default.
fn find_provider(
    map: &Map,
    providers: &[&'static dyn ProviderType],
    problems: &mut Diagnostics,
) -> Option<&'static dyn ProviderType> {
    let find = |name: &str| providers.iter().copied().find(|provider| provider.name() == name);
    let written = |key: &str| map.get(key).filter(|node| node.value != Value::Null);
    let unresolved = |key: &str| map.entries.get(key).is_some_and(|entry| entry.node.is_unresolved());
    if unresolved("provider") || unresolved("object") {
        return None;
    }
    let (node, name) = match (written("provider"), written("object")) {
        (Some(node), _) => (node, node.as_text()),
        (None, Some(node)) => match node.as_text() {
            Some(class) if class.rsplit('.').next() == Some("OpenAIEmbeddings") => (node, Some("openai")),
            Some(class) => {
                problems.push(
                    Diagnostic::error("embed::unknown-provider", format!("no provider stands for `{class}`"))
                        .at(node.span, "")
                        .help("`langchain_openai.OpenAIEmbeddings` does; or name a `provider` instead"),
                );
                return None;
            }
            None => (node, None),
        },
        (None, None) => return find(DEFAULT_PROVIDER),
    };
    let Some(name) = name else {
        problems.push(
            Diagnostic::error("config::wrong-type", format!("a provider is named by a text, not by {}", node.kind()))
                .at(node.span, ""),
        );
        return None;
    };
    let provider = find(name);
    if provider.is_none() {
        let names = || providers.iter().map(|provider| provider.name());
        let list = || names().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        problems.push(
            Diagnostic::error("embed::unknown-provider", format!("there is no provider `{name}`"))
                .at(node.span, "")
                .help(did_you_mean(name, names()).unwrap_or_else(|| format!("providers: {}", list()))),
        );
    }
    provider
}

/// What is done with a text that is longer than the model takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnTooLong {
    /// Its end is dropped.
    #[default]
    Truncate,
    /// The row has no vector, and says why.
    Error,
    /// It is embedded in pieces; the vector is their mean.
    Mean,
}

impl OnTooLong {
    /// The key as providers list it.
    pub const FIELD: Field = Field::optional(
        "on_too_long",
        Kind::Choice(&["truncate", "error", "mean"]),
        "truncate",
        "What is done with a text longer than the model takes: drop its end, leave the row without a vector, or embed \
         it in pieces and take their mean.",
    );

    /// Reads [`OnTooLong::FIELD`].
    pub fn read(record: &Record<'_>) -> Self {
        match record.word("on_too_long") {
            Some("error") => Self::Error,
            Some("mean") => Self::Mean,
            _ => Self::Truncate,
        }
    }

    /// The word, for fingerprints.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Truncate => "truncate",
            Self::Error => "error",
            Self::Mean => "mean",
        }
    }
}

/// Where answers are kept, and whether.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheOptions {
    /// The folder; relative to the project.
    pub path: PathBuf,
    /// What may be done with it.
    pub mode: CacheMode,
}

static CACHE: &[Field] = &[
    Field::optional("path", Kind::Text, CacheOptions::DEFAULT_PATH, "The folder; relative to the project."),
    Field::optional("mode", Kind::Choice(CacheMode::WORDS), "readwrite", "Whether to look up, to store, or neither."),
];

impl CacheOptions {
    /// The folder when none is named, relative to the project; `flow cache` looks there too.
    pub const DEFAULT_PATH: &'static str = ".flow/cache";
    /// The key as providers list it.
    pub const FIELD: Field =
        Field::optional("cache", Kind::Record(CACHE), "", "Where vectors that were paid for are kept.");

    /// Reads [`CacheOptions::FIELD`].
    pub fn read(record: &Record<'_>) -> Self {
        let cache = record.record("cache");
        let path = cache.as_ref().and_then(|cache| cache.text("path")).unwrap_or(Self::DEFAULT_PATH);
        let mode = cache.as_ref().and_then(|cache| cache.word("mode")).and_then(CacheMode::from_word);
        Self { path: Path::new(path).to_path_buf(), mode: mode.unwrap_or_default() }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::{
        super::{PROVIDERS, testing::node},
        *,
    };
    use crate::diagnostic::Severity;

    fn read(json: Json) -> (Option<CommonOptions>, Vec<String>) {
        let mut problems = Diagnostics::default();
        let decoded = decode(&node(&json), PROVIDERS, &mut problems).map(|(_, common)| common);
        let text = |d: &Diagnostic| {
            let kind = if d.severity == Severity::Error { "error" } else { "warning" };
            format!("{kind} {}: {} ({})", d.code, d.message, d.help.join("; "))
        };
        (decoded, problems.as_slice().iter().map(text).collect())
    }

    #[test]
    fn the_local_model_is_the_default() {
        for json in [
            json!({}),
            json!({"provider": "static"}),
            json!({"provider": null}),
            json!({"provider": "hash", "dimensions": 8}),
        ] {
            assert_eq!(read(json.clone()), (Some(CommonOptions { max_row_error_rate: 0.01 }), vec![]), "{json}");
        }
        let common = read(json!({"errors": {"max_row_error_rate": 0.5}})).0;
        assert_eq!(common, Some(CommonOptions { max_row_error_rate: 0.5 }));
    }

    #[test]
    fn wrong_mappings_are_refused_with_a_way_out() {
        for (json, wanted) in [
            (
                json!([1]),
                "error config::wrong-type: `model` must be a mapping, not a list (write `model: {provider: static}`, say)",
            ),
            (
                json!({"provider": "statik"}),
                "error embed::unknown-provider: there is no provider `statik` (did you mean `static`?)",
            ),
            (
                json!({"provider": {"a": 1}}),
                "error config::wrong-type: a provider is named by a text, not by a mapping ()",
            ),
            (
                json!({"object": "sklearn.TfIdf"}),
                "error embed::unknown-provider: no provider stands for `sklearn.TfIdf` \
                 (`langchain_openai.OpenAIEmbeddings` does; or name a `provider` instead)",
            ),
            (
                json!({"errors": {"max_row_error_rate": 2}}),
                "error config::out-of-range: `max_row_error_rate` of `errors` of `model` of provider `static` is 2, but \
                 must be between 0 and 1 ()",
            ),
        ] {
            assert_eq!(read(json.clone()), (None, vec![wanted.to_owned()]), "{json}");
        }
    }

    #[test]
    fn keys_of_another_provider_warn_and_unknown_keys_do_not_pass() {
        let (decoded, problems) = read(json!({"provider": "hash", "max_chars": 5}));
        assert!(decoded.is_some());
        assert_eq!(
            problems,
            [
                "warning embed::ignored-key: `max_chars` means nothing to provider `hash`, and is not looked at (it is a \
              key of provider `static`)"
            ]
        );
        let (decoded, problems) = read(json!({"provider": "hash", "dimension": 5}));
        assert!(decoded.is_none());
        assert_eq!(
            problems,
            ["error config::unknown-key: `model` of provider `hash` has an unknown key `dimension` (did you mean \
              `dimensions`?)"]
        );
    }

    #[test]
    fn every_provider_has_a_name_of_its_own_a_doc_and_documented_keys() {
        let mut names: Vec<_> = PROVIDERS.iter().map(|provider| provider.name()).collect();
        assert!(names.contains(&DEFAULT_PROVIDER));
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        for provider in PROVIDERS {
            assert!(!provider.doc().is_empty() && !provider.doc().contains('\n'), "{}", provider.name());
            for field in provider.fields() {
                assert!(field.doc.ends_with('.'), "{}.{}", provider.name(), field.name);
                assert!(COMMON.iter().all(|common| common.name != field.name), "{}.{}", provider.name(), field.name);
            }
        }
    }
}
