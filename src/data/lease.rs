//! One writer at a time: a lease on a dataset for as long as a run writes to it. Shards of a run hold it together.
//!
//! On the local disk a file lock beside the dataset ([`LocalLock`]). On an object store an object made with create-only
//! ([`RemoteLock`]), renewed while the run lives. The next
//! run takes it over once it was not renewed for [`EXPIRY`](super::guard::EXPIRY), or at once when its holder was a process of this very
//! machine that is gone. A holder that could not renew counts its own lease as lost a third of that time before others
//! may take it over, and writes nothing more ([`Lease::lost`], `super::guard`): the third is for clocks that disagree
//! and for requests on their way. Taking a lease also removes what a dead process left staged.
//!
//! On a store each attempt of a shard has an object of its own in `.<name>.flow-shards/<shard>-of-<count>`, and looks at the lock of runs after
//! it has put it there; a run looks at all those objects after it has taken its lock. One of two that begin together sees the other. A shard
//! looks at its own folder only, so that hundreds that begin at once do not read the objects of each other.

use std::{collections::HashMap, time::Duration};

use chrono::{DateTime, Utc};
use futures::{StreamExt as _, stream};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{
    Dataset,
    error::DataError,
    faults,
    guard::{Guard, Moment},
    lease_holder::Holder,
    local_lock::LocalLock,
    names::{LOCK_SUFFIX, SHARDS_SUFFIX, unique_name},
    remote_lock::RemoteLock,
    store_path::StorePath,
    stores::Stores,
};
use crate::model::Shard;

/// How long giving back waits for what still writes, and for the store.
const PATIENCE: Duration = Duration::from_secs(15);

/// The right to write to one dataset. Given back when dropped, and for certain by [`Lease::release`].
#[derive(Debug)]
#[must_use = "a lease that is dropped is given back at once"]
pub struct Lease {
    dataset: String,
    guard: Guard,
    held: Held,
    /// True when another attempt of the same shard was alive when the lease was taken.
    has_twin: bool,
}

#[derive(Debug)]
enum Held {
    /// Nothing outside this process can write there.
    Nothing,
    Local(#[expect(dead_code, reason = "held, and given back when dropped")] LocalLock),
    /// Left to expire, or to end with the process: something that writes under it may not have ended.
    Left,
    Remote {
        lock: Box<RemoteLock>,
        renewal: AbortOnDropHandle<()>,
        runtime: tokio::runtime::Handle,
        released: bool,
    },
}

impl Lease {
    /// The dataset it is for.
    pub fn dataset(&self) -> &str {
        &self.dataset
    }

    /// True for a shard when another attempt of it was alive when the lease was taken: it begins with the first partitions.
    pub fn has_twin(&self) -> bool {
        self.has_twin
    }

    /// Cancelled when another run may have it: this one could not renew it in time and writes nothing more. Never
    /// happens to a lease on the local disk.
    pub fn lost(&self) -> CancellationToken {
        self.guard.lost()
    }

    /// Lets nothing new begin to write under it, waits until all that has begun is over, gives it back, and waits until it
    /// is. Where something does not end, it is not given back: on the local disk it ends with the process, on a store it
    /// expires. On an object store a lease that is only dropped may outlive a process that ends right then, and would
    /// have to expire.
    pub async fn release(mut self) {
        if !self.guard.ended(PATIENCE).await {
            match &mut self.held {
                Held::Remote { renewal, released, .. } => {
                    renewal.abort();
                    *released = true;
                }
                // Closing the file would unlock it.
                local => std::mem::forget(std::mem::replace(local, Held::Left)),
            }
            return;
        }
        if let Held::Remote { lock, renewal, released, .. } = &mut self.held {
            renewal.abort();
            // What cannot be removed expires.
            let _ = tokio::time::timeout(PATIENCE, lock.give_back()).await;
            *released = true;
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.guard.end();
    }
}

impl Stores {
    /// Takes the right to write to a dataset, and removes what a dead process left staged there.
    ///
    /// # Errors
    /// [`DataError::Held`] when another run or a shard of one has it, naming it.
    pub async fn lease(&self, dataset: &dyn Dataset) -> Result<Lease, DataError> {
        self.lease_for(dataset, None).await
    }

