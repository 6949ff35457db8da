//! Datasets that are files: one file, a folder, or hive partitions, in any format and on any store.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use arrow::{
    datatypes::{Schema, SchemaRef},
    ipc::{reader::StreamReader, writer::StreamWriter},
};
use async_trait::async_trait;
use datafusion::{catalog::TableProvider, datasource::MemTable, execution::SendableRecordBatchStream};

use super::{
    DataError, Dataset, DatasetInfo, DatasetState, External, Location, Partition, PartitionReceipt, PartitionSink,
    PartitionSource, PartitionWriter, Stores, TableSink, TableSource, WriteOptions, WriteRequest, Written,
    accept_partition::accept_partition,
    checkpoint::Checkpoint,
    commit::{PartFile, PartTarget},
    declared::DeclaredColumns,
    file_name::FileName,
    file_set::DataFile,
    files::Files,
    format::FileFormat,
    grouping::{Grouping, PartitionUnit},
    late::settle,
    listing::{Entry, Listing},
    ownership::{FileIds, FileLayout, Level, Occupants, Origin},
    partition_columns::{partition_fields, without},
    partition_receipts::{self, PartitionReceipts},
    receipt::{Receipt, is_own_file, state_of},
    schema_difference::difference,
    spooled_file::SpooledFile,
    store_path::StorePath,
    tasks::blocking,
    write::{Staging, encode_stream, preview_partitions, write_partitions},
};
use crate::{
    config::Node,
    model::{Fingerprint, PartitionKey, Shape},
};

/// A dataset of files.
#[derive(Debug, Clone)]
pub(super) struct FileDataset {
    /// What is known without I/O.
    pub(super) info: DatasetInfo,
    /// Its location.
    pub(super) location: Location,
    /// What its files are.
    pub(super) format: Arc<dyn FileFormat>,
    /// What is declared of its columns.
    pub(super) declared: DeclaredColumns,
    /// True if its files say the types of their columns, so that they are compared with what is declared.
    pub(super) typed: bool,
    /// Columns that become directories when a table is written.
    pub(super) partition_by: Vec<String>,
    /// How names of partition files end; those that end otherwise are not partitions of this view.
    pub(super) suffix: String,
    /// What one partition is.
    pub(super) unit: PartitionUnit,
    /// True when a table is always a folder, as Spark writes it.
    pub(super) folder: bool,
    /// How partitions are computed and saved.
    pub(super) options: WriteOptions,
    /// Which partitions are seen, where that is remembered.
    pub(super) checkpoint: Option<Checkpoint>,
    /// Its entry, where a program of another language may open it too: Spark reads and writes its own frames.
    pub(super) entry: Option<Node>,
}

impl FileDataset {
    fn missing(&self) -> DataError {
        DataError::Missing { dataset: self.info.name.clone(), location: self.location.shown().to_owned() }
    }

    /// Names of partition files end like this when they are written; a suffix without a dot gets one, so that the
    /// fingerprint in front of it can be read back.
    fn written_suffix(&self) -> String {
        match self.suffix.chars().next() {
            None => self.format.suffix().to_owned(),
            Some(first) if first.is_ascii_alphanumeric() => format!(".{}", self.suffix),
            Some(_) => self.suffix.clone(),
        }
    }

    /// Compares the columns of files that say their types with what is declared.
    fn check(&self, schema: &Schema) -> Result<(), DataError> {
        if self.typed { self.declared.check(&self.info.name, schema) } else { Ok(()) }
    }

    async fn list(&self, stores: &Stores, place: &StorePath) -> Result<Arc<Listing>, DataError> {
        let listing = match self.location.glob() {
            Some(glob) => stores.list_matching(place, glob).await?,
            None => stores.list(place).await?,
        };
        match &self.checkpoint {
            Some(checkpoint) => Ok(Arc::new(checkpoint.visible(stores, place, &listing, &self.suffix).await?)),
            None => Ok(listing),
        }
    }

