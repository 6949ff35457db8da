//! Listings that are taken once and used again, as long as nothing is written.
//!
//! A run assesses every step twice, before it starts and when its inputs are complete, and two views of a dataset share
//! their files. Until the first write, one listing serves all of them. Must not know what is assessed.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::OnceCell;

use super::{error::DataError, listing::Listing};

/// Filled by the first who asks; a second one waits for it.
type Slot = Arc<OnceCell<Arc<Listing>>>;

/// Listings by the id of their location, while a [`KeepListings`] lives.
#[derive(Debug, Clone, Default)]
pub(super) struct ListingCache(Arc<Mutex<Option<HashMap<String, Slot>>>>);

/// While it lives, every location is listed once. It is dropped before anything is written.
#[derive(Debug)]
#[must_use = "listings are kept for as long as this lives"]
pub struct KeepListings(ListingCache);

impl Drop for KeepListings {
    fn drop(&mut self) {
        self.0.locked(|kept| *kept = None);
    }
}

impl ListingCache {
    fn locked<T>(&self, work: impl FnOnce(&mut Option<HashMap<String, Slot>>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Keeps listings from now on, until the returned value is dropped.
    pub(super) fn keep(&self) -> KeepListings {
        self.locked(|kept| *kept = Some(HashMap::new()));
        KeepListings(self.clone())
    }

    /// The kept listing of a location, or the one that `list` gives.
    ///
    /// # Errors
    /// Those of `list`.
    pub(super) async fn get(
        &self,
        id: String,
        list: impl Future<Output = Result<Listing, DataError>>,
    ) -> Result<Arc<Listing>, DataError> {
        match self.locked(|kept| Some(Slot::clone(kept.as_mut()?.entry(id).or_default()))) {
            Some(slot) => slot.get_or_try_init(|| async { list.await.map(Arc::new) }).await.map(Arc::clone),
            None => list.await.map(Arc::new),
        }
    }
}
