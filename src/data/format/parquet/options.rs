//! How parquet is written: what `save_args` say, and what follows from it.

use ::parquet::{
    basic::{Compression, GzipLevel, ZstdLevel},
    file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder},
};

use super::schema::WRITER;
use crate::{
    config::{Field, Kind},
    data::args::Args,
};

/// The format's name.
pub(super) const NAME: &str = "parquet";

/// A row group is closed at this many rows or bytes, whichever comes first; the writer holds one in memory.
const GROUP_ROWS: usize = 1 << 17;
const GROUP_BYTES: usize = 32 << 20;

/// The options under `load_args`.
pub(super) const LOAD_ARGS: &[Field] = &[Field::optional(
    "columns",
    Kind::List(&Kind::Text),
    "",
    "the columns that are read, in this order; those of hive folders are always there",
)];

/// The options under `save_args`.
pub(super) const SAVE_ARGS: &[Field] = &[
    Field::optional(
        "compression",
        Kind::Choice(&["zstd", "snappy", "gzip", "lz4", "none", "uncompressed"]),
        "",
        "how pages are compressed; if not given, small files in the fastest way and others in a small one",
    ),
    Field::optional("row_group_size", Kind::Integer(1, i64::MAX), "131072", "rows in a row group"),
];

/// Options of other libraries that change nothing here.
pub(super) const INERT_LOAD_ARGS: &[Field] = &[
    Field::optional("engine", Kind::Any, "", ""),
    Field::optional("use_pyarrow", Kind::Any, "", ""),
    Field::optional("memory_map", Kind::Any, "", ""),
    Field::optional("low_memory", Kind::Any, "", ""),
    Field::optional("rechunk", Kind::Any, "", ""),
    Field::optional("inferSchema", Kind::Any, "", "a parquet file has its types"),
    Field::optional("mergeSchema", Kind::Choice(&["false"]), "", ""),
];
/// As [`INERT_LOAD_ARGS`].
pub(super) const INERT_SAVE_ARGS: &[Field] = &[
    Field::optional("engine", Kind::Any, "", ""),
    Field::optional("use_pyarrow", Kind::Any, "", ""),
    Field::optional("index", Kind::Choice(&["false"]), "", "a table has no index"),
];

/// How parquet is written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ParquetOptions {
    /// How pages are compressed; if not given, small files in the fastest way and others in a small one.
    pub(super) compression: Option<Compression>,
    /// Rows in a row group.
    pub(super) group_rows: usize,
    /// The columns that are read; all if `None`.
    pub(super) columns: Option<Vec<String>>,
}

impl Default for ParquetOptions {
    fn default() -> Self {
        Self { compression: None, group_rows: GROUP_ROWS, columns: None }
    }
}

impl ParquetOptions {
    /// Reads [`LOAD_ARGS`] and [`SAVE_ARGS`].
    pub(super) fn of(load: &Args<'_>, save: &Args<'_>) -> Self {
        let compression = match save.record().word("compression") {
            Some(word) => Some(Self::compression(word)),
            None => save.is_null(&["compression"]).then_some(Compression::UNCOMPRESSED),
        };
        let rows = save.record().integer("row_group_size");
        let group_rows = rows.map_or(GROUP_ROWS, |rows| usize::try_from(rows).unwrap_or(usize::MAX));
        let columns = load.record().texts("columns");
        let columns = columns.map(|columns| columns.into_iter().map(str::to_owned).collect());
        Self { compression, group_rows, columns }
    }

    /// The value of a word of [`SAVE_ARGS`].
    pub(super) fn compression(word: &str) -> Compression {
        match word {
            "zstd" => Self::zstd(),
            "snappy" => Compression::SNAPPY,
            "gzip" => Compression::GZIP(GzipLevel::default()),
            "lz4" => Compression::LZ4_RAW,
            _ => Compression::UNCOMPRESSED,
        }
    }

    /// Level 1: most of what higher levels save, at a tenth of their time.
    pub(super) fn zstd() -> Compression {
        ZstdLevel::try_new(1).map_or(Compression::SNAPPY, Compression::ZSTD)
    }

    /// The library's properties, with this compression where none was given.
    pub(super) fn properties(&self, compression: Compression) -> WriterPropertiesBuilder {
        WriterProperties::builder()
            .set_created_by(format!("{WRITER}{}", env!("CARGO_PKG_VERSION")))
            .set_compression(self.compression.unwrap_or(compression))
            .set_max_row_group_row_count(Some(self.group_rows))
            .set_max_row_group_bytes(Some(GROUP_BYTES))
            .set_statistics_enabled(EnabledStatistics::Chunk)
    }
}