    /// How its files make up partitions.
    fn grouping<'a>(&'a self, receipts: &'a PartitionReceipts) -> Grouping<'a> {
        Grouping { unit: self.unit, suffix: &self.suffix, receipts }
    }

    /// The receipts of partitions that are files with names of their own, where a listing has such files.
    async fn receipts(
        &self,
        stores: &Stores,
        place: &StorePath,
        listing: &Listing,
    ) -> Result<PartitionReceipts, DataError> {
        let named = listing.entries().iter().all(|entry| FileName::parse(&entry.path).is_some());
        if named || self.info.shape != Shape::Partitions {
            return Ok(PartitionReceipts::default());
        }
        let found = stores.list_folder(&partition_receipts::folder(place)).await?;
        let mut receipts = PartitionReceipts::of_listing(&found, None);
        receipts.complete(place, listing, &self.suffix).await?;
        Ok(receipts)
    }

    /// The location of its files. `columns` are those of its partitions, where they are known and its entry does not say.
    fn layout<'a>(
        &'a self,
        columns: Option<&'a [String]>,
        folder: bool,
        receipts: &'a PartitionReceipts,
    ) -> FileLayout<'a> {
        let level = match (self.info.shape, self.partition_by.as_slice(), columns) {
            (_, by @ [_, ..], _) => Level::Partition(by),
            (Shape::Partitions, [], Some(columns)) => Level::Partition(columns),
            (Shape::Partitions, [], None) => Level::AnyPartition,
            _ => Level::Folder,
        };
        debug_assert!(folder || level == Level::Folder, "partitions are in a folder");
        let all = self.unit == PartitionUnit::File;
        let files = FileIds { suffix: &self.suffix, receipts, all };
        let files = (self.info.shape == Shape::Partitions).then_some(files);
        FileLayout { level, suffix: self.written_suffix().into(), overwrite: self.options.overwrite, files }
    }

    /// What is in the way of a write, in a listing of the place.
    async fn occupants_of(
        &self,
        place: &StorePath,
        listing: &Listing,
        columns: Option<&[String]>,
        receipts: &PartitionReceipts,
    ) -> Result<Occupants, DataError> {
        let folder = self.info.shape == Shape::Partitions
            || !self.partition_by.is_empty()
            || self.folder
            || self.location.is_folder();
        let shown = place.shown();
        // A file replaces what has its name: a link, and not the file that it leads to. A folder may be reached through one.
        if !folder && !matches!(listing, Listing::Folder(..)) && place.is_local_link().await {
            let message = format!(
                "is written as one file, and {shown} is a link: put a file in the place of the link, or give `{}` the path that it leads to",
                self.info.name
            );
            return Ok(Occupants::unfit(message));
        }
        Ok(match listing {
            Listing::File(_) if folder => {
                let message = format!(
                    "is written as a folder, but a file lies at {shown}: move it away, or give `{}` another `path`",
                    self.info.name
                );
                Occupants::unfit(message)
            }
            Listing::File(entry) => match Receipt::read(place).await?.filter(|_| entry.plain) {
                Some(receipt) if is_own_file(place, listing, &receipt).await? => Occupants::default(),
                Some(_) => Occupants::changed_file(shown.to_owned(), self.options.overwrite),
                None => Occupants::file(shown.to_owned(), entry.plain, self.options.overwrite),
            },
            Listing::Absent if !folder && place.is_local_folder().await => {
                let message = format!(
                    "is written as one file, but a folder lies at {shown}: give `{}` another `path`, or write a `/` at its end to have a folder of files",
                    self.info.name
                );
                Occupants::unfit(message)
            }
            Listing::Absent => Occupants::default(),
            Listing::Folder(..) => {
                Occupants::of_folder(listing, &self.layout(columns, true, receipts), |path| place.show(path))
            }
        })
    }

    async fn write_file(
        &self,
        place: &StorePath,
        before: Listing,
        request: WriteRequest<'_>,
    ) -> Result<Written, DataError> {
        let staging = Staging::new(place)?;
        let schema = request.table.schema();
        if schema.fields().is_empty() {
            let message = "cannot hold a table without columns; a list without rows has none\nhelp: give an empty table that has columns, or \
                           declare them under `schema`";
            return Err(DataError::unsupported(&self.info.name, message));
        }
        let encoded = encode_stream(&self.format, request.table, &staging, request.progress).await?;
        let folder = self.folder || self.location.is_folder() || matches!(before, Listing::Folder(..));
        let name = FileName::of_table(encoded.content, encoded.spool.len(), self.format.suffix());
        let name = if folder { name.to_string() } else { String::new() };
        let mut written = Written { rows: encoded.rows, partitions: 1, ..Written::default() };
        if folder && before.entries().iter().any(|entry| *entry.path == *name && entry.fingerprint().is_some()) {
            written.bytes = encoded.spool.len();
            written.unchanged = 1;
        } else {
            // A file without a receipt that fits is not ours, so there is one before there is a file.
            let (spool, first) = if folder { (encoded.spool, false) } else { announce(place, encoded.spool).await? };
            match spool.publish(&place.child(&name), staging.local()).await {
                Ok(bytes) => written.bytes = bytes,
                Err(error) => {
                    if first {
                        let _ = Receipt::remove(place).await;
                    }
                    return Err(error);
                }
            }
        }
        // What was there goes, and the receipt is written, once the new file is safe.
        place.synced().await?;
        if folder {
            let receipts = PartitionReceipts::default();
            let layout = self.layout(None, true, &receipts);
            let stale = before.entries().iter().filter(|entry| *entry.path != *name && layout.may_remove(entry));
            place.remove(stale.map(|entry| entry.path.to_string()).collect()).await?;
        }
        let content = (!folder).then_some(encoded.content);
        let kept = HashSet::from([name.as_str()]);
        let receipts = PartitionReceipts::default();
        let digest = settle(&self.info.name, place, &kept, &self.layout(None, folder, &receipts)).await?.digest();
        Receipt { content, computed: (request.computed)(), ..Receipt::of(request.receipt, digest) }
            .write(place)
            .await?;
        Ok(written)
    }
}

