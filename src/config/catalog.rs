//! The catalog: entries and patterns from the resolved mapping, with credentials filled in.

use super::{
    fields::{Field, Kind},
    patterns::{self, Pattern},
    spec::{CatalogSpec, DatasetSpec, ResolvedDataset, Spanned},
    tree::{Entry, Node, Value},
};
use crate::{
    diagnostic::{Diagnostic, Diagnostics, Span, did_you_mean},
    model::DatasetRef,
};

/// Keys that every entry may have, whatever its type.
pub static DATASET_FIELDS: &[Field] = &[
    Field::required("type", Kind::Text, "What kind of dataset it is; `flow ls types` lists them."),
    Field::optional(
        "credentials",
        Kind::Any,
        "",
        "A name in `credentials.yml`, or the secrets themselves as `${oc.env:…}`.",
    ),
    Field::optional("metadata", Kind::Any, "", "Any values; `kedro-viz.layer` is the layer in drawings."),
    Field::optional("layer", Kind::Text, "", "The layer it is drawn in."),
    Field::optional(
        "versioned",
        Kind::Bool,
        "false",
        "Versions as Kedro keeps them, a folder for each time of saving: not supported by a run.",
    ),
    Field::optional("version", Kind::Any, "", "Read by Kedro only."),
    Field::optional("fs_args", Kind::Any, "", "Read by Kedro only; give endpoints and keys under `credentials`."),
    Field::optional("validator", Kind::Any, "", "Read by Kedro only."),
];

/// Decodes the catalog, and reports every problem in it.
pub(super) fn decode(root: Node, credentials: Option<&Node>, problems: &mut Diagnostics) -> CatalogSpec {
    let mut catalog = CatalogSpec::default();
    let Value::Map(map) = root.value else { return catalog };
    let mut catch_all: Option<(String, Span)> = None;
    let mut ranked: Vec<(Pattern, DatasetSpec)> = Vec::new();
    for (name, entry) in map.entries {
        if name.starts_with('_') {
            continue;
        }
        let pattern = match pattern_of(&name, entry.key_span, problems) {
            Ok(pattern) => pattern,
            Err(()) => continue,
        };
        if entry.node.is_unresolved() {
            continue;
        }
        let Some(spec) = spec(&name, entry, credentials, problems) else { continue };
        let Some(pattern) = pattern else {
            catalog.entries.insert(name, spec);
            continue;
        };
        for (node, placeholder) in patterns::unknown_placeholders(&spec.options, &pattern) {
            problems.push(
                Diagnostic::error(
                    "catalog::unknown-placeholder",
                    format!("the name of pattern `{name}` has no `{{{placeholder}}}`"),
                )
                .at(node.span, "used here")
                .at(spec.name_span, "")
                .help_opt(did_you_mean(placeholder, pattern.placeholders()))
                .help("write `{{` and `}}` for literal braces"),
            );
        }
        if pattern.is_catch_all() {
            if let Some((first, span)) = &catch_all {
                problems.push(
                    Diagnostic::error(
                        "catalog::several-catch-alls",
                        format!("`{first}` and `{name}` both match every name"),
                    )
                    .at(spec.name_span, "")
                    .at(*span, "the other one")
                    .help("keep one, or put literal text into the other"),
                );
            } else {
                catch_all = Some((name.clone(), spec.name_span));
            }
        }
        ranked.push((pattern, spec));
    }
    ranked.sort_by(|(one, a), (other, b)| one.rank(&a.name).cmp(&other.rank(&b.name)));
    catalog.patterns = ranked.into_iter().map(|(_, spec)| spec).collect();
    catalog
}

fn pattern_of(name: &str, span: Span, problems: &mut Diagnostics) -> Result<Option<Pattern>, ()> {
    let problem = if patterns::is_pattern(name) {
        match Pattern::parse(name) {
            Ok(pattern) => return Ok(Some(pattern)),
            Err(reason) => Diagnostic::error("catalog::pattern", format!("invalid pattern `{name}`: {reason}")),
        }
    } else {
        match name.parse::<DatasetRef>() {
            Ok(name) if !name.is_parameter() => return Ok(None),
            Ok(_) => Diagnostic::error("catalog::name", format!("`{name}` is the name of a parameter"))
                .help("`params:…` and `parameters` refer to `parameters.yml`: choose another name"),
            Err(error) => Diagnostic::error("catalog::name", format!("invalid dataset name `{name}`: {error}")),
        }
    };
    problems.push(problem.at(span, ""));
    Err(())
}

