//! How steps and runs end: the causes, their order, and which error has which.
//!
//! The order is written down here and nowhere else. Must not know how a step is carried out.

use super::{assess::AssessError, event::Status};
use crate::{data::DataError, function::FunctionError};

/// How a run ended, from the least to the most serious: where several causes meet, the greatest of them is the run's.
///
/// | verdict       | what happened                                                        | exit      | status        |
/// |---------------|----------------------------------------------------------------------|-----------|---------------|
/// | `Done`        | everything is done, or was                                           | 0         | `ok`          |
/// | `RowErrors`   | done; some rows carry errors, within the allowed rate                | 5         | `ok`          |
/// | `Failed`      | a node or partition failed                                           | 1         | `failed`      |
/// | `Interrupted` | a person's signal left work undone, and only that                    | 130, 143  | `interrupted` |
/// | `Later`       | outage, quota, spending cap, a store that does not respond           | 75        | `failed`      |
/// | `Environment` | a service or store refuses this run, or another run took a lease over | 3        | `failed`      |
/// | `Bug`         | a panic                                                              | 70        | `failed`      |
///
/// A step that is dropped because another one ended the run has no cause of its own, and so no verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RunVerdict {
    /// Everything is done.
    Done,
    /// Done; some rows carry errors.
    RowErrors,
    /// Something failed.
    Failed,
    /// Somebody asked to stop.
    Interrupted,
    /// Pointless now, not later.
    Later,
    /// A service or the environment refuses this run.
    Environment,
    /// A panic: a bug in `flow`.
    Bug,
}

impl RunVerdict {
    /// The one word for it.
    pub fn status(self) -> Status {
        match self {
            Self::Done | Self::RowErrors => Status::Ok,
            Self::Interrupted => Status::Interrupted,
            Self::Failed | Self::Later | Self::Environment | Self::Bug => Status::Failed,
        }
    }
}

/// How one step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StepEnd {
    /// Done now, or already; rows with an error of their own among them.
    Done { rows_with_errors: u64, skipped: bool },
    /// Failed; the message was shown already.
    Failed(Failure),
    /// Dropped or never begun, because the run is stopping.
    Stopped,
}

/// What a failure means for the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Failure {
    /// What the run as a whole is called.
    pub verdict: RunVerdict,
    /// True when nothing else will work either, now or at all.
    pub halts: bool,
}

impl Failure {
    /// A failure of one step or partition.
    pub const OWN: Self = Self { verdict: RunVerdict::Failed, halts: false };
    /// A panic. Other work may go on.
    pub const BUG: Self = Self { verdict: RunVerdict::Bug, halts: false };

    /// Both together.
    pub fn and(self, other: Self) -> Self {
        Self { verdict: self.verdict.max(other.verdict), halts: self.halts || other.halts }
    }
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StepError {
    #[error(transparent)]
    Assess(#[from] AssessError),
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Function(#[from] FunctionError),
    #[error("{0}")]
    NeedsConsent(String),
}

impl StepError {
    /// What it means for the run.
    pub(crate) fn failure(&self) -> Failure {
        match self {
            Self::Function(error) | Self::Assess(AssessError::Function(error)) => match error {
                FunctionError::Refused(_) => Failure { verdict: RunVerdict::Environment, halts: true },
                FunctionError::Stopped(_) => Failure { verdict: RunVerdict::Later, halts: true },
                FunctionError::Failed(_) => Failure::OWN,
                FunctionError::Data(error) => of_data(error),
            },
            Self::NeedsConsent(_) => Failure { verdict: RunVerdict::Environment, halts: true },
            Self::Data(error) | Self::Assess(AssessError::Data(error)) => of_data(error),
            Self::Assess(AssessError::MissingInput { .. } | AssessError::NoPartition { .. }) => Failure::OWN,
        }
    }
}

/// A store that does not respond, or refuses, may be one of several: what does not need it may go on.
fn of_data(error: &DataError) -> Failure {
    if error.is_lost_lease() {
        return Failure { verdict: RunVerdict::Environment, halts: true };
    }
    if error.is_full_disk() {
        // Nothing more is to be paid for that could not be kept.
        return Failure { verdict: RunVerdict::Later, halts: true };
    }
    let verdict = if error.is_transient() { RunVerdict::Later } else { RunVerdict::Failed };
    Failure { verdict, halts: false }
}

/// What a panic said.
pub(crate) fn panic_text(panic: Box<dyn std::any::Any + Send>) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a text".to_owned())
}

#[cfg(test)]
mod tests {
    use std::io;

    use datafusion::error::DataFusionError;

    use super::*;

    #[test]
    fn an_error_has_the_verdict_of_its_cause_however_it_is_wrapped() {
        let store = |transient| DataError::Store {
            location: "s3://bucket/nodes".to_owned(),
            message: "503 Slow Down".to_owned(),
            not_found: false,
            transient,
        };
        let reset = || object_store::Error::Generic { store: "S3", source: "connection reset".into() };
        let wrapped = |error: Box<dyn std::error::Error + Send + Sync>| {
            DataFusionError::Context("reading".to_owned(), Box::new(DataFusionError::External(error)))
        };
        let text = || "no".to_owned();
        let full = DataError::Io { path: "out".to_owned(), source: io::Error::from(io::ErrorKind::StorageFull) };
        let later = Failure { verdict: RunVerdict::Later, halts: false };
        let cases: [(StepError, Failure); 11] = [
            (FunctionError::Refused(text()).into(), Failure { verdict: RunVerdict::Environment, halts: true }),
            (FunctionError::Stopped(text()).into(), Failure { verdict: RunVerdict::Later, halts: true }),
            (FunctionError::Failed(text()).into(), Failure::OWN),
            (store(true).into(), later),
            (AssessError::Data(store(true)).into(), later),
            (store(false).into(), Failure::OWN),
            (full.into(), Failure { verdict: RunVerdict::Later, halts: true }),
            (DataError::Rows(wrapped(Box::new(store(true)))).into(), later),
            (FunctionError::from(wrapped(Box::new(reset()))).into(), later),
            (FunctionError::from(wrapped(Box::new(store(false)))).into(), Failure::OWN),
            (FunctionError::from(DataFusionError::Plan("no such column".to_owned())).into(), Failure::OWN),
        ];
        for (error, failure) in cases {
            assert_eq!(error.failure(), failure, "{error:?}");
        }
    }
}
