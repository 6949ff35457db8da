//! What all nodes of a process share that request the same vectors from one endpoint.
//!
//! Owns finding an [`Endpoint`] that is open already. Time limits, retries and request sizes belong to the client of each
//! node.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize},
    },
};

use super::{health::Health, in_flight::InFlight};
use crate::{
    embed::{EmbeddingCache, cpu_permits::CpuPermits},
    model::{Fingerprint, ServiceError},
    net::TokenScale,
};

/// The endpoints that the nodes of a process have open; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Clients(Arc<Mutex<HashMap<Fingerprint, Weak<Endpoint>>>>);

impl Clients {
    /// The endpoint that is open under this name, or a new one.
    pub(super) fn endpoint(
        &self,
        name: Fingerprint,
        open: impl FnOnce() -> Result<Endpoint, ServiceError>,
    ) -> Result<Arc<Endpoint>, ServiceError> {
        // Locked while the cache is opened, so that concurrent callers get the same endpoint.
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(endpoint) = all.get(&name).and_then(Weak::upgrade) {
            return Ok(endpoint);
        }
        let endpoint = Arc::new(open()?);
        all.retain(|_, endpoint| endpoint.strong_count() > 0);
        all.insert(name, Arc::downgrade(&endpoint));
        Ok(endpoint)
    }
}

/// One server, key and model: its cache, its texts in flight, and what was learned about the server.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) cache: EmbeddingCache,
    pub(super) in_flight: Arc<InFlight>,
    /// The length of the vectors; set by the first response if it is not known before.
    pub(super) dimensions: OnceLock<usize>,
    /// Whether a response had vectors of that length.
    pub(super) proven: AtomicBool,
    /// Whether base64 is requested; turned off permanently if the server does not support it.
    pub(super) base64: AtomicBool,
    /// The most texts and bytes of a request that the server accepts, as far as its refusals say.
    pub(super) most_inputs: AtomicUsize,
    pub(super) most_bytes: AtomicUsize,
    /// The most texts of a request that had a good response: a failure of fewer has another reason than their number.
    pub(super) most_passed: AtomicUsize,
    pub(super) scale: TokenScale,
    /// Whether it responds, for reports.
    pub(super) health: Health,
    /// The first error after which no request can succeed.
    pub(super) fatal_error: OnceLock<ServiceError>,
    pub(super) probe: tokio::sync::Mutex<()>,
    /// For large responses: at most one per core is decoded or stored at a time, because it is in memory twice then.
    pub(super) permits: CpuPermits,
}

impl Endpoint {
    pub(super) fn new(cache: EmbeddingCache, dimensions: Option<usize>, base64: bool) -> Self {
        Self {
            cache,
            in_flight: Arc::default(),
            dimensions: dimensions.map_or_else(OnceLock::new, OnceLock::from),
            proven: AtomicBool::new(false),
            base64: AtomicBool::new(base64),
            most_inputs: AtomicUsize::new(usize::MAX),
            most_bytes: AtomicUsize::new(usize::MAX),
            most_passed: AtomicUsize::new(0),
            scale: TokenScale::default(),
            health: Health::default(),
            fatal_error: OnceLock::new(),
            probe: tokio::sync::Mutex::default(),
            permits: CpuPermits::new(),
        }
    }
}
