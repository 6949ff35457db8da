//! Whether there is disk space for what a run will write.
//!
//! Owns the trial write to a disk before anything is paid for. Must not know what will be written.

use std::{error::Error, fs, io};

use super::{
    Dataset,
    error::DataError,
    faults,
    names::{STAGING_SUFFIX, unique_name},
    stores::Stores,
    tasks::blocking,
};

/// Bytes of a trial: more than an empty file takes, little enough to be no burden.
const TRIAL: usize = 64 << 10;

impl Stores {
    /// Tries whether the disk of a dataset takes a write, and leaves nothing behind. On an object store nothing is tried:
    /// it has no disk that could be full. The lease on the dataset must be held.
    ///
    /// # Errors
    /// With what the disk says.
    pub async fn takes_a_write(&self, dataset: &dyn Dataset) -> Result<(), DataError> {
        let Some(location) = dataset.location() else { return Ok(()) };
        let place = self.open(location)?.sibling(STAGING_SUFFIX);
        let Some(folder) = place.local().map(std::path::Path::to_path_buf) else { return Ok(()) };
        blocking(move || {
            let file = folder.join(unique_name());
            let tried = fs::create_dir_all(&folder).and_then(|()| fs::write(&file, vec![0xa5; TRIAL]));
            faults::point();
            // What cannot be removed goes with the next lease.
            let _ = fs::remove_file(&file);
            let _ = fs::remove_dir(&folder);
            tried.map_err(|error| DataError::io(&folder, error))
        })
        .await
    }
}

impl DataError {
    /// True when the disk was full.
    pub fn is_full_disk(&self) -> bool {
        let mut next: Option<&(dyn Error + 'static)> = match self {
            Self::Io { source, .. } => Some(source),
            Self::Rows(error) => Some(error),
            _ => None,
        };
        while let Some(error) = next {
            if let Some(error) = error.downcast_ref::<io::Error>()
                && matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            {
                return true;
            }
            next = error.source();
        }
        false
    }
}
