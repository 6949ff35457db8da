//! What all requests of a client share: settings, connection, limits, and the fatal error.

use std::{sync::Arc, time::Duration};

use reqwest::header::HeaderMap;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{endpoint::Endpoint, health::REPORT_EVERY, scrub::scrub, settings::OpenAiSettings, spend::Spending};
use crate::{
    embed::{Notices, tokens::Counter},
    model::ServiceError,
    net::{AcquireError, EndpointLimiter, Http, Permit, RequestKind},
};

/// What all requests of a client share.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) settings: OpenAiSettings,
    pub(super) http: Http,
    pub(super) url: url::Url,
    pub(super) headers: HeaderMap,
    pub(super) limiter: Arc<EndpointLimiter>,
    pub(super) spending: Spending,
    pub(super) counter: Counter,
    /// Whether the first requests are small enough for a slow server.
    pub(super) careful_start: bool,
    pub(super) shared: Arc<Endpoint>,
    /// Where waits and adapted settings are reported.
    pub(super) notices: Notices,
    /// The tasks that send requests, for `flush`.
    pub(super) requests: TaskTracker,
}

/// Why a request ended without an outcome for its texts.
#[derive(Debug, Clone)]
pub(super) enum Halt {
    /// The call cannot be finished.
    Error(ServiceError),
    /// Its call was dropped.
    Abandoned,
}

impl From<ServiceError> for Halt {
    fn from(error: ServiceError) -> Self {
        Self::Error(error)
    }
}

/// The call that requests are made for.
#[derive(Debug)]
pub(super) struct Caller {
    /// Cancelled when the call is dropped.
    pub(super) wanted: CancellationToken,
}

impl Caller {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { wanted: CancellationToken::new() })
    }
}

impl Core {
    /// Waits for a permit, unless the call is dropped before.
    pub(super) async fn try_acquire(
        &self,
        kind: RequestKind,
        tokens: u64,
        spent: Duration,
        caller: &Caller,
    ) -> Result<Result<Permit, AcquireError>, Halt> {
        self.check_open()?;
        let patience = self.settings.retry.deadline.saturating_sub(spent);
        let acquire = self.limiter.acquire(kind, tokens, patience, self.settings.max_outage);
        tokio::pin!(acquire);
        let acquired = loop {
            tokio::select! {
                biased;
                () = caller.wanted.cancelled() => return Err(Halt::Abandoned),
                acquired = &mut acquire => break acquired,
                () = tokio::time::sleep(REPORT_EVERY) => self.report_wait(),
            }
        };
        self.check_open()?;
        Ok(acquired)
    }

    /// The fatal error for a permit that was not granted.
    pub(super) fn acquire_failed(&self, why: AcquireError) -> ServiceError {
        let what = match why {
            AcquireError::Paused(_) => ", longer than `retry.deadline` allows",
            AcquireError::Outage(_) => ", longer than `max_outage` allows",
            AcquireError::Down => "",
        };
        let last = match self.shared.health.last_failure() {
            Some(last) => format!("; last failure: {last}"),
            None => String::new(),
        };
        self.fail(self.stopped(&format!("{why}{what}{last}")))
    }

    /// Records a fatal error, and returns the first one.
    pub(super) fn fail(&self, error: ServiceError) -> ServiceError {
        self.shared.fatal_error.get_or_init(|| error).clone()
    }

    /// Checks that no fatal error was recorded.
    ///
    /// # Errors
    /// When an earlier response was a fatal error.
    pub(super) fn check_open(&self) -> Result<(), ServiceError> {
        self.shared.fatal_error.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    /// An error after which the run can be resumed.
    pub(super) fn stopped(&self, why: &str) -> ServiceError {
        ServiceError::Stopped(format!("{}; finished work is kept, run again later", self.message(why)))
    }

    /// A message with keys removed.
    pub(super) fn without_key(&self, why: &str) -> String {
        let headers = self.settings.request.headers.iter().map(|(_, value)| value);
        headers.fold(scrub(self.settings.api_key.as_ref(), why), |text, value| scrub(Some(value), &text))
    }

    /// A message with the server in front and keys removed.
    pub(super) fn message(&self, why: &str) -> String {
        let text = self.without_key(why);
        let row_reason =
            ["rejected:", "failed:", "too_long:", "invalid_vector:"].iter().any(|word| text.starts_with(word));
        let host = self.url.host_str().unwrap_or("embeddings");
        match self.url.port() {
            _ if row_reason => text,
            Some(port) => format!("{host}:{port}: {text}"),
            None => format!("{host}: {text}"),
        }
    }
}
