//! What a refusal ("too many requests") changes: the rate, the requests in flight, or only when the refused one is sent again.

use std::time::Duration;

use tokio::time::Instant;

use super::{EndpointState, INITIAL_CONCURRENCY, Permit};
use crate::net::{
    concurrency::Effect,
    outcome::{RateLimited, Scope},
    rate_limit_headers::{Hints, Quota},
    retry::Jitter,
};

/// A refusal that is not caused by the rate delays the refused request alone, if the server asks for a wait of this at most.
const LONGEST_OWN_WAIT: Duration = Duration::from_secs(10);

impl EndpointState {
    /// What a refusal indicates, and how long the refused request waits if others do not.
    pub(super) fn refused(
        &mut self,
        permit: &Permit,
        RateLimited { scope, wait, limit }: RateLimited,
        hints: &Hints,
        now: Instant,
        jitter: &Jitter,
    ) -> (Effect, Option<Duration>) {
        let limit = limit.map(|limit| limit * self.share);
        // This response counts as well: that of a later request may have been observed before it.
        let short = |quota: Option<Quota>, amount: f64| quota.is_some_and(|quota| quota.remaining < amount);
        let explained = short(hints.requests, 1.0)
            || short(hints.tokens, permit.tokens.amount())
            || self.requests.explains_refusal(&permit.requests, now)
            || self.tokens.explains_refusal(&permit.tokens, now);
        self.tokens.refund(permit.tokens, now);
        if scope == Some(Scope::Concurrency) {
            return (self.too_many_at_once(permit, limit, hints.retry_after.or(wait), now, jitter), None);
        }
        let same_episode = self.paused_at.is_some_and(|paused| permit.sent < paused);
        if !explained {
            // A number without a scope could be either limit's.
            let (limit, asked) = (limit.filter(|_| scope.is_some()), hints.retry_after.or(wait));
            if scope != Some(Scope::Tokens) {
                self.requests.refused(&permit.requests, limit, asked, now);
            }
            if scope != Some(Scope::Requests) {
                self.tokens.refused(&permit.tokens, limit, asked, now);
            }
            if let Some(wait) = self.wait_alone(asked, now, jitter) {
                return (Effect::Neutral, Some(wait));
            }
        }
        if !same_episode {
            self.refusals += 1;
        }
        match hints.retry_after.or(wait) {
            Some(wait) => self.pause(wait, now),
            None if same_episode => {}
            None => {
                // Doubles with every episode, up to sixtyfold; the upper half is random.
                let doubled = self.first_pause * 2u32.pow(self.refusals.saturating_sub(1).min(6)).min(60);
                self.pause(doubled.mul_f64(0.5 + 0.5 * jitter.share()), now);
            }
        }
        (if explained || self.is_unrelated(now) { Effect::Neutral } else { Effect::Congested }, None)
    }

    /// True while refusals are caused neither by the rate of requests nor by that of tokens.
    fn is_unrelated(&self, now: Instant) -> bool {
        self.requests.is_unrelated(now) || self.tokens.is_unrelated(now)
    }

    /// How long a refused request waits by itself, if refusals are not caused by the rate: they come at any, and others are
    /// granted meanwhile. What they lowered is restored when that turns out.
    fn wait_alone(&mut self, asked: Option<Duration>, now: Instant, jitter: &Jitter) -> Option<Duration> {
        if !self.is_unrelated(now) {
            self.ignoring_refusals = false;
            return None;
        }
        if !std::mem::replace(&mut self.ignoring_refusals, true) {
            self.requests.ignore_refusals(now);
            self.tokens.ignore_refusals(now);
            self.concurrency.restore(INITIAL_CONCURRENCY);
            self.refusals = 0;
        }
        let wait = asked.unwrap_or_else(|| self.first_pause.mul_f64(0.5 + 0.5 * jitter.share()));
        (wait <= LONGEST_OWN_WAIT).then_some(wait)
    }
}

impl EndpointState {
    /// Fewer requests are sent at once, at the same rate. Only if none of ours was in flight, others use the limit: then all
    /// wait, at most as long as the server asks for.
    fn too_many_at_once(
        &mut self,
        permit: &Permit,
        limit: Option<f64>,
        asked: Option<Duration>,
        now: Instant,
        jitter: &Jitter,
    ) -> Effect {
        let others = self.concurrency.in_flight().saturating_sub(1);
        self.concurrency.refused_at_once(limit, now);
        if others == 0 && self.paused_at.is_none_or(|paused| permit.sent >= paused) {
            self.refusals_alone += 1;
            let doubled = self.first_pause / 4 * 2u32.pow(self.refusals_alone.min(8));
            self.pause(doubled.mul_f64(0.5 + 0.5 * jitter.share()).min(asked.unwrap_or(Duration::MAX)), now);
        }
        Effect::Neutral
    }
}
