//! What was adapted to an endpoint: the settings with which the client would start at once what it had to learn.

use std::sync::atomic::Ordering;

use super::client_core::Core;

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

impl Core {
    /// What was adapted so far.
    pub(super) fn adapted(&self, base64: bool) -> Adapted {
        let learned = |limit: usize| (limit != usize::MAX).then_some(limit);
        let (texts, concurrency) = self.limiter.shape();
        let refused = learned(self.shared.most_inputs.load(Ordering::Relaxed));
        Adapted {
            max_inputs: texts.into_iter().chain(refused).min(),
            max_bytes: learned(self.shared.most_bytes.load(Ordering::Relaxed)),
            concurrency,
            numbers: base64 && !self.shared.base64.load(Ordering::Relaxed),
        }
    }
}
