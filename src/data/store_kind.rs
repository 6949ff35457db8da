//! The kinds of object stores.

/// The object stores that are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum StoreKind {
    S3,
    Google,
    Azure,
    Http,
    Memory,
}

impl StoreKind {
    /// What it is called in messages.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::S3 => "an S3 store",
            Self::Google => "Google Cloud Storage",
            Self::Azure => "Azure Blob Storage",
            Self::Http => "a web server",
            Self::Memory => "memory",
        }
    }
}
