//! One writer at a time: a lease on a dataset for as long as a run writes to it.
//!
//! On the local disk a file lock on `.<name>.flow-lock` beside the dataset: the system takes it back when the process
//! dies, however it dies. On an object store an object made with create-only, renewed while the run lives and taken
//! over by the next run once it was not renewed for [`EXPIRY`]. Taking a lease also removes what a dead process
//! left staged.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write as _},
    path::{Path as FsPath, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, UpdateVersion, path::Path};
use serde::{Deserialize, Serialize};
use tokio::task::AbortHandle;

use super::{
    Dataset,
    error::DataError,
    storage::{Place, Stores, blocking, unique_name},
};

const LOCK_SUFFIX: &str = ".flow-lock";
/// Where writes to a local dataset are staged: beside it, because readers take any file inside for data.
pub(super) const STAGING_SUFFIX: &str = ".flow-staging";
/// How long a lease on an object store lives without being renewed.
const EXPIRY: Duration = Duration::from_secs(90);
const RENEW_EVERY: Duration = Duration::from_secs(20);

/// The right to write to one dataset. Given back when dropped.
#[derive(Debug)]
#[must_use = "a lease that is dropped is given back at once"]
pub struct Lease {
    _held: Held,
}

#[derive(Debug)]
enum Held {
    /// Nothing outside this process can write there.
    Nothing,
    Local {
        file: File,
        lock: PathBuf,
        staging: PathBuf,
    },
    Remote {
        store: Arc<dyn ObjectStore>,
        path: Path,
        renewal: AbortHandle,
        runtime: tokio::runtime::Handle,
        token: String,
    },
}

/// What the lock says to others.
#[derive(Debug, Serialize, Deserialize)]
struct Holder {
    token: String,
    host: String,
    pid: u32,
    since: DateTime<Utc>,
    renewed: DateTime<Utc>,
}

impl Holder {
    fn here() -> Self {
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
        let now = Utc::now();
        let token = format!("{host}-{}-{}", unique_name(), now.timestamp_nanos_opt().unwrap_or_default());
        Self { token, host, pid: std::process::id(), since: now, renewed: now }
    }

    fn to_bytes(&self) -> Bytes {
        Bytes::from(serde_json::to_vec(self).expect("plain texts always serialize"))
    }

    fn shown(bytes: &[u8]) -> String {
        match serde_json::from_slice::<Self>(bytes) {
            Ok(holder) => {
                let host = if holder.host.is_empty() { String::new() } else { format!(" on {}", holder.host) };
                format!("process {}{host} since {}", holder.pid, holder.since.format("%Y-%m-%d %H:%M:%S UTC"))
            }
            Err(_) => "another process".to_owned(),
        }
    }
}

impl Stores {
    /// Takes the right to write to a dataset, and removes what a dead process left staged there.
    ///
    /// # Errors
    /// [`DataError::Held`] when another run has it, naming it.
    pub async fn lease(&self, dataset: &dyn Dataset) -> Result<Lease, DataError> {
        let Some(location) = dataset.location() else { return Ok(Lease { _held: Held::Nothing }) };
        let place = self.open(location)?;
        let name = dataset.info().name.clone();
        match place.remote() {
            None => local(&place, name).await,
            Some(_) => remote(&place, name).await,
        }
    }
}

async fn local(place: &Place, dataset: String) -> Result<Lease, DataError> {
    let path_of = |place: &Place| place.local().map(FsPath::to_path_buf).unwrap_or_default();
    let (lock, staging) = (path_of(&place.sibling(LOCK_SUFFIX)), path_of(&place.sibling(STAGING_SUFFIX)));
    let held = blocking(move || {
        if let Some(parent) = lock.parent() {
            fs::create_dir_all(parent).map_err(|error| DataError::io(parent, error))?;
        }
        let error = |error| DataError::io(&lock, error);
        let mut file = loop {
            let file =
                File::options().create(true).truncate(false).read(true).write(true).open(&lock).map_err(error)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let by = Holder::shown(&fs::read(&lock).unwrap_or_default());
                    return Err(DataError::Held { dataset, by });
                }
                Err(TryLockError::Error(source)) => return Err(error(source)),
            }
            // Between opening and locking, the last holder may have removed the file: then this is nobody's lock.
            if same_file(&file, &lock) {
                break file;
            }
        };
        file.set_len(0).and_then(|()| file.write_all(&Holder::here().to_bytes())).map_err(error)?;
        match fs::remove_dir_all(&staging) {
            Ok(()) => {}
            Err(gone) if gone.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(DataError::io(&staging, source)),
        }
        Ok(Held::Local { file, lock, staging })
    })
    .await?;
    Ok(Lease { _held: held })
}

