//! One round of a call: sends its requests, waits for those of other calls that have its items, and passes on what arrives.

use std::{collections::HashMap, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::{FutureExt as _, StreamExt, stream::FuturesUnordered};
use tokio::sync::watch;
use tracing::Instrument as _;

use super::{
    client::{Caller, Client, Halt},
    in_flight::{Claim, Outcome, Waiter},
    part::Part,
    protocol::Protocol,
    request_outcome::RequestOutcome,
};
use crate::{model::ServiceError, net::work_clock};

/// How long a call waits until it looks again whether another process has stored what it is requesting; longer each time.
const FIRST_LOOK: Duration = Duration::from_millis(20);
const LONGEST_LOOK: Duration = Duration::from_millis(500);

/// The source of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerSource {
    /// A request of this call.
    Request,
    /// The cache, or a request of another call.
    Elsewhere,
}

/// What one round of a call determines before anything is sent.
pub struct Round<A> {
    /// The units that this call requests.
    pub claim: Claim<A>,
    /// The requests that carry them, in the order of the claim.
    pub requests: Vec<Arc<[u32]>>,
    /// Units that other calls are requesting.
    pub elsewhere: Vec<(u32, Waiter<A>)>,
    /// Units that other processes are requesting. They count as units whose request ended without an outcome, until their
    /// answers are stored.
    pub other_processes: Vec<u32>,
    /// The rounds before this one, of this call, in which there was nothing but these.
    pub looks: u32,
}

impl<A> Round<A> {
    /// True when only other processes are at work for it.
    pub fn only_looks(&self) -> bool {
        self.requests.is_empty() && self.elsewhere.is_empty() && !self.other_processes.is_empty()
    }
}

/// Units of this call, with their numbers in the request that contains them.
pub struct Awaited<A> {
    /// Ours, and theirs.
    pub units: Vec<(u32, u32)>,
    /// Whose request it is.
    pub from: AnswerSource,
    outcome: watch::Receiver<Outcome<A>>,
}

impl<P: Protocol> Client<P> {
    /// Sends the requests of a round, and calls `arrived` with the outcome of each, also of those of other calls that have
    /// units of this one. Returns the units whose request ended without an outcome: they are to be requested again.
    ///
    /// A request in flight is completed, and its answers are stored, even if the call is dropped.
    ///
    /// # Errors
    /// When the call cannot be finished.
    pub async fn complete(
        self: &Arc<Self>,
        items: &Arc<P::Items>,
        round: Round<P::Answers>,
        caller: &Arc<Caller>,
        mut arrived: impl FnMut(&Awaited<P::Answers>, &RequestOutcome<P::Answers>) + Send,
    ) -> Result<Vec<u32>, ServiceError> {
        if round.only_looks() {
            let pause = FIRST_LOOK.saturating_mul(1 << round.looks.min(10)).min(LONGEST_LOOK);
            waiting(tokio::time::sleep(pause)).await;
        }
        let mut lost = round.other_processes;
        let mut awaited = self.dispatch(items, (round.claim, round.requests), caller);
        awaited.extend(waiting(join(round.elsewhere, &mut lost)).await);
        let mut pending: FuturesUnordered<_> = awaited.into_iter().map(await_outcome).collect();
        while let Some((awaited, outcome)) = waiting(pending.next()).await {
            match outcome.as_deref() {
                None => lost.extend(awaited.units.iter().map(|(ours, _)| *ours)),
                Some(Err(error)) => return Err(error.clone()),
                Some(Ok(outcome)) => arrived(&awaited, outcome),
            }
        }
        self.check_open()?;
        // Requests are looked through by the order of their units.
        lost.sort_unstable();
        Ok(lost)
    }

    /// Sends this call's requests, each in a task of its own.
    fn dispatch(
        self: &Arc<Self>,
        items: &Arc<P::Items>,
        (claim, requests): (Claim<P::Answers>, Vec<Arc<[u32]>>),
        caller: &Arc<Caller>,
    ) -> Vec<Awaited<P::Answers>> {
        let dispatched = claim.dispatch(requests);
        let mut awaited = Vec::with_capacity(dispatched.len());
        for (keys, sender, units) in dispatched {
            let part = Part::new(items, units.to_vec());
            awaited.push(Awaited {
                units: units.iter().map(|unit| (*unit, *unit)).collect(),
                outcome: sender.subscribe(),
                from: AnswerSource::Request,
            });
            let (client, caller) = (Arc::clone(self), Arc::clone(caller));
            let work = async move {
                let outcome = match AssertUnwindSafe(client.send(part, caller)).catch_unwind().await {
                    Ok(Ok(outcomes)) => Ok(RequestOutcome { outcomes }),
                    Ok(Err(Halt::Error(error))) => Err(error),
                    Ok(Err(Halt::Abandoned)) => return,
                    // Without an outcome its items would be requested, and paid for, again and again.
                    Err(_) => Err(ServiceError::Bug("a request ended in a panic".to_owned())),
                };
                drop(keys);
                sender.send_replace(Some(Arc::new(outcome)));
            };
            self.requests.spawn(work.in_current_span());
        }
        awaited
    }
}

/// Finds the requests of other calls that contain our items. Items whose call ended without sending them go to `lost`.
async fn join<A>(elsewhere: Vec<(u32, Waiter<A>)>, lost: &mut Vec<u32>) -> Vec<Awaited<A>> {
    let mut joined: HashMap<usize, Awaited<A>> = HashMap::new();
    for (unit, mut waiter) in elsewhere {
        match waiter.request().await {
            Some((outcome, carried)) => joined
                .entry(carried.as_ptr().addr())
                .or_insert_with(|| Awaited { units: Vec::new(), outcome, from: AnswerSource::Elsewhere })
                .units
                .push((unit, waiter.unit)),
            None => lost.push(unit),
        }
    }
    joined.into_values().collect()
}

/// Waits for the outcome of one request.
async fn await_outcome<A>(mut awaited: Awaited<A>) -> (Awaited<A>, Outcome<A>) {
    let outcome = match awaited.outcome.wait_for(Option::is_some).await {
        Ok(outcome) => outcome.clone(),
        Err(_) => None,
    };
    (awaited, outcome)
}

/// Awaits responses without counting the time as work of the partition: `timeout` bounds each response, and the retry policy
/// bounds waits and pauses.
async fn waiting<T>(something: impl Future<Output = T>) -> T {
    let _waiting = work_clock::waiting();
    something.await
}
