//! An opened location: the local disk and object stores behind one small set of calls.
//!
//! The local disk is used through `std::fs` on blocking threads, everything else through `object_store`, whose listings
//! come in pages. A local write survives the end of the process (the file is complete before it gets its name), and the
//! loss of power once [`StorePath::synced`] has returned.

use std::{
    fs, io,
    path::{Path as FsPath, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use datafusion::execution::object_store::ObjectStoreUrl;
use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectStore, ObjectStoreExt, PutPayload, path::Path};
use tokio_util::sync::CancellationToken;

use super::{
    contents::{self, Contents},
    error::DataError,
    faults,
    guard::{self, Guard, Writing},
    listing::{Entry, Listing, Stamp},
    names::{STAGING_SUFFIX, hidden, is_hidden, unique_name},
    syncer::{Syncer, sync_file},
    tasks::{blocking, ended},
    walk,
};
use crate::model::{Fingerprint, Secret};

/// A file larger than this is sent to a store in parts.
const PART_SIZE: usize = 16 << 20;
/// How long taking back an upload may take; what stays is removed by the store's own rules for unfinished uploads.
const ABORTING: Duration = Duration::from_secs(10);

/// A location that has been opened: what a path or URL of the catalog stands for.
#[derive(Debug, Clone)]
pub(super) struct StorePath {
    pub(super) kind: StorePathKind,
    /// As written in the catalog, without a slash at the end.
    pub(super) shown: Arc<str>,
    pub(super) secrets: Arc<[Secret]>,
    /// The lease on the dataset that lies here, where this process has it.
    pub(super) guard: Option<Guard>,
}

/// Where it is.
#[derive(Debug, Clone)]
pub(super) enum StorePathKind {
    Local(PathBuf, Arc<Disk>),
    Remote { store: Arc<dyn ObjectStore>, url: ObjectStoreUrl, path: Path },
}

/// What is known of local disks.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) contents: Contents,
    pub(super) syncer: Syncer,
}

impl StorePath {
    /// As shown to people.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    /// Tells this place from all others.
    pub(super) fn id(&self) -> String {
        match &self.kind {
            StorePathKind::Local(path, _) => path.display().to_string(),
            StorePathKind::Remote { url, path, .. } => format!("{url}{path}"),
        }
    }

    /// A file of this place as shown to people; the place itself for the empty path.
    pub(super) fn show(&self, relative: &str) -> String {
        if relative.is_empty() { self.shown.to_string() } else { format!("{}/{relative}", self.shown) }
    }

    /// The path on the local disk, if it is there.
    pub(super) fn local(&self) -> Option<&FsPath> {
        match &self.kind {
            StorePathKind::Local(path, _) => Some(path),
            StorePathKind::Remote { .. } => None,
        }
    }

    /// True for a folder of the local disk, whatever it holds.
    pub(super) async fn is_local_folder(&self) -> bool {
        let Some(path) = self.local().map(FsPath::to_path_buf) else { return false };
        blocking(move || path.is_dir()).await
    }

    /// What lies below. The empty path stays here.
    pub(super) fn child(&self, relative: &str) -> Self {
        if relative.is_empty() {
            return self.clone();
        }
        let kind = match &self.kind {
            StorePathKind::Local(path, disk) => StorePathKind::Local(path.join(relative), Arc::clone(disk)),
            StorePathKind::Remote { store, url, path } => {
                StorePathKind::Remote { store: Arc::clone(store), url: url.clone(), path: join(path, relative) }
            }
        };
        Self { kind, shown: self.show(relative).into(), secrets: Arc::clone(&self.secrets), guard: self.guard.clone() }
    }

    /// What lies beside: `.<name><suffix>` in the same folder, named after the path itself and not after how it is
    /// shown, so that no two places share it.
    pub(super) fn sibling(&self, suffix: &str) -> Self {
        let (name, kind) = match &self.kind {
            StorePathKind::Local(path, disk) => {
                let name = hidden(path.file_name().map(|name| name.to_string_lossy()).as_deref(), suffix);
                let path = path.with_file_name(&name);
                (name, StorePathKind::Local(path, Arc::clone(disk)))
            }
            StorePathKind::Remote { store, url, path } => {
                let name = hidden(path.filename(), suffix);
                let path = join(&path.parent().unwrap_or_default(), &name);
                (name, StorePathKind::Remote { store: Arc::clone(store), url: url.clone(), path })
            }
        };
        let shown = match self.shown.rsplit_once('/') {
            Some((parent, _)) => format!("{parent}/{name}"),
            None => name,
        };
        Self { kind, shown: shown.into(), secrets: Arc::clone(&self.secrets), guard: self.guard.clone() }
    }

