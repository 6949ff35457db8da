//! An object store, whose listings come in pages and whose large files are sent in parts.

use std::{
    fs, io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::execution::object_store::ObjectStoreUrl;
use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectStore, ObjectStoreExt, PutPayload, path::Path};
use tokio_util::sync::CancellationToken;

use super::{
    backend::{Backend, Place},
    contents,
    error::DataError,
    fence, guard,
    listing::{Entry, Listing, Stamp},
    names::{hidden, is_hidden},
    store_error::store_error,
    tasks::{blocking, ended},
};
use crate::model::Fingerprint;

/// A file larger than this is sent to a store in parts.
const PART_SIZE: usize = 16 << 20;
/// How long taking back an upload may take; what stays is removed by the store's own rules for unfinished uploads.
const ABORTING: Duration = Duration::from_secs(10);

/// A path of an object store.
#[derive(Debug, Clone)]
pub(super) struct RemoteBackend {
    store: Arc<dyn ObjectStore>,
    url: ObjectStoreUrl,
    path: Path,
}

impl RemoteBackend {
    /// A path of a store, which DataFusion knows by `url`.
    pub(super) fn new(store: Arc<dyn ObjectStore>, url: ObjectStoreUrl, path: Path) -> Self {
        Self { store, url, path }
    }

    fn at(&self, path: Path) -> Arc<dyn Backend> {
        Arc::new(Self { store: Arc::clone(&self.store), url: self.url.clone(), path })
    }

    async fn list_below(&self, place: &Place) -> Result<Listing, DataError> {
        let mut entries = Vec::new();
        let prefix = if self.path.is_root() { None } else { Some(&self.path) };
        let mut stream = self.store.list(prefix);
        while let Some(meta) = stream.try_next().await.map_err(|error| store_error(place, &error))? {
            let full = meta.location.as_ref();
            let relative = full.strip_prefix(self.path.as_ref()).unwrap_or(full).trim_start_matches('/').to_owned();
            if relative.is_empty() || is_hidden(&relative) || (meta.size == 0 && !relative.contains('.')) {
                continue;
            }
            entries.push(remote_entry(relative, meta));
        }
        Ok(Listing::folder(entries))
    }

    async fn send_parts(
        &self,
        place: &Place,
        mut reader: PartReader,
        given_up: &CancellationToken,
    ) -> Result<(), DataError> {
        let mut upload = request(place, self.store.put_multipart(&self.path)).await?;
        let parts = async {
            while let Some(bytes) = reader.next().await.map_err(|e| DataError::io(&*place.shown, e))? {
                request(place, upload.put_part(PutPayload::from_bytes(bytes))).await?;
            }
            Ok::<_, DataError>(())
        };
        let sent = tokio::select! {
            biased;
            () = given_up.cancelled() => Err(place.layout("", "its upload was given up")),
            sent = parts => sent,
        };
        let ended = match sent {
            Ok(()) => request(place, upload.complete()).await.map(drop),
            Err(error) => Err(error),
        };
        if ended.is_err() {
            // An upload that is not ended is billed for ever.
            let _ = tokio::time::timeout(ABORTING, upload.abort()).await;
        }
        ended
    }
}

#[async_trait]
impl Backend for RemoteBackend {
    fn id(&self) -> String {
        format!("{}{}", self.url, self.path)
    }

    fn child(&self, relative: &str) -> Arc<dyn Backend> {
        self.at(join(&self.path, relative))
    }

    fn sibling(&self, suffix: &str) -> (String, Arc<dyn Backend>) {
        let name = hidden(self.path.filename(), suffix);
        let path = join(&self.path.parent().unwrap_or_default(), &name);
        (name, self.at(path))
    }

    fn remote(&self) -> Option<(&Arc<dyn ObjectStore>, &Path)> {
        Some((&self.store, &self.path))
    }

    fn object(&self, relative: &str) -> Result<(ObjectStoreUrl, Path), String> {
        Ok((self.url.clone(), join(&self.path, relative)))
    }

