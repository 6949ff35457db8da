//! What refusals and odd responses teach about the requests that an endpoint accepts: remembered for all later ones.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::{
    client::Client,
    part::Part,
    protocol::Protocol,
    request_limit::{Quantity, RequestLimit},
};
use crate::net::Notice;

/// The share of a limit on bytes or tokens that is used: bodies are larger than their texts, and the ratio of tokens to bytes
/// differs between texts.
const SHARE: f64 = 0.95;
/// Bytes of a body for each item besides its content, and for the rest.
const TEXT_OVERHEAD: usize = 8;
const BODY_OVERHEAD: usize = 256;
impl<P: Protocol> Client<P> {
    /// Remembers the limit that a refused part exceeded: the one that the server named, otherwise half of the part.
    pub(super) fn learn_limit(&self, limit: RequestLimit, part: &Part<P::Items>, why: &str) {
        let share = |allowed: u64, of: usize| (part.bytes as f64 * SHARE * allowed as f64 / of.max(1) as f64) as usize;
        let (remembered, most, size) = match limit.of {
            Quantity::Texts => {
                let named = limit.allowed.and_then(|allowed| usize::try_from(allowed).ok());
                let texts = part.units.len();
                (&self.shared.most_inputs, named.unwrap_or(texts.div_ceil(2)), texts)
            }
            Quantity::Bytes => {
                let body = part.bytes + part.units.len() * TEXT_OVERHEAD + BODY_OVERHEAD;
                let most = limit.allowed.map_or(part.bytes.div_ceil(2), |allowed| share(allowed, body));
                (&self.shared.most_bytes, most, part.bytes)
            }
            Quantity::Tokens => {
                self.shared.scale.too_low();
                let most = match (limit.allowed, limit.found.and_then(|found| usize::try_from(found).ok())) {
                    (Some(allowed), Some(found)) => share(allowed, found),
                    _ => part.bytes.div_ceil(2),
                };
                (&self.shared.most_bytes, most, part.bytes)
            }
        };
        // Less than what was refused, whatever the message says.
        remember(remembered, most.clamp(1, size.saturating_sub(1).max(1)));
        tracing::debug!(why = %self.message(why), ?limit, texts = part.units.len(), "the request is larger than the server accepts");
    }

    /// From now on each text is a request of its own: the server has one vector for all texts of a request, or does not say
    /// which vector belongs to which.
    pub(super) fn send_one_by_one(&self, why: &str) {
        if self.shared.most_inputs.fetch_min(1, Ordering::Relaxed) > 1 {
            let why = self.message(why);
            let what = "each text is a request of its own from now on, which is slow";
            self.notices.send(Notice::Warning(format!("{why}; {what}")));
        }
    }
}

fn remember(limit: &AtomicUsize, most: usize) {
    limit.fetch_min(most, Ordering::Relaxed);
}
