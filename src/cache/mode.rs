//! Whether a cache is read and written, and the configuration's words for it.

/// Whether a cache is read and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CacheMode {
    /// Look up and store.
    #[default]
    ReadWrite,
    /// Look up only. Nothing in the folder is written, not even a missing index.
    Read,
    /// Neither: every look-up is a miss, and storing has no effect.
    Off,
}

impl CacheMode {
    /// The words under `cache: {mode}`.
    pub const WORDS: &'static [&'static str] = &["readwrite", "read", "off"];

    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReadWrite => "readwrite",
            Self::Read => "read",
            Self::Off => "off",
        }
    }

    /// Reads one of [`CacheMode::WORDS`].
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "readwrite" => Some(Self::ReadWrite),
            "read" => Some(Self::Read),
            "off" => Some(Self::Off),
            _ => None,
        }
    }
}
