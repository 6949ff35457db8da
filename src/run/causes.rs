//! Why partitions failed: each cause once, with how many partitions it concerns and which.
//!
//! Ten partitions that meet one wrong key fail ten times for one reason. What differs between two messages only because
//! they are about two partitions is no difference of cause.

use std::collections::HashMap;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

/// So many partitions of a cause are named.
const EXAMPLES: usize = 3;
/// So many causes of a run are kept; what comes after them is counted together.
const MOST: usize = 100;
/// What those are called.
const OTHER: &str = "other reasons, which the events of the partitions tell";

/// One reason why partitions of a node failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// The node.
    pub node: String,
    /// The message of the first of them.
    pub error: String,
    /// How many failed for this reason.
    pub partitions: usize,
    /// The first few of them.
    pub examples: Vec<String>,
}

impl Cause {
    /// The partitions as people read them: `bucket=0, bucket=1, bucket=2 and 7 more`.
    pub fn which(&self) -> String {
        let named = self.examples.join(", ");
        match self.partitions.saturating_sub(self.examples.len()) {
            0 => named,
            more => format!("{named} and {more} more"),
        }
    }
}

/// The causes of a run, in the order in which they came up.
#[derive(Debug, Clone, Default)]
pub struct Causes {
    all: IndexMap<(String, String), Cause>,
    by_node: HashMap<String, usize>,
}

impl Causes {
    /// Notes a failure. Gives the number of its cause among those of its node, from 1, when it is a new one.
    pub fn add(&mut self, node: &str, partition: &str, error: &str) -> Option<usize> {
        let mut key = (node.to_owned(), general(error, partition));
        let mut error = error;
        if self.all.len() >= MOST && !self.all.contains_key(&key) {
            (key.1, error) = (OTHER.to_owned(), OTHER);
        }
        let new = !self.all.contains_key(&key);
        let cause = self.all.entry(key).or_insert_with(|| Cause {
            node: node.to_owned(),
            error: error.to_owned(),
            partitions: 0,
            examples: Vec::new(),
        });
        cause.partitions += 1;
        if cause.examples.len() < EXAMPLES {
            cause.examples.push(partition.to_owned());
        }
        new.then(|| {
            let count = self.by_node.entry(node.to_owned()).or_default();
            *count += 1;
            *count
        })
    }

    /// All of them.
    pub fn to_vec(&self) -> Vec<Cause> {
        self.all.values().cloned().collect()
    }
}

/// A message without the partition that it is about, and without names of files.
fn general(error: &str, partition: &str) -> String {
    let mut out = String::with_capacity(error.len());
    let text = if partition.is_empty() { error.to_owned() } else { error.replace(partition, "…") };
    // Names of files that `flow` wrote begin with a fingerprint, which tells the partition again.
    for word in text.split_inclusive(|c: char| !c.is_ascii_alphanumeric() && c != '-') {
        let digits = word.chars().take_while(char::is_ascii_hexdigit).count();
        out.push_str(if digits >= 32 { "…" } else { word });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_cause_is_kept_once_with_how_many_and_which() {
        let mut causes = Causes::default();
        for n in 0..10 {
            let new = causes.add("embed", &format!("bucket={n}"), "401 invalid_api_key: no such key");
            assert_eq!(new, (n == 0).then_some(1));
        }
        assert_eq!(causes.add("embed", "bucket=10", "timed out"), Some(2));
        assert_eq!(causes.add("other", "bucket=0", "401 invalid_api_key: no such key"), Some(1));
        let all = causes.to_vec();
        let told: Vec<_> = all.iter().map(|cause| (cause.node.as_str(), cause.partitions, cause.which())).collect();
        assert_eq!(
            told,
            [
                ("embed", 10, "bucket=0, bucket=1, bucket=2 and 7 more".to_owned()),
                ("embed", 1, "bucket=10".to_owned()),
                ("other", 1, "bucket=0".to_owned()),
            ]
        );
    }

    #[test]
    fn a_partition_and_its_file_are_no_difference_of_cause_and_numbers_of_rows_are() {
        let mut causes = Causes::default();
        for n in 0..3 {
            let file = format!("data/out/bucket={n}/{n}{}-r5-b80.parquet: No space left", "a".repeat(31));
            causes.add("embed", &format!("bucket={n}"), &file);
        }
        assert_eq!(causes.to_vec().len(), 1);
        causes.add("embed", "bucket=4", "row 4 is no text");
        causes.add("embed", "bucket=5", "row 5 is no text");
        assert_eq!(causes.to_vec().len(), 3);
    }

    #[test]
    fn memory_is_bounded_however_many_causes_there_are() {
        let mut causes = Causes::default();
        for n in 0..10_000 {
            causes.add("embed", &format!("bucket={n}"), &format!("{} is odd", n * 7 + 1));
        }
        let all = causes.to_vec();
        assert_eq!((all.len(), all.iter().map(|cause| cause.partitions).sum::<usize>()), (MOST + 1, 10_000));
    }
}
