//! What a kind of dataset, or of file, is called.

/// What a kind of dataset is called.
#[derive(Debug, Clone, Copy)]
pub struct TypeInfo {
    /// The word under `type:`.
    pub name: &'static str,
    /// Kedro's type names that mean the same (without `kedro_datasets.`).
    pub aliases: &'static [&'static str],
    /// One line for `flow ls types`.
    pub doc: &'static str,
}
