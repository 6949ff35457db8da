//! Packs texts into requests, for a run and for its estimate.

use std::ops::Range;

use crate::net::tokens::Counter;

/// The limits of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Texts.
    pub inputs: usize,
    /// Tokens of all texts together.
    pub tokens: u64,
    /// Bytes of the body.
    pub bytes: usize,
}

/// Bytes of a body besides its texts, and of each text besides its content: quotes, a comma, a few escapes.
const BODY_OVERHEAD: usize = 256;
const TEXT_OVERHEAD: usize = 8;

/// Packs texts into requests, in order: the first text that does not fit begins the next request. A text that exceeds the
/// limits gets a request of its own.
///
/// Tokens are counted only if a cheap bound does not decide; the result is the same as if all were counted.
pub fn pack<'t>(texts: impl Iterator<Item = &'t str>, limits: Limits, counter: Counter) -> Vec<Range<usize>> {
    let mut requests = Vec::new();
    let mut open = Open::default();
    for (position, text) in texts.enumerate() {
        let full = open.texts.len() >= limits.inputs
            || open.bytes + text.len() + TEXT_OVERHEAD > limits.bytes
            || !open.fits(text, limits.tokens, counter);
        if full && !open.texts.is_empty() {
            requests.push(position - open.texts.len()..position);
            open = Open::default();
        }
        open.add(text, counter);
    }
    let end = requests.last().map_or(0, |last: &Range<usize>| last.end) + open.texts.len();
    if !open.texts.is_empty() {
        requests.push(end - open.texts.len()..end);
    }
    requests
}

struct Open<'t> {
    texts: Vec<&'t str>,
    bytes: usize,
    /// An upper bound of the tokens, exact for the first `counted` texts.
    tokens: u64,
    counted: usize,
}

impl Default for Open<'_> {
    fn default() -> Self {
        Self { texts: Vec::new(), bytes: BODY_OVERHEAD, tokens: 0, counted: 0 }
    }
}

impl<'t> Open<'t> {
    fn add(&mut self, text: &'t str, counter: Counter) {
        self.texts.push(text);
        self.bytes += text.len() + TEXT_OVERHEAD;
        self.tokens += counter.at_most(text);
    }

    fn fits(&mut self, text: &str, limit: u64, counter: Counter) -> bool {
        if self.tokens + counter.at_most(text) <= limit {
            return true;
        }
        if !counter.is_exact() {
            return false;
        }
        for text in &self.texts[self.counted..] {
            self.tokens = self.tokens - counter.at_most(text) + counter.count(text);
        }
        self.counted = self.texts.len();
        self.tokens + counter.at_most(text) <= limit || self.tokens + counter.count(text) <= limit
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn exact() -> Counter {
        Counter::of("text-embedding-3-small")
    }

    const WIDE: Limits = Limits { inputs: 2048, tokens: 285_000, bytes: 16 << 20 };

    fn sizes(texts: &[&str], limits: Limits) -> Vec<usize> {
        pack(texts.iter().copied(), limits, exact()).into_iter().map(|range| range.len()).collect()
    }

    #[test]
    fn each_limit_closes_a_request() {
        let texts = ["one two three"; 10];
        assert_eq!(sizes(&texts, WIDE), [10]);
        assert_eq!(sizes(&texts, Limits { inputs: 4, ..WIDE }), [4, 4, 2]);
        assert_eq!(sizes(&texts, Limits { tokens: 9, ..WIDE }), [3, 3, 3, 1]);
        assert_eq!(sizes(&texts, Limits { bytes: BODY_OVERHEAD + 2 * 21, ..WIDE }), [2, 2, 2, 2, 2]);
        assert_eq!(sizes(&[], WIDE), [0; 0]);
    }

    #[test]
    fn a_text_that_exceeds_the_limits_is_sent_alone() {
        let long = "word ".repeat(50);
        assert_eq!(sizes(&["a", &long, "b"], Limits { tokens: 10, ..WIDE }), [1, 1, 1]);
    }

    proptest! {
        #[test]
        fn lazy_counting_packs_as_exact_counting_would(
            texts in prop::collection::vec("[a-z ]{0,60}", 0..60),
            tokens in 1u64..120,
            inputs in 1usize..20,
        ) {
            let limits = Limits { inputs, tokens, ..WIDE };
            let packed = pack(texts.iter().map(String::as_str), limits, exact());
            let mut expected: Vec<Range<usize>> = Vec::new();
            let mut sum = 0;
            for (i, text) in texts.iter().enumerate() {
                let count = exact().count(text);
                match expected.last_mut() {
                    Some(last) if last.len() < inputs && sum + count <= tokens => {
                        last.end = i + 1;
                        sum += count;
                    }
                    _ => {
                        expected.push(i..i + 1);
                        sum = count;
                    }
                }
            }
            prop_assert_eq!(packed, expected);
        }
    }
}
