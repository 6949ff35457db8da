//! Groups the errors of failed partitions by cause, with the number of partitions and examples.
//!
//! Ten partitions that fail because of one invalid API key have one cause. Error messages that differ only in the
//! partition's name or file count as the same cause.

use std::collections::HashMap;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

/// The maximum number of partitions listed per cause.
const EXAMPLES: usize = 3;
/// The maximum number of distinct causes per run; further ones are counted under [`OTHER`].
const MAX_CAUSES: usize = 100;
/// The message of causes beyond [`MAX_CAUSES`].
const OTHER: &str = "other errors; see the events of the partitions";

/// An error that made partitions of a node fail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// The name of the node.
    pub node: String,
    /// The error message of the first of these partitions.
    pub error: String,
    /// The number of partitions that failed for this reason.
    pub partitions: usize,
    /// The keys of the first few of these partitions.
    pub examples: Vec<String>,
}

impl Cause {
    /// The partitions as displayed to the user: `bucket=0, bucket=1, bucket=2 and 7 more`.
    pub fn which(&self) -> String {
        let named = self.examples.join(", ");
        match self.partitions.saturating_sub(self.examples.len()) {
            0 => named,
            more => format!("{named} and {more} more"),
        }
    }
}

/// The causes of a run, in order of first occurrence.
#[derive(Debug, Clone, Default)]
pub struct Causes {
    all: IndexMap<(String, String), Cause>,
    by_node: HashMap<String, usize>,
}

impl Causes {
    /// Records a failure. If its cause is new, returns the cause's number within the node, starting at 1.
    pub fn add(&mut self, node: &str, partition: &str, error: &str) -> Option<usize> {
        let mut key = (node.to_owned(), normalize(error, partition));
        let mut error = error;
        if self.all.len() >= MAX_CAUSES && !self.all.contains_key(&key) {
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

    /// All causes.
    pub fn to_vec(&self) -> Vec<Cause> {
        self.all.values().cloned().collect()
    }
}

/// An error message with the partition's key and file names replaced by `…`.
fn normalize(error: &str, partition: &str) -> String {
    let mut out = String::with_capacity(error.len());
    let text = if partition.is_empty() { error.to_owned() } else { error.replace(partition, "…") };
    // Names of files that `flow` wrote begin with a fingerprint, which differs between partitions.
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
    fn the_same_cause_is_kept_once_with_count_and_examples() {
        let mut causes = Causes::default();
        for n in 0..10 {
            let new = causes.add("embed", &format!("bucket={n}"), "401 invalid_api_key: no such key");
            assert_eq!(new, (n == 0).then_some(1));
        }
        assert_eq!(causes.add("embed", "bucket=10", "timed out"), Some(2));
        assert_eq!(causes.add("other", "bucket=0", "401 invalid_api_key: no such key"), Some(1));
        let all = causes.to_vec();
        let found: Vec<_> = all.iter().map(|cause| (cause.node.as_str(), cause.partitions, cause.which())).collect();
        assert_eq!(
            found,
            [
                ("embed", 10, "bucket=0, bucket=1, bucket=2 and 7 more".to_owned()),
                ("embed", 1, "bucket=10".to_owned()),
                ("other", 1, "bucket=0".to_owned()),
            ]
        );
    }

    #[test]
    fn causes_ignore_partition_and_file_names_but_not_row_numbers() {
        let mut causes = Causes::default();
        for n in 0..3 {
            let file = format!("data/out/bucket={n}/{n}{}-r5-b80.parquet: No space left", "a".repeat(31));
            causes.add("embed", &format!("bucket={n}"), &file);
        }
        assert_eq!(causes.to_vec().len(), 1);
        causes.add("embed", "bucket=4", "row 4 is not a string");
        causes.add("embed", "bucket=5", "row 5 is not a string");
        assert_eq!(causes.to_vec().len(), 3);
    }

    #[test]
    fn memory_is_bounded_however_many_causes_there_are() {
        let mut causes = Causes::default();
        for n in 0..10_000 {
            causes.add("embed", &format!("bucket={n}"), &format!("{} is odd", n * 7 + 1));
        }
        let all = causes.to_vec();
        assert_eq!((all.len(), all.iter().map(|cause| cause.partitions).sum::<usize>()), (MAX_CAUSES + 1, 10_000));
    }
}
