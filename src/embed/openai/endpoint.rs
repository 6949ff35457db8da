//! What all nodes of a process share that ask one endpoint for the same vectors.
//!
//! Owns finding an [`Endpoint`] that is open already. How long an attempt may take, how often it is repeated and how much
//! travels in one request is each node's own business and stays with its client.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize},
    },
};

use super::in_flight::InFlight;
use crate::{
    embed::{EmbedError, cache::EmbeddingCache, cpu_permits::CpuPermits},
    model::Fingerprint,
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
        open: impl FnOnce() -> Result<Endpoint, EmbedError>,
    ) -> Result<Arc<Endpoint>, EmbedError> {
        // Held while a cache is opened: who asks at the same time gets that very one.
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

/// One server, key and model: the vectors that are known, the texts that are on their way, and what the server has shown
/// of itself.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) cache: EmbeddingCache,
    pub(super) in_flight: Arc<InFlight>,
    /// How long vectors are; set by the first answer where it is not known before.
    pub(super) dimensions: OnceLock<usize>,
    /// Set once an answer had vectors of that length.
    pub(super) proven: AtomicBool,
    /// Whether base64 is asked for; turned off for good by a server that takes none.
    pub(super) base64: AtomicBool,
    /// Texts and bytes that the server has shown to be too many.
    pub(super) most_inputs: AtomicUsize,
    pub(super) most_bytes: AtomicUsize,
    pub(super) scale: TokenScale,
    /// Set by the first answer that makes all further requests pointless.
    pub(super) fatal_error: OnceLock<EmbedError>,
    pub(super) probe: tokio::sync::Mutex<()>,
    /// For large answers: read and kept as many at once as there are cores, so that few are in memory twice.
    pub(super) cores: CpuPermits,
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
            scale: TokenScale::default(),
            fatal_error: OnceLock::new(),
            probe: tokio::sync::Mutex::default(),
            cores: CpuPermits::new(),
        }
    }
}
