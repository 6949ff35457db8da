//! Single flight: an item that another call is already requesting is waited for, not requested again.
//!
//! Owns which item is part of which call, and how a call learns the outcome of a request that another one sends.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use super::request_outcome::RequestOutcome;
use crate::model::{ByDigest, Fingerprint, ServiceError};

/// The outcome of one request. `None` until it has ended; the channel closes when the request ends without one.
pub type Outcome<A> = Option<Arc<Result<RequestOutcome<A>, ServiceError>>>;

/// Tells others that items are not requested any more.
type Released = Box<dyn Fn(&[Fingerprint]) + Send + Sync>;

/// The items that calls of one endpoint are requesting.
pub struct InFlight<A> {
    items: Mutex<Owned<A>>,
    /// Where other processes see what this one requests.
    released: Released,
}

impl<A> fmt::Debug for InFlight<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InFlight")
    }
}

#[derive(Debug)]
struct Owned<A> {
    /// For each item the number of the call that requests it, and the item's number in that call.
    owners: HashMap<Fingerprint, (u64, u32), ByDigest>,
    /// The calls that request items, and how many items each still owns.
    calls: HashMap<u64, (watch::Receiver<PlannedRequests<A>>, usize)>,
    next: u64,
}

impl<A> Owned<A> {
    fn release<'k>(&mut self, call: u64, keys: impl Iterator<Item = &'k Fingerprint>) {
        let mut released = 0;
        for key in keys {
            self.owners.remove(key);
            released += 1;
        }
        if let Entry::Occupied(mut entry) = self.calls.entry(call) {
            entry.get_mut().1 -= released;
            if entry.get().1 == 0 {
                entry.remove();
            }
        }
    }
}

/// Waits for an item that another call requests.
#[derive(Debug)]
pub struct Waiter<A> {
    requests: watch::Receiver<PlannedRequests<A>>,
    /// The item's number in that call.
    pub(super) unit: u32,
}

/// The requests that a call makes; `None` until they are decided.
type PlannedRequests<A> = Option<Arc<Vec<PlannedRequest<A>>>>;

/// One request: its units, sorted, and its outcome.
#[derive(Debug)]
struct PlannedRequest<A> {
    units: Arc<[u32]>,
    outcome: watch::Receiver<Outcome<A>>,
}

/// The items that one call owns. Dropping it releases those that were not sent.
#[derive(Debug)]
pub struct Claim<A> {
    in_flight: Arc<InFlight<A>>,
    call: u64,
    requests: watch::Sender<PlannedRequests<A>>,
    keys: Vec<(Fingerprint, u32)>,
}

impl<A> InFlight<A> {
    /// Nothing is requested yet. `released` is called with items whose requests have ended.
    pub(super) fn new(released: Released) -> Self {
        let items = Mutex::new(Owned { owners: HashMap::default(), calls: HashMap::new(), next: 0 });
        Self { items, released }
    }

    fn release(&self, call: u64, keys: &[Fingerprint]) {
        // Other processes first: as soon as it is released here, another call may claim it for both.
        (self.released)(keys);
        self.lock().release(call, keys.iter());
    }

    /// Claims for this call the items that no other call requests. The others are returned with a [`Waiter`] each.
    pub fn claim(
        self: &Arc<Self>,
        wanted: impl Iterator<Item = (Fingerprint, u32)>,
    ) -> (Claim<A>, Vec<(u32, Waiter<A>)>) {
        let (requests, watch) = watch::channel(None);
        let mut keys = Vec::with_capacity(wanted.size_hint().0);
        let mut elsewhere = Vec::new();
        let mut items = self.lock();
        let Owned { owners, calls, next } = &mut *items;
        let call = *next;
        *next += 1;
        owners.reserve(wanted.size_hint().0);
        for (key, unit) in wanted {
            match owners.entry(key) {
                Entry::Occupied(owner) => {
                    let (other, their_unit) = *owner.get();
                    // A duplicate item within this call waits for the first one.
                    let requests = calls.get(&other).map_or(&watch, |(requests, _)| requests).clone();
                    elsewhere.push((unit, Waiter { requests, unit: their_unit }));
                }
                Entry::Vacant(free) => {
                    free.insert((call, unit));
                    keys.push((key, unit));
                }
            }
        }
        if !keys.is_empty() {
            calls.insert(call, (watch, keys.len()));
        }
        drop(items);
        (Claim { in_flight: Arc::clone(self), call, requests, keys }, elsewhere)
    }

    fn lock(&self) -> MutexGuard<'_, Owned<A>> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many items are in flight.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let items = self.lock();
        assert_eq!(items.calls.values().map(|(_, owners)| owners).sum::<usize>(), items.owners.len());
        items.owners.len()
    }
}

