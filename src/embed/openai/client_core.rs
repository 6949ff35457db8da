//! What all requests of one client share: settings, connection, limits, and the error that ends them all.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use reqwest::header::HeaderMap;
use tokio_util::sync::CancellationToken;

use super::{endpoint::Endpoint, scrub::scrub, settings::OpenAiSettings, spend::Spending};
use crate::{
    embed::{EmbedError, tokens::Counter},
    net::{AcquireError, EndpointLimiter, Http, Permit, RequestKind},
};

/// What all requests of one client share.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) settings: OpenAiSettings,
    pub(super) http: Http,
    pub(super) url: url::Url,
    pub(super) headers: HeaderMap,
    pub(super) limiter: Arc<EndpointLimiter>,
    pub(super) spending: Spending,
    pub(super) counter: Counter,
    pub(super) shared: Arc<Endpoint>,
    pub(super) on_wire: OnWire,
}

/// Why a request ended without a fate for its texts.
#[derive(Debug, Clone)]
pub(super) enum Halt {
    /// The call cannot be finished.
    Error(EmbedError),
    /// Nobody waits for it any more.
    Abandoned,
}

impl From<EmbedError> for Halt {
    fn from(error: EmbedError) -> Self {
        Self::Error(error)
    }
}

/// The call that requests are made for.
#[derive(Debug)]
pub(super) struct Caller {
    /// Cancelled when nobody waits for the call any more.
    pub(super) wanted: CancellationToken,
}

impl Caller {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { wanted: CancellationToken::new() })
    }
}

impl Core {
    pub(super) async fn try_acquire(
        &self,
        kind: RequestKind,
        tokens: u64,
        spent: Duration,
        caller: &Caller,
    ) -> Result<Result<Permit, AcquireError>, Halt> {
        self.check_open()?;
        let patience = self.settings.retry.deadline.saturating_sub(spent);
        let acquired = tokio::select! {
            biased;
            () = caller.wanted.cancelled() => return Err(Halt::Abandoned),
            acquired = self.limiter.acquire(kind, tokens, patience, self.settings.max_outage) => acquired,
        };
        self.check_open()?;
        Ok(acquired)
    }

    pub(super) fn acquire_failed(&self, why: AcquireError) -> EmbedError {
        let what = match why {
            AcquireError::Closed(_) => ", longer than `retry.deadline` allows",
            AcquireError::Outage(_) => ", longer than `max_outage` allows",
            AcquireError::Down => "",
        };
        self.fail(self.stopped(&format!("{why}{what}")))
    }

    /// The first error that ends everything; later ones give way to it.
    pub(super) fn fail(&self, error: EmbedError) -> EmbedError {
        self.shared.fatal_error.get_or_init(|| error).clone()
    }

    /// # Errors
    /// When an earlier answer has made all further requests pointless.
    pub(super) fn check_open(&self) -> Result<(), EmbedError> {
        self.shared.fatal_error.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    pub(super) fn stopped(&self, why: &str) -> EmbedError {
        EmbedError::Stopped(format!("{}; finished work is kept, run again later", self.message(why)))
    }

    /// A message with the host in front and no key in it.
    pub(super) fn message(&self, why: &str) -> String {
        let text = scrub(self.settings.api_key.as_ref(), why);
        let row_reason =
            ["rejected:", "failed:", "too_long:", "invalid_vector:"].iter().any(|word| text.starts_with(word));
        if row_reason { text } else { format!("{}: {text}", self.url.host_str().unwrap_or("embeddings")) }
    }
}

/// How many requests are on the wire, for those who must not leave before they have landed.
#[derive(Debug, Default)]
pub(super) struct OnWire {
    count: Mutex<usize>,
    landed: std::sync::Condvar,
}

impl OnWire {
    pub(super) fn enter(&self) -> OnWireGuard<'_> {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        OnWireGuard(self)
    }

    /// Blocks until nothing is on the wire, but no longer than `patience`.
    pub(super) fn wait(&self, patience: Duration) {
        let count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        // A poisoned lock means a panic elsewhere, which has been reported there.
        drop(self.landed.wait_timeout_while(count, patience, |count| *count > 0));
    }
}

pub(super) struct OnWireGuard<'w>(&'w OnWire);

impl Drop for OnWireGuard<'_> {
    fn drop(&mut self) {
        *self.0.count.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.landed.notify_all();
    }
}
