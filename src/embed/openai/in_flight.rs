//! Texts on their way: a text that another call is already asking for is waited for, not asked for again.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use super::send::RequestOutcome;
use crate::{
    embed::EmbedError,
    model::{ByDigest, Fingerprint},
};

/// What became of one request's texts. `None` while it is on its way; the channel closes when it never arrives.
pub(super) type Outcome = Option<Arc<Result<RequestOutcome, EmbedError>>>;

/// The texts that some call of this provider is asking for.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    /// For each text the number of the call that asks for it, and the text's number in that call.
    seats: HashMap<Fingerprint, (u64, u32), ByDigest>,
    /// The calls that have seats, and how many.
    calls: HashMap<u64, (watch::Receiver<RequestPlan>, usize)>,
    next: u64,
}

impl Taken {
    fn leave<'k>(&mut self, call: u64, keys: impl Iterator<Item = &'k Fingerprint>) {
        let mut left = 0;
        for key in keys {
            self.seats.remove(key);
            left += 1;
        }
        if let Entry::Occupied(mut entry) = self.calls.entry(call) {
            entry.get_mut().1 -= left;
            if entry.get().1 == 0 {
                entry.remove();
            }
        }
    }
}

/// A text's place in the call that asks for it.
#[derive(Debug, Clone)]
pub(super) struct Waiter {
    board: watch::Receiver<RequestPlan>,
    /// The text's number in that call.
    pub(super) unit: u32,
}

/// Which requests a call makes; empty until it has been decided.
type RequestPlan = Option<Arc<Vec<PlannedRequest>>>;

/// One request: its units, sorted, and where to wait for it.
#[derive(Debug)]
pub(super) struct PlannedRequest {
    pub(super) units: Arc<[u32]>,
    pub(super) arrival: watch::Receiver<Outcome>,
}

/// The texts that one call has taken upon itself. Dropped, it gives back those that were not sent.
#[derive(Debug)]
pub(super) struct Claim {
    flights: Arc<InFlight>,
    call: u64,
    board: watch::Sender<RequestPlan>,
    keys: Vec<(Fingerprint, u32)>,
}

impl InFlight {
    /// Takes upon this call what no other is asking for. The rest: where to wait for it.
    pub(super) fn claim(
        self: &Arc<Self>,
        wanted: impl Iterator<Item = (Fingerprint, u32)>,
    ) -> (Claim, Vec<(u32, Waiter)>) {
        let (board, watch) = watch::channel(None);
        let mut keys = Vec::with_capacity(wanted.size_hint().0);
        let mut elsewhere = Vec::new();
        let mut taken = self.lock();
        let Taken { seats, calls, next } = &mut *taken;
        let call = *next;
        *next += 1;
        seats.reserve(wanted.size_hint().0);
        for (key, unit) in wanted {
            match seats.entry(key) {
                Entry::Occupied(seat) => {
                    let (other, unit_there) = *seat.get();
                    // A text that stands twice in this very call waits for itself.
                    let board = calls.get(&other).map_or(&watch, |(board, _)| board).clone();
                    elsewhere.push((unit, Waiter { board, unit: unit_there }));
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
        drop(taken);
        (Claim { flights: Arc::clone(self), call, board, keys }, elsewhere)
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many texts are on their way.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let taken = self.lock();
        assert_eq!(taken.calls.values().map(|(_, seats)| seats).sum::<usize>(), taken.seats.len());
        taken.seats.len()
    }
}

impl Claim {
    /// The units of this call's claim, in order.
    pub(super) fn units(&self) -> impl Iterator<Item = u32> {
        self.keys.iter().map(|(_, unit)| *unit)
    }

    /// Gives up the units for which `keep` says no: they were found elsewhere after all.
    pub(super) fn keep(&mut self, mut keep: impl FnMut(u32) -> bool) {
        let mut given_up = Vec::new();
        self.keys.retain(|(key, unit)| {
            let kept = keep(*unit);
            if !kept {
                given_up.push(*key);
            }
            kept
        });
        self.flights.lock().leave(self.call, given_up.iter());
    }

    /// Tells everybody which requests the call makes, and hands the claim over to them: each takes back the keys of
    /// its own units when it has landed. The requests hold the claim's units in the claim's order.
    pub(super) fn depart(mut self, requests: Vec<Arc<[u32]>>) -> Vec<(Landing, watch::Sender<Outcome>, Arc<[u32]>)> {
        let mut board = Vec::with_capacity(requests.len());
        let mut out = Vec::with_capacity(requests.len());
        let mut claimed = std::mem::take(&mut self.keys).into_iter();
        for units in requests {
            let (sender, arrival) = watch::channel(None);
            let keys: Vec<Fingerprint> = claimed.by_ref().take(units.len()).map(|(key, _)| key).collect();
            board.push(PlannedRequest { units: Arc::clone(&units), arrival });
            out.push((Landing { flights: Arc::clone(&self.flights), call: self.call, keys }, sender, units));
        }
        // Whatever no request carries is given back with the claim.
        self.keys = claimed.collect();
        self.board.send_replace(Some(Arc::new(board)));
        out
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.flights.lock().leave(self.call, self.keys.iter().map(|(key, _)| key));
    }
}

/// Takes a request's keys off the board when it is dropped, however the request ended.
#[derive(Debug)]
pub(super) struct Landing {
    flights: Arc<InFlight>,
    call: u64,
    keys: Vec<Fingerprint>,
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.flights.lock().leave(self.call, self.keys.iter());
    }
}

impl Waiter {
    /// Waits until the call that asks for this text has decided on its requests, then says which one carries it.
    /// `None` when that call ended without asking.
    pub(super) async fn departure(&mut self) -> Option<(watch::Receiver<Outcome>, Arc<[u32]>)> {
        let board = self.board.wait_for(Option::is_some).await.ok()?.clone()?;
        // Requests are cut in order, so their units are too.
        let found = board.iter().find(|request| request.units.binary_search(&self.unit).is_ok())?;
        Some((found.arrival.clone(), Arc::clone(&found.units)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(names: &[&str]) -> Vec<(Fingerprint, u32)> {
        names.iter().zip(0u32..).map(|(name, unit)| (Fingerprint::of(name), unit)).collect()
    }

    #[tokio::test]
    async fn a_text_is_claimed_by_one_call_at_a_time() {
        let flights = Arc::new(InFlight::default());
        let (first, none) = flights.claim(keys(&["a", "b"]).into_iter());
        assert!(none.is_empty());
        let (second, mut elsewhere) = flights.claim(keys(&["b", "c"]).into_iter());
        assert_eq!(second.units().collect::<Vec<_>>(), [1]);
        assert_eq!(elsewhere.len(), 1);
        let departed = first.depart(vec![Arc::from([0u32, 1])]);
        let (mut arrival, units) = elsewhere[0].1.departure().await.expect("it departs");
        assert_eq!(&*units, [0, 1]);
        for (landing, sender, _) in departed {
            sender.send_replace(Some(Arc::new(Ok(RequestOutcome::default()))));
            drop(landing);
        }
        assert!(arrival.wait_for(Option::is_some).await.is_ok());
        drop(second);
        assert_eq!(flights.len(), 0);
    }

    #[tokio::test]
    async fn a_call_that_ends_early_lets_go() {
        let flights = Arc::new(InFlight::default());
        let (claim, _) = flights.claim(keys(&["a"]).into_iter());
        let (_, mut elsewhere) = flights.claim(keys(&["a"]).into_iter());
        drop(claim);
        assert!(elsewhere[0].1.departure().await.is_none());
        assert_eq!(flights.len(), 0);
    }
}
