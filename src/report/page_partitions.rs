//! The partitions of one node for the page: one array for each property, so that a hundred thousand take little room.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value as Json, json};

/// The partitions of one node.
#[derive(Debug)]
pub(super) struct Partitions {
    total: usize,
    skipped: usize,
    keys: Vec<String>,
    index: HashMap<String, usize>,
    /// `d`one, up to date (`s`), or `f`ailed.
    states: String,
    ended: Vec<Option<f64>>,
    seconds: Vec<Option<f64>>,
    rows: Vec<Option<u64>>,
    failures: BTreeMap<usize, (String, u64)>,
}

impl Partitions {
    pub(super) fn new(total: usize, skipped: usize) -> Self {
        Self {
            total,
            skipped,
            keys: Vec::new(),
            index: HashMap::new(),
            states: String::new(),
            ended: Vec::new(),
            seconds: Vec::new(),
            rows: Vec::new(),
            failures: BTreeMap::new(),
        }
    }

    pub(super) fn finished(&mut self, key: &str, at: f64, seconds: f64, rows: u64) {
        let i = self.end(key, "d", Some((at, seconds)), Some(rows));
        self.failures.remove(&i);
    }

    pub(super) fn up_to_date(&mut self, key: &str) {
        self.end(key, "s", None, None);
        self.skipped = self.skipped.saturating_sub(1);
    }

    pub(super) fn failed(&mut self, key: &str, at: f64, seconds: f64, error: &str) {
        let i = self.end(key, "f", Some((at, seconds)), None);
        let failure = self.failures.entry(i).or_insert_with(|| (String::new(), 0));
        failure.0 = error.to_owned();
        failure.1 += 1;
    }

    /// How many there are, in whatever state.
    pub(super) fn total(&self) -> usize {
        self.total
    }

    pub(super) fn set_total(&mut self, total: usize) {
        self.total = total;
    }

    /// How many are in a state.
    pub(super) fn count(&self, state: char) -> usize {
        let unnamed = if state == 's' { self.skipped } else { 0 };
        unnamed + self.states.chars().filter(|one| *one == state).count()
    }

    /// The rows of those that are done; `None` where there is none.
    pub(super) fn rows(&self) -> Option<u64> {
        self.rows.iter().flatten().copied().reduce(|one, other| one + other)
    }

    /// Adds what a later run did. What an earlier one has computed stays so, where it is up to date now.
    pub(super) fn append(&mut self, later: Self) {
        self.skipped += later.skipped;
        for (i, key) in later.keys.iter().enumerate() {
            let state = &later.states[i..=i];
            let known = self.index.get(key).copied();
            if state == "s" && known.is_some_and(|known| &self.states[known..=known] == "d") {
                continue;
            }
            let at = self.end(key, state, later.ended[i].zip(later.seconds[i]), later.rows[i]);
            match later.failures.get(&i) {
                Some((error, attempts)) => {
                    let failure = self.failures.entry(at).or_insert_with(|| (String::new(), 0));
                    failure.0.clone_from(error);
                    failure.1 += attempts;
                }
                None => drop(self.failures.remove(&at)),
            }
        }
    }

    fn end(&mut self, key: &str, state: &str, time: Option<(f64, f64)>, rows: Option<u64>) -> usize {
        let (at, seconds) = time.unzip();
        if let Some(i) = self.index.get(key).copied() {
            self.states.replace_range(i..=i, state);
            (self.ended[i], self.seconds[i], self.rows[i]) = (at, seconds, rows);
            return i;
        }
        let i = self.keys.len();
        self.index.insert(key.to_owned(), i);
        self.keys.push(key.to_owned());
        self.states.push_str(state);
        self.ended.push(at);
        self.seconds.push(seconds);
        self.rows.push(rows);
        i
    }

