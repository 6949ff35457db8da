//! The files through which a command gets its inputs and gives its outputs: of the dataset's own format where that is a plain
//! file, else Parquet, in a folder that is removed at the end.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use indexmap::IndexMap;

use crate::{
    config::{DatasetSpec, Entry, Map, Node, Spanned, Value},
    data::{self, DATASETS, Dataset, Stores, WriteRequest},
    diagnostic::{Diagnostics, SourceId, Span},
    function::{Context, FunctionError, NodeInput, NodeOutput, in_order},
    model::{Fingerprint, Shape},
};

/// The type of the file for a dataset of a type.
pub(super) fn kind_of_file(written: &str, shape: Shape) -> &'static str {
    let kind = written.rsplit_once('.').map_or(written, |(_, kind)| kind);
    match (shape, kind) {
        (Shape::Value, "text" | "TextDataset") => "text",
        (Shape::Value, "JSONDataset") => "json.JSONDataset",
        (Shape::Value, _) => "yaml",
        (_, "csv" | "CSVDataset") => "csv",
        (_, "json" | "JSONDataset") => "json",
        (_, "arrow" | "FeatherDataset") => "arrow",
        _ => "parquet",
    }
}

/// A folder for one run of a command.
pub(super) struct Exchange {
    folder: tempfile::TempDir,
    stores: Stores,
}

impl Exchange {
    pub(super) fn create(context: &Context) -> Result<Self, FunctionError> {
        let folder = tempfile::Builder::new()
            .prefix("command-")
            .tempdir()
            .map_err(|error| FunctionError::Failed(format!("cannot create a folder for its files: {error}")))?;
        let environment = context.service.environment.clone();
        let stores = Stores::new(folder.path(), Arc::new(move |name: &str| environment.get(name)));
        Ok(Self { folder, stores })
    }

    pub(super) fn file(&self, name: &str, kind: &str) -> PathBuf {
        let suffix = match kind {
            "text" => "txt",
            "json.JSONDataset" => "json",
            "yaml" => "yml",
            other => other,
        };
        self.folder.path().join(format!("{name}.{suffix}"))
    }

    /// Writes an input; returns the path of its file.
    pub(super) async fn write(
        &self,
        name: &str,
        kind: &str,
        input: NodeInput,
        context: &Context,
    ) -> Result<String, FunctionError> {
        let file = self.file(name, kind);
        let dataset = dataset(name, kind, &file)?;
        match input {
            NodeInput::Table(table) => {
                let table = in_order(&context.session, table).await?;
                let request =
                    WriteRequest { table, receipt: Fingerprint::of("input"), progress: &|_| {}, computed: &|| None };
                dataset.table_sink()?.write_table(&self.stores, request).await?;
            }
            NodeInput::Value(value) => {
                dataset.document()?.write_value(&self.stores, &value, Fingerprint::of("input")).await?;
            }
            NodeInput::External | NodeInput::Held(_) | NodeInput::Partitions { .. } => {
                return Err(FunctionError::Failed(format!("input `{name}` can be opened by Python only")));
            }
        }
        Ok(file.display().to_string())
    }

    /// Reads an output.
    pub(super) async fn read(
        &self,
        name: &str,
        kind: &str,
        shape: Shape,
        file: &Path,
        context: &Context,
    ) -> Result<NodeOutput, FunctionError> {
        let dataset = dataset(name, kind, file)?;
        if shape == Shape::Value {
            return Ok(NodeOutput::Value(dataset.document()?.value(&self.stores).await?));
        }
        let table = dataset.table_source()?.table(&self.stores).await?;
        Ok(NodeOutput::Table(in_order(&context.session, table).await?))
    }
}

/// A dataset of a type at a path.
fn dataset(name: &str, kind: &str, path: &Path) -> Result<Arc<dyn Dataset>, FunctionError> {
    let span = Span { source: SourceId(0), start: 0, end: 0 };
    let entry = |text: &str| Entry { key_span: span, node: Node::new(Value::Text(text.to_owned()), span) };
    let entries =
        IndexMap::from([("type".to_owned(), entry(kind)), ("path".to_owned(), entry(&path.display().to_string()))]);
    let spec = DatasetSpec {
        name: name.to_owned(),
        name_span: span,
        kind: Spanned { value: kind.to_owned(), span },
        options: Node::new(Value::Map(Map { entries }), span),
    };
    let mut problems = Diagnostics::default();
    data::decode(&spec, DATASETS, &mut problems).ok_or_else(|| {
        let messages: Vec<String> = problems.into_sorted().into_iter().map(|problem| problem.message).collect();
        FunctionError::Failed(messages.join("; "))
    })
}
