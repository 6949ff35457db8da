//! The catalog of a Kedro project that is run as it is: Kedro's own classes read and write every dataset.

use std::sync::Arc;

use super::{
    Dataset, DatasetType,
    memory::MEMORY,
    types::{self, canonical, find, unsupported},
};
use crate::{
    config::{DatasetSpec, Entry, Map, Node, Spanned, Value},
    diagnostic::Diagnostics,
    model::Shape,
};

/// Reads an entry of the catalog of a Kedro project. What Kedro keeps in memory lives as long as the run; anything else is a file
/// that `flow` knows by its content, or something without a path. Where `flow` knows the type too, it can show the data.
pub fn decode_of_kedro(spec: &DatasetSpec, known: &[&'static dyn DatasetType]) -> Option<Arc<dyn Dataset>> {
    let name = canonical(&spec.kind.value);
    if find(known, &spec.kind.value).is_some_and(|kind| kind.name() == "memory") || name == "SharedMemoryDataset" {
        return in_memory(spec, known);
    }
    let native = types::decode(spec, known, &mut Diagnostics::default()).filter(|found| found.info().supported);
    let shape = native.as_ref().map_or(Shape::Value, |native| native.info().shape);
    let mut dataset = unsupported(spec, name, shape);
    dataset.external = true;
    dataset.of_kedro = true;
    dataset.info.supported = native.is_some();
    dataset.native = native;
    Some(Arc::new(dataset))
}

fn in_memory(spec: &DatasetSpec, known: &[&'static dyn DatasetType]) -> Option<Arc<dyn Dataset>> {
    let text = |text: &str| Node::new(Value::Text(text.to_owned()), spec.name_span);
    let entry = |node| Entry { key_span: spec.name_span, node };
    let mut map = Map::default();
    map.entries.insert("type".to_owned(), entry(text("memory")));
    map.entries.insert("shape".to_owned(), entry(text("value")));
    let kind = Spanned { value: MEMORY.type_info().name.to_owned(), span: spec.kind.span };
    let options = Node::new(Value::Map(map), spec.name_span);
    let spec = DatasetSpec { name: spec.name.clone(), name_span: spec.name_span, kind, options };
    types::decode(&spec, known, &mut Diagnostics::default())
}
