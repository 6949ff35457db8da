//! The contract of a dataset type: how an entry of the catalog is checked and becomes a dataset.

use std::{fmt, sync::Arc};

use super::{
    dataset::Dataset,
    format::{ColumnTypes, FormatType},
    options::SCHEMA,
    type_info::TypeInfo,
};
use crate::{
    config::{DatasetSpec, Field, Record},
    diagnostic::Diagnostics,
    model::Shape,
};

/// A kind of dataset, as named under `type:`.
pub trait DatasetType: Send + Sync {
    /// What it is called and what it is.
    fn type_info(&self) -> TypeInfo;
    /// See [`TypeInfo::name`].
    fn name(&self) -> &'static str {
        self.type_info().name
    }
    /// See [`TypeInfo::aliases`].
    fn aliases(&self) -> &'static [&'static str] {
        self.type_info().aliases
    }
    /// See [`TypeInfo::doc`].
    fn doc(&self) -> &'static str {
        self.type_info().doc
    }
    /// How its datasets are loaded and saved, as far as the type alone says it.
    fn shape(&self) -> Shape {
        Shape::Table
    }
    /// The keys of an entry, besides those of every entry ([`DATASET_FIELDS`](crate::config::DATASET_FIELDS)).
    fn fields(&self) -> &'static [Field];
    /// The keys under `load_args`, in tables that count together. Others have no meaning: an error, or a warning for a type of
    /// another library.
    fn load_args(&self) -> Vec<&'static [Field]> {
        Vec::new()
    }
    /// The keys under `save_args`, as [`Self::load_args`].
    fn save_args(&self) -> Vec<&'static [Field]> {
        Vec::new()
    }
    /// Keys of other libraries under `load_args` that change nothing here, with the values for which that is so.
    fn inert_load_args(&self) -> &'static [Field] {
        self.file_type().map_or(&[], |file| file.0.inert_load_args())
    }
    /// As [`Self::inert_load_args`], under `save_args`.
    fn inert_save_args(&self) -> &'static [Field] {
        self.file_type().map_or(&[], |file| file.0.inert_save_args())
    }
    /// What its files hold, for a type whose data can also be a partition's file.
    fn file_type(&self) -> Option<FileType> {
        None
    }
    /// Reads and checks an entry; `types` are all that it may name inside. Pure: no disk, no network, no environment.
    /// `None` when there were problems.
    fn decode(
        &self,
        spec: &DatasetSpec,
        entry: &Record<'_>,
        types: &[&'static dyn DatasetType],
        problems: &mut Diagnostics,
    ) -> Option<Arc<dyn Dataset>>;
}

/// What the files of a dataset type hold. Only types of this crate have one.
#[derive(Clone, Copy)]
pub struct FileType(pub(super) &'static dyn FormatType);

impl FileType {
    /// The keys of a partition's entry beside `type`, `file_format`, `load_args` and `save_args`.
    pub fn fields(self) -> &'static [Field] {
        const FIELDS: &[Field] = &[SCHEMA];
        if self.0.column_types() == ColumnTypes::Fixed { &[] } else { FIELDS }
    }

    /// The keys under `load_args` where the type is that of partitions.
    pub fn load_args(self) -> &'static [Field] {
        self.0.load_args()
    }

    /// The keys under `save_args` where the type is that of partitions.
    pub fn save_args(self) -> &'static [Field] {
        self.0.save_args()
    }
}

impl fmt::Debug for FileType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FileType").field(&self.0.type_info().name).finish()
    }
}
