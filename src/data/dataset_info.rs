//! What is known of a dataset, without opening it and after listing it.

use super::row_outcomes::ComputedRows;
use crate::model::{Fingerprint, Shape};

/// What is known of a dataset without opening it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetInfo {
    /// The catalog's name, with its view.
    pub name: String,
    /// The type's name here, or Kedro's where `flow` has no such type.
    pub type_name: String,
    /// How it is loaded and saved.
    pub shape: Shape,
    /// The path or URL as displayed, without credentials; `None` for memory.
    pub location: Option<String>,
    /// False when nothing is left after the run (`memory`).
    pub persistent: bool,
    /// False for a known type of Kedro's that `flow` cannot run: `check`, `graph` and `plan` work, `run` does not.
    pub supported: bool,
    /// `layer:` or `metadata.kedro-viz.layer:`.
    pub layer: Option<String>,
}

/// What is there, read from a listing and one small receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DatasetState {
    /// A digest of what is there: of names where `flow` wrote them (they are digests themselves), of names and
    /// contents elsewhere. `None` when nothing is there.
    pub digest: Option<Fingerprint>,
    /// The fingerprint of the work that wrote it, when the receipt matches what is there: whole and untouched.
    pub receipt: Option<Fingerprint>,
    /// How many files are there.
    pub files: usize,
    /// True when partitions are there, and the checkpoint is after all of them.
    pub confirmed: bool,
    /// How its rows came out, where the work computed them one by one.
    pub computed: Option<ComputedRows>,
}
