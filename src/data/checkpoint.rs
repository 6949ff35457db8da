//! The checkpoint of a folder of partitions: which of them were read before.

use std::{collections::BTreeSet, sync::Arc};

use super::{error::DataError, listing::Listing, store_path::StorePath, stores::Stores};
use crate::config::{Node, Value};

/// Kedro's name of the file with the checkpoint.
pub(super) const CHECKPOINT: &str = "CHECKPOINT";

/// Which partitions of a folder are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Checkpoint {
    /// The file with the id of the last partition that was confirmed, below the dataset's folder.
    pub(super) file: String,
    /// The id that counts instead.
    pub(super) forced: Option<String>,
    /// True when the partition of the checkpoint itself is read too.
    pub(super) inclusive: bool,
    /// True for the partitions after the checkpoint, false for all.
    pub(super) only_new: bool,
}

impl Default for Checkpoint {
    fn default() -> Self {
        Self { file: CHECKPOINT.to_owned(), forced: None, inclusive: false, only_new: true }
    }
}

/// Why a `checkpoint:` is not read.
pub(super) enum UnreadCheckpoint {
    /// It is not one, with the reason.
    Wrong(String),
    /// It is one of Kedro's that only Python reads: what it has.
    Unsupported(String),
}

impl Checkpoint {
    /// Reads `checkpoint:` of a dataset at `path`.
    pub(super) fn of(node: &Node, path: &str) -> Result<Self, UnreadCheckpoint> {
        let mut checkpoint = Self::default();
        let text = |key: &str, node: &Node| {
            node.as_text()
                .map(str::to_owned)
                .ok_or_else(|| UnreadCheckpoint::Wrong(format!("`{key}` must be a string, not {}", node.kind())))
        };
        let Some(map) = node.as_map() else {
            checkpoint.forced = Some(text("checkpoint", node)?);
            return Ok(checkpoint);
        };
        for (key, entry) in map.iter() {
            let node = &entry.node;
            match key {
                "force_checkpoint" if matches!(node.value, Value::Null) => {}
                "force_checkpoint" => checkpoint.forced = Some(text(key, node)?),
                "comparison_func" => match text(key, node)?.as_str() {
                    "operator.gt" => {}
                    "operator.ge" => checkpoint.inclusive = true,
                    other => return Err(UnreadCheckpoint::Unsupported(format!("comparison_func {other}"))),
                },
                "type" => {
                    let word = text(key, node)?;
                    if !["text.TextDataset", "TextDataset", "text"].iter().any(|known| word.ends_with(known)) {
                        return Err(UnreadCheckpoint::Unsupported(format!("a checkpoint of type {word}")));
                    }
                }
                "filepath" => {
                    let word = text(key, node)?;
                    let inside = word.strip_prefix(path.trim_end_matches('/')).and_then(|rest| rest.strip_prefix('/'));
                    match inside.filter(|file| !file.is_empty() && !file.split('/').any(|part| part == "..")) {
                        Some(file) => checkpoint.file = file.to_owned(),
                        None => {
                            let message = format!("the checkpoint's `filepath` must be a file in `{path}`");
                            return Err(UnreadCheckpoint::Wrong(message));
                        }
                    }
                }
                "credentials" => {}
                other => {
                    let message = format!(
                        "`checkpoint` has no `{other}`; it has force_checkpoint, comparison_func, type, filepath, credentials"
                    );
                    return Err(UnreadCheckpoint::Wrong(message));
                }
            }
        }
        Ok(checkpoint)
    }

    /// The files of a listing that belong to partitions that are read. What a run has listed once is what it reads until its
    /// end.
    pub(super) async fn visible(
        &self,
        stores: &Stores,
        place: &StorePath,
        listing: &Listing,
        suffix: &str,
    ) -> Result<Listing, DataError> {
        let without_file = listing.retaining(|path| path != self.file);
        if !self.only_new {
            return Ok(without_file);
        }
        let seen = match stores.partitions_seen(place) {
            Some(seen) => seen,
            None => {
                let after = self.confirmed(place).await?;
                let is_new = |id: &str| match &after {
                    None => true,
                    Some(last) => id > last.as_str() || (self.inclusive && id == last),
                };
                let ids = without_file.entries().iter().filter_map(|entry| entry.path.strip_suffix(suffix));
                let seen: Arc<BTreeSet<String>> = Arc::new(ids.filter(|id| is_new(id)).map(str::to_owned).collect());
                stores.see_partitions(place, Arc::clone(&seen));
                seen
            }
        };
        Ok(without_file.retaining(|path| path.strip_suffix(suffix).is_some_and(|id| seen.contains(id))))
    }

    /// The id of the last partition that was confirmed, or that the entry says.
    async fn confirmed(&self, place: &StorePath) -> Result<Option<String>, DataError> {
        if let Some(forced) = &self.forced {
            return Ok(Some(forced.clone()));
        }
        let Some(bytes) = place.child(&self.file).read().await? else { return Ok(None) };
        let text = String::from_utf8(bytes.to_vec()).map_err(|_| {
            let message = "the checkpoint is not UTF-8: it holds the id of the last partition that was confirmed";
            DataError::Layout { file: place.show(&self.file), message: message.to_owned() }
        })?;
        Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
    }
}
