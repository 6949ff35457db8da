//! Which runs of a group are earlier attempts: those whose work later ones were asked for again.

use std::collections::{HashMap, HashSet};

/// What a run of a group was asked to do.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The part of the partitions; `None` for all.
    pub shard: Option<&'a str>,
    /// The selected nodes. `None` where they are not known, or do not matter: then all runs were asked for the same.
    pub selected: Option<&'a [String]>,
}

/// Of the runs of a group, in the order of their begins, the positions of those that no later one repeats.
///
/// A shard is repeated by the same shard, and by a run of all partitions. A run of all partitions is repeated by any later run: what
/// came before the shards is not one of them. Both only where later runs together were asked for each of its nodes.
pub fn last_attempts(runs: &[Asked<'_>]) -> Vec<usize> {
    let (mut all, mut of_whole) = (Nodes::default(), Nodes::default());
    let mut of_shards: HashMap<&str, Nodes<'_>> = HashMap::new();
    let mut last = Vec::new();
    for (position, run) in runs.iter().enumerate().rev() {
        let is_repeated = match run.shard {
            None => run.is_in(&[&all]),
            Some(shard) => match of_shards.get(shard) {
                Some(same) => run.is_in(&[&of_whole, same]),
                None => run.is_in(&[&of_whole]),
            },
        };
        if !is_repeated {
            last.push(position);
        }
        all.add(run);
        match run.shard {
            None => of_whole.add(run),
            Some(shard) => of_shards.entry(shard).or_default().add(run),
        }
    }
    last.reverse();
    last
}

/// The nodes that some later runs were asked for.
#[derive(Debug, Default)]
struct Nodes<'a> {
    /// True if there is such a run.
    any: bool,
    /// True if one of them was asked for nodes that are not known.
    unknown: bool,
    names: HashSet<&'a str>,
}

impl<'a> Nodes<'a> {
    fn add(&mut self, run: &Asked<'a>) {
        self.any = true;
        match run.selected {
            None => self.unknown = true,
            Some(names) => self.names.extend(names.iter().map(String::as_str)),
        }
    }
}

impl Asked<'_> {
    /// True if later runs were asked for all of this.
    fn is_in(&self, later: &[&Nodes<'_>]) -> bool {
        match self.selected {
            None => later.iter().any(|nodes| nodes.any),
            Some(names) => {
                let unknown = later.iter().any(|nodes| nodes.unknown);
                unknown || names.iter().all(|name| later.iter().any(|nodes| nodes.names.contains(name.as_str())))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `0/2 a b`: the shard, or `all`, and the nodes; no nodes where they are not known.
    fn last(runs: &[&str]) -> Vec<usize> {
        let words: Vec<Vec<String>> =
            runs.iter().map(|run| run.split(' ').map(str::to_owned).collect::<Vec<_>>()).collect();
        let asked: Vec<Asked<'_>> = words
            .iter()
            .map(|words| Asked {
                shard: (words[0] != "all").then_some(words[0].as_str()),
                selected: (words.len() > 1).then_some(&words[1..]),
            })
            .collect();
        last_attempts(&asked)
    }

    #[test]
    fn the_shards_of_another_node_are_no_attempts_of_the_first_one() {
        for (runs, expected) in [
            (vec!["0/2 label", "0/2 lengths"], vec![0, 1]),
            (vec!["0/2 label", "0/2 lengths", "0/2 label"], vec![1, 2]),
            (vec!["0/2 a b", "0/2 a"], vec![0, 1]),
            (vec!["0/2 a b", "0/2 a", "0/2 b"], vec![1, 2]),
            (vec!["0/2 a", "1/2 a", "all a"], vec![2]),
            (vec!["0/2 a", "1/2 a", "all b"], vec![0, 1, 2]),
            (vec!["0/2 a", "0/2 b", "all a b c"], vec![2]),
            (vec!["0/2 a b", "0/2 a", "all b"], vec![1, 2]),
            (vec!["all a", "0/2 b", "1/2 b", "all b"], vec![0, 3]),
            (vec!["all a", "0/2 a", "1/2 a"], vec![1, 2]),
            (vec!["all a", "all b", "all a"], vec![1, 2]),
            (vec![], vec![]),
        ] {
            assert_eq!(last(&runs), expected, "{runs:?}");
        }
    }

    #[test]
    fn ledgers_that_do_not_name_nodes_are_told_apart_by_their_shards() {
        for (runs, expected) in [
            (vec!["0/2", "1/2", "1/2"], vec![0, 2]),
            (vec!["all", "0/2", "1/2"], vec![1, 2]),
            (vec!["0/2", "1/2", "all"], vec![2]),
            (vec!["0/2 a", "0/2"], vec![1]),
            (vec!["0/2", "0/2 a"], vec![1]),
        ] {
            assert_eq!(last(&runs), expected, "{runs:?}");
        }
    }
}
