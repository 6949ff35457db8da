//! What the client reports while it works: waits, their ends, and what it adapted to the endpoint.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    client::Client,
    health::{Failure, REPORT_EVERY, Wait},
    protocol::Protocol,
    verdict::ResponseVerdict,
};
use crate::net::{Notice, WireError, without_secrets};

impl<P: Protocol> Client<P> {
    /// Awaits what takes long, and reports meanwhile what is due.
    pub(super) async fn reporting<T>(&self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = tokio::time::sleep(self.until_report()) => self.report_wait(),
            }
        }
    }

    /// How long until a report may be due.
    pub(super) fn until_report(&self) -> Duration {
        let next = self.shared.health.next_report(Instant::now()).unwrap_or(REPORT_EVERY);
        // What is due and not reported yet waits for something else.
        next.clamp(Duration::from_millis(50), REPORT_EVERY)
    }

    /// Reports what an attempt that was sent then means for the endpoint. `failure` is the error of an attempt without a
    /// response. What a refusal means is reported when it is known how long requests wait.
    pub(super) fn report_attempt(
        &self,
        verdict: &ResponseVerdict<P::Answers>,
        sent: Instant,
        failure: Option<&WireError>,
    ) {
        let now = Instant::now();
        let silent = self.shared.health.ended(now);
        match verdict {
            ResponseVerdict::Answers(_) => {
                if let Some(waited) = self.shared.health.succeeded(sent, now).max(silent) {
                    self.notices.send(Notice::Responding { endpoint: self.endpoint(), waited });
                }
            }
            ResponseVerdict::Retry { at_once: true, .. } => {}
            ResponseVerdict::Retry { why, .. } => {
                let unreachable = matches!(failure, Some(WireError::Connect(_)));
                let kind = if unreachable { Failure::Unreachable } else { Failure::Failed };
                self.shared.health.failed(self.without_key(why), kind, now);
                if !self.give_up_unreachable() {
                    self.report_wait();
                }
            }
            _ => {}
        }
    }

    /// Reports a refusal, after the limiter has decided how long requests wait. A wait that is not accepted ends the run
    /// instead.
    pub(super) fn report_refusal(&self, why: &str) {
        let (now, wait) = (Instant::now(), self.limiter.paused_for());
        self.shared.health.failed(self.without_key(why), Failure::Refused, now);
        if wait <= self.settings.retry.deadline {
            self.shared.health.paused(self.without_key(why), wait, now);
            self.report_wait();
        }
    }

    /// Reports a wait, if that is due.
    pub(super) fn report_wait(&self) {
        let now = Instant::now();
        if self.stopping.is_cancelled() {
            // The run ends before what would be said.
            return;
        }
        let Some(report) = self.shared.health.due(now) else { return };
        let waited = report.waited;
        let (error, waiting_for, until) = match report.what {
            Wait::Paused(error, until) => {
                (error, format!("requests go on in {}, as the server asks", seconds(until)), until)
            }
            Wait::Failing(error, Failure::Refused) => {
                let most = self.settings.retry.deadline;
                let stops = format!("it is tried again; the run stops after {} of refusals", seconds(most));
                (error, stops, most.saturating_sub(waited))
            }
            Wait::Failing(error, _) => {
                let most = match self.shared.health.never_reached(now) {
                    Some(_) => self.settings.max_unreachable.min(self.settings.max_outage),
                    None => self.settings.max_outage,
                };
                let stops = format!("it is tried again; the run stops after {} without a response", seconds(most));
                (error, stops, most.saturating_sub(waited))
            }
            Wait::Silent(in_flight) => {
                let (requests, each) = if in_flight == 1 { ("request is", "it") } else { ("requests are", "each") };
                let most = self.settings.timeout;
                let what = format!("{in_flight} {requests} in flight; {each} is given up after {}", seconds(most));
                ("no response yet".to_owned(), what, most.saturating_sub(waited))
            }
        };
        self.notices.send(Notice::Waiting { endpoint: self.endpoint(), error, waiting_for, waited, until });
    }

    /// How long no connection may be possible yet, if none ever was.
    pub(super) fn until_given_up(&self) -> Duration {
        let waited = self.shared.health.never_reached(Instant::now());
        waited.map_or(Duration::MAX, |waited| self.settings.max_unreachable.saturating_sub(waited))
    }

    /// Ends the run if no connection was possible for too long, and none ever was: then nobody listens there.
    pub(super) fn give_up_unreachable(&self) -> bool {
        let Some(waited) = self.shared.health.never_reached(Instant::now()) else { return false };
        let given_up = waited >= self.settings.max_unreachable;
        if given_up {
            let last = self.shared.health.last_failure().unwrap_or_default();
            let why = format!(
                "{last}; no connection for {}: is the server running, and `{}` right?",
                seconds(waited),
                P::TERMS.address
            );
            self.fail(self.stopped(&why));
        }
        given_up
    }

    /// Reports what was adapted to the endpoint so far, as settings.
    pub fn report_adapted(&self, settings: String) {
        // Without a response, nothing is known about the endpoint.
        if !settings.is_empty() && self.limiter.successes() > 0 {
            self.notices.send(Notice::Adapted { endpoint: self.endpoint(), settings });
        }
    }

    /// The address of the requests, without what may be secret in it.
    pub(super) fn endpoint(&self) -> String {
        without_secrets(&self.url)
    }
}

fn seconds(time: Duration) -> String {
    let seconds = time.as_secs_f64().round() as u64;
    match (seconds / 60, seconds % 60) {
        (0, seconds) => format!("{seconds} s"),
        (minutes @ 120.., _) => format!("{} h {} min", minutes / 60, minutes % 60),
        (minutes, 0) => format!("{minutes} min"),
        (minutes, seconds) => format!("{minutes} min {seconds} s"),
    }
}
