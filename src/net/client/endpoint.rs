//! What all nodes of a process share that send the same requests to one endpoint.
//!
//! Owns finding an [`Endpoint`] that is open already. Time limits, retries and request sizes belong to the client of each
//! node.

use std::{
    any::Any,
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::{health::Health, in_flight::InFlight, lengths::Lengths, protocol::Protocol};
use crate::{
    model::{Fingerprint, ServiceError},
    net::{CpuPermits, TokenScale},
};

/// The endpoints that the nodes of a process have open, whatever their protocol; clones share them.
#[derive(Clone, Default)]
pub struct Clients(Arc<Mutex<HashMap<Fingerprint, Weak<dyn Any + Send + Sync>>>>);

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clients")
    }
}

impl Clients {
    /// The endpoint that is open under this name, or a new one. A name is of one protocol.
    ///
    /// # Errors
    /// Those of `open`.
    pub fn endpoint<P: Protocol>(
        &self,
        name: Fingerprint,
        open: impl FnOnce() -> Result<P::Known, ServiceError>,
    ) -> Result<Arc<Endpoint<P>>, ServiceError> {
        // Locked while the cache is opened, so that concurrent callers get the same endpoint.
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.get(&name).and_then(Weak::upgrade).and_then(|endpoint| endpoint.downcast().ok());
        if let Some(endpoint) = known {
            return Ok(endpoint);
        }
        let endpoint = Arc::new(Endpoint::<P>::new(open()?));
        all.retain(|_, endpoint| endpoint.strong_count() > 0);
        let erased: Arc<dyn Any + Send + Sync> = Arc::<Endpoint<P>>::clone(&endpoint);
        all.insert(name, Arc::downgrade(&erased));
        Ok(endpoint)
    }
}

/// One server, key and model: its items in flight, and what was learned about the server.
pub struct Endpoint<P: Protocol> {
    /// What the protocol knows of it, such as its cache.
    pub known: Arc<P::Known>,
    /// What is being requested.
    pub in_flight: Arc<InFlight<P::Answers>>,
    /// The most items and bytes of a request that the server accepts, as far as its refusals say.
    pub(super) most_inputs: AtomicUsize,
    pub(super) most_bytes: AtomicUsize,
    /// The most items of a request that had a good response: a failure of fewer has another reason than their number.
    pub(super) most_passed: AtomicUsize,
    /// The lengths of items that the server accepts.
    pub(super) lengths: Lengths,
    /// The server's count of tokens.
    pub scale: TokenScale,
    /// Whether it responds, for reports.
    pub(super) health: Health,
    /// The first error after which no request can succeed.
    pub fatal_error: OnceLock<ServiceError>,
    pub(super) probe: tokio::sync::Mutex<()>,
    /// For large responses: at most one per core is decoded or stored at a time, because it is in memory twice then.
    pub permits: CpuPermits,
}

impl<P: Protocol> fmt::Debug for Endpoint<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Endpoint")
    }
}

impl<P: Protocol> Endpoint<P> {
    fn new(known: P::Known) -> Self {
        let known = Arc::new(known);
        let of_in_flight = Arc::clone(&known);
        Self {
            known,
            in_flight: Arc::new(InFlight::new(Box::new(move |keys| P::released(&of_in_flight, keys)))),
            most_inputs: AtomicUsize::new(usize::MAX),
            most_bytes: AtomicUsize::new(usize::MAX),
            most_passed: AtomicUsize::new(0),
            lengths: Lengths::default(),
            scale: TokenScale::default(),
            health: Health::default(),
            fatal_error: OnceLock::new(),
            probe: tokio::sync::Mutex::default(),
            permits: CpuPermits::default(),
        }
    }

    /// The most items and bytes of a request that the server accepts; `None` where it refused none.
    pub fn refused_sizes(&self) -> (Option<usize>, Option<usize>) {
        let learned = |limit: &AtomicUsize| Some(limit.load(Ordering::Relaxed)).filter(|limit| *limit != usize::MAX);
        (learned(&self.most_inputs), learned(&self.most_bytes))
    }
}
