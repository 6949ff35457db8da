//! `yaml`, `text` and `json.JSONDataset`: small documents that are read and written whole.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::Value as Json;

use super::{
    DataError, Dataset, DatasetInfo, DatasetState, DatasetType, Document, FileType, Location, Occupants, Stores,
    TypeInfo, Written,
    args::{ArgsTables, DeclaredArgs},
    contents, format,
    library::Library,
    listing::Listing,
    options::{LOAD_ARGS, PATH, SAVE_ARGS, layer, single_location},
    receipt::{Receipt, is_own_file, state_of},
    store_path::StorePath,
};
use crate::{
    config::{DatasetSpec, Field, Kind, Record},
    diagnostic::{Diagnostics, Sources},
    model::{Fingerprint, Shape},
};

/// How a document is spelt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spelling {
    Yaml,
    Json,
    Text,
}

/// A document type.
pub(super) struct DocumentType {
    info: TypeInfo,
    spelling: Spelling,
    /// What its files hold where they are partitions.
    file_type: Option<FileType>,
}

/// The type `yaml`.
pub(super) static YAML: DocumentType = DocumentType {
    info: TypeInfo {
        name: "yaml",
        aliases: &["yaml.YAMLDataset"],
        doc: "a small YAML document, read and written whole",
    },
    spelling: Spelling::Yaml,
    file_type: None,
};

/// The type `text`.
pub(super) static TEXT: DocumentType = DocumentType {
    info: TypeInfo { name: "text", aliases: &["text.TextDataset"], doc: "one text, read and written whole" },
    spelling: Spelling::Text,
    file_type: Some(FileType(&format::text::TEXT)),
};

/// The type `json.JSONDataset`: `json` alone is a table.
pub(super) static JSON: DocumentType = DocumentType {
    info: TypeInfo { name: "json.JSONDataset", aliases: &[], doc: "a small JSON document, read and written whole" },
    spelling: Spelling::Json,
    file_type: None,
};

/// Kedro's options for a document, which has one form here.
const DOCUMENT_SAVE_ARGS: &[Field] = &[
    Field::optional("indent", Kind::Any, "", "a document is written with two spaces"),
    Field::optional("default_flow_style", Kind::Any, "", "a document is written as JSON, which is YAML"),
];

impl DatasetType for DocumentType {
    fn type_info(&self) -> TypeInfo {
        self.info
    }

    fn shape(&self) -> Shape {
        Shape::Value
    }

    fn fields(&self) -> &'static [Field] {
        const FIELDS: &[Field] = &[PATH, LOAD_ARGS, SAVE_ARGS];
        FIELDS
    }

    fn inert_load_args(&self) -> &'static [Field] {
        &[]
    }

    fn inert_save_args(&self) -> &'static [Field] {
        DOCUMENT_SAVE_ARGS
    }

    fn file_type(&self) -> Option<FileType> {
        self.file_type
    }

    fn decode(
        &self,
        spec: &DatasetSpec,
        entry: &Record<'_>,
        _types: &[&'static dyn DatasetType],
        problems: &mut Diagnostics,
    ) -> Option<Arc<dyn Dataset>> {
        let location = single_location(spec, entry, problems)?;
        let load = ArgsTables { read: self.load_args(), inert: self.inert_load_args() };
        let save = ArgsTables { read: self.save_args(), inert: self.inert_save_args() };
        let args = DeclaredArgs::of(spec, Library::of(&spec.kind.value), load, save, problems);
        args.load.read(problems);
        args.save.read(problems);
        let info = DatasetInfo {
            name: spec.name.clone(),
            type_name: self.info.name.to_owned(),
            shape: Shape::Value,
            location: Some(location.shown().to_owned()),
            persistent: true,
            supported: true,
            layer: layer(spec),
        };
        Some(Arc::new(DocumentDataset { info, location, spelling: self.spelling }))
    }
}

#[derive(Debug)]
struct DocumentDataset {
    info: DatasetInfo,
    location: Location,
    spelling: Spelling,
}

impl DocumentDataset {
    fn corrupt(&self, format: &'static str, message: String) -> DataError {
        DataError::Corrupt { file: self.location.shown().to_owned(), format, message }
    }

    /// A file at its location that `flow` did not write, which is never replaced.
    async fn occupants_of(&self, place: &StorePath) -> Result<Occupants, DataError> {
        let (name, shown) = (&self.info.name, place.shown());
        // A file replaces what has its name: a link, and not the file that it leads to.
        if place.is_local_link().await {
            return Ok(Occupants::unfit(format!(
                "is written as one file, and {shown} is a link: put a file in the place of the link, or give `{name}` the path \
                 that it leads to"
            )));
        }
        let listing = place.list().await?;
        if !matches!(listing, Listing::File(_)) {
            return Ok(Occupants::default());
        }
        match Receipt::read(place).await? {
            Some(receipt) if is_own_file(place, &listing, &receipt).await? => Ok(Occupants::default()),
            _ => Ok(Occupants::unfit(format!(
                "cannot be written: flow did not write what is at {shown}\nhelp: move it away, give `{name}` another `path`, or \
                 take it over with `flow accept`"
            ))),
        }
    }

