//! Dataset names, and the syntax of `@`.

use std::{fmt, str::FromStr, sync::Arc};

/// The name of a dataset in a pipeline: `base` or `base@view`.
///
/// All views of a base name refer to the same data, and are one vertex of the graph.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DatasetRef {
    base: Arc<str>,
    view: Option<Arc<str>>,
}

impl DatasetRef {
    /// The name without its view, which identifies the data.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The view after `@`, if any.
    pub fn view(&self) -> Option<&str> {
        self.view.as_deref()
    }

    /// True for `params:a.b` and `parameters`, which refer to `parameters.yml`, not to the catalog.
    pub fn is_parameter(&self) -> bool {
        self.view.is_none() && (self.parameter_path().is_some())
    }

    /// `Some("a.b")` for `params:a.b`, `Some("")` for `parameters` (all of them), `None` for a dataset.
    pub fn parameter_path(&self) -> Option<&str> {
        if &*self.base == "parameters" { Some("") } else { self.base.strip_prefix("params:") }
    }
}

/// A dataset's name without its view: `a` of `a@table`. All views of a base are the same data. A parameter has no views.
pub fn base_name(name: &str) -> &str {
    if name.starts_with("params:") { name } else { name.split_once('@').map_or(name, |(base, _)| base) }
}

/// Why a string is not a dataset name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDatasetRef {
    /// The name or the view is empty.
    #[error("a dataset name is `name` or `name@view`, and neither part may be empty")]
    EmptyPart,
    /// More than one `@`.
    #[error("a dataset name has at most one `@`, which separates the name from its view")]
    TwoSeparators,
}

impl FromStr for DatasetRef {
    type Err = InvalidDatasetRef;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // The path of a parameter may contain any character, so `@` in it does not separate a view.
        if text.starts_with("params:") && text.len() > "params:".len() {
            return Ok(Self { base: text.into(), view: None });
        }
        let mut parts = text.split('@');
        let base = parts.next().unwrap_or_default();
        let view = parts.next();
        if parts.next().is_some() {
            return Err(InvalidDatasetRef::TwoSeparators);
        }
        if base.is_empty() || base == "params:" || view == Some("") {
            return Err(InvalidDatasetRef::EmptyPart);
        }
        Ok(Self { base: base.into(), view: view.map(Into::into) })
    }
}

impl fmt::Display for DatasetRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.base)?;
        match &self.view {
            Some(view) => write!(f, "@{view}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for DatasetRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_views() {
        for (text, base, view, parameter) in [
            ("a.b", "a.b", None, None),
            ("a.b@table", "a.b", Some("table"), None),
            ("params:a.b", "params:a.b", None, Some("a.b")),
            ("params:mail@home", "params:mail@home", None, Some("mail@home")),
            ("parameters", "parameters", None, Some("")),
        ] {
            let name: DatasetRef = text.parse().expect(text);
            assert_eq!((name.base(), name.view(), name.parameter_path()), (base, view, parameter), "{text}");
            assert_eq!(name.to_string(), text);
            assert_eq!(base_name(text), base);
        }
        for (text, error) in [
            ("", InvalidDatasetRef::EmptyPart),
            ("@a", InvalidDatasetRef::EmptyPart),
            ("a@", InvalidDatasetRef::EmptyPart),
            ("params:", InvalidDatasetRef::EmptyPart),
            ("a@b@c", InvalidDatasetRef::TwoSeparators),
        ] {
            assert_eq!(text.parse::<DatasetRef>(), Err(error), "{text}");
        }
    }
}
