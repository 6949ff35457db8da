//! One of several processes that divide the partitions of a node, and its share of a rate limit.

use std::{fmt, num::NonZeroU32, str::FromStr};

/// The partitions whose position among the sorted keys of the input is `index` modulo `count`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shard {
    index: u32,
    count: NonZeroU32,
}

impl Shard {
    /// Shard `index`, from 0, of `count`.
    ///
    /// # Errors
    /// When there is no such shard.
    pub fn new(index: u64, count: u64) -> Result<Self, InvalidShard> {
        let text = format!("{index}/{count}");
        let count = u32::try_from(count).ok().and_then(NonZeroU32::new);
        match (u32::try_from(index), count) {
            (Ok(index), Some(count)) if index < count.get() => Ok(Self { index, count }),
            (_, Some(count)) => {
                Err(InvalidShard { text, why: format!(": the index goes from 0 to {}", count.get() - 1) })
            }
            _ => Err(InvalidShard { text, why: String::new() }),
        }
    }

    /// Which one, from 0.
    pub fn index(self) -> u32 {
        self.index
    }

    /// How many there are.
    pub fn count(self) -> u32 {
        self.count.get()
    }

    /// True for the partition at this position, from 0, among the sorted keys.
    pub fn holds(self, position: usize) -> bool {
        position % self.count.get() as usize == self.index as usize
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

impl FromStr for Shard {
    type Err = InvalidShard;

    fn from_str(text: &str) -> Result<Self, InvalidShard> {
        let (index, count) = parts(text).ok_or_else(|| InvalidShard { text: text.to_owned(), why: String::new() })?;
        Self::new(index, count)
    }
}

/// A shard that there is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected `auto`, or a number from 0 and how many shards there are, such as `3/8`; `{text}` is no shard{why}")]
pub struct InvalidShard {
    text: String,
    /// Why not, where it looks like one.
    why: String,
}

/// The part of a rate limit that one process may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateShare {
    part: NonZeroU32,
    of: NonZeroU32,
}

impl RateShare {
    /// The whole limit.
    pub const WHOLE: Self = Self { part: NonZeroU32::MIN, of: NonZeroU32::MIN };

    /// As a number of more than 0 and at most 1.
    pub fn fraction(self) -> f64 {
        f64::from(self.part.get()) / f64::from(self.of.get())
    }
}

impl fmt::Display for RateShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.part, self.of)
    }
}

impl FromStr for RateShare {
    type Err = InvalidRateShare;

    fn from_str(text: &str) -> Result<Self, InvalidRateShare> {
        let number = |number: u64| u32::try_from(number).ok().and_then(NonZeroU32::new);
        parts(text)
            .and_then(|(part, of)| Some(Self { part: number(part)?, of: number(of)? }))
            .filter(|share| share.part <= share.of)
            .ok_or_else(|| InvalidRateShare { text: text.to_owned() })
    }
}

/// A share of nothing, or of more than everything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a part of the rate limit, such as `1/8` for eight processes at once; `{text}` is none")]
pub struct InvalidRateShare {
    text: String,
}

/// Two numbers in decimal digits.
fn parts(text: &str) -> Option<(u64, u64)> {
    let number = |text: &str| text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
    let (one, other) = text.split_once('/')?;
    Some((number(one)?, number(other)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_divide_positions_without_rest_and_evenly() {
        for count in [1, 2, 3, 8, 16, 97] {
            let shards: Vec<Shard> = (0..count).map(|index| Shard::new(index, count).expect("a shard")).collect();
            let mut held = vec![0; shards.len()];
            for position in 0..1000 {
                let holders: Vec<_> = shards.iter().filter(|shard| shard.holds(position)).collect();
                assert_eq!(holders.len(), 1, "{position} of {count}");
                held[holders[0].index() as usize] += 1;
            }
            let (most, least) = (held.iter().max().expect("shards"), held.iter().min().expect("shards"));
            assert!(most - least <= 1, "{held:?}");
        }
    }

    #[test]
    fn what_is_no_shard_and_what_is_no_share_is_told() {
        for text in ["0/1", "7/8", "0/4294967295"] {
            assert_eq!(text.parse::<Shard>().expect("a shard").to_string(), text);
        }
        for text in ["", "1", "8/8", "1/0", "0/0", "-1/8", "+1/8", "1/8/9", " 1/8", "a/b", "0/4294967296"] {
            let error = text.parse::<Shard>().expect_err("no shard").to_string();
            assert!(error.contains(&format!("`{text}` is no shard")), "{error}");
        }
        for (text, range) in [("5/4", "the index goes from 0 to 3"), ("1/1", "the index goes from 0 to 0")] {
            let error = text.parse::<Shard>().expect_err("no shard").to_string();
            assert!(error.ends_with(&format!("`{text}` is no shard: {range}")), "{error}");
        }
        assert_eq!("1/8".parse::<RateShare>().expect("a share").fraction(), 0.125);
        assert_eq!("2/2".parse::<RateShare>().expect("a share").fraction(), RateShare::WHOLE.fraction());
        for text in ["0/8", "9/8", "1/0", "0.5", "1", "-1/8"] {
            assert!(text.parse::<RateShare>().is_err(), "{text}");
        }
    }
}
