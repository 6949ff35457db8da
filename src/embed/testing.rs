//! Helpers for the tests of this module.

use std::{path::Path, sync::Arc};

use indexmap::IndexMap;
use serde_json::Value as Json;

use super::{PROVIDERS, Provider, decode};
use crate::{
    config::{Entry, Map, Node, Value},
    diagnostic::{Diagnostics, SourceId, Span},
    model::{ServiceError, Usage},
    net::ServiceContext,
};

/// A configuration tree from JSON.
pub(crate) fn node(json: &Json) -> Node {
    let span = Span { source: SourceId(0), start: 0, end: 0 };
    let value = match json {
        Json::Null => Value::Null,
        Json::Bool(yes) => Value::Bool(*yes),
        Json::Number(number) => {
            number.as_i64().map_or_else(|| Value::Float(number.as_f64().unwrap_or(0.0)), Value::Int)
        }
        Json::String(text) => Value::Text(text.clone()),
        Json::Array(list) => Value::List(list.iter().map(node).collect()),
        Json::Object(map) => {
            let entry = |(key, value): (&String, &Json)| (key.clone(), Entry { key_span: span, node: node(value) });
            Value::Map(Map { entries: map.iter().map(entry).collect::<IndexMap<_, _>>() })
        }
    };
    Node::new(value, span)
}

/// A context with the project folder `root`.
pub(super) fn context(root: &Path) -> ServiceContext {
    ServiceContext {
        root: root.to_path_buf(),
        usage: Arc::new(Usage::default()),
        max_cost_nano_usd: None,
        max_requests: None,
        environment: crate::net::ServiceEnvironment::default(),
        notices: crate::net::Notices::default(),
        stopping: Default::default(),
        clients: crate::net::client::Clients::default(),
    }
}

/// Opens the provider of a valid `model:` mapping.
pub(super) fn open(root: &Path, model: &Json) -> Result<Arc<dyn Provider>, ServiceError> {
    let mut problems = Diagnostics::default();
    let decoded = decode(&node(model), PROVIDERS, &mut problems);
    let (spec, _) = decoded.unwrap_or_else(|| panic!("{model}: {:?}", problems.as_slice()));
    spec.open(&context(root))
}