fn spec(name: &str, entry: Entry, credentials: Option<&Node>, problems: &mut Diagnostics) -> Option<DatasetSpec> {
    let mut options = entry.node;
    if options.as_map().is_none() {
        problems.push(
            Diagnostic::error(
                "catalog::entry",
                format!("dataset `{name}` must be a mapping with a `type`, not {}", options.kind()),
            )
            .at(entry.key_span, "")
            .help("a name that begins with `_` holds values for other entries and is not a dataset"),
        );
        return None;
    }
    if let Some(credentials) = credentials {
        fill_credentials(&mut options, name, credentials, problems);
    }
    let Value::Map(map) = &mut options.value else { return None };
    if let Some(version) = map.entries.shift_remove("version") {
        problems.push(
            Diagnostic::warning("catalog::version", format!("`version` of dataset `{name}` is ignored"))
                .at(version.key_span, "")
                .help("write `versioned: true`"),
        );
    }
    let kind = match map.entries.get("type") {
        Some(Entry { node: Node { value: Value::Text(kind), span }, .. }) => {
            Spanned { value: kind.clone(), span: *span }
        }
        Some(entry) if entry.node.is_unresolved() => return None,
        Some(entry) if entry.node.value != Value::Null => {
            problems.push(
                Diagnostic::error(
                    "config::wrong-type",
                    format!("`type` of dataset `{name}` must be a string, not {}", entry.node.kind()),
                )
                .at(entry.node.span, ""),
            );
            return None;
        }
        _ => {
            problems.push(
                Diagnostic::error("config::missing-key", format!("dataset `{name}` has no `type`"))
                    .at(entry.key_span, "")
                    .help_opt(did_you_mean("type", map.entries.keys()))
                    .help("`flow ls types` lists the types"),
            );
            return None;
        }
    };
    Some(DatasetSpec { name: name.to_owned(), name_span: entry.key_span, kind, options })
}

/// Replaces `credentials: name` by the secrets of that name, at any depth.
fn fill_credentials(node: &mut Node, name: &str, credentials: &Node, problems: &mut Diagnostics) {
    let Value::Map(map) = &mut node.value else { return };
    for (key, entry) in &mut map.entries {
        match &entry.node.value {
            Value::Text(wanted) if key == "credentials" => {
                match credentials.as_map().map(|map| map.entries.get(wanted)) {
                    Some(Some(found)) => entry.node = found.node.clone(),
                    // A credentials file could not be read, and may define them.
                    None => {}
                    Some(None) => {
                        let known =
                            credentials.as_map().map(|map| map.entries.keys().filter(|key| !key.starts_with('_')));
                        problems.push(
                            Diagnostic::error(
                                "catalog::unknown-credentials",
                                format!("dataset `{name}` needs credentials `{wanted}`, which are not defined"),
                            )
                            .at(entry.node.span, "")
                            .help_opt(known.and_then(|known| did_you_mean(wanted, known)))
                            .help(format!("add `{wanted}:` to `credentials.yml`")),
                        );
                    }
                }
            }
            Value::Map(_) => fill_credentials(&mut entry.node, name, credentials, problems),
            _ => {}
        }
    }
}

impl CatalogSpec {
    /// The entry for a name: the explicit one, else that of the first pattern that matches, placeholders replaced.
    pub fn resolve(&self, name: &str) -> Option<ResolvedDataset> {
        if let Some(spec) = self.entries.get(name) {
            return Some(ResolvedDataset { spec: spec.clone(), pattern: None });
        }
        self.patterns.iter().find_map(|spec| {
            let pattern = Pattern::parse(&spec.name).ok()?;
            let values = pattern.matches(name)?;
            let mut options = spec.options.clone();
            patterns::fill(&mut options, &values);
            let kind = Spanned { value: patterns::filled(&spec.kind.value, &values), span: spec.kind.span };
            let pattern_name = spec.name.clone();
            let spec = DatasetSpec { name: name.to_owned(), name_span: spec.name_span, kind, options };
            Some(ResolvedDataset { spec, pattern: Some(pattern_name) })
        })
    }
}