#[async_trait]
impl Dataset for FileDataset {
    fn info(&self) -> &DatasetInfo {
        &self.info
    }

    fn location(&self) -> Option<&Location> {
        Some(&self.location)
    }

    fn written_as(&self) -> Fingerprint {
        let mut builder = Fingerprint::builder("files")
            .text(&self.format.written_as())
            .text(&self.written_suffix())
            .number(u64::from(self.folder));
        self.partition_by.iter().for_each(|column| builder.push(column.as_bytes()));
        for (column, data_type) in self.declared.iter() {
            builder = builder.text(column).text(&data_type.to_string());
        }
        builder.finish()
    }

    fn declared(&self) -> Option<&DeclaredColumns> {
        Some(&self.declared).filter(|declared| !declared.is_empty())
    }

    fn differences(&self) -> Vec<String> {
        self.format.differences()
    }

    async fn occupants(&self, stores: &Stores, columns: Option<&[String]>) -> Result<Occupants, DataError> {
        let place = stores.open(&self.location)?;
        let listing = self.list(stores, &place).await?;
        let receipts = self.receipts(stores, &place, &listing).await?;
        self.occupants_of(&place, &listing, columns, &receipts).await
    }

    async fn state(&self, stores: &Stores) -> Result<DatasetState, DataError> {
        let place = stores.open(&self.location)?;
        let listing = self.list(stores, &place).await?;
        Ok(state_of(&place, &listing).await?.0)
    }

    async fn synced(&self, stores: &Stores) -> Result<(), DataError> {
        stores.open(&self.location)?.synced().await
    }

