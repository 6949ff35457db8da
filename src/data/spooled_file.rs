//! Where encoded bytes go before they have a name: memory while they are few, a file once they are many.

use std::{
    fs::File,
    io::{self, BufWriter, Seek as _, SeekFrom, Write},
    path::{Path as FsPath, PathBuf},
};

use bytes::Bytes;
use tempfile::NamedTempFile;

use super::{
    contents, error::DataError, faults, names::unique_name, store_path::StorePath, syncer::sync_file, tasks::blocking,
};
use crate::model::Fingerprint;

/// Files up to this size are held in memory and written in one go.
const MEMORY: usize = 8 << 20;

/// A growing file, in memory at first. Past [`MEMORY`] it moves to a file in `folder`.
#[derive(Debug)]
pub(super) struct SpooledFile {
    folder: PathBuf,
    memory: usize,
    written: u64,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Memory(Vec<u8>),
    File(BufWriter<NamedTempFile>),
}

impl SpooledFile {
    /// A spool that overflows into `folder`, which is made when it is needed.
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, memory: MEMORY, written: 0, content: Content::Memory(Vec::new()) }
    }

    /// Holds no more than `bytes` in memory: for what will be large and is to be a file in the end.
    pub(super) fn holding(self, bytes: usize) -> Self {
        Self { memory: bytes, ..self }
    }

    /// In bytes.
    pub(super) fn len(&self) -> u64 {
        self.written
    }

    /// The digest of the bytes, as a listing would give it. Blocking.
    pub(super) fn content(&mut self) -> Result<Fingerprint, DataError> {
        match &mut self.content {
            Content::Memory(buffer) => Ok(contents::digest(buffer.as_slice()).expect("memory can be read")),
            Content::File(writer) => {
                let path = writer.get_ref().path().to_path_buf();
                let digest = writer.flush().and_then(|()| contents::digest(File::open(&path)?));
                digest.map_err(|error| DataError::io(path, error))
            }
        }
    }

    /// Publishes the content under its final name in one atomic step. `staging` is a folder on the same disk.
    pub(super) async fn publish(self, place: &StorePath, staging: Option<&FsPath>) -> Result<u64, DataError> {
        let size = self.written;
        match (place.local(), staging) {
            (Some(path), Some(staging)) => {
                let (path, staging, writing) = (path.to_path_buf(), staging.to_path_buf(), place.begin_write()?);
                blocking(move || {
                    let _writing = writing;
                    self.publish_local(&path, &staging)
                })
                .await?;
            }
            _ => match self.content {
                Content::Memory(buffer) => place.put(Bytes::from(buffer), place).await?,
                Content::File(writer) => {
                    let error = |error| DataError::io(place.shown(), error);
                    let mut file = writer.into_inner().map_err(|e| error(e.into_error()))?.into_file();
                    file.seek(SeekFrom::Start(0)).map_err(error)?;
                    place.upload(file, size).await?;
                }
            },
        }
        Ok(size)
    }

    /// Writes the content under a name of its own in `staging`, then moves it to its final name.
    pub(super) fn publish_local(self, path: &FsPath, staging: &FsPath) -> Result<(), DataError> {
        let error = |error| DataError::io(path, error);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(|e| DataError::io(parent, e))?;
        }
        faults::point();
        match self.content {
            Content::Memory(buffer) => {
                let staged = staging.join(unique_name());
                let written = write_file(&staged, &buffer).or_else(|e| {
                    if e.kind() != io::ErrorKind::NotFound {
                        return Err(e);
                    }
                    std::fs::create_dir_all(staging)?;
                    write_file(&staged, &buffer)
                });
                written.and_then(|()| move_file(&staged, path)).map_err(|e| {
                    let _ = std::fs::remove_file(&staged);
                    error(e)
                })
            }
            Content::File(writer) => {
                let file = writer.into_inner().map_err(|e| error(e.into_error()))?;
                move_file(file.path(), path).map_err(error)?;
                // Its name is gone, so there is nothing left to remove.
                let _ = file.keep();
                Ok(())
            }
        }
    }

    /// Writes the content directly to `path`, in a folder that is not read yet.
    pub(super) fn place_at(self, path: &FsPath) -> io::Result<()> {
        match self.content {
            Content::Memory(buffer) => write_file(path, &buffer)?,
            Content::File(writer) => {
                writer
                    .into_inner()
                    .map_err(io::IntoInnerError::into_error)?
                    .persist(path)
                    .map_err(|error| error.error)?;
            }
        }
        sync_file(path)
    }
}

/// Gives a complete file its final name. Where that is on another disk (a mounted or linked dataset), the file is
/// copied under a hidden name first, so that the last step is a rename all the same.
pub(super) fn move_file(from: &FsPath, to: &FsPath) -> io::Result<()> {
    sync_file(from)?;
    match std::fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            let near = to.with_file_name(format!(".{}.tmp", unique_name()));
            std::fs::copy(from, &near).and_then(|_| std::fs::rename(&near, to)).inspect_err(|_| {
                let _ = std::fs::remove_file(&near);
            })?;
            std::fs::remove_file(from)?;
        }
        done => done?,
    }
    sync_file(to)
}

fn write_file(path: &FsPath, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    // A file that has a name and no content yet.
    faults::point();
    file.write_all(bytes)?;
    faults::point();
    Ok(())
}

impl Write for SpooledFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Content::Memory(buffer) = &mut self.content {
            if buffer.len() + bytes.len() <= self.memory {
                buffer.extend_from_slice(bytes);
                self.written += bytes.len() as u64;
                return Ok(bytes.len());
            }
            std::fs::create_dir_all(&self.folder)?;
            let mut builder = tempfile::Builder::new();
            // The same rights as a file made in the usual way, not the private ones of a temporary file.
            #[cfg(unix)]
            builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
            let mut file = BufWriter::with_capacity(1 << 18, builder.tempfile_in(&self.folder)?);
            file.write_all(buffer)?;
            self.content = Content::File(file);
        }
        if let Content::File(file) = &mut self.content {
            file.write_all(bytes)?;
        }
        self.written += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.content {
            Content::Memory(_) => Ok(()),
            Content::File(file) => file.flush(),
        }
    }
}
