//! Arrow IPC: the file format (Feather v2) is written, files and streams are read.

use std::{
    io::{Read, Seek},
    sync::Arc,
};

use arrow::{
    array::RecordBatch,
    datatypes::SchemaRef,
    error::ArrowError,
    ipc::{
        CompressionType, Endianness,
        reader::{FileReader, StreamReader},
        root_as_message,
        writer::{FileWriter, IpcWriteOptions},
    },
};

use super::{
    contract::{ColumnTypes, EachFile, Encoder, FileFormat, FormatType, WriterFactory},
    file::{Input, Reading, corrupt},
};
use crate::{
    config::{Field, Kind},
    data::{TypeInfo, args::FormatArgs, error::DataError, spooled_file::SpooledFile},
    diagnostic::Diagnostics,
};

const NAME: &str = "arrow";
const MAGIC: &[u8] = b"ARROW1";

/// The format `arrow`.
pub(in crate::data) static ARROW: ArrowType = ArrowType;

/// See [`ARROW`].
pub(in crate::data) struct ArrowType;

impl FormatType for ArrowType {
    fn type_info(&self) -> TypeInfo {
        TypeInfo {
            name: NAME,
            aliases: &["pandas.FeatherDataset"],
            doc: "an Arrow IPC file (Feather), a folder of them, or hive partitions",
        }
    }

    fn column_types(&self) -> ColumnTypes {
        ColumnTypes::Written
    }

    fn file_format_names(&self) -> &'static [&'static str] {
        &["feather", "ipc"]
    }

    fn save_args(&self) -> &'static [Field] {
        const FIELDS: &[Field] = &[Field::optional(
            "compression",
            Kind::Choice(&["lz4", "zstd", "uncompressed"]),
            "lz4",
            "how columns are compressed",
        )];
        FIELDS
    }

    fn decode(&self, args: &FormatArgs<'_>, _problems: &mut Diagnostics) -> Arc<dyn FileFormat> {
        let compression = match args.save.record().word("compression") {
            Some("zstd") => Some(CompressionType::ZSTD),
            Some("uncompressed") => None,
            _ => Some(CompressionType::LZ4_FRAME),
        };
        Arc::new(Arrow { compression })
    }
}

#[derive(Debug)]
struct Arrow {
    compression: Option<CompressionType>,
}

impl FileFormat for Arrow {
    fn name(&self) -> &'static str {
        NAME
    }

    fn suffix(&self) -> &'static str {
        ".arrow"
    }

    fn written_as(&self) -> String {
        match self.compression {
            Some(CompressionType::LZ4_FRAME) => NAME.to_owned(),
            other => format!("{NAME} {other:?}"),
        }
    }

    fn keeps_types(&self) -> bool {
        true
    }

    fn open(&self, input: &Input, shown: &str, _expected: Option<&SchemaRef>) -> Result<Reading, DataError> {
        let failed = |error: ArrowError| corrupt(shown, NAME, &error);
        let mut reader = input.open(shown)?;
        let mut magic = [0; 6];
        let is_file = reader.read_exact(&mut magic).is_ok() && magic == *MAGIC;
        reader.rewind().map_err(|source| DataError::Io { path: shown.to_owned(), source })?;
        let shown = shown.to_owned();
        let named = move |batch: Result<RecordBatch, ArrowError>| batch.map_err(|error| corrupt(&shown, NAME, &error));
        if is_file {
            let reader = FileReader::try_new(reader, None).map_err(failed)?;
            Ok(Reading { schema: reader.schema(), batches: Box::new(reader.map(named)) })
        } else {
            check_order_of_bytes(&mut reader).map_err(failed)?;
            let reader = StreamReader::try_new(reader, None).map_err(failed)?;
            Ok(Reading { schema: reader.schema(), batches: Box::new(reader.map(named)) })
        }
    }

    fn writer(&self, schema: &SchemaRef) -> Result<Arc<dyn WriterFactory>, DataError> {
        let options = IpcWriteOptions::default().try_with_compression(self.compression)?;
        Ok(EachFile::by(schema, move |schema, sink| {
            Ok(Box::new(ArrowEncoder(FileWriter::try_new_with_options(sink, schema, options.clone())?)))
        }))
    }
}

/// Refuses a stream of integers in big-endian order, which the library would read in the other order; of files it knows.
fn check_order_of_bytes(reader: &mut (impl Read + Seek)) -> Result<(), ArrowError> {
    /// The first message is the schema.
    const LONGEST: u64 = 64 << 20;
    let mut word = [0; 4];
    let mut length = u32::MAX;
    // Streams of before 2019 have no mark in front of the length.
    while length == u32::MAX && reader.read_exact(&mut word).is_ok() {
        length = u32::from_le_bytes(word);
    }
    let mut message = Vec::new();
    reader.by_ref().take(u64::from(length).min(LONGEST)).read_to_end(&mut message)?;
    reader.rewind()?;
    // What is no message is reported by the reader.
    let schema = root_as_message(&message).ok().and_then(|message| message.header_as_schema());
    match schema.map(|schema| schema.endianness()) {
        Some(Endianness::Big) => Err(ArrowError::IpcError("its bytes are in big-endian order".to_owned())),
        _ => Ok(()),
    }
}

struct ArrowEncoder(FileWriter<SpooledFile>);

impl Encoder for ArrowEncoder {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), DataError> {
        Ok(self.0.write(batch)?)
    }

    fn finish(self: Box<Self>) -> Result<SpooledFile, DataError> {
        Ok(self.0.into_inner()?)
    }
}
