//! A folder as another reader sees it, on the local disk or on an object store, possibly while it is written.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    sync::{Arc, LazyLock},
};

use arrow::{array::RecordBatch, compute::concat_batches};
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt, path::Path};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tokio::runtime::Runtime;

use super::walk;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("threads"));

/// Files by partition: `vectors/bucket=3` and what its files hold.
pub type Tables = BTreeMap<String, Vec<RecordBatch>>;

/// A folder on the local disk or on an object store.
#[derive(Debug, Clone)]
pub enum Place {
    Local(PathBuf),
    Store(Arc<dyn ObjectStore>, String),
}

impl Place {
    /// All files, hidden ones too, sorted.
    pub fn files(&self) -> Vec<String> {
        let mut names: Vec<String> = match self {
            Self::Local(folder) => {
                let mut paths = Vec::new();
                walk(folder, &mut paths);
                let relative =
                    |path: &PathBuf| path.strip_prefix(folder).expect("below").to_string_lossy().into_owned();
                paths.iter().map(relative).collect()
            }
            Self::Store(store, prefix) => {
                let all = store.list(Some(&Path::from(prefix.as_str()))).try_collect::<Vec<_>>();
                let all = RUNTIME.block_on(all).expect("a listing");
                let relative = |path: &Path| path.as_ref().strip_prefix(prefix.as_str()).map(|p| p[1..].to_owned());
                all.iter().map(|meta| relative(&meta.location).expect("below")).collect()
            }
        };
        names.sort();
        names
    }

    /// One file; `None` when it is gone.
    pub fn read(&self, name: &str) -> Option<Bytes> {
        match self {
            Self::Local(folder) => fs::read(folder.join(name)).ok().map(Bytes::from),
            Self::Store(store, prefix) => RUNTIME.block_on(async {
                match store.get(&path(prefix, name)).await {
                    Ok(got) => Some(got.bytes().await.expect("the whole object")),
                    Err(object_store::Error::NotFound { .. }) => None,
                    Err(error) => panic!("{name}: {error}"),
                }
            }),
        }
    }

    /// Writes files, many at a time.
    pub fn put(&self, files: &BTreeMap<String, Bytes>) {
        match self {
            Self::Local(folder) => {
                for (name, bytes) in files {
                    let path = folder.join(name);
                    fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
                    fs::write(path, bytes).expect("written");
                }
            }
            Self::Store(store, prefix) => {
                let put = |(name, bytes): (&String, &Bytes)| {
                    let (store, path, bytes) = (Arc::clone(store), path(prefix, name), bytes.clone());
                    async move { store.put(&path, bytes.into()).await }
                };
                let all = futures::StreamExt::buffer_unordered(futures::stream::iter(files.iter().map(put)), 32);
                RUNTIME.block_on(all.try_collect::<Vec<_>>()).expect("written");
            }
        }
    }

    /// Everything here.
    pub fn contents(&self) -> BTreeMap<String, Bytes> {
        self.files().into_iter().filter_map(|name| self.read(&name).map(|bytes| (name, bytes))).collect()
    }

    /// Every parquet file that a reader finds, decoded whole. One that no longer exists when it is opened is left out.
    pub fn tables(&self) -> Tables {
        let mut tables = Tables::new();
        for name in self.files() {
            // Readers skip what begins with a dot.
            if !name.ends_with(".parquet") || name.split('/').any(|part| part.starts_with('.')) {
                continue;
            }
            let Some(bytes) = self.read(&name) else { continue };
            let key = name.rsplit_once('/').map_or("", |(key, _)| key);
            tables.entry(key.to_owned()).or_default().push(decode(&name, bytes));
        }
        tables
    }
}

/// A parquet file as one batch.
fn decode(name: &str, bytes: Bytes) -> RecordBatch {
    let size = bytes.len();
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes);
    let reader = reader.unwrap_or_else(|error| panic!("{name} ({size} bytes) is no whole file: {error}"));
    let reader = reader.build().expect("a reader");
    let schema = arrow::array::RecordBatchReader::schema(&reader);
    let batches: Vec<_> = reader.collect::<Result<_, _>>().unwrap_or_else(|error| panic!("{name}: {error}"));
    concat_batches(&schema, &batches).expect("one schema")
}

fn path(prefix: &str, name: &str) -> Path {
    Path::parse(format!("{prefix}/{name}")).expect("a path")
}
