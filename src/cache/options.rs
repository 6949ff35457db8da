//! The `cache:` mapping: where answers are stored, and whether they are read and written.

use std::path::{Path, PathBuf};

use super::mode::CacheMode;
use crate::config::{Field, Kind, Record};

/// Where and whether answers are cached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheOptions {
    /// The folder; relative to the project.
    pub path: PathBuf,
    /// Whether it is read and written.
    pub mode: CacheMode,
}

static CACHE: &[Field] = &[
    Field::optional("path", Kind::Text, CacheOptions::DEFAULT_PATH, "The folder; relative to the project."),
    Field::optional(
        "mode",
        Kind::Choice(CacheMode::WORDS),
        "readwrite",
        "`readwrite` looks up and stores, `read` only looks up, `off` neither.",
    ),
];

impl Default for CacheOptions {
    fn default() -> Self {
        Self { path: Self::DEFAULT_PATH.into(), mode: CacheMode::default() }
    }
}

impl CacheOptions {
    /// The default folder, relative to the project; `flow cache` uses it too.
    pub const DEFAULT_PATH: &'static str = ".flow/cache";

    /// The key `cache`, for field tables; `doc` says what is stored.
    pub const fn field(doc: &'static str) -> Field {
        Field::optional("cache", Kind::Record(CACHE), "", doc)
    }

    /// The folder, where what is cached is stored in it as it comes.
    pub fn stored_in(&self) -> Option<&Path> {
        (self.mode == CacheMode::ReadWrite).then_some(self.path.as_path())
    }

    /// Reads [`CacheOptions::field`].
    pub fn read(record: &Record<'_>) -> Self {
        let cache = record.record("cache");
        let path = cache.as_ref().and_then(|cache| cache.text("path")).unwrap_or(Self::DEFAULT_PATH);
        let mode = cache.as_ref().and_then(|cache| cache.word("mode")).and_then(CacheMode::from_word);
        Self { path: Path::new(path).to_path_buf(), mode: mode.unwrap_or_default() }
    }
}