    /// The store's URL and this place's path in it, for DataFusion.
    pub(super) fn object(&self, relative: &str) -> Result<(ObjectStoreUrl, Path), DataError> {
        match &self.kind {
            StorePathKind::Local(path, _) => {
                let full = if relative.is_empty() { path.clone() } else { path.join(relative) };
                let text = full.to_str().ok_or_else(|| self.layout(relative, "its path is not valid Unicode"))?;
                // The local store's root is the root of the file system.
                let path = Path::parse(text.trim_start_matches('/'))
                    .map_err(|error| self.layout(relative, &error.to_string()))?;
                Ok((ObjectStoreUrl::local_filesystem(), path))
            }
            StorePathKind::Remote { url, path, .. } => Ok((url.clone(), join(path, relative))),
        }
    }

    pub(super) fn layout(&self, relative: &str, message: &str) -> DataError {
        DataError::Layout { file: self.show(relative), message: message.to_owned() }
    }

    /// The store behind a remote place.
    pub(super) fn remote(&self) -> Option<(&Arc<dyn ObjectStore>, &Path)> {
        match &self.kind {
            StorePathKind::Local(..) => None,
            StorePathKind::Remote { store, path, .. } => Some((store, path)),
        }
    }

    /// Begins something that changes the dataset: refused when its lease is lost, and waited for before it is given back.
    pub(super) fn begin_write(&self) -> Result<Writing, DataError> {
        guard::begin(self.guard.as_ref())
    }

    /// One request of something that was begun, given up when the lease is lost.
    async fn request<T>(&self, request: impl Future<Output = object_store::Result<T>>) -> Result<T, DataError> {
        guard::hold(self.guard.as_ref(), request).await?.map_err(|error| self.store_error("", &error))
    }

    /// The bucket or container is not there.
    pub(super) fn no_bucket(&self) -> DataError {
        let rest = self.shown.split_once("://").map_or(&*self.shown, |(_, rest)| rest);
        let bucket = rest.split('/').next().unwrap_or_default();
        let message = format!("bucket `{bucket}` does not exist; create it, or correct the path or the endpoint");
        DataError::Store { location: self.shown.to_string(), message, not_found: false, transient: false }
    }

    /// Waits until everything that was written here before now survives the loss of power. On a store every write does.
    pub(super) async fn synced(&self) -> Result<(), DataError> {
        match &self.kind {
            StorePathKind::Local(path, disk) => {
                disk.syncer.synced(path).await.map_err(|error| DataError::io(path, error))
            }
            StorePathKind::Remote { .. } => Ok(()),
        }
    }

    pub(super) fn store_error(&self, relative: &str, error: &object_store::Error) -> DataError {
        const NO_BUCKET: &[&str] = &["NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist"];
        let words = super::error::chain(error);
        if NO_BUCKET.iter().any(|words_of_one| words.contains(words_of_one)) {
            return self.no_bucket();
        }
        DataError::store(&self.show(relative), error, &self.secrets)
    }

    /// What is here: nothing, one file, or a folder of files. Hidden files are left out. Local files that others wrote
    /// are read, where nothing is remembered of them, so that the digest of the listing is one of their content.
    pub(super) async fn list(&self) -> Result<Listing, DataError> {
        match &self.kind {
            StorePathKind::Local(path, disk) => {
                let (path, disk) = (path.clone(), Arc::clone(disk));
                blocking(move || {
                    let mut listing = walk::list(&path)?;
                    disk.contents.fill(&path, &mut listing);
                    Ok(listing)
                })
                .await
            }
            StorePathKind::Remote { store, path, .. } => self.list_remote(store, path).await,
        }
    }

    /// As [`Self::list`], for those who want names and sizes only.
    pub(super) async fn list_names(&self) -> Result<Listing, DataError> {
        match &self.kind {
            StorePathKind::Local(path, _) => {
                let path = path.clone();
                blocking(move || walk::list(&path)).await
            }
            StorePathKind::Remote { store, path, .. } => self.list_remote(store, path).await,
        }
    }

    /// The names in this folder, which is known not to be a file: on a store, one request less.
    pub(super) async fn list_folder(&self) -> Result<Listing, DataError> {
        match &self.kind {
            StorePathKind::Local(..) => self.list_names().await,
            StorePathKind::Remote { store, path, .. } => self.list_below(store, path).await,
        }
    }

    async fn list_remote(&self, store: &Arc<dyn ObjectStore>, path: &Path) -> Result<Listing, DataError> {
        if !path.is_root() {
            match store.head(path).await {
                // A store's console writes an empty object for a folder.
                Ok(meta) if meta.size > 0 => return Ok(Listing::File(remote_entry(String::new(), meta))),
                Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(self.store_error("", &error)),
            }
        }
        self.list_below(store, path).await
    }