    fn parse(&self, bytes: &[u8]) -> Result<Json, DataError> {
        let text = || std::str::from_utf8(bytes).map_err(|error| self.corrupt("text", error.to_string()));
        match self.spelling {
            Spelling::Text => Ok(Json::from(text()?)),
            Spelling::Json => serde_json::from_slice(bytes).map_err(|error| self.corrupt("json", error.to_string())),
            Spelling::Yaml => {
                let mut sources = Sources::default();
                let mut problems = Diagnostics::default();
                let id = sources.add(self.location.shown(), text()?);
                let node = crate::config::parse_yaml(id, text()?, &mut problems);
                let error =
                    problems.as_slice().iter().find(|problem| problem.severity == crate::diagnostic::Severity::Error);
                match (node, error) {
                    (_, Some(error)) => {
                        let place = error
                            .labels
                            .first()
                            .map(|label| format!("{}: ", sources.location(label.span)))
                            .unwrap_or_default();
                        Err(self.corrupt("yaml", format!("{place}{}", error.message)))
                    }
                    (Some(node), None) => match node.not_finite() {
                        // JSON has no word for it.
                        Some((number, span)) => {
                            let place = sources.location(span);
                            Err(self.corrupt(
                                "yaml",
                                format!("{place}: a document cannot hold {number}; write it as a string"),
                            ))
                        }
                        None => Ok(node.to_json()),
                    },
                    (None, None) => Ok(Json::Null),
                }
            }
        }
    }

    fn print(&self, value: &Json) -> Result<Vec<u8>, DataError> {
        match (self.spelling, value) {
            (Spelling::Text, Json::String(text)) => Ok(text.clone().into_bytes()),
            (Spelling::Text, other) => {
                let kind = match other {
                    Json::Null => "nothing",
                    Json::Bool(_) => "a boolean",
                    Json::Number(_) => "a number",
                    Json::Array(_) => "a list",
                    _ => "a mapping",
                };
                Err(DataError::unsupported(&self.info.name, format!("holds one text and cannot take {kind}")))
            }
            // JSON is YAML 1.2, and no reader of either is in doubt about it.
            (Spelling::Json | Spelling::Yaml, value) => {
                let mut bytes =
                    serde_json::to_vec_pretty(value).map_err(|error| self.corrupt("json", error.to_string()))?;
                bytes.push(b'\n');
                Ok(bytes)
            }
        }
    }
}

#[async_trait]
impl Dataset for DocumentDataset {
    fn info(&self) -> &DatasetInfo {
        &self.info
    }

    fn location(&self) -> Option<&Location> {
        Some(&self.location)
    }

    async fn occupants(&self, stores: &Stores, _columns: Option<&[String]>) -> Result<Occupants, DataError> {
        self.occupants_of(&stores.open(&self.location)?).await
    }

    async fn state(&self, stores: &Stores) -> Result<DatasetState, DataError> {
        let place = stores.open(&self.location)?;
        let listing = place.list().await?;
        Ok(state_of(&place, &listing).await?.0)
    }

    async fn synced(&self, stores: &Stores) -> Result<(), DataError> {
        stores.open(&self.location)?.synced().await
    }

    async fn accept(&self, stores: &Stores, receipt: Fingerprint) -> Result<(), DataError> {
        Receipt::accept(&stores.open(&self.location)?, receipt).await
    }

    fn as_document(&self) -> Option<&dyn Document> {
        Some(self)
    }
}

#[async_trait]
impl Document for DocumentDataset {
    async fn value(&self, stores: &Stores) -> Result<Json, DataError> {
        let bytes = stores.open(&self.location)?.read().await?;
        let missing =
            || DataError::Missing { dataset: self.info.name.clone(), location: self.location.shown().to_owned() };
        self.parse(&bytes.ok_or_else(missing)?)
    }

    async fn write_value(&self, stores: &Stores, value: &Json, receipt: Fingerprint) -> Result<Written, DataError> {
        let place = stores.open(&self.location)?;
        if let Some(refusal) = self.occupants_of(&place).await?.refusal(&self.info.name) {
            return Err(DataError::Occupied(refusal));
        }
        let bytes = self.print(value)?;
        let content = Some(Fingerprint::of(&bytes));
        let size = bytes.len() as u64;
        // A file without a receipt that fits is not ours, so there is one before there is a file.
        let pending = contents::digest(bytes.as_slice()).expect("memory can be read");
        let before = Receipt::read(&place).await?;
        let first = before.is_none();
        Receipt::announcing(before, pending).write(&place).await?;
        if let Err(error) = place.put(Bytes::from(bytes), &place).await {
            if first {
                let _ = Receipt::remove(&place).await;
            }
            return Err(error);
        }
        place.synced().await?;
        let digest = place.list().await?.digest();
        Receipt { content, ..Receipt::of(receipt, digest) }.write(&place).await?;
        Ok(Written { rows: 0, bytes: size, partitions: 1, unchanged: 0 })
    }
}
