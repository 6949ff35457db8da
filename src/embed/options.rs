//! The `model:` mapping: its provider, and the keys that several providers share.
//!
//! Owns [`decode`] and the meaning of `provider`, `object`, `errors` and `on_too_long`. Must not know the keys of a
//! single provider.

use std::sync::Arc;

use super::{ProviderSpec, ProviderType};
use crate::{
    config::{Field, Kind, Map, Node, Record, Value},
    diagnostic::{Diagnostic, Diagnostics, did_you_mean},
};

/// The provider of a `model:` mapping without `provider`: it needs no key and no network.
pub const DEFAULT_PROVIDER: &str = "static";

/// The keys of every provider's mapping, besides the provider's own.
pub static COMMON: &[Field] = &[
    Field::optional(
        "provider",
        Kind::Text,
        DEFAULT_PROVIDER,
        "What turns texts into vectors; see `flow ls providers`.",
    ),
    Field::optional(
        "object",
        Kind::Text,
        "",
        "A class as in Kedro projects; `langchain_openai.OpenAIEmbeddings` means `provider: openai`.",
    ),
    Field::optional("errors", Kind::Record(ERRORS), "", "The handling of rows that cannot be embedded."),
];

static ERRORS: &[Field] = &[Field::optional(
    "max_row_error_rate",
    Kind::Number(0.0, 1.0),
    "0.01",
    "The share of rows without a vector above which the run fails.",
)];

/// The options of a provider's mapping that the run obeys, not the provider.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CommonOptions {
    /// The share of rows with an error, 0 to 1, above which the run fails.
    pub max_row_error_rate: f64,
}

impl Default for CommonOptions {
    fn default() -> Self {
        Self { max_row_error_rate: 0.01 }
    }
}

/// Reads a `model:` mapping: finds its provider, which checks its keys. Pure: opens nothing. `None` if there were errors;
/// all of them are in `problems`.
///
/// A key of another provider is a warning: an environment's overlay may change the provider, but cannot remove keys.
pub fn decode(
    model: &Node,
    providers: &[&'static dyn ProviderType],
    problems: &mut Diagnostics,
) -> Option<(Arc<dyn ProviderSpec>, CommonOptions)> {
    let Some(map) = model.as_map() else {
        problems.push(
            Diagnostic::error("config::wrong-type", format!("`model` must be a mapping, not {}", model.kind()))
                .at(model.span, "")
                .help("write `model: {provider: static}`, for example"),
        );
        return None;
    };
    let own = |key: &str, fields: &[Field]| fields.iter().any(|f| f.name == key || f.aliases.contains(&key));
    let Some(provider) = find_provider(map, providers, problems) else {
        // The provider's keys are unknown, but the common ones can be checked.
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
                    format!("unused key `{key}` for provider `{}`", provider.name()),
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

/// The provider under `provider:`; otherwise that of `object:`; otherwise the default.
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
                    Diagnostic::error("embed::unknown-provider", format!("no provider for class `{class}`"))
                        .at(node.span, "")
                        .help("use `langchain_openai.OpenAIEmbeddings`, or set `provider` instead"),
                );
                return None;
            }
            None => (node, None),
        },
        (None, None) => return find(DEFAULT_PROVIDER),
    };
    let Some(name) = name else {
        problems.push(
            Diagnostic::error("config::wrong-type", format!("`provider` must be a string, not {}", node.kind()))
                .at(node.span, ""),
        );
        return None;
    };
    let provider = find(name);
    if provider.is_none() {
        let names = || providers.iter().map(|provider| provider.name());
        let list = || names().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        problems.push(
            Diagnostic::error("embed::unknown-provider", format!("unknown provider `{name}`"))
                .at(node.span, "")
                .help(did_you_mean(name, names()).unwrap_or_else(|| format!("providers: {}", list()))),
        );
    }
    provider
}

/// The handling of a text that is longer than the model accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnTooLong {
    /// Its end is cut off.
    #[default]
    Truncate,
    /// The row gets an error instead of a vector.
    Error,
    /// It is embedded in pieces; its vector is their mean.
    Mean,
}

impl OnTooLong {
    /// The key, for the field tables of providers.
    pub const FIELD: Field = Field::optional(
        "on_too_long",
        Kind::Choice(&["truncate", "error", "mean"]),
        "truncate",
        "How a text longer than the model accepts is handled: cut off its end, leave the row without a vector, or embed it \
         in pieces and use their mean.",
    );

    /// Reads [`OnTooLong::FIELD`].
    pub fn read(record: &Record<'_>) -> Self {
        match record.word("on_too_long") {
            Some("error") => Self::Error,
            Some("mean") => Self::Mean,
            _ => Self::Truncate,
        }
    }

    /// The configuration's word, also for fingerprints.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Truncate => "truncate",
            Self::Error => "error",
            Self::Mean => "mean",
        }
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
    fn invalid_mappings_are_refused_with_help() {
        for (json, wanted) in [
            (
                json!([1]),
                "error config::wrong-type: `model` must be a mapping, not a list (write `model: {provider: static}`, for example)",
            ),
            (
                json!({"provider": "statik"}),
                "error embed::unknown-provider: unknown provider `statik` (did you mean `static`?)",
            ),
            (json!({"provider": {"a": 1}}), "error config::wrong-type: `provider` must be a string, not a mapping ()"),
            (
                json!({"object": "sklearn.TfIdf"}),
                "error embed::unknown-provider: no provider for class `sklearn.TfIdf` \
                 (use `langchain_openai.OpenAIEmbeddings`, or set `provider` instead)",
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
    fn keys_of_another_provider_warn_and_unknown_keys_are_errors() {
        let (decoded, problems) = read(json!({"provider": "hash", "max_chars": 5}));
        assert!(decoded.is_some());
        assert_eq!(
            problems,
            [
                "warning embed::ignored-key: unused key `max_chars` for provider `hash` (it is a key of provider `static`)"
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