    async fn list_below(&self, store: &Arc<dyn ObjectStore>, path: &Path) -> Result<Listing, DataError> {
        let mut entries = Vec::new();
        let prefix = if path.is_root() { None } else { Some(path) };
        let mut stream = store.list(prefix);
        while let Some(meta) = stream.try_next().await.map_err(|error| self.store_error("", &error))? {
            let full = meta.location.as_ref();
            let relative = full.strip_prefix(path.as_ref()).unwrap_or(full).trim_start_matches('/').to_owned();
            if relative.is_empty() || is_hidden(&relative) || (meta.size == 0 && !relative.contains('.')) {
                continue;
            }
            entries.push(remote_entry(relative, meta));
        }
        Ok(Listing::folder(entries))
    }

    /// The whole content, or `None` when nothing is there.
    pub(super) async fn read(&self) -> Result<Option<Bytes>, DataError> {
        match &self.kind {
            StorePathKind::Local(path, _) => {
                let path = path.clone();
                blocking(move || match fs::read(&path) {
                    Ok(bytes) => Ok(Some(Bytes::from(bytes))),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                    Err(error) => Err(DataError::io(&path, error)),
                })
                .await
            }
            StorePathKind::Remote { store, path, .. } => {
                let got = match store.get(path).await {
                    Ok(got) => got,
                    Err(object_store::Error::NotFound { .. }) => return Ok(None),
                    Err(error) => return Err(self.store_error("", &error)),
                };
                Ok(Some(got.bytes().await.map_err(|error| self.store_error("", &error))?))
            }
        }
    }

    /// The digest of the bytes of the file here, read as a stream; `None` when nothing is there.
    pub(super) async fn content(&self) -> Result<Option<Fingerprint>, DataError> {
        match &self.kind {
            StorePathKind::Local(path, _) => {
                let path = path.clone();
                blocking(move || match fs::File::open(&path).and_then(contents::digest) {
                    Ok(content) => Ok(Some(content)),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                    Err(error) => Err(DataError::io(&path, error)),
                })
                .await
            }
            StorePathKind::Remote { store, path, .. } => {
                let mut bytes = match store.get(path).await {
                    Ok(got) => got.into_stream(),
                    Err(object_store::Error::NotFound { .. }) => return Ok(None),
                    Err(error) => return Err(self.store_error("", &error)),
                };
                let mut hasher = blake3::Hasher::new();
                while let Some(part) = bytes.try_next().await.map_err(|error| self.store_error("", &error))? {
                    hasher.update(&part);
                }
                Ok(Some(contents::of_hash(&hasher)))
            }
        }
    }

    /// Puts a small object here in one atomic step, replacing what was here. On the local disk it is first written
    /// where writes to `dataset` are staged, so that what a dead process leaves goes with the next lease.
    ///
    /// Once begun it goes on to its end, also where nobody waits for it any more.
    pub(super) async fn put(&self, bytes: Bytes, dataset: &Self) -> Result<(), DataError> {
        let writing = self.begin_write()?;
        match &self.kind {
            StorePathKind::Local(path, _) => {
                let path = path.clone();
                let staging = dataset.sibling(STAGING_SUFFIX).local().map(FsPath::to_path_buf).unwrap_or_default();
                blocking(move || {
                    let _writing = writing;
                    for folder in path.parent().into_iter().chain([&*staging]) {
                        fs::create_dir_all(folder).map_err(|error| DataError::io(folder, error))?;
                    }
                    let staged = staging.join(unique_name());
                    let written = fs::write(&staged, &bytes).and_then(|()| {
                        faults::point();
                        sync_file(&staged)?;
                        fs::rename(&staged, &path)?;
                        sync_file(&path)
                    });
                    if written.is_err() {
                        let _ = fs::remove_file(&staged);
                    }
                    // Fails while others stage there.
                    let _ = fs::remove_dir(&staging);
                    faults::point();
                    written.map_err(|error| DataError::io(&path, error))
                })
                .await
            }
            StorePathKind::Remote { store, path, .. } => {
                let (this, store, path) = (self.clone(), Arc::clone(store), path.clone());
                let task = tokio::spawn(async move {
                    let _writing = writing;
                    faults::point();
                    this.request(store.put(&path, PutPayload::from_bytes(bytes))).await?;
                    faults::point();
                    Ok(())
                });
                ended(task.await).await
            }
        }
    }

