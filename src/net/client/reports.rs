//! What the client reports while it works: waits, their ends, and what it adapted to the endpoint.

use std::time::Duration;

use tokio::time::Instant;

use super::{client::Client, protocol::Protocol, verdict::ResponseVerdict};
use crate::net::{Hints, Notice, WireError};

impl<P: Protocol> Client<P> {
    /// Reports what an attempt means for the endpoint. `failure` is the error of an attempt without a response.
    pub(super) fn report_attempt(
        &self,
        verdict: &ResponseVerdict<P::Answers>,
        hints: &Hints,
        failure: Option<&WireError>,
    ) {
        let now = Instant::now();
        match verdict {
            ResponseVerdict::Answers(_) => {
                if let Some(waited) = self.shared.health.succeeded(now) {
                    self.notices.send(Notice::Responding { endpoint: self.endpoint(), waited });
                }
            }
            ResponseVerdict::Retry { at_once: true, .. } => {}
            ResponseVerdict::Retry { why, .. } => {
                let unreachable = matches!(failure, Some(WireError::Connect(_)));
                self.shared.health.failed(self.without_key(why), unreachable, now);
                if !self.give_up_unreachable() {
                    self.report_wait();
                }
            }
            ResponseVerdict::RateLimited { rate_limit, why } => {
                let wait = hints.retry_after.or(rate_limit.wait).unwrap_or_default();
                self.shared.health.paused(self.without_key(why), wait, now);
                self.report_wait();
            }
            _ => {}
        }
    }

    /// Reports a wait, if that is due.
    pub(super) fn report_wait(&self) {
        let now = Instant::now();
        let Some(report) = self.shared.health.due(now) else { return };
        let (waiting_for, until) = match report.until {
            Some(until) => (format!("requests go on in {}, as the server asks", seconds(until)), until),
            None => {
                let most = match self.shared.health.never_reached(now) {
                    Some(_) => self.settings.max_unreachable.min(self.settings.max_outage),
                    None => self.settings.max_outage,
                };
                let until = most.saturating_sub(report.waited);
                (format!("it is tried again; the run stops after {} without a response", seconds(most)), until)
            }
        };
        let (error, waited) = (report.error, report.waited);
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
                P::WORDS.address
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
    fn endpoint(&self) -> String {
        let mut url = self.url.clone();
        // These cannot fail for an address with a host.
        let _ = (url.set_username(""), url.set_password(None));
        url.set_query(None);
        url.to_string()
    }
}

fn seconds(time: Duration) -> String {
    let seconds = time.as_secs_f64().round() as u64;
    match (seconds / 60, seconds % 60) {
        (0, seconds) => format!("{seconds} s"),
        (minutes, 0) => format!("{minutes} min"),
        (minutes, seconds) => format!("{minutes} min {seconds} s"),
    }
}
