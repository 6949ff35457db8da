//! The contract of a backend: what the local disk and an object store each do in their own way for one place.
//!
//! A local write survives the end of the process (the file is complete before it gets its name), and the loss of power once
//! [`Backend::synced`] has returned. On an object store every write does both.

use std::{fmt, fs, path::Path as FsPath, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::execution::object_store::ObjectStoreUrl;
use object_store::{ObjectStore, path::Path};

use super::{
    error::DataError,
    glob::Glob,
    guard::{self, Guard, Writing},
    listing::Listing,
};
use crate::model::{Fingerprint, Secret};

/// What every backend knows of a location: how it is displayed, and the lease under which it is written.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// As written in the catalog, without a slash at the end.
    pub(super) shown: Arc<str>,
    /// What no message may hold.
    pub(super) secrets: Arc<[Secret]>,
    /// The lease on the dataset at this location, where this process holds it.
    pub(super) guard: Option<Guard>,
}

impl Place {
    /// A file of this location as displayed; the location itself for the empty path.
    pub(super) fn show(&self, relative: &str) -> String {
        if relative.is_empty() { self.shown.to_string() } else { format!("{}/{relative}", self.shown) }
    }

    /// A file that does not fit its location.
    pub(super) fn layout(&self, relative: &str, message: &str) -> DataError {
        DataError::Layout { file: self.show(relative), message: message.to_owned() }
    }

    /// Begins something that changes the dataset: refused when its lease is lost, and waited for before it is given back.
    pub(super) fn begin_write(&self) -> Result<Writing, DataError> {
        guard::begin(self.guard.as_ref())
    }
}

/// One path of the local disk or of an object store.
#[async_trait]
pub(super) trait Backend: fmt::Debug + Send + Sync {
    /// Identifies this path among all.
    fn id(&self) -> String;

    /// The location below, at a path that is not empty.
    fn child(&self, relative: &str) -> Arc<dyn Backend>;

    /// The sibling `.<name><suffix>`, and that name. It is named after the path itself and not after how it is
    /// shown, so that no two places share it.
    fn sibling(&self, suffix: &str) -> (String, Arc<dyn Backend>);

    /// The path on the local disk.
    fn local(&self) -> Option<&FsPath> {
        None
    }

    /// The object store and the path in it.
    fn remote(&self) -> Option<(&Arc<dyn ObjectStore>, &Path)> {
        None
    }

    /// The store's URL and a file's path in it, for DataFusion; the message when it has none.
    fn object(&self, relative: &str) -> Result<(ObjectStoreUrl, Path), String>;

    /// What is here: nothing, one file, or a folder of files. Hidden files are left out. Local files that others wrote are
    /// read, where nothing is remembered of them, so that the digest of the listing is one of their content.
    async fn list(&self, place: &Place) -> Result<Listing, DataError>;

    /// As [`Self::list`], of the files below a folder that a pattern matches.
    async fn list_matching(&self, place: &Place, glob: &Glob) -> Result<Listing, DataError> {
        Ok(self.list(place).await?.matching(glob))
    }

    /// As [`Self::list`], for those who want names and sizes only.
    async fn list_names(&self, place: &Place) -> Result<Listing, DataError> {
        self.list(place).await
    }

    /// The names in a folder, which is known not to be a file.
    async fn list_folder(&self, place: &Place) -> Result<Listing, DataError> {
        self.list_names(place).await
    }

    /// The whole content, or `None` when nothing is here.
    async fn read(&self, place: &Place) -> Result<Option<Bytes>, DataError>;

    /// The digest of the bytes of the file here, read as a stream; `None` when nothing is here.
    async fn content(&self, place: &Place) -> Result<Option<Fingerprint>, DataError>;

    /// Puts a small object here in one atomic step, replacing what was here. `staging` is where writes to its dataset are
    /// staged, so that what a dead process leaves goes with the next lease.
    ///
    /// Once begun it runs to its end, even if the caller is cancelled.
    async fn put(&self, place: &Place, bytes: Bytes, staging: &dyn Backend) -> Result<(), DataError>;

    /// Sends a finished local file here, which becomes complete or does not appear. If the caller is cancelled,
    /// it is taken back.
    async fn upload(&self, place: &Place, file: fs::File, size: u64) -> Result<(), DataError>;

    /// Removes files below; ones that are gone already are fine. Emptied local folders go too.
    async fn remove(&self, place: &Place, files: Vec<String>) -> Result<(), DataError>;

    /// Waits until everything that was written here before now survives the loss of power.
    async fn synced(&self) -> Result<(), DataError> {
        Ok(())
    }
}
