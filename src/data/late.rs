//! What arrives at a store after the lease under which it was sent was lost: a process that was stopped, or a machine that
//! slept, has requests on their way when it wakes up, and no store refuses them.
//!
//! Two runs see to it. The one that has the lease removes what it finds beside its own files before it ends
//! ([`settle`]). The one that lost it takes back what arrived after that ([`Late`]). Files of two runs that did the same
//! work have the same names and rows, and none of them is taken back.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};

use super::{
    error::DataError,
    guard::Writing,
    listing::Listing,
    ownership::{FileLayout, Origin},
    receipt::Receipt,
    store_path::StorePath,
};

/// When it is looked whether something has arrived, counted from the one before: a request that was given up ends in this time.
const LOOKS: [Duration; 3] = [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(4)];

/// Something that is being put to a store. If it does not come to its end because the lease is lost, what it has put there is
/// taken back, also after its caller was cancelled.
#[must_use = "what is dropped counts as not done"]
pub(super) struct Late {
    place: StorePath,
    /// Until it is dropped, the end of the run waits.
    taking_back: Option<(Writing, BoxFuture<'static, ()>)>,
}

impl Late {
    /// `arrived` gives the files below `place` that are to be taken back: those that this process has put there, once another run
    /// has finished without them. What the other run has not come to yet is left to it.
    pub(super) fn new(
        place: &StorePath,
        arrived: impl Fn() -> BoxFuture<'static, Result<Vec<String>, DataError>> + Send + 'static,
    ) -> Result<Self, DataError> {
        let (writing, at) = (place.begin_write()?, place.without_lease());
        let work = async move {
            for pause in LOOKS {
                tokio::time::sleep(pause).await;
                let taken = match arrived().await {
                    Ok(files) => at.remove(files).await,
                    Err(error) => Err(error),
                };
                if let Err(error) = taken {
                    // The next run finds it.
                    tracing::warn!(%error, "cannot take back what arrived after the lease was lost");
                }
            }
        };
        Ok(Self { place: place.clone(), taking_back: Some((writing, work.boxed())) })
    }

    /// For the partitions of a table. Another run's receipt says which files its table has.
    pub(super) fn of_table(place: &StorePath, sent: &Arc<Mutex<HashSet<String>>>) -> Result<Self, DataError> {
        let (at, sent) = (place.clone(), Arc::clone(sent));
        Self::new(place, move || {
            let (at, sent) = (at.clone(), sent.lock().unwrap_or_else(PoisonError::into_inner).clone());
            async move {
                if sent.is_empty() {
                    return Ok(Vec::new());
                }
                let Some(receipt) = Receipt::read(&at).await? else { return Ok(Vec::new()) };
                Ok(not_of(&at.list_folder().await?, &sent, &receipt))
            }
            .boxed()
        })
    }

    /// Everything is there, under the lease.
    pub(super) fn done(mut self) {
        self.taking_back = None;
    }
}

impl Drop for Late {
    fn drop(&mut self) {
        let Some((writing, work)) = self.taking_back.take() else { return };
        if self.place.begin_write().is_err_and(|error| error.is_lost_lease())
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move {
                work.await;
                drop(writing);
            });
        }
    }
}

/// Those of the files sent without which a table is the one of its receipt.
fn not_of(listing: &Listing, sent: &HashSet<String>, receipt: &Receipt) -> Vec<String> {
    let folder = |path: &str| path.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
    let entries = listing.entries();
    let theirs: HashSet<String> =
        entries.iter().filter(|entry| !sent.contains(&*entry.path)).map(|entry| folder(&entry.path)).collect();
    let doubled = |path: &str| theirs.contains(&folder(path));
    // What both runs sent is alone in its folder, and so is a partition that only this one had.
    for ours in [&doubled as &dyn Fn(&str) -> bool, &|_| true] {
        let is_ours = |path: &str| sent.contains(path) && ours(path);
        let rest = entries.iter().filter(|entry| !is_ours(&entry.path)).cloned().collect();
        if receipt.digest == Listing::folder(rest).digest() {
            return entries.iter().map(|entry| entry.path.to_string()).filter(|path| is_ours(path)).collect();
        }
    }
    Vec::new()
}

/// The listing at the end of a write to a folder: the files `kept` and no other ones that flow wrote. What another run's late
/// request put there is removed; a file that is missing was removed by another process.
pub(super) async fn settle(
    dataset: &str,
    place: &StorePath,
    kept: &HashSet<&str>,
    layout: &FileLayout<'_>,
) -> Result<Listing, DataError> {
    loop {
        let listing = place.list().await?;
        let entries = listing.entries();
        let there: HashSet<&str> = entries.iter().map(|entry| &*entry.path).collect();
        let missing = kept.iter().filter(|path| !there.contains(**path)).count();
        if missing > 0 {
            return Err(DataError::Vanished { dataset: dataset.to_owned(), missing, all: kept.len() });
        }
        let others = entries.iter().filter(|entry| !kept.contains(&*entry.path));
        let others = others.filter(|entry| layout.origin(entry) == Origin::Flow);
        let others: Vec<String> = others.map(|entry| entry.path.to_string()).collect();
        if others.is_empty() {
            return Ok(listing);
        }
        tracing::debug!(files = others.len(), "removes what another run put there late");
        place.remove(others).await?;
    }
}
