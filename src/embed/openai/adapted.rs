//! What was adapted to an endpoint: the settings with which the client would start at once what it had to learn.

use std::sync::atomic::Ordering;

use super::protocol::Embeddings;
use crate::net::client::Client;

/// What differs from the settings because of what the endpoint accepts or how fast it is; `None` and `false` where nothing had
/// to be adapted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Adapted {
    /// `batch.max_inputs`: texts in one request.
    pub max_inputs: Option<usize>,
    /// `batch.max_bytes`: bytes in one request.
    pub max_bytes: Option<usize>,
    /// `limits.concurrency`: requests at once.
    pub concurrency: Option<usize>,
    /// True if numbers are requested although base64 was configured.
    pub numbers: bool,
}

impl Adapted {
    /// The keys of `model:` that begin with it, as YAML; empty if nothing was adapted.
    pub fn settings(&self) -> String {
        let number = |name: &str, number: Option<usize>| number.map(|number| format!("{name}: {number}"));
        let batch = [number("max_inputs", self.max_inputs), number("max_bytes", self.max_bytes)];
        let batch: Vec<String> = batch.into_iter().flatten().collect();
        let keys = [
            (!batch.is_empty()).then(|| format!("batch: {{{}}}", batch.join(", "))),
            self.concurrency.map(|most| format!("limits: {{concurrency: {most}}}")),
            self.numbers.then(|| "extra_body: {encoding_format: float}".to_owned()),
        ];
        let keys: Vec<String> = keys.into_iter().flatten().collect();
        if keys.is_empty() { String::new() } else { format!("{{{}}}", keys.join(", ")) }
    }
}

impl Adapted {
    /// What was adapted so far; `base64` is what was requested at first.
    pub(super) fn of(client: &Client<Embeddings>, base64: bool) -> Self {
        let (texts, concurrency) = client.limiter.shape();
        let (refused, max_bytes) = client.shared.refused_sizes();
        Self {
            max_inputs: texts.into_iter().chain(refused).min(),
            max_bytes,
            concurrency,
            numbers: base64 && !client.shared.known.base64.load(Ordering::Relaxed),
        }
    }
}
