//! Exit codes.

/// How `flow` ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Everything asked for is done, or was already.
    Done,
    /// A node or partition failed; what finished is kept.
    Failed,
    /// The command or the project is wrong; nothing was started.
    Wrong,
    /// The environment is wrong before the start: a missing key, an unreachable store, another run holds the output.
    Environment,
    /// The selection is empty.
    Empty,
    /// Done, but some rows carry errors, within the allowed rate.
    RowErrors,
    /// A bug in `flow`.
    Bug,
    /// Stopped; try again later: outage, exhausted quota, spending cap. What finished is kept.
    Later,
    /// Interrupted from the keyboard; what finished is kept.
    Interrupted,
    /// Stopped by a signal; what finished is kept.
    Terminated,
}

impl Exit {
    /// All exit codes, for `flow help exit-codes`.
    pub const ALL: &'static [Self] = &[
        Self::Done,
        Self::Failed,
        Self::Wrong,
        Self::Environment,
        Self::Empty,
        Self::RowErrors,
        Self::Bug,
        Self::Later,
        Self::Interrupted,
        Self::Terminated,
    ];

    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Wrong => 2,
            Self::Environment => 3,
            Self::Empty => 4,
            Self::RowErrors => 5,
            Self::Bug => 70,
            Self::Later => 75,
            Self::Interrupted => 130,
            Self::Terminated => 143,
        }
    }

    /// Its meaning, in one line.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Done => "everything asked for is done, or was already",
            Self::Failed => "a node or partition failed; what finished is kept",
            Self::Wrong => "the command or the project is wrong; nothing was started",
            Self::Environment => {
                "the environment is wrong before the start: a missing key, an unreachable store, another run holds the output"
            }
            Self::Empty => "the selection is empty",
            Self::RowErrors => "done, but some rows carry errors (within the allowed rate)",
            Self::Bug => "a bug in flow",
            Self::Later => "stopped, try again later: outage, exhausted quota, spending cap; what finished is kept",
            Self::Interrupted => "interrupted from the keyboard; what finished is kept",
            Self::Terminated => "stopped by a signal; what finished is kept",
        }
    }
}
