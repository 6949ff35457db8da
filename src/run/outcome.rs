//! The outcomes of steps and runs, their order of severity, and the mapping from errors to outcomes.
//!
//! The order is defined only here. Must not know how a step is executed.

use super::{assess::AssessError, event::Status};
use crate::{data::DataError, function::FunctionError};

/// How a run ended, in order of severity: the verdict of a run is the most severe of its steps.
///
/// | verdict       | meaning                                                              | exit      | status        |
/// |---------------|----------------------------------------------------------------------|-----------|---------------|
/// | `Done`        | all selected nodes are done or up to date                            | 0         | `ok`          |
/// | `RowErrors`   | done; some rows carry errors, within the allowed rate                | 5         | `ok`          |
/// | `Failed`      | a node or partition failed                                           | 1         | `failed`      |
/// | `Interrupted` | a signal left work undone, and nothing failed otherwise              | 130, 143  | `interrupted` |
/// | `Later`       | outage, quota, spending cap, a store that does not respond           | 75        | `failed`      |
/// | `Environment` | a service or store refuses this run, or another run took a lease over | 3        | `failed`      |
/// | `Bug`         | a panic                                                              | 70        | `failed`      |
///
/// A step that is cancelled because another one ended the run does not contribute a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RunVerdict {
    /// All selected nodes are done or up to date.
    Done,
    /// Done; some rows carry errors.
    RowErrors,
    /// A node or partition failed.
    Failed,
    /// A signal stopped the run.
    Interrupted,
    /// A temporary failure: the same command can succeed later.
    Later,
    /// A service or the environment refuses this run.
    Environment,
    /// A panic: a bug in `flow`.
    Bug,
}

impl RunVerdict {
    /// The status in events and summaries.
    pub fn status(self) -> Status {
        match self {
            Self::Done | Self::RowErrors => Status::Ok,
            Self::Interrupted => Status::Interrupted,
            Self::Failed | Self::Later | Self::Environment | Self::Bug => Status::Failed,
        }
    }
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StepEnd {
    /// Done, or `skipped` because it was up to date. `rows_with_errors` counts its failed rows.
    Done { rows_with_errors: u64, skipped: bool },
    /// Failed; the error has been emitted already.
    Failed(Failure),
    /// Cancelled or not started, because the run is stopping.
    Stopped,
}

/// The effect of a failure on the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The verdict that the failure gives the run.
    pub verdict: RunVerdict,
    /// True when all other work would fail as well, so that the run stops.
    pub halts: bool,
}

impl Failure {
    /// A failure of one step or partition.
    pub const OWN: Self = Self { verdict: RunVerdict::Failed, halts: false };
    /// A panic. Other steps continue.
    pub const BUG: Self = Self { verdict: RunVerdict::Bug, halts: false };

    /// Combines two failures.
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
    /// True if the process that did the work died.
    pub(crate) fn is_crash(&self) -> bool {
        let within = |error: &DataError| {
            let DataError::Rows(error) = error else { return false };
            let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
            while let Some(error) = source {
                if matches!(error.downcast_ref(), Some(FunctionError::Crashed(_))) {
                    return true;
                }
                source = error.source();
            }
            false
        };
        match self {
            Self::Function(FunctionError::Crashed(_)) => true,
            Self::Function(FunctionError::Data(error)) | Self::Data(error) => within(error),
            _ => false,
        }
    }

    /// True for work that is not done because the run is to end.
    pub(crate) fn is_interruption(&self) -> bool {
        matches!(self, Self::Function(FunctionError::Interrupted(_)))
    }

    /// The second crash of the same work.
    pub(crate) fn died_twice(self) -> Self {
        if self.is_crash() {
            return FunctionError::Failed(format!("{self}\nhelp: it died the second time as well, in a fresh process"))
                .into();
        }
        self
    }

    /// The effect of the error on the run.
    pub(crate) fn failure(&self) -> Failure {
        match self {
            Self::Function(error) | Self::Assess(AssessError::Function(error)) => match error {
                FunctionError::Refused(_) => Failure { verdict: RunVerdict::Environment, halts: true },
                FunctionError::Stopped(_) => Failure { verdict: RunVerdict::Later, halts: true },
                FunctionError::Interrupted(_) => Failure { verdict: RunVerdict::Interrupted, halts: false },
                FunctionError::Failed(_) | FunctionError::Crashed(_) => Failure::OWN,
                FunctionError::Bug(_) => Failure::BUG,
                FunctionError::Data(error) => data_failure(error),
            },
            Self::NeedsConsent(_) => Failure { verdict: RunVerdict::Environment, halts: true },
            Self::Data(error) | Self::Assess(AssessError::Data(error)) => data_failure(error),
            Self::Assess(AssessError::MissingInput { .. } | AssessError::NoPartition { .. }) => Failure::OWN,
        }
    }
}

/// A store that is unavailable or denies access does not stop the run: other steps may use other stores.
fn data_failure(error: &DataError) -> Failure {
    if error.is_lost_lease() {
        return Failure { verdict: RunVerdict::Environment, halts: true };
    }
    if error.is_full_disk() {
        // Stop, so that no further requests are paid for whose results could not be saved.
        return Failure { verdict: RunVerdict::Later, halts: true };
    }
    let verdict = if error.is_transient() { RunVerdict::Later } else { RunVerdict::Failed };
    Failure { verdict, halts: false }
}

#[cfg(test)]
mod tests {
    use std::io;

    use datafusion::error::DataFusionError;

    use super::*;

    #[test]
    fn an_error_has_the_verdict_of_its_cause_through_all_wrappers() {
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
        let cases: [(StepError, Failure); 12] = [
            (FunctionError::Refused(text()).into(), Failure { verdict: RunVerdict::Environment, halts: true }),
            (FunctionError::Stopped(text()).into(), Failure { verdict: RunVerdict::Later, halts: true }),
            (FunctionError::Failed(text()).into(), Failure::OWN),
            (FunctionError::Bug(text()).into(), Failure::BUG),
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
