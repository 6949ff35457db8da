//! What can go wrong with data. Every message names the dataset, file or place, and the way out.

use std::{error::Error, fmt::Write as _, io};

use arrow::error::ArrowError;
use datafusion::error::DataFusionError;

use super::file_name::FileName;
use crate::model::{Secret, SecretMask, excerpt};

pub(super) const WEB_STORE: &str = "web server";

/// Why data could not be listed, read or written. No message holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A dataset was read that nothing has written.
    #[error("`{dataset}` is empty: no data at {location}; run the node that writes it, or correct its path")]
    Missing {
        /// The catalog's name.
        dataset: String,
        /// Where it was looked for.
        location: String,
    },
    /// A location that needs credentials which no file defines.
    #[error(
        "{location}: it needs the credentials `{name}`, and the project has no `credentials.yml`; create one with `{name}:` in it"
    )]
    NoCredentials {
        /// Path or URL.
        location: String,
        /// Their name.
        name: String,
    },
    /// A location that no store can be made of: a missing credential, a wrong endpoint.
    #[error("{location}: {message}")]
    Location {
        /// Path or URL.
        location: String,
        /// What is wrong, and the way out.
        message: String,
    },
    /// The local disk refused.
    #[error("{path}: {source}")]
    Io {
        /// Which file or folder.
        path: String,
        /// The system's words.
        source: io::Error,
    },
    /// An object store refused or could not be reached.
    #[error("{location}: {message}")]
    Store {
        /// Path or URL.
        location: String,
        /// The store's words, secrets removed.
        message: String,
        /// Whether the object is not there.
        not_found: bool,
        /// Whether the same call may work later: no response, or an error on the server's side.
        transient: bool,
    },
    /// A file that cannot be read as what it should be.
    #[error("{file} cannot be read as {format}: {}", excerpt(message))]
    Corrupt {
        /// Path or URL of the file.
        file: String,
        /// What it should be: `parquet`, `csv`, …
        format: &'static str,
        /// What is wrong.
        message: String,
    },
    /// A file whose size differs from the one in its name.
    #[error(
        "{file} is {size} bytes long, and was {whole} when it was written: it was truncated since, by a power loss, a full disk or an unfinished copy; remove it and run the node that writes it, or copy it again"
    )]
    Torn {
        /// Path or URL of the file.
        file: String,
        /// How long it is.
        size: u64,
        /// How long it was.
        whole: u64,
    },
    /// Two files of one dataset with different columns.
    #[error("{file} does not fit the rest of its dataset: {difference} (compared with {first})")]
    Drift {
        /// The file that differs.
        file: String,
        /// The file whose schema the dataset has.
        first: String,
        /// Which column, and how.
        difference: String,
    },
    /// A file from whose path no partition can be read.
    #[error("{file}: {message}")]
    Layout {
        /// Path or URL.
        file: String,
        /// What is wrong.
        message: String,
    },
    /// A row without a value for a partition column.
    #[error(
        "partition column `{column}` is null in row {row} of what is written to `{dataset}`: fill it or filter it out"
    )]
    NullKey {
        /// The dataset being written.
        dataset: String,
        /// The column.
        column: String,
        /// The row, from 1, in the order of the stream.
        row: u64,
    },
    /// A partition that was closed and then came again.
    #[error(
        "the rows written to `{dataset}` are not sorted by their partition columns: partition `{key}` came again in row {row}; sort them first"
    )]
    Unsorted {
        /// The dataset being written.
        dataset: String,
        /// The partition.
        key: String,
        /// The row, from 1, in the order of the stream.
        row: u64,
    },
    /// Something this dataset cannot do.
    #[error("`{dataset}` {message}")]
    Unsupported {
        /// The catalog's name.
        dataset: String,
        /// What it cannot do, and the way out.
        message: String,
    },
    /// The location of a dataset holds files that `flow` may not replace.
    #[error("{0}")]
    Occupied(String),
    /// Another run writes to the dataset.
    #[error("`{dataset}` is being written by {by}; wait for it to end, or stop it")]
    Held {
        /// The catalog's name.
        dataset: String,
        /// Host, process and time, as far as known.
        by: String,
    },
    /// Another run may write to the dataset by now.
    #[error(
        "the lease on `{dataset}` could not be renewed in time, and another run may have taken it over: nothing more is written there; what is committed is kept. Run again when the other one has ended"
    )]
    LeaseLost {
        /// The catalog's name.
        dataset: String,
    },
    /// Files of a table were removed while it was written.
    #[error(
        "{missing} of the {all} files of `{dataset}` were removed by another process while it was written; run again to write them"
    )]
    Vanished {
        /// The catalog's name.
        dataset: String,
        /// How many are gone.
        missing: usize,
        /// How many it has.
        all: usize,
    },
    /// The rows to be written could not be had, or a query failed.
    #[error("{}", shortened(.0))]
    Rows(#[from] DataFusionError),
}

