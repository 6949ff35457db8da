//! The local disk, through `std::fs` on blocking threads.

use std::{
    fs,
    io::{self, Read as _},
    path::{Component, Path as FsPath, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::execution::object_store::ObjectStoreUrl;
use object_store::path::Path;

use super::{
    backend::{Backend, Place},
    contents::{self, Contents},
    error::DataError,
    faults,
    glob::Glob,
    listing::Listing,
    names::{hidden, unique_name},
    syncer::{Syncer, sync_file},
    tasks::blocking,
    walk,
};
use crate::{config::open_regular_file, model::Fingerprint};

/// What is known of local disks.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) contents: Contents,
    pub(super) syncer: Syncer,
}

/// A path of the local disk.
#[derive(Debug, Clone)]
pub(super) struct LocalBackend {
    path: PathBuf,
    disk: Arc<Disk>,
}

impl LocalBackend {
    /// A path of this disk.
    pub(super) fn new(path: PathBuf, disk: Arc<Disk>) -> Self {
        Self { path, disk }
    }

    fn at(&self, path: PathBuf) -> Arc<dyn Backend> {
        Arc::new(Self { path, disk: Arc::clone(&self.disk) })
    }
}

/// The same path without `.`, `..` and empty parts, which a store does not take.
fn plain(path: PathBuf) -> PathBuf {
    if !path.components().any(|part| part == Component::ParentDir) {
        return path.components().collect();
    }
    // What `..` means after a link is known to the disk alone.
    fs::canonicalize(&path).unwrap_or_else(|_| super::normalized(&path))
}

#[async_trait]
impl Backend for LocalBackend {
    fn id(&self) -> String {
        self.path.display().to_string()
    }

    fn child(&self, relative: &str) -> Arc<dyn Backend> {
        self.at(self.path.join(relative))
    }

    fn sibling(&self, suffix: &str) -> (String, Arc<dyn Backend>) {
        let name = hidden(self.path.file_name().map(|name| name.to_string_lossy()).as_deref(), suffix);
        let path = self.path.with_file_name(&name);
        (name, self.at(path))
    }

    fn local(&self) -> Option<&FsPath> {
        Some(&self.path)
    }

    fn object(&self, relative: &str) -> Result<(ObjectStoreUrl, Path), String> {
        let full = if relative.is_empty() { self.path.clone() } else { self.path.join(relative) };
        let full = plain(full);
        let text = full.to_str().ok_or("its path is not valid Unicode")?;
        // The local store's root is the root of the file system.
        let path = Path::parse(text.trim_start_matches('/')).map_err(|error| error.to_string())?;
        Ok((ObjectStoreUrl::local_filesystem(), path))
    }

    async fn list(&self, _place: &Place) -> Result<Listing, DataError> {
        let (path, disk) = (self.path.clone(), Arc::clone(&self.disk));
        blocking(move || {
            let mut listing = walk::list(&path)?;
            disk.contents.fill(&path, &mut listing);
            Ok(listing)
        })
        .await
    }

    async fn list_matching(&self, _place: &Place, glob: &Glob) -> Result<Listing, DataError> {
        let (path, disk, glob) = (self.path.clone(), Arc::clone(&self.disk), glob.clone());
        blocking(move || {
            // Nothing but what matches is read.
            let mut listing = walk::list(&path)?.matching(&glob);
            disk.contents.fill(&path, &mut listing);
            Ok(listing)
        })
        .await
    }

    async fn list_names(&self, _place: &Place) -> Result<Listing, DataError> {
        let path = self.path.clone();
        blocking(move || walk::list(&path)).await
    }

    async fn read(&self, _place: &Place) -> Result<Option<Bytes>, DataError> {
        let path = self.path.clone();
        let read = |path: &FsPath| {
            let mut bytes = Vec::new();
            open_regular_file(path)?.read_to_end(&mut bytes).map(|_| bytes)
        };
        blocking(move || match read(&path) {
            Ok(bytes) => Ok(Some(Bytes::from(bytes))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(DataError::io(&path, error)),
        })
        .await
    }

    async fn content(&self, _place: &Place) -> Result<Option<Fingerprint>, DataError> {
        let path = self.path.clone();
        blocking(move || match open_regular_file(&path).and_then(contents::digest) {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(DataError::io(&path, error)),
        })
        .await
    }

    async fn put(&self, place: &Place, bytes: Bytes, staging: &dyn Backend) -> Result<(), DataError> {
        let writing = place.begin_write()?;
        let path = self.path.clone();
        let staging = staging.local().map(FsPath::to_path_buf).unwrap_or_default();
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

    async fn upload(&self, place: &Place, _file: fs::File, _size: u64) -> Result<(), DataError> {
        Err(place.layout("", "only object stores take uploads"))
    }

    async fn remove(&self, place: &Place, files: Vec<String>) -> Result<(), DataError> {
        let writing = place.begin_write()?;
        let root = self.path.clone();
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

    async fn synced(&self) -> Result<(), DataError> {
        self.disk.syncer.synced(&self.path).await.map_err(|error| DataError::io(&self.path, error))
    }
}