#[cfg(unix)]
fn same_file(file: &File, path: &FsPath) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), fs::metadata(path)) {
        (Ok(ours), Ok(theirs)) => (ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino()),
        _ => false,
    }
}

#[cfg(not(unix))]
fn same_file(_file: &File, _path: &FsPath) -> bool {
    true
}

async fn remote(place: &Place, dataset: String) -> Result<Lease, DataError> {
    let lock = place.sibling(LOCK_SUFFIX);
    let Some((store, path)) = lock.remote() else { return Ok(Lease { _held: Held::Nothing }) };
    let mut holder = Holder::here();
    let mode = PutMode::Create;
    let version = match store.put_opts(path, PutPayload::from_bytes(holder.to_bytes()), PutOptions::from(mode)).await {
        Ok(put) => UpdateVersion::from(put),
        Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
            take_over(&lock, store, path, &holder, &dataset).await?
        }
        // Web servers and simple stores have no conditional PUT: the last resort is to look and write.
        Err(object_store::Error::NotImplemented { .. } | object_store::Error::NotSupported { .. }) => {
            let put = async { store.put(path, PutPayload::from_bytes(holder.to_bytes())).await };
            if let Some(bytes) = lock.read().await?.filter(|bytes| !expired(bytes)) {
                return Err(DataError::Held { dataset, by: Holder::shown(&bytes) });
            }
            UpdateVersion::from(put.await.map_err(|error| lock.store_error("", &error))?)
        }
        Err(error) => return Err(lock.store_error("", &error)),
    };
    let (store, path, token) = (Arc::clone(store), path.clone(), holder.token.clone());
    let renewal = {
        let (store, path) = (Arc::clone(&store), path.clone());
        let mut version = version;
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(RENEW_EVERY).await;
                holder.renewed = Utc::now();
                let payload = PutPayload::from_bytes(holder.to_bytes());
                // A renewal that fails is tried again at the next turn; only its absence for long loses the lease.
                if let Ok(put) =
                    store.put_opts(&path, payload, PutOptions::from(PutMode::Update(version.clone()))).await
                {
                    version = UpdateVersion::from(put);
                }
            }
        })
        .abort_handle()
    };
    Ok(Lease { _held: Held::Remote { store, path, renewal, runtime: tokio::runtime::Handle::current(), token } })
}

fn expired(bytes: &[u8]) -> bool {
    let Ok(holder) = serde_json::from_slice::<Holder>(bytes) else { return true };
    Utc::now().signed_duration_since(holder.renewed).to_std().is_ok_and(|age| age > EXPIRY)
}

async fn take_over(
    lock: &Place,
    store: &Arc<dyn ObjectStore>,
    path: &Path,
    holder: &Holder,
    dataset: &str,
) -> Result<UpdateVersion, DataError> {
    let held = |by: String| DataError::Held { dataset: dataset.to_owned(), by };
    let got = match store.get(path).await {
        Ok(got) => got,
        // Given back just now; the next try of the user finds it free.
        Err(object_store::Error::NotFound { .. }) => return Err(held("a run that is just ending".to_owned())),
        Err(error) => return Err(lock.store_error("", &error)),
    };
    let version = UpdateVersion { e_tag: got.meta.e_tag.clone(), version: got.meta.version.clone() };
    let bytes = got.bytes().await.map_err(|error| lock.store_error("", &error))?;
    if !expired(&bytes) {
        return Err(held(Holder::shown(&bytes)));
    }
    let payload = PutPayload::from_bytes(holder.to_bytes());
    match store.put_opts(path, payload, PutOptions::from(PutMode::Update(version))).await {
        Ok(put) => Ok(UpdateVersion::from(put)),
        Err(object_store::Error::Precondition { .. } | object_store::Error::AlreadyExists { .. }) => {
            Err(held("another run that took over just now".to_owned()))
        }
        Err(error) => Err(lock.store_error("", &error)),
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        match self {
            Self::Nothing => {}
            Self::Local { file, lock, staging } => {
                // Empty unless the run was cut short; then the next lease clears it.
                let _ = fs::remove_dir(staging);
                // Removed while still locked, so that nobody can hold the name that goes.
                let _ = fs::remove_file(lock);
                let _ = file.unlock();
            }
            Self::Remote { store, path, renewal, runtime, token } => {
                renewal.abort();
                let (store, path, token) = (Arc::clone(store), path.clone(), std::mem::take(token));
                // Given back in the background; if the process ends first, it expires.
                runtime.spawn(async move {
                    let Ok(got) = store.get(&path).await else { return };
                    let Ok(bytes) = got.bytes().await else { return };
                    if serde_json::from_slice::<Holder>(&bytes).is_ok_and(|holder| holder.token == token) {
                        let _ = store.delete(&path).await;
                    }
                });
            }
        }
    }
}
