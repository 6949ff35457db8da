//! A folder of small objects on a store, for what is kept beside a project and is no dataset: ledgers that hosts share.
//!
//! Credentials come from the environment, as for datasets without any in the catalog.

use std::{path::PathBuf, sync::Arc};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::TryStreamExt as _;
use object_store::{ObjectStore, ObjectStoreExt as _, path::Path};

use super::{
    error::DataError,
    location::{Location, without_userinfo},
    store_path::StorePath,
    stores::Stores,
};

/// A place that is a folder of the disk, or one of a store.
#[derive(Debug, Clone)]
pub enum Folder {
    /// On the disk.
    Local(PathBuf),
    /// On a store.
    Store(Objects),
}

/// A folder of a store.
#[derive(Debug, Clone)]
pub struct Objects {
    place: StorePath,
    store: Arc<dyn ObjectStore>,
    path: Path,
}

/// One object of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its path below the folder.
    pub name: String,
    /// In bytes.
    pub size: u64,
    /// When it was last written, by the store's clock.
    pub modified: DateTime<Utc>,
}

fn invalid(location: &str, message: impl Into<String>) -> DataError {
    DataError::Location { location: without_userinfo(location), message: message.into() }
}

fn folder_location(location: &str) -> Result<Location, DataError> {
    // A signature would be a part of the key, and be written into the files of a scheduler. On a disk a `?` is a character.
    let written = location.split_once("://").filter(|(scheme, _)| !matches!(*scheme, "file" | "http" | "https"));
    if written.is_some_and(|(_, rest)| rest.contains('?')) {
        let message = "a bucket's URL holds no query (`?…`): credentials come from the environment (docs/stores.md)";
        return Err(invalid(location, message));
    }
    let parsed = Location::parse(location, None).map_err(|error| invalid(location, error.0))?;
    if parsed.is_on_a_web_server() || parsed.glob().is_some() {
        return Err(invalid(location, "it is only read; give a local folder or one of a bucket"));
    }
    Ok(parsed)
}

/// Refuses what is no location of a folder that can be written. Opens nothing.
///
/// # Errors
/// With what is wrong.
pub fn check_folder(location: &str) -> Result<(), DataError> {
    folder_location(location).map(drop)
}

impl Stores {
    /// A folder by its location, as a catalog would write it. Nothing is sent.
    ///
    /// # Errors
    /// When it is no location that can be written.
    pub fn folder(&self, location: &str) -> Result<Folder, DataError> {
        let place = self.open(&folder_location(location)?)?;
        if let Some(path) = place.local() {
            return Ok(Folder::Local(path.to_path_buf()));
        }
        let remote = place.remote().map(|(store, path)| (Arc::clone(store), path.clone()));
        let (store, path) = remote.ok_or_else(|| invalid(location, "it is neither a folder nor a bucket"))?;
        Ok(Folder::Store(Objects { place, store, path }))
    }
}

impl Objects {
    fn at(&self, name: &str) -> Path {
        Path::from(format!("{}/{name}", self.path))
    }

    fn error(&self, error: &object_store::Error) -> DataError {
        self.place.store_error(error)
    }

    /// As displayed in messages.
    pub fn shown(&self) -> &str {
        self.place.shown()
    }

    /// Writes an object, in the place of one with this name.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn put(&self, name: &str, bytes: Bytes) -> Result<(), DataError> {
        self.store.put(&self.at(name), bytes.into()).await.map(drop).map_err(|error| self.error(&error))
    }

    /// All objects, by name.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn list(&self) -> Result<Vec<Object>, DataError> {
        let all: Vec<_> = self
            .store
            .list(Some(&self.path))
            .try_collect()
            .await
            .map_err(|error: object_store::Error| self.error(&error))?;
        let name = |path: &Path| {
            let parts: Option<Vec<_>> = path.prefix_match(&self.path).map(Iterator::collect);
            parts.map(|parts| parts.iter().map(AsRef::as_ref).collect::<Vec<&str>>().join("/"))
        };
        let objects = all.iter().filter_map(|meta| {
            Some(Object { name: name(&meta.location)?, size: meta.size, modified: meta.last_modified })
        });
        let mut objects: Vec<Object> = objects.filter(|object| !object.name.is_empty()).collect();
        objects.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(objects)
    }

    /// The content of an object.
    ///
    /// # Errors
    /// When the store refuses, or has no such object.
    pub async fn read(&self, name: &str) -> Result<Bytes, DataError> {
        let got = async { self.store.get(&self.at(name)).await?.bytes().await };
        got.await.map_err(|error| self.error(&error))
    }
}
