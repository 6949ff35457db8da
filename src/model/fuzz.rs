//! The harness of the fuzzers: numbers from a seed, and changes to inputs that keep much of their structure.
//!
//! Each fuzzer tries the same few cases in every run of the tests. `FLOW_FUZZ_SECONDS` lets each try new ones for so long,
//! and `FLOW_FUZZ_SEED` repeats the one that a failure names.

use std::{
    env,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// What takes longer does not end, also on a machine that has other things to do.
const LONGEST_CASE: Duration = Duration::from_secs(600);

/// Numbers from a seed (splitmix): the same everywhere.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).expect("small")
    }

    pub(crate) fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }

    /// One of the inputs, changed in up to six places: bytes, lines, numbers, words of the format, or parts of the others.
    pub(crate) fn mutated(&mut self, corpus: &[&[u8]], words: &[&str]) -> Vec<u8> {
        let mut bytes = self.one(corpus).to_vec();
        for _ in 0..=self.below(6) {
            let at = self.below(bytes.len() + 1);
            let end = (at + 1 + self.below(24)).min(bytes.len());
            match self.below(12) {
                0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                1 if at < bytes.len() => bytes[at] = self.next() as u8,
                2 if at < bytes.len() => drop(bytes.drain(at..end)),
                3 if at < bytes.len() => {
                    let part = bytes[at..end].to_vec();
                    let times = 1 + self.below(3) * self.below(40);
                    bytes.splice(at..at, part.repeat(times));
                }
                4 => bytes.truncate(at),
                5 => {
                    let other = self.one(corpus);
                    let from = self.below(other.len());
                    let to = (from + 1 + self.below(60)).min(other.len());
                    bytes.splice(at..at, other[from.min(to)..to].iter().copied());
                }
                6 => {
                    // A number becomes an extreme one.
                    let digits = (at..bytes.len()).find(|i| bytes[*i].is_ascii_digit()).unwrap_or(at);
                    let after = (digits..bytes.len()).find(|i| !bytes[*i].is_ascii_digit()).unwrap_or(bytes.len());
                    let extreme = self.one(EXTREMES);
                    bytes.splice(digits..after, extreme.bytes());
                }
                7 => {
                    let word = self.one(words);
                    let times = if self.below(20) == 0 { 2000 } else { 1 };
                    bytes.splice(at..at, word.repeat(times).into_bytes());
                }
                8 => {
                    // A line is moved, repeated or lost.
                    let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
                    let (from, to) = (self.below(lines.len()), self.below(lines.len()));
                    match self.below(3) {
                        0 => lines.swap(from, to),
                        1 => lines.insert(to, lines[from]),
                        _ => drop(lines.remove(from)),
                    }
                    bytes = lines.join(&b'\n');
                }
                _ => drop(bytes.splice(at..at, self.one(words).bytes())),
            }
        }
        bytes
    }

    pub(crate) fn mutated_text(&mut self, corpus: &[&str], words: &[&str]) -> String {
        let corpus: Vec<&[u8]> = corpus.iter().map(|text| text.as_bytes()).collect();
        String::from_utf8_lossy(&self.mutated(&corpus, words)).into_owned()
    }
}

const EXTREMES: &[&str] = &[
    "0",
    "-1",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551616",
    "1e400",
    "1e-400",
    "0.1",
    "00",
    "4294967295",
    "99999999999999999999999999999999999999999",
    "2147483648",
];

/// Tells the seed of the case that failed.
struct Case<'n> {
    name: &'n str,
    seed: u64,
    begun: Instant,
}

impl Drop for Case<'_> {
    #[expect(clippy::print_stderr, reason = "to repeat a failure")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("fuzzer `{}`: FLOW_FUZZ_SEED={} repeats this case", self.name, self.seed);
        }
    }
}

/// Tries cases of a fuzzer: `count` of them, or as the environment says.
#[expect(clippy::print_stderr, reason = "to show how much was tried")]
pub(crate) fn fuzz(name: &str, count: u64, mut case: impl FnMut(&mut Random)) {
    let variable = |name: &str| env::vars_os().find(|(key, _)| key == name).map(|(_, value)| value);
    let number = |name: &str| variable(name).and_then(|value| value.to_str()?.parse::<u64>().ok());
    let mut run = |seed| {
        let begun = Case { name, seed, begun: Instant::now() };
        case(&mut Random(seed));
        assert!(begun.begun.elapsed() < LONGEST_CASE, "a case takes {:?}", begun.begun.elapsed());
    };
    if let Some(seed) = number("FLOW_FUZZ_SEED") {
        return run(seed);
    }
    let Some(seconds) = number("FLOW_FUZZ_SECONDS") else { return (0..count).for_each(run) };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let (begun, first) = (Instant::now(), now.as_nanos() as u64);
    let mut cases = 0;
    while begun.elapsed() < Duration::from_secs(seconds) {
        run(first.wrapping_add(cases));
        cases += 1;
    }
    eprintln!("fuzzer `{name}`: {cases} cases in {seconds} s, seeds from {first}");
}
