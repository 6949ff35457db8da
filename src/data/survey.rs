//! Listings that are taken once and asked for again: what a run or a plan finds there before it changes anything.
//!
//! A run judges every step twice, before it starts and when the step's turn comes, and two views of a dataset share
//! their files. As long as nobody writes, one listing answers all of that. Must not know what is judged.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::OnceCell;

use super::{
    error::DataError,
    listing::Listing,
    storage::{Place, Stores},
};

type Slot = Arc<OnceCell<Arc<Listing>>>;

/// What was listed, while somebody wants it kept.
#[derive(Debug, Clone, Default)]
pub(super) struct Listings(Arc<Mutex<Option<HashMap<String, Slot>>>>);

/// While it lives, every place is listed once. Whoever is about to change anything drops it first.
#[derive(Debug)]
#[must_use = "a survey that is dropped keeps nothing"]
pub struct Survey(Listings);

impl Drop for Survey {
    fn drop(&mut self) {
        self.0.locked(|kept| *kept = None);
    }
}

impl Listings {
    fn locked<T>(&self, work: impl FnOnce(&mut Option<HashMap<String, Slot>>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Stores {
    /// Starts a survey: from now on listings are kept, until the answer is dropped.
    pub fn survey(&self) -> Survey {
        self.listings().locked(|kept| *kept = Some(HashMap::new()));
        Survey(self.listings().clone())
    }

    /// What is at a place, as the survey found it, or as it is now when there is none.
    pub(super) async fn list(&self, place: &Place) -> Result<Arc<Listing>, DataError> {
        let slot = self.listings().locked(|kept| Some(Slot::clone(kept.as_mut()?.entry(place.id()).or_default())));
        match slot {
            // Two who ask at once wait for one listing.
            Some(slot) => slot.get_or_try_init(|| async { place.list().await.map(Arc::new) }).await.map(Arc::clone),
            None => place.list().await.map(Arc::new),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::location::Location;

    #[tokio::test]
    async fn a_survey_lists_once_and_what_comes_after_it_lists_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let stores = Stores::new(folder.path(), Arc::new(|_| None));
        let place = stores.open(&Location::parse("data", None).expect("a path")).expect("opens");
        let write = |name: &str| {
            std::fs::create_dir_all(folder.path().join("data")).expect("a folder");
            std::fs::write(folder.path().join("data").join(name), "x").expect("written");
        };
        let files = async || stores.list(&place).await.expect("a listing").entries().len();
        assert_eq!(files().await, 0);
        write("a");
        assert_eq!(files().await, 1, "nothing is kept without a survey");
        let survey = stores.survey();
        assert_eq!(files().await, 1);
        write("b");
        assert_eq!(files().await, 1, "as it was found");
        drop(survey);
        assert_eq!(files().await, 2);
    }
}
