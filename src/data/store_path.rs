//! An opened location: one path of a backend, with its displayed name and the lease it is written under.

use std::{fs, path::Path as FsPath, sync::Arc};

use bytes::Bytes;
use datafusion::execution::object_store::ObjectStoreUrl;
use object_store::{ObjectStore, path::Path};

use super::{
    backend::{Backend, Place},
    error::DataError,
    glob::Glob,
    guard::{Guard, Writing},
    listing::Listing,
    names::STAGING_SUFFIX,
    store_error::{no_bucket, store_error},
    tasks::blocking,
};
use crate::model::{Fingerprint, Secret};

/// A location that has been opened: a path or URL of the catalog, resolved.
#[derive(Debug, Clone)]
pub(super) struct StorePath {
    backend: Arc<dyn Backend>,
    place: Place,
}

impl StorePath {
    /// A path of a backend. `shown` is the location as written in the catalog; `secrets` are kept out of messages; `guard` is the lease on the
    /// dataset, where this process has it.
    pub(super) fn new(
        backend: impl Backend + 'static,
        shown: Arc<str>,
        secrets: Arc<[Secret]>,
        guard: Option<Guard>,
    ) -> Self {
        Self { backend: Arc::new(backend), place: Place { shown, secrets, guard } }
    }

    fn at(&self, backend: Arc<dyn Backend>, shown: String) -> Self {
        Self { backend, place: Place { shown: shown.into(), ..self.place.clone() } }
    }

    /// As displayed in messages.
    pub(super) fn shown(&self) -> &str {
        &self.place.shown
    }

    /// Identifies this path among all.
    pub(super) fn id(&self) -> String {
        self.backend.id()
    }

    /// A file of this location as displayed; the location itself for the empty path.
    pub(super) fn show(&self, relative: &str) -> String {
        self.place.show(relative)
    }

    /// The path on the local disk, if it is there.
    pub(super) fn local(&self) -> Option<&FsPath> {
        self.backend.local()
    }

    /// The store behind a remote place.
    pub(super) fn remote(&self) -> Option<(&Arc<dyn ObjectStore>, &Path)> {
        self.backend.remote()
    }

    /// True for a folder of the local disk, whatever it holds.
    pub(super) async fn is_local_folder(&self) -> bool {
        let Some(path) = self.local().map(FsPath::to_path_buf) else { return false };
        blocking(move || path.is_dir()).await
    }

    /// True for a link of the local disk, wherever it leads.
    pub(super) async fn is_local_link(&self) -> bool {
        let Some(path) = self.local().map(FsPath::to_path_buf) else { return false };
        blocking(move || path.is_symlink()).await
    }

    /// A path below this one; this one for the empty path.
    pub(super) fn child(&self, relative: &str) -> Self {
        if relative.is_empty() {
            return self.clone();
        }
        self.at(self.backend.child(relative), self.show(relative))
    }

    /// The sibling `.<name><suffix>` in the same folder.
    pub(super) fn sibling(&self, suffix: &str) -> Self {
        let (name, backend) = self.backend.sibling(suffix);
        let shown = match self.place.shown.rsplit_once('/') {
            Some((parent, _)) => format!("{parent}/{name}"),
            None => name,
        };
        self.at(backend, shown)
    }

    /// The store's URL and this place's path in it, for DataFusion.
    pub(super) fn object(&self, relative: &str) -> Result<(ObjectStoreUrl, Path), DataError> {
        self.backend.object(relative).map_err(|message| self.place.layout(relative, &message))
    }

    /// Begins something that changes the dataset: refused when its lease is lost, and waited for before it is given back.
    pub(super) fn begin_write(&self) -> Result<Writing, DataError> {
        self.place.begin_write()
    }

    /// True when other shards may write to the dataset at the same time.
    pub(super) fn is_shared(&self) -> bool {
        self.place.guard.as_ref().is_some_and(Guard::is_shared)
    }

    /// The same place for a process that has no lease on it any more: to take back what it put there itself.
    pub(super) fn without_lease(&self) -> Self {
        Self { place: Place { guard: None, ..self.place.clone() }, ..self.clone() }
    }

    /// A store's error as a message.
    pub(super) fn store_error(&self, error: &object_store::Error) -> DataError {
        store_error(&self.place, error)
    }

    /// The bucket or container does not exist.
    pub(super) fn no_bucket(&self) -> DataError {
        no_bucket(&self.place)
    }

    /// See [`Backend::synced`].
    pub(super) async fn synced(&self) -> Result<(), DataError> {
        self.backend.synced().await
    }

    /// See [`Backend::list`].
    pub(super) async fn list(&self) -> Result<Listing, DataError> {
        self.backend.list(&self.place).await
    }

    /// See [`Backend::list_matching`].
    pub(super) async fn list_matching(&self, glob: &Glob) -> Result<Listing, DataError> {
        self.backend.list_matching(&self.place, glob).await
    }

    /// See [`Backend::list_names`].
    pub(super) async fn list_names(&self) -> Result<Listing, DataError> {
        self.backend.list_names(&self.place).await
    }

    /// See [`Backend::list_folder`].
    pub(super) async fn list_folder(&self) -> Result<Listing, DataError> {
        self.backend.list_folder(&self.place).await
    }

    /// See [`Backend::read`].
    pub(super) async fn read(&self) -> Result<Option<Bytes>, DataError> {
        self.backend.read(&self.place).await
    }

    /// See [`Backend::content`].
    pub(super) async fn content(&self) -> Result<Option<Fingerprint>, DataError> {
        self.backend.content(&self.place).await
    }

    /// Puts a small object here, staged where writes to `dataset` are. See [`Backend::put`].
    pub(super) async fn put(&self, bytes: Bytes, dataset: &Self) -> Result<(), DataError> {
        let staging = dataset.sibling(STAGING_SUFFIX);
        self.backend.put(&self.place, bytes, &*staging.backend).await
    }

    /// See [`Backend::upload`].
    pub(super) async fn upload(&self, file: fs::File, size: u64) -> Result<(), DataError> {
        self.backend.upload(&self.place, file, size).await
    }

    /// See [`Backend::remove`].
    pub(super) async fn remove(&self, files: Vec<String>) -> Result<(), DataError> {
        if files.is_empty() {
            return Ok(());
        }
        self.backend.remove(&self.place, files).await
    }
}
