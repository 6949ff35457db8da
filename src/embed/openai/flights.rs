//! Texts on their way: a text that another call is already asking for is waited for, not asked for again.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use super::{plan::ByDigest, send::Landed};
use crate::{embed::EmbedError, model::Fingerprint};

/// What became of one request's texts. `None` while it is on its way; the channel closes when it never arrives.
pub(super) type Arrival = Option<Arc<Result<Landed, EmbedError>>>;

/// The texts that some call of this provider is asking for.
#[derive(Debug, Default)]
pub(super) struct Flights {
    seats: Mutex<HashMap<Fingerprint, Seat, ByDigest>>,
}

/// A text's place in the call that asks for it.
#[derive(Debug, Clone)]
pub(super) struct Seat {
    board: watch::Receiver<Board>,
    /// The text's number in that call.
    pub(super) unit: u32,
}

/// Which requests a call makes; empty until it has been decided.
type Board = Option<Arc<Vec<Departure>>>;

/// One request: its units, sorted, and where to wait for it.
#[derive(Debug)]
pub(super) struct Departure {
    pub(super) units: Arc<[u32]>,
    pub(super) arrival: watch::Receiver<Arrival>,
}

/// The texts that one call has taken upon itself. Dropped, it gives back those that were not sent.
#[derive(Debug)]
pub(super) struct Claim {
    flights: Arc<Flights>,
    board: watch::Sender<Board>,
    keys: Vec<(Fingerprint, u32)>,
}

impl Flights {
    /// Takes upon this call what no other is asking for. The rest: where to wait for it.
    pub(super) fn claim(
        self: &Arc<Self>,
        wanted: impl Iterator<Item = (Fingerprint, u32)>,
    ) -> (Claim, Vec<(u32, Seat)>) {
        let (board, watch) = watch::channel(None);
        let mut claim = Claim { flights: Arc::clone(self), board, keys: Vec::new() };
        let mut elsewhere = Vec::new();
        let mut seats = self.lock();
        for (key, unit) in wanted {
            match seats.entry(key) {
                Entry::Occupied(taken) => elsewhere.push((unit, taken.get().clone())),
                Entry::Vacant(free) => {
                    free.insert(Seat { board: watch.clone(), unit });
                    claim.keys.push((key, unit));
                }
            }
        }
        (claim, elsewhere)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Fingerprint, Seat, ByDigest>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many texts are on their way.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }
}

impl Claim {
    /// The units of this call's claim, in order.
    pub(super) fn units(&self) -> impl Iterator<Item = u32> {
        self.keys.iter().map(|(_, unit)| *unit)
    }

    /// Gives up the units for which `keep` says no: they were found elsewhere after all.
    pub(super) fn keep(&mut self, mut keep: impl FnMut(u32) -> bool) {
        let flights = Arc::clone(&self.flights);
        let mut seats = flights.lock();
        self.keys.retain(|(key, unit)| {
            let kept = keep(*unit);
            if !kept {
                seats.remove(key);
            }
            kept
        });
    }

    /// Tells everybody which requests the call makes, and hands the claim over to them: each takes back the keys of
    /// its own units when it has landed.
    pub(super) fn depart(mut self, requests: Vec<Arc<[u32]>>) -> Vec<(Landing, watch::Sender<Arrival>, Arc<[u32]>)> {
        let keys: HashMap<u32, Fingerprint> = std::mem::take(&mut self.keys).into_iter().map(|(k, u)| (u, k)).collect();
        let mut board = Vec::with_capacity(requests.len());
        let mut out = Vec::with_capacity(requests.len());
        for units in requests {
            let (sender, arrival) = watch::channel(None);
            let keys = units.iter().filter_map(|unit| keys.get(unit).copied()).collect();
            board.push(Departure { units: Arc::clone(&units), arrival });
            out.push((Landing { flights: Arc::clone(&self.flights), keys }, sender, units));
        }
        self.board.send_replace(Some(Arc::new(board)));
        out
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut seats = self.flights.lock();
        for (key, _) in &self.keys {
            seats.remove(key);
        }
    }
}

/// Takes a request's keys off the board when it is dropped, however the request ended.
#[derive(Debug)]
pub(super) struct Landing {
    flights: Arc<Flights>,
    keys: Vec<Fingerprint>,
}

impl Drop for Landing {
    fn drop(&mut self) {
        let mut seats = self.flights.lock();
        for key in &self.keys {
            seats.remove(key);
        }
    }
}

impl Seat {
    /// Waits until the call that asks for this text has decided on its requests, then says which one carries it.
    /// `None` when that call ended without asking.
    pub(super) async fn departure(&mut self) -> Option<(watch::Receiver<Arrival>, Arc<[u32]>)> {
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
        let flights = Arc::new(Flights::default());
        let (first, none) = flights.claim(keys(&["a", "b"]).into_iter());
        assert!(none.is_empty());
        let (second, mut elsewhere) = flights.claim(keys(&["b", "c"]).into_iter());
        assert_eq!(second.units().collect::<Vec<_>>(), [1]);
        assert_eq!(elsewhere.len(), 1);
        let departed = first.depart(vec![Arc::from([0u32, 1])]);
        let (mut arrival, units) = elsewhere[0].1.departure().await.expect("it departs");
        assert_eq!(&*units, [0, 1]);
        for (landing, sender, _) in departed {
            sender.send_replace(Some(Arc::new(Ok(Landed::default()))));
            drop(landing);
        }
        assert!(arrival.wait_for(Option::is_some).await.is_ok());
        drop(second);
        assert_eq!(flights.len(), 0);
    }

    #[tokio::test]
    async fn a_call_that_ends_early_lets_go() {
        let flights = Arc::new(Flights::default());
        let (claim, _) = flights.claim(keys(&["a"]).into_iter());
        let (_, mut elsewhere) = flights.claim(keys(&["a"]).into_iter());
        drop(claim);
        assert!(elsewhere[0].1.departure().await.is_none());
        assert_eq!(flights.len(), 0);
    }
}
