//! What all requests of a client share: protocol, settings, connection, limits, and the fatal error.

use std::{fmt, sync::Arc, time::Duration};

use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{endpoint::Endpoint, protocol::Protocol, scrub::scrub, settings::ClientSettings, spend::Spending};
use crate::{
    model::{Secret, ServiceError},
    net::{AcquireError, EndpointLimiter, Http, Notices, Permit, RequestKind, without_secrets},
};

/// How long [`Client::settle`] waits for requests in flight whose call was dropped.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(30);

/// A run that is to end does not wait for an endpoint that has failed for this time, or that asked for such a pause.
const OUTAGE: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// A client of one service: sends requests of a protocol until every item has an answer or an error.
pub struct Client<P: Protocol> {
    /// The protocol.
    pub protocol: Arc<P>,
    /// How it sends.
    pub settings: ClientSettings,
    /// What must not be in a message.
    pub secrets: Vec<Secret>,
    /// The address in messages and reports.
    pub url: url::Url,
    /// When a request may be sent.
    pub limiter: Arc<EndpointLimiter>,
    /// What requests may cost.
    pub spending: Spending,
    /// Whether the first requests are small enough for a slow server.
    pub careful_start: bool,
    /// What clients of the same endpoint share.
    pub shared: Arc<Endpoint<P>>,
    /// Where waits and adapted settings are reported.
    pub notices: Notices,
    /// Cancelled when the run is to end: then nothing is waited for that cannot come soon.
    pub stopping: CancellationToken,
    /// The connection.
    pub http: Http,
    /// The tasks that send requests.
    pub requests: TaskTracker,
}

impl<P: Protocol> fmt::Debug for Client<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("url", &without_secrets(&self.url)).finish_non_exhaustive()
    }
}

/// Why a request ended without an outcome for its items.
#[derive(Debug, Clone)]
pub enum Halt {
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
pub struct Caller {
    /// Cancelled when the call is dropped.
    pub wanted: CancellationToken,
}

impl Caller {
    /// A call that is wanted.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { wanted: CancellationToken::new() })
    }
}

impl<P: Protocol> Client<P> {
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
                interrupted = self.interrupted() => return Err(interrupted.into()),
                () = tokio::time::sleep(self.until_given_up().min(self.until_report())) => {
                    if self.give_up_unreachable() {
                        self.check_open()?;
                    }
                    self.report_wait();
                }
            }
        };
        self.check_open()?;
        Ok(acquired)
    }

    /// Waits without sending anything, unless the call is dropped before.
    pub(super) async fn sleep(&self, pause: Duration, caller: &Caller) -> Result<(), Halt> {
        tokio::select! {
            biased;
            () = caller.wanted.cancelled() => Err(Halt::Abandoned),
            interrupted = self.interrupted() => Err(interrupted.into()),
            () = self.reporting(tokio::time::sleep(pause)) => Ok(()),
        }
    }

    /// Completes when the run is to end and waiting is of no use: nothing has succeeded for a while, or the server asked for a
    /// long pause.
    async fn interrupted(&self) -> ServiceError {
        self.stopping.cancelled().await;
        while self.shared.health.fails_for(Instant::now()) < OUTAGE && self.limiter.paused_for() < OUTAGE {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        let last = self.shared.health.last_failure().unwrap_or_default();
        ServiceError::Interrupted(self.message(&format!("stopped while waiting; last failure: {last}")))
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
    pub fn fail(&self, error: ServiceError) -> ServiceError {
        self.shared.fatal_error.get_or_init(|| error).clone()
    }

    /// Checks that no fatal error was recorded.
    ///
    /// # Errors
    /// When an earlier response was a fatal error.
    pub fn check_open(&self) -> Result<(), ServiceError> {
        self.shared.fatal_error.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    /// Waits for requests in flight whose call was dropped: they are paid for. One that takes longer than the time limit is
    /// not waited for.
    pub async fn settle(&self) {
        self.requests.close();
        let patience = self.settings.timeout.min(FLUSH_TIMEOUT);
        let _ = tokio::time::timeout(patience, self.requests.wait()).await;
    }

    /// An error after which the run can be resumed.
    pub(super) fn stopped(&self, why: &str) -> ServiceError {
        ServiceError::Stopped(format!("{}; finished work is kept, run again later", self.message(why)))
    }

    /// A message with keys removed.
    pub(super) fn without_key(&self, why: &str) -> String {
        scrub(&self.secrets, why)
    }

    /// A message with the server in front and keys removed.
    pub(super) fn message(&self, why: &str) -> String {
        let text = self.without_key(why);
        let row_reason = ["rejected", "failed", "too_long", P::TERMS.invalid]
            .iter()
            .any(|word| text.strip_prefix(word).is_some_and(|rest| rest.starts_with(':')));
        let host = self.url.host_str().unwrap_or("the service");
        match self.url.port() {
            _ if row_reason => text,
            Some(port) => format!("{host}:{port}: {text}"),
            None => format!("{host}: {text}"),
        }
    }
}