impl<A> Claim<A> {
    /// The units of this call's claim, in order.
    pub fn units(&self) -> impl Iterator<Item = u32> {
        self.keys.iter().map(|(_, unit)| *unit)
    }

    /// Releases the units for which `keep` returns false: they were found in the cache.
    pub fn keep(&mut self, mut keep: impl FnMut(u32) -> bool) {
        let mut released = Vec::new();
        self.keys.retain(|(key, unit)| {
            let kept = keep(*unit);
            if !kept {
                released.push(*key);
            }
            kept
        });
        self.in_flight.release(self.call, &released);
    }

    /// Publishes the requests that the call makes and passes the claim on to them: each releases the keys of its own
    /// units when it ends. The requests hold the claim's units in the claim's order.
    pub(super) fn dispatch(mut self, requests: Vec<Arc<[u32]>>) -> Vec<Dispatched<A>> {
        let mut planned = Vec::with_capacity(requests.len());
        let mut out = Vec::with_capacity(requests.len());
        let mut claimed = std::mem::take(&mut self.keys).into_iter();
        for units in requests {
            let (sender, outcome) = watch::channel(None);
            let keys: Vec<Fingerprint> = claimed.by_ref().take(units.len()).map(|(key, _)| key).collect();
            planned.push(PlannedRequest { units: Arc::clone(&units), outcome });
            out.push((InFlightKeys { in_flight: Arc::clone(&self.in_flight), call: self.call, keys }, sender, units));
        }
        // Units that no request carries are released with the claim.
        self.keys = claimed.collect();
        self.requests.send_replace(Some(Arc::new(planned)));
        out
    }
}

impl<A> Drop for Claim<A> {
    fn drop(&mut self) {
        let keys: Vec<Fingerprint> = self.keys.iter().map(|(key, _)| *key).collect();
        self.in_flight.release(self.call, &keys);
    }
}

/// One request that a claim was passed on to: its keys, where its outcome is published, and its units.
type Dispatched<A> = (InFlightKeys<A>, watch::Sender<Outcome<A>>, Arc<[u32]>);

/// The items of one request. Dropping it releases them, however the request ended.
#[derive(Debug)]
pub(super) struct InFlightKeys<A> {
    in_flight: Arc<InFlight<A>>,
    call: u64,
    keys: Vec<Fingerprint>,
}

impl<A> Drop for InFlightKeys<A> {
    fn drop(&mut self) {
        self.in_flight.release(self.call, &self.keys);
    }
}

impl<A> Waiter<A> {
    /// Waits until the call that owns this item has decided on its requests, then returns the one that carries it.
    /// `None` when that call ended without sending it.
    pub(super) async fn request(&mut self) -> Option<(watch::Receiver<Outcome<A>>, Arc<[u32]>)> {
        let requests = self.requests.wait_for(Option::is_some).await.ok()?.clone()?;
        // Requests are cut in order, so their units are too.
        let behind = requests.partition_point(|request| request.units.last().is_some_and(|last| *last < self.unit));
        let found = requests.get(behind).filter(|request| request.units.binary_search(&self.unit).is_ok())?;
        Some((found.outcome.clone(), Arc::clone(&found.units)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_flight() -> Arc<InFlight<()>> {
        Arc::new(InFlight::new(Box::new(|_| ())))
    }

    fn keys(names: &[&str]) -> Vec<(Fingerprint, u32)> {
        names.iter().zip(0u32..).map(|(name, unit)| (Fingerprint::of(name), unit)).collect()
    }

    #[tokio::test]
    async fn an_item_is_claimed_by_one_call_at_a_time() {
        let in_flight = in_flight();
        let (first, none) = in_flight.claim(keys(&["a", "b"]).into_iter());
        assert!(none.is_empty());
        let (second, mut elsewhere) = in_flight.claim(keys(&["b", "c"]).into_iter());
        assert_eq!(second.units().collect::<Vec<_>>(), [1]);
        assert_eq!(elsewhere.len(), 1);
        let dispatched = first.dispatch(vec![Arc::from([0u32, 1])]);
        let (mut outcome, units) = elsewhere[0].1.request().await.expect("a request");
        assert_eq!(&*units, [0, 1]);
        for (keys, sender, _) in dispatched {
            sender.send_replace(Some(Arc::new(Ok(RequestOutcome::default()))));
            drop(keys);
        }
        assert!(outcome.wait_for(Option::is_some).await.is_ok());
        drop(second);
        assert_eq!(in_flight.len(), 0);
    }

    #[tokio::test]
    async fn a_call_that_ends_early_releases_its_items() {
        let in_flight = in_flight();
        let (claim, _) = in_flight.claim(keys(&["a"]).into_iter());
        let (_, mut elsewhere) = in_flight.claim(keys(&["a"]).into_iter());
        drop(claim);
        assert!(elsewhere[0].1.request().await.is_none());
        assert_eq!(in_flight.len(), 0);
    }
}