    async fn accept(&self, stores: &Stores, receipt: Fingerprint) -> Result<(), DataError> {
        Receipt::accept(&stores.open(&self.location)?, receipt).await
    }

    fn keeps_columns(&self) -> bool {
        self.format.keeps_types()
    }

    async fn local_columns(&self, stores: &Stores) -> Result<Option<SchemaRef>, DataError> {
        let place = stores.open(&self.location)?;
        if place.local().is_none() || self.location.glob().is_some() || self.checkpoint.is_some() {
            return Ok(None);
        }
        let (listing, receipts) = (place.list_names().await?, PartitionReceipts::default());
        let files = DataFile::of_listing(&place, &listing, self.grouping(&receipts))?;
        let found = Files::of(&place, &self.format, files).await?.map(Files::provider).transpose()?;
        Ok(found.map(|table| table.schema()))
    }

    fn as_table_source(&self) -> Option<&dyn TableSource> {
        Some(self)
    }

    fn as_table_sink(&self) -> Option<&dyn TableSink> {
        (self.info.shape == Shape::Table).then_some(self)
    }

    fn as_partition_source(&self) -> Option<&dyn PartitionSource> {
        Some(self)
    }

    fn as_partition_sink(&self) -> Option<&dyn PartitionSink> {
        (self.info.shape == Shape::Partitions).then_some(self)
    }

    fn as_external(&self) -> Option<&dyn External> {
        self.entry.is_some().then_some(self)
    }
}

#[async_trait]
impl External for FileDataset {
    fn entry(&self) -> &Node {
        self.entry.as_ref().expect("only a dataset with its entry is external")
    }

    async fn written(&self, stores: &Stores, receipt: Fingerprint) -> Result<(), DataError> {
        self.accept(stores, receipt).await
    }
}

#[async_trait]
impl TableSource for FileDataset {
    async fn table(&self, stores: &Stores) -> Result<Arc<dyn TableProvider>, DataError> {
        let place = stores.open(&self.location)?;
        let listing = self.list(stores, &place).await?;
        let receipts = self.receipts(stores, &place, &listing).await?;
        let files = DataFile::of_listing(&place, &listing, self.grouping(&receipts))?;
        if let Some(files) = Files::of(&place, &self.format, files).await? {
            let table = files.provider()?;
            self.check(&table.schema())?;
            return Ok(table);
        }
        let (_, receipt) = state_of(&place, &listing).await?;
        let schema = receipt.and_then(|receipt| receipt.schema).as_deref().and_then(read_schema);
        let schema = schema.ok_or_else(|| self.missing())?;
        Ok(Arc::new(MemTable::try_new(schema, vec![Vec::new()])?))
    }
}

#[async_trait]
impl TableSink for FileDataset {
    fn partition_columns(&self) -> Vec<String> {
        self.partition_by.clone()
    }

    fn keeps_types(&self) -> bool {
        self.format.keeps_types()
    }

    async fn write_table(&self, stores: &Stores, request: WriteRequest<'_>) -> Result<Written, DataError> {
        let name = &self.info.name;
        let request = WriteRequest { table: self.declared.fitted(name, request.table)?, ..request };
        let place = stores.open(&self.location)?;
        // A file that others may have written is known by its content, and the files of a folder by their names.
        let before = place.list_names().await?;
        let before = if matches!(before, Listing::File(_)) { place.list().await? } else { before };
        if let Some(refusal) =
            self.occupants_of(&place, &before, None, &PartitionReceipts::default()).await?.refusal(name)
        {
            return Err(DataError::Occupied(refusal));
        }
        if self.partition_by.is_empty() {
            return self.write_file(&place, before, request).await;
        }
        let WriteRequest { table, receipt: work, progress, computed } = request;
        let whole = table.schema();
        let by = (self.partition_by.as_slice(), self.options.overwrite);
        let (written, after) = write_partitions(name, &place, &*self.format, by, &before, table, progress).await?;
        // Without a single file the columns would be forgotten.
        let schema = (after == Listing::Absent).then(|| write_schema(&whole)).transpose()?;
        Receipt { schema, computed: computed(), ..Receipt::of(work, after.digest()) }.write(&place).await?;
        Ok(written)
    }