    /// [`Stores::lease`]; for a shard, together with other shards, and nothing is removed.
    ///
    /// # Errors
    /// [`DataError::Held`] when a run has it, naming it.
    pub async fn lease_for(&self, dataset: &dyn Dataset, shard: Option<Shard>) -> Result<Lease, DataError> {
        let name = dataset.info().name.clone();
        let (guard, held, has_twin) = match dataset.location() {
            None => (Guard::lasting(name.clone()), Held::Nothing, false),
            Some(location) => {
                if location.is_on_a_web_server() {
                    let message = "is on a web server, which is only read: write to a local path or a bucket";
                    return Err(DataError::unsupported(&name, message));
                }
                if location.glob().is_some() {
                    let message = "has a `*` in its path, which is only read: write to a path without one";
                    return Err(DataError::unsupported(&name, message));
                }
                let place = self.open(location)?;
                let (guard, held, has_twin) = match place.remote() {
                    None => {
                        let lock = LocalLock::take(&place, name.clone(), shard).await?;
                        let has_twin = lock.has_twin();
                        (Guard::lasting(name.clone()), Held::Local(lock), has_twin)
                    }
                    Some(_) => remote(&place, &name, self.lease_expiry(), shard).await?,
                };
                let guard = if shard.is_some() { guard.shared() } else { guard };
                self.put_under(location, &guard);
                (guard, held, has_twin)
            }
        };
        faults::point();
        tracing::debug!(dataset = name, "lease taken");
        Ok(Lease { dataset: name, guard, held, has_twin })
    }
}

async fn remote(
    place: &StorePath,
    dataset: &str,
    expiry: Duration,
    shard: Option<Shard>,
) -> Result<(Guard, Held, bool), DataError> {
    let taken = match shard {
        None => alone(place, dataset, expiry).await?.map(|(lock, begun)| (lock, begun, false)),
        Some(shard) => together(place, dataset, expiry, shard).await?,
    };
    let Some((lock, begun, has_twin)) = taken else {
        return Ok((Guard::lasting(dataset.to_owned()), Held::Nothing, false));
    };
    let guard = Guard::expiring(dataset.to_owned(), begun, expiry * 2 / 3);
    let renewal = AbortOnDropHandle::new(tokio::spawn(renew(lock.clone(), expiry, guard.clone())));
    let runtime = tokio::runtime::Handle::current();
    Ok((guard, Held::Remote { lock: Box::new(lock), renewal, runtime, released: false }, has_twin))
}

/// Takes the lock of runs, once no shard is alive. A shard of another machine that has died is waited for until its lease has
/// expired; one that renews its lease meanwhile is alive.
async fn alone(place: &StorePath, dataset: &str, expiry: Duration) -> Result<Option<(RemoteLock, Moment)>, DataError> {
    let mut seen: HashMap<String, DateTime<Utc>> = HashMap::new();
    loop {
        let begun = Moment::now();
        let Some(mut lock) = RemoteLock::new(place.sibling(LOCK_SUFFIX), Holder::here(expiry, None)) else {
            return Ok(None);
        };
        take(&mut lock, dataset, expiry).await?;
        let shards = match shards(&place.sibling(SHARDS_SUFFIX), expiry).await {
            Ok(shards) if shards.is_empty() => return Ok(Some((lock, begun))),
            other => other,
        };
        // Not held while it waits: other shards may begin.
        lock.give_back().await;
        let shards = shards?;
        let renewed = |holder: &&Holder| seen.get(&holder.token).is_some_and(|before| *before != holder.renewed);
        if let Some(holder) = shards.iter().find(|holder| renewed(holder) || holder.is_alive() == Some(true)) {
            return Err(DataError::Held { dataset: dataset.to_owned(), by: holder.shown() });
        }
        tracing::debug!(dataset, shards = shards.len(), "waits for the leases of shards to expire");
        seen.extend(shards.into_iter().map(|holder| (holder.token, holder.renewed)));
        tokio::time::sleep((expiry / 16).min(Duration::from_secs(2))).await;
    }
}

/// Takes a lock beside those of other shards, unless a run has its lock.
async fn together(
    place: &StorePath,
    dataset: &str,
    expiry: Duration,
    shard: Shard,
) -> Result<Option<(RemoteLock, Moment, bool)>, DataError> {
    let begun = Moment::now();
    let attempts = place.sibling(SHARDS_SUFFIX).child(&format!("{}-of-{}", shard.index(), shard.count()));
    let Some(mut lock) = RemoteLock::new(attempts.child(&unique_name()), Holder::here(expiry, Some(shard))) else {
        return Ok(None);
    };
    let Some(of_runs) = RemoteLock::new(place.sibling(LOCK_SUFFIX), lock.holder().clone()) else { return Ok(None) };
    take(&mut lock, dataset, expiry).await?;
    let looked = async {
        if let Some(holder) = of_runs.other_holder().await? {
            return Err(DataError::Held { dataset: dataset.to_owned(), by: holder.shown_with_end() });
        }
        let attempts = shards(&attempts, expiry).await?;
        Ok(attempts.iter().any(|other| other.token != lock.holder().token))
    };
    match looked.await {
        Ok(has_twin) => Ok(Some((lock, begun, has_twin))),
        Err(error) => {
            lock.give_back().await;
            Err(error)
        }
    }
}

async fn take(lock: &mut RemoteLock, dataset: &str, expiry: Duration) -> Result<(), DataError> {
    let taking = tokio::time::timeout(expiry * 2 / 3, lock.take(dataset));
    taking.await.map_err(|_| lock.silent())?
}

/// The shards that may be alive, of those whose lock objects are below a folder. Objects of those that are not are removed.
async fn shards(folder: &StorePath, expiry: Duration) -> Result<Vec<Holder>, DataError> {
    let listing = folder.list_folder().await?;
    let locks = listing.entries().iter().map(|entry| folder.child(&entry.path));
    let found = stream::iter(locks.collect::<Vec<_>>())
        .map(async |place| {
            let Some(lock) = RemoteLock::new(place.clone(), Holder::here(expiry, None)) else { return Ok(None) };
            // Given back just now, or one that cannot be read, which holds nothing.
            let Some(holder) = place.read().await?.and_then(|bytes| Holder::parse(&bytes)) else { return Ok(None) };
            if holder.holds() {
                return Ok(Some(holder));
            }
            lock.remove().await;
            Ok::<_, DataError>(None)
        })
        .buffer_unordered(16)
        .collect::<Vec<_>>()
        .await;
    let found = found.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(found.into_iter().flatten().collect())
}

/// Renews a lease for as long as it is held. Every request has a deadline, and is made again until the lease is no longer
/// certainly ours: then it is lost, a third of its life before others may take it over.
async fn renew(mut lock: RemoteLock, expiry: Duration, guard: Guard) {
    loop {
        tokio::time::sleep(expiry / 4).await;
        loop {
            let left = guard.left().unwrap_or(expiry);
            if left.is_zero() {
                tracing::debug!(dataset = lock.shown(), "lease lost: it could not be renewed in time");
                return guard.lose();
            }
            let begun = Moment::now();
            match tokio::time::timeout(left.min(expiry / 6), lock.renew()).await {
                Ok(Ok(true)) => {
                    tracing::debug!(dataset = lock.shown(), "lease renewed");
                    break guard.renewed(begun);
                }
                Ok(Ok(false)) => {
                    tracing::debug!(dataset = lock.shown(), "lease lost: another run has taken it over");
                    return guard.lose();
                }
                // No conclusive response: retry soon.
                Ok(Err(_)) | Err(_) => tokio::time::sleep((expiry / 32).min(guard.left().unwrap_or(expiry))).await,
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        match self {
            Self::Nothing | Self::Left | Self::Local(_) => {}
            Self::Remote { released: true, .. } => {}
            Self::Remote { lock, renewal, runtime, .. } => {
                renewal.abort();
                let lock = lock.clone();
                // Given back in the background; if the process ends first, it expires.
                runtime.spawn(async move { lock.give_back().await });
            }
        }
    }
}
