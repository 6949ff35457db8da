//! The limiters of a process: all clients with equal keys share one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use super::{
    endpoint_limiter::{EndpointKey, EndpointLimiter, EndpointSample},
    endpoint_limits::EndpointLimits,
    retry::{Jitter, RetryBudget},
};
use crate::model::RateShare;

/// The limiters of a process.
#[derive(Debug, Default)]
pub struct EndpointRegistry {
    limiters: Mutex<HashMap<EndpointKey, Arc<EndpointLimiter>>>,
    budget: Arc<RetryBudget>,
    share: OnceLock<RateShare>,
}

impl EndpointRegistry {
    /// The registry that all clients of this process share.
    pub fn process() -> Arc<Self> {
        static PROCESS: OnceLock<Arc<EndpointRegistry>> = OnceLock::new();
        Arc::clone(PROCESS.get_or_init(Arc::default))
    }

    /// Every limit that is asked for from now on is shared with other processes: this one uses that part. The first call counts.
    pub fn set_share(&self, share: RateShare) {
        self.share.get_or_init(|| share);
    }

    /// The limiter of this key. If two clients configure different ceilings, the lower ones apply to both.
    pub fn limiter(&self, key: EndpointKey, limits: EndpointLimits) -> Arc<EndpointLimiter> {
        let limits = limits.shared(self.share.get().copied().unwrap_or(RateShare::WHOLE).fraction());
        let mut limiters = self.limiters.lock().unwrap_or_else(PoisonError::into_inner);
        let limiter = limiters
            .entry(key)
            .or_insert_with(|| EndpointLimiter::new(limits, Arc::clone(&self.budget), Jitter::new()));
        limiter.tighten(limits);
        Arc::clone(limiter)
    }

    /// What all endpoints do at this moment, in no order.
    pub fn samples(&self) -> Vec<(EndpointKey, EndpointSample)> {
        let limiters = self.limiters.lock().unwrap_or_else(PoisonError::into_inner);
        limiters.iter().map(|(key, limiter)| (key.clone(), limiter.sample())).collect()
    }
}