/// What gives the rows failed. Its message is whole sentences, or a traceback, and is shown as it is.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct RowsFailed(#[source] pub Box<dyn Error + Send + Sync>);

impl DataError {
    /// True when the environment is to blame before any work: no such store, no permission, a missing key.
    pub fn is_environment(&self) -> bool {
        matches!(
            self,
            Self::NoCredentials { .. }
                | Self::Location { .. }
                | Self::Store { .. }
                | Self::Held { .. }
                | Self::LeaseLost { .. }
        )
    }

    /// True when another run may write there by now.
    pub fn is_lost_lease(&self) -> bool {
        matches!(self, Self::LeaseLost { .. })
    }

    /// True when the same call may work later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Store { transient, .. } => *transient,
            // Rows come through the table engine, which wraps what their store said.
            Self::Rows(error) => causes(error).any(|cause| match cause.downcast_ref::<Self>() {
                Some(of_data) => matches!(of_data, Self::Store { transient: true, .. }),
                None => cause.downcast_ref().is_some_and(store_is_transient),
            }),
            _ => false,
        }
    }

    /// True when a sort or join ran out of its memory limit.
    pub fn is_out_of_memory(&self) -> bool {
        matches!(self, Self::Rows(error) if matches!(error.find_root(), DataFusionError::ResourcesExhausted(_)))
    }

    pub(super) fn io(path: impl AsRef<std::path::Path>, source: io::Error) -> Self {
        Self::Io { path: path.as_ref().display().to_string(), source }
    }

    /// A file that cannot be read. What `flow` wrote it can make again.
    pub(super) fn corrupt(file: &str, format: &'static str, mut message: String) -> Self {
        if FileName::parse(file).is_some() {
            message.push_str("; it is not what was written there: remove it and run the node that writes it");
        }
        Self::Corrupt { file: file.to_owned(), format, message }
    }

    pub(super) fn unsupported(dataset: &str, message: impl Into<String>) -> Self {
        Self::Unsupported { dataset: dataset.to_owned(), message: message.into() }
    }

    pub(super) fn store(location: &str, error: &object_store::Error, secrets: &[Secret]) -> Self {
        use object_store::Error as E;
        let not_found = matches!(error, E::NotFound { .. });
        let transient = store_is_transient(error);
        let message = match error {
            E::NotFound { .. } => "nothing is there".to_owned(),
            // Ours, said in whole sentences.
            E::PermissionDenied { path, source } if path.is_empty() => chain(&**source),
            E::Generic { store, source } if *store == WEB_STORE => chain(&**source),
            _ => chain(error),
        };
        // Before it is shortened, which could leave half of a secret.
        let message = excerpt(&SecretMask::from_iter(secrets).mask(&message));
        Self::Store { location: location.to_owned(), message, not_found, transient }
    }
}

/// What Arrow says of rows that are put together, cast or encoded: they or their types are to blame.
impl From<ArrowError> for DataError {
    fn from(error: ArrowError) -> Self {
        Self::Rows(error.into())
    }
}

impl From<DataError> for DataFusionError {
    fn from(error: DataError) -> Self {
        match error {
            DataError::Rows(error) => error,
            error => Self::External(Box::new(error)),
        }
    }
}

/// True when a store gave no response, or a server error.
fn store_is_transient(error: &object_store::Error) -> bool {
    matches!(error, object_store::Error::Generic { .. } | object_store::Error::JoinError { .. })
}

/// An error and everything that it was caused by.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| (*error).source())
}

/// An error with its causes in one line, each said once.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut out = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !out.contains(&text) {
            let _ = write!(out, ": {text}");
        }
        source = cause.source();
    }
    out.replace('\n', " ")
}

/// The root's words, without the layers that DataFusion wraps around them.
pub(super) fn shortened(error: &DataFusionError) -> String {
    match error.find_root() {
        DataFusionError::External(inner) => {
            match (inner.downcast_ref::<DataError>(), inner.downcast_ref::<RowsFailed>()) {
                (Some(ours), _) => ours.to_string(),
                (_, Some(told)) => told.to_string(),
                _ => excerpt(&chain(inner.as_ref())),
            }
        }
        DataFusionError::ResourcesExhausted(message) => {
            format!("{message}; give it more with --memory-limit, or run with --jobs 1")
        }
        root => excerpt(&root.strip_backtrace()),
    }
}