    async fn list(&self, place: &Place) -> Result<Listing, DataError> {
        if !self.path.is_root() {
            match self.store.head(&self.path).await {
                // A store's console writes an empty object for a folder.
                Ok(meta) if meta.size > 0 => return Ok(Listing::File(remote_entry(String::new(), meta))),
                Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(store_error(place, &error)),
            }
        }
        self.list_below(place).await
    }

    async fn list_folder(&self, place: &Place) -> Result<Listing, DataError> {
        // One request less.
        self.list_below(place).await
    }

    async fn read(&self, place: &Place) -> Result<Option<Bytes>, DataError> {
        let got = match self.store.get(&self.path).await {
            Ok(got) => got,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(store_error(place, &error)),
        };
        Ok(Some(got.bytes().await.map_err(|error| store_error(place, &error))?))
    }

    async fn content(&self, place: &Place) -> Result<Option<Fingerprint>, DataError> {
        let mut bytes = match self.store.get(&self.path).await {
            Ok(got) => got.into_stream(),
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(store_error(place, &error)),
        };
        let mut hasher = blake3::Hasher::new();
        while let Some(part) = bytes.try_next().await.map_err(|error| store_error(place, &error))? {
            hasher.update(&part);
        }
        Ok(Some(contents::of_hash(&hasher)))
    }

    async fn put(&self, place: &Place, bytes: Bytes, _staging: &dyn Backend) -> Result<(), DataError> {
        let writing = place.begin_write()?;
        let (this, place) = (self.clone(), place.clone());
        let task = tokio::spawn(async move {
            let _writing = writing;
            if fence::is_needed(&place, &this.path) {
                return fence::replace(&this.store, &this.path, &place, bytes).await;
            }
            request(&place, this.store.put(&this.path, PutPayload::from_bytes(bytes))).await?;
            Ok(())
        });
        ended(task.await).await
    }

    async fn upload(&self, place: &Place, file: fs::File, size: u64) -> Result<(), DataError> {
        let mut reader = PartReader { file: Arc::new(Mutex::new(file)), left: size };
        if size <= PART_SIZE as u64 {
            let bytes = reader.next().await.map_err(|e| DataError::io(&*place.shown, e))?.unwrap_or_default();
            return self.put(place, bytes, self).await;
        }
        let writing = place.begin_write()?;
        let wanted = CancellationToken::new();
        let _until_dropped = wanted.clone().drop_guard();
        let (this, place) = (self.clone(), place.clone());
        let task = tokio::spawn(async move {
            let _writing = writing;
            this.send_parts(&place, reader, &wanted).await
        });
        ended(task.await).await
    }

    async fn remove(&self, place: &Place, files: Vec<String>) -> Result<(), DataError> {
        let writing = place.begin_write()?;
        let paths: Vec<_> = files.iter().map(|file| Ok(join(&self.path, file))).collect();
        let (store, place) = (Arc::clone(&self.store), place.clone());
        let task = tokio::spawn(async move {
            let _writing = writing;
            let mut done = store.delete_stream(futures::stream::iter(paths).boxed());
            while let Some(result) = guard::hold(place.guard.as_ref(), done.next()).await? {
                match result {
                    Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                    Err(error) => return Err(store_error(&place, &error)),
                }
            }
            Ok(())
        });
        ended(task.await).await
    }
}

/// One request of something that was begun, given up when the lease is lost.
async fn request<T>(place: &Place, request: impl Future<Output = object_store::Result<T>>) -> Result<T, DataError> {
    guard::hold(place.guard.as_ref(), request).await?.map_err(|error| store_error(place, &error))
}

fn remote_entry(path: String, meta: object_store::ObjectMeta) -> Entry {
    Entry::new(path, meta.size, || match meta.e_tag {
        Some(tag) => Stamp::Tag(tag),
        None => Stamp::Time(meta.last_modified.timestamp_nanos_opt().unwrap_or_default()),
    })
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
