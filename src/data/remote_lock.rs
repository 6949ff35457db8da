//! A lock that is an object of a store: made with create-only, renewed, and taken over once it has expired.
//!
//! Must not know what the lock protects, nor how often it is renewed.

use std::sync::Arc;

use chrono::Utc;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, UpdateVersion, path::Path};

use super::{
    error::DataError,
    fence::{is_taken, is_unconditional},
    lease_holder::Holder,
    store_path::StorePath,
};

/// A lock object and who holds it.
#[derive(Debug, Clone)]
pub(super) struct RemoteLock {
    place: StorePath,
    store: Arc<dyn ObjectStore>,
    path: Path,
    holder: Holder,
    version: UpdateVersion,
}

impl RemoteLock {
    /// A lock at this place; `None` where the place is not on a store. Nothing is sent.
    pub(super) fn new(place: StorePath, holder: Holder) -> Option<Self> {
        let (store, path) = place.remote().map(|(store, path)| (Arc::clone(store), path.clone()))?;
        Some(Self { place, store, path, holder, version: UpdateVersion { e_tag: None, version: None } })
    }

    /// As displayed in messages.
    pub(super) fn shown(&self) -> &str {
        self.place.shown()
    }

    /// Who holds it: this process.
    pub(super) fn holder(&self) -> &Holder {
        &self.holder
    }

    /// The store did not respond in time.
    pub(super) fn silent(&self) -> DataError {
        let message = "the store does not respond".to_owned();
        DataError::Store { location: self.place.shown().to_owned(), message, not_found: false, transient: true }
    }

    fn error(&self, error: &object_store::Error) -> DataError {
        self.place.store_error(error)
    }

    async fn put(&self, mode: PutMode) -> Result<UpdateVersion, object_store::Error> {
        let payload = PutPayload::from_bytes(self.holder.to_bytes());
        self.store.put_opts(&self.path, payload, PutOptions::from(mode)).await.map(UpdateVersion::from)
    }

    /// The other run that holds it now.
    ///
    /// # Errors
    /// When the store refuses.
    pub(super) async fn other_holder(&self) -> Result<Option<Holder>, DataError> {
        let found = self.read().await.map_err(|error| self.error(&error))?;
        let holder = found.and_then(|(holder, _)| holder).filter(Holder::holds);
        Ok(holder.filter(|holder| holder.token != self.holder.token))
    }

    /// Removes the lock object of a holder that has ended.
    pub(super) async fn remove(&self) {
        let _ = self.store.delete(&self.path).await;
    }

    /// Who holds it now, and which version of the object says so.
    async fn read(&self) -> Result<Option<(Option<Holder>, UpdateVersion)>, object_store::Error> {
        let got = match self.store.get(&self.path).await {
            Ok(got) => got,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let version = UpdateVersion { e_tag: got.meta.e_tag.clone(), version: got.meta.version.clone() };
        Ok(Some((Holder::parse(&got.bytes().await?), version)))
    }

    /// Takes it, unless another run has it.
    ///
    /// # Errors
    /// [`DataError::Held`], naming the other run.
    pub(super) async fn take(&mut self, dataset: &str) -> Result<(), DataError> {
        let held = |by: String| DataError::Held { dataset: dataset.to_owned(), by };
        let conditional = match self.put(PutMode::Create).await {
            Ok(version) => {
                self.version = version;
                return Ok(());
            }
            // Nothing has to be there for it but the bucket.
            Err(object_store::Error::NotFound { .. }) => return Err(self.place.no_bucket()),
            Err(error) if is_taken(&error) => true,
            // Web servers and simple stores have no conditional PUT: the last resort is to look and write.
            Err(error) if is_unconditional(&error) => false,
            Err(error) => return Err(self.error(&error)),
        };
        let found = self.read().await.map_err(|error| self.error(&error))?;
        let mode = match found {
            // One that cannot be read holds nothing.
            Some((holder, version)) => match holder.filter(Holder::holds) {
                Some(holder) => return Err(held(holder.shown_with_end())),
                None => PutMode::Update(version),
            },
            // Given back just now.
            None => PutMode::Create,
        };
        match self.put(if conditional { mode } else { PutMode::Overwrite }).await {
            Ok(version) => {
                self.version = version;
                Ok(())
            }
            Err(error) if is_taken(&error) => Err(held("another run that began just now".to_owned())),
            Err(error) => Err(self.error(&error)),
        }
    }

    /// False when another run has it now.
    pub(super) async fn renew(&mut self) -> Result<bool, object_store::Error> {
        self.holder.renewed = Utc::now();
        match self.put(PutMode::Update(self.version.clone())).await {
            Ok(version) => {
                self.version = version;
                return Ok(true);
            }
            Err(error) if is_taken(&error) || is_unconditional(&error) => {}
            Err(error) => return Err(error),
        }
        // It may be our own renewal whose response was lost.
        match self.read().await? {
            Some((Some(holder), version)) if holder.token == self.holder.token => {
                self.version = version;
                match self.put(PutMode::Update(self.version.clone())).await {
                    Ok(version) => self.version = version,
                    Err(error) if is_unconditional(&error) => {
                        self.put(PutMode::Overwrite).await?;
                    }
                    Err(error) => return Err(error),
                }
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Removes it if it is still ours. What cannot be removed expires.
    pub(super) async fn give_back(&self) {
        if let Ok(Some((Some(holder), _))) = self.read().await
            && holder.token == self.holder.token
        {
            let _ = self.store.delete(&self.path).await;
        }
    }
}