    async fn preview_table(
        &self,
        stores: &Stores,
        table: SendableRecordBatchStream,
    ) -> Result<Vec<Partition>, DataError> {
        let place = stores.open(&self.location)?;
        let table = self.declared.fitted(&self.info.name, table)?;
        preview_partitions(&self.info.name, &place, &*self.format, &self.partition_by, table).await
    }
}

#[async_trait]
impl PartitionSource for FileDataset {
    async fn partitions(&self, stores: &Stores) -> Result<Vec<Partition>, DataError> {
        let place = stores.open(&self.location)?;
        let listing = self.list(stores, &place).await?;
        if let Listing::File(entry) = &*listing {
            let message = "it is a file, and partitions are in a folder".to_owned();
            return Err(DataError::Layout { file: place.show(&entry.path), message });
        }
        let receipts = self.receipts(stores, &place, &listing).await?;
        if let Some(partitions) = self.grouping(&receipts).partitions(&listing, place.shown())? {
            return Ok(partitions);
        }
        match listing.entries().first() {
            Some(entry) if entry.path.ends_with(&self.suffix) => Err(DataError::Layout {
                file: place.show(&entry.path),
                message: "it is not in a partition directory (`column=value/…`)".to_owned(),
            }),
            _ => Ok(Vec::new()),
        }
    }

    async fn load_partition(
        &self,
        stores: &Stores,
        partition: &Partition,
    ) -> Result<SendableRecordBatchStream, DataError> {
        let place = stores.open(&self.location)?;
        let key = &partition.key;
        let files = partition.files.iter().map(|file| DataFile {
            path: Arc::clone(&file.path),
            size: file.size,
            key: Some(key.clone()),
        });
        let files = Files::of_partition(&place, &self.format, files.collect()).await?.ok_or_else(|| self.missing())?;
        let rows = files.stream();
        self.check(&rows.schema())?;
        Ok(rows)
    }

    fn same_columns(
        &self,
        stores: &Stores,
        (partition, schema): (&Partition, &Schema),
        (first, expected): (&Partition, &Schema),
    ) -> Result<(), DataError> {
        // One partition's key may look like a number where another's does not.
        let own = |partition: &Partition, schema| without(schema, &partition_fields(std::iter::once(&partition.key)));
        let Some(difference) = difference(&own(first, expected), &own(partition, schema)) else { return Ok(()) };
        let place = stores.open(&self.location)?;
        let file = |partition: &Partition| match partition.files.first() {
            Some(file) => place.show(&file.path),
            None => place.show(&partition.key.path()),
        };
        Err(DataError::Drift { file: file(partition), first: file(first), difference })
    }
}

#[async_trait]
impl PartitionSink for FileDataset {
    fn write_options(&self) -> WriteOptions {
        self.options
    }

    fn write_partition(
        &self,
        stores: &Stores,
        key: &PartitionKey,
        fingerprint: Fingerprint,
        schema: SchemaRef,
    ) -> Result<Box<dyn PartitionWriter>, DataError> {
        let place = stores.open(&self.location)?;
        let (target, suffix) = match key.file() {
            Some(id) => (PartTarget::File { dataset: self.info.name.clone(), id: id.to_owned() }, self.suffix.clone()),
            None => (PartTarget::Folder(key.path()), self.written_suffix()),
        };
        if self.checkpoint.is_some() {
            stores.forget_partitions_seen(&place);
        }
        let name = (fingerprint, suffix, self.options.overwrite);
        self.declared.fitted_partition((&self.info.name, key), schema, |schema| {
            Box::new(PartFile::new(&place, target, &self.format, schema, name))
        })
    }