    pub(super) fn to_json(&self, location: Option<&String>) -> Json {
        let prefix = common_prefix(&self.keys);
        let keys: Vec<&str> = self.keys.iter().map(|key| &key[prefix.len()..]).collect();
        let failures: BTreeMap<String, Json> = (self.failures.iter())
            .map(|(i, (error, attempts))| (i.to_string(), json!({"error": error, "attempts": attempts})))
            .collect();
        json!({
            "prefix": prefix,
            "keys": keys,
            "states": self.states,
            "ended": self.ended,
            "seconds": self.seconds,
            "rows": self.rows,
            "unnamed_skipped": self.skipped,
            "unnamed_missing": self.total.saturating_sub(self.skipped + self.keys.len()),
            "location": location,
            "failures": failures,
        })
    }
}

/// The longest start that all keys share, up to a `=` or a `/`.
fn common_prefix(keys: &[String]) -> &str {
    let Some(first) = keys.first() else { return "" };
    let shared = keys.iter().fold(first.len(), |shared, key| {
        first.bytes().zip(key.bytes()).take(shared).take_while(|(one, other)| one == other).count()
    });
    let end = first.as_bytes()[..shared].iter().rposition(|byte| matches!(byte, b'=' | b'/'));
    end.map_or("", |end| &first[..=end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_are_up_to_date_have_names_and_no_times() {
        let mut partitions = Partitions::new(5, 3);
        partitions.up_to_date("b=1");
        partitions.up_to_date("b=2");
        partitions.finished("b=3", 3.0, 0.5, 7);
        let json = partitions.to_json(None);
        assert_eq!((&json["states"], &json["ended"]), (&json!("ssd"), &json!([null, null, 3.0])));
        assert_eq!((&json["unnamed_skipped"], &json["unnamed_missing"]), (&json!(1), &json!(1)));
    }

    #[test]
    fn a_partition_that_failed_and_was_computed_then_is_done() {
        let mut partitions = Partitions::new(5, 1);
        partitions.failed("a=1/b=ä", 1.0, 0.5, "busy");
        partitions.failed("a=1/b=ö", 1.0, 0.5, "busy");
        partitions.failed("a=1/b=ö", 2.0, 0.5, "down");
        partitions.finished("a=1/b=ä", 3.0, 0.5, 7);
        let json = partitions.to_json(None);
        assert_eq!(json["states"], "df");
        assert_eq!((&json["prefix"], &json["keys"]), (&json!("a=1/b="), &json!(["ä", "ö"])));
        assert_eq!(json["failures"], json!({"1": {"error": "down", "attempts": 2}}));
        assert_eq!((&json["unnamed_skipped"], &json["unnamed_missing"]), (&json!(1), &json!(2)));
        assert_eq!(json["rows"], json!([7, null]));
    }

    #[test]
    fn attempts_that_follow_each_other_are_added_up() {
        let mut first = Partitions::new(4, 0);
        first.finished("b=1", 1.0, 0.5, 7);
        first.failed("b=2", 2.0, 0.5, "busy");
        first.failed("b=3", 2.0, 0.5, "busy");
        let mut second = Partitions::new(4, 1);
        second.up_to_date("b=1");
        second.finished("b=2", 5.0, 0.5, 8);
        second.failed("b=3", 6.0, 0.5, "down");
        first.append(second);
        first.set_total(5);
        assert_eq!((first.rows(), first.count('d'), first.count('f'), first.count('s')), (Some(15), 2, 1, 0));
        let json = first.to_json(None);
        assert_eq!((&json["states"], &json["ended"]), (&json!("ddf"), &json!([1.0, 5.0, 6.0])));
        assert_eq!(json["failures"], json!({"2": {"error": "down", "attempts": 2}}));
        assert_eq!((&json["unnamed_skipped"], &json["unnamed_missing"]), (&json!(0), &json!(2)));
    }

    #[test]
    fn prefixes_end_at_a_separator() {
        let prefix =
            |keys: &[&str]| common_prefix(&keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>()).to_owned();
        assert_eq!(prefix(&["bucket=10", "bucket=11"]), "bucket=");
        assert_eq!(prefix(&["north", "nord"]), "");
        assert_eq!(prefix(&[]), "");
    }
}