    /// Sends a finished local file here: one PUT, or a multipart upload that is complete or not there at all. Where
    /// nobody waits for it any more, it is taken back.
    pub(super) async fn upload(&self, file: fs::File, size: u64) -> Result<(), DataError> {
        let mut reader = PartReader { file: Arc::new(Mutex::new(file)), left: size };
        if size <= PART_SIZE as u64 {
            let bytes = reader.next().await.map_err(|e| DataError::io(&*self.shown, e))?.unwrap_or_default();
            return self.put(bytes, self).await;
        }
        let writing = self.begin_write()?;
        let wanted = CancellationToken::new();
        let _until_dropped = wanted.clone().drop_guard();
        let this = self.clone();
        let task = tokio::spawn(async move {
            let _writing = writing;
            this.send_parts(reader, &wanted).await
        });
        ended(task.await).await
    }

    async fn send_parts(&self, mut reader: PartReader, given_up: &CancellationToken) -> Result<(), DataError> {
        let StorePathKind::Remote { store, path, .. } = &self.kind else {
            return Err(self.layout("", "only stores take uploads"));
        };
        let mut upload = self.request(store.put_multipart(path)).await?;
        let parts = async {
            while let Some(bytes) = reader.next().await.map_err(|e| DataError::io(&*self.shown, e))? {
                faults::point();
                self.request(upload.put_part(PutPayload::from_bytes(bytes))).await?;
            }
            Ok::<_, DataError>(())
        };
        let sent = tokio::select! {
            biased;
            () = given_up.cancelled() => Err(self.layout("", "its upload was given up")),
            sent = parts => sent,
        };
        if let Err(error) = sent {
            // An upload that is not ended is billed for ever.
            let _ = tokio::time::timeout(ABORTING, upload.abort()).await;
            return Err(error);
        }
        self.request(upload.complete()).await?;
        faults::point();
        Ok(())
    }

    /// Removes files below this place; ones that are gone already are fine. Emptied local folders go too.
    pub(super) async fn remove(&self, files: Vec<String>) -> Result<(), DataError> {
        if files.is_empty() {
            return Ok(());
        }
        let writing = self.begin_write()?;
        match &self.kind {
            StorePathKind::Local(root, _) => {
                let root = root.clone();
                blocking(move || {
                    let _writing = writing;
                    for file in files {
                        walk::refuse_links(&root, file.rsplit_once('/').map_or("", |(folder, _)| folder))?;
                        let path = if file.is_empty() { root.clone() } else { root.join(&file) };
                        match fs::remove_file(&path) {
                            Ok(()) => faults::point(),
                            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                            Err(error) => return Err(DataError::io(&path, error)),
                        }
                        let mut folder = path.parent();
                        // Stops at the first folder that still holds something.
                        while let Some(parent) = folder.filter(|parent| *parent != root && parent.starts_with(&root)) {
                            if fs::remove_dir(parent).is_err() {
                                break;
                            }
                            folder = parent.parent();
                        }
                    }
                    Ok(())
                })
                .await
            }
            StorePathKind::Remote { store, path, .. } => {
                let (this, store) = (self.clone(), Arc::clone(store));
                let paths: Vec<_> = files.iter().map(|file| Ok(join(path, file))).collect();
                let task = tokio::spawn(async move {
                    let _writing = writing;
                    let mut done = store.delete_stream(futures::stream::iter(paths).boxed());
                    while let Some(result) = guard::hold(this.guard.as_ref(), done.next()).await? {
                        faults::point();
                        match result {
                            Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                            Err(error) => return Err(this.store_error("", &error)),
                        }
                    }
                    Ok(())
                });
                ended(task.await).await
            }
        }
    }
}

fn remote_entry(path: String, meta: object_store::ObjectMeta) -> Entry {
    let stamp = match meta.e_tag {
        Some(tag) => Stamp::Tag(tag),
        None => Stamp::Time(meta.last_modified.timestamp_nanos_opt().unwrap_or_default()),
    };
    Entry { path, size: meta.size, stamp, plain: true }
}

struct PartReader {
    file: Arc<Mutex<fs::File>>,
    left: u64,
}

impl PartReader {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        if self.left == 0 {
            return Ok(None);
        }
        let size = self.left.min(PART_SIZE as u64);
        self.left -= size;
        let file = Arc::clone(&self.file);
        let size = usize::try_from(size).unwrap_or(PART_SIZE);
        blocking(move || {
            let mut buffer = vec![0; size];
            io::Read::read_exact(&mut *file.lock().unwrap_or_else(PoisonError::into_inner), &mut buffer)?;
            Ok(Some(Bytes::from(buffer)))
        })
        .await
    }
}

/// Joins without escaping again: relative paths come from listings or from [`crate::model::PartitionKey::path`].
fn join(path: &Path, relative: &str) -> Path {
    if relative.is_empty() {
        return path.clone();
    }
    let text = if path.is_root() { relative.to_owned() } else { format!("{path}/{relative}") };
    Path::parse(&text).unwrap_or_else(|_| Path::from(text))
}