    async fn receipts_at(&self, stores: &Stores, key: &PartitionKey) -> Result<Vec<PartitionReceipt>, DataError> {
        let place = stores.open(&self.location)?;
        let Some(id) = key.file() else {
            let listing = place.child(&key.path()).list_folder().await?;
            let files = listing.entries().iter().filter(|entry| entry.path.ends_with(&self.suffix));
            return Ok(files.filter_map(|entry| entry.receipt()).collect());
        };
        let file = format!("{id}{}", self.suffix);
        let Listing::File(there) = place.child(&file).list().await? else { return Ok(Vec::new()) };
        let there = Entry { path: file.into(), ..there };
        let receipts =
            partition_receipts::folder(&place).child(&partition_receipts::folder_of(id)).list_folder().await?;
        let receipts = PartitionReceipts::of_listing(&receipts, Some(id));
        Ok(receipts.fitting(id, &there).into_iter().collect())
    }

    async fn accept_partition(
        &self,
        stores: &Stores,
        partition: &Partition,
        receipt: PartitionReceipt,
    ) -> Result<(), DataError> {
        partition.check_whole(&self.info)?;
        let place = stores.open(&self.location)?;
        accept_partition((&place, &self.written_suffix()), partition, receipt).await
    }

    async fn retain_partitions(
        &self,
        stores: &Stores,
        keep: &BTreeMap<PartitionKey, Fingerprint>,
    ) -> Result<usize, DataError> {
        let place = stores.open(&self.location)?;
        if !self.options.overwrite && place.local().is_some() {
            // A lease on the local disk is never lost, so no other run has put anything there.
            return Ok(0);
        }
        let names = place.list_names().await?;
        let receipts = self.receipts(stores, &place, &names).await?;
        // A file with a name of its own is known by its content.
        let listing = if receipts.is_empty() { names } else { place.list().await? };
        let columns: Option<Vec<String>> =
            keep.keys().next().map(|key| key.columns().map(|(column, _)| column.to_owned()).collect());
        let layout = self.layout(columns.as_deref(), true, &receipts);
        let grouping = self.grouping(&receipts);
        let mut stale = BTreeSet::new();
        let mut files = Vec::new();
        for entry in listing.entries().iter().filter(|entry| layout.may_remove(entry)) {
            let Ok(Some(key)) = grouping.key(entry, place.shown()) else { continue };
            let late = match keep.get(&key) {
                None if self.options.overwrite => {
                    stale.insert(key);
                    true
                }
                None => false,
                // A file with a name of its own is not known by its name.
                Some(kept) => {
                    let ours = layout.origin(entry) == Origin::Flow;
                    ours && key.file().is_none() && entry.fingerprint() != Some(*kept)
                }
            };
            if late {
                files.push(entry.path.to_string());
            }
        }
        place.remove(files).await?;
        let ids: Vec<&str> = stale.iter().filter_map(PartitionKey::file).collect();
        receipts.remove(&place, &ids).await?;
        Ok(stale.len())
    }
}

/// Writes beside a dataset that is one file what the file is going to hold. True when there was no receipt before.
async fn announce(place: &StorePath, mut spool: SpooledFile) -> Result<(SpooledFile, bool), DataError> {
    let (spool, content) = blocking(move || {
        let content = spool.content()?;
        Ok::<_, DataError>((spool, content))
    })
    .await?;
    let before = Receipt::read(place).await?;
    let first = before.is_none();
    Receipt::announcing(before, content).write(place).await?;
    Ok((spool, first))
}

fn write_schema(schema: &Schema) -> Result<Vec<u8>, DataError> {
    let mut writer = StreamWriter::try_new(Vec::new(), schema)?;
    writer.finish()?;
    Ok(writer.into_inner()?)
}

fn read_schema(bytes: &[u8]) -> Option<SchemaRef> {
    StreamReader::try_new(bytes, None).ok().map(|reader| reader.schema())
}
