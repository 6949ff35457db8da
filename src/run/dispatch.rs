//! Decides which step starts next, when no more steps start, and how the run ends.
//!
//! Pure: it neither starts steps nor waits for them. The caller executes the steps and reports how each ended.

use std::collections::HashSet;

use super::{
    event::NodeTally,
    outcome::{Failure, RunVerdict, StepEnd},
};
use crate::graph::{FailurePolicy, Schedule, TaskState};

/// Schedules steps, and aggregates how they ended.
#[derive(Debug)]
pub(crate) struct Dispatcher {
    queue: Schedule,
    policy: FailurePolicy,
    /// The maximum number of steps that run concurrently.
    max_parallel: usize,
    running: usize,
    steps: usize,
    tally: NodeTally,
    verdict: RunVerdict,
    /// Steps whose output lease was lost, so that another run may write to it.
    lost: HashSet<String>,
    /// True when a step was cancelled, or a step that could have started was not.
    cut_short: bool,
}

/// The effect of the end of a step on the others.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Consequence {
    /// The names of the steps that can no longer run.
    pub blocked: Vec<String>,
    /// True when all running steps must stop.
    pub halt: bool,
}

impl Dispatcher {
    /// Creates a dispatcher of the steps in a queue, of which at most `max_parallel` run concurrently.
    pub fn new(queue: Schedule, policy: FailurePolicy, max_parallel: usize) -> Self {
        let steps = queue.states().len();
        Self {
            queue,
            policy,
            max_parallel,
            running: 0,
            steps,
            tally: NodeTally::default(),
            verdict: RunVerdict::Done,
            lost: HashSet::new(),
            cut_short: false,
        }
    }

    /// The next step to start. `None` if all slots are in use, no step is ready, or no more steps may start.
    pub fn next(&mut self) -> Option<String> {
        if self.running >= self.max_parallel {
            return None;
        }
        let name = self.queue.dequeue()?;
        self.running += 1;
        Some(name)
    }

    /// Starts no more steps. Running steps may still finish successfully.
    pub fn stop(&mut self) {
        self.cut_short |= self.queue.states().any(|(_, state)| matches!(state, TaskState::Waiting | TaskState::Ready));
        self.queue.stop();
    }

    /// Stops without waiting for running steps, which count as cancelled.
    pub fn abandon(&mut self) {
        self.cut_short |= self.running > 0;
        self.stop();
    }

    /// Reports that the lease on a step's output was lost: the step counts as failed, unless it has ended already.
    pub fn lease_lost(&mut self, name: Option<String>) {
        self.verdict = self.verdict.max(RunVerdict::Environment);
        self.lost.extend(name);
        self.stop();
    }

    /// Reports how a running step ended.
    pub fn ended(&mut self, name: &str, end: StepEnd) -> Consequence {
        self.running -= 1;
        let failure = match end {
            StepEnd::Done { rows_with_errors, skipped } => {
                *(if skipped { &mut self.tally.skipped } else { &mut self.tally.done }) += 1;
                if rows_with_errors > 0 {
                    self.verdict = self.verdict.max(RunVerdict::RowErrors);
                }
                self.queue.finish(name);
                return Consequence::default();
            }
            StepEnd::Stopped if self.lost.contains(name) => Failure { verdict: RunVerdict::Environment, halts: true },
            StepEnd::Stopped => {
                self.cut_short = true;
                return Consequence::default();
            }
            StepEnd::Failed(failure) => failure,
        };
        self.tally.failed += 1;
        self.verdict = self.verdict.max(failure.verdict);
        let policy = if failure.halts { FailurePolicy::Stop } else { self.policy };
        Consequence { blocked: self.queue.fail(name, policy), halt: failure.halts }
    }

    /// The result of the run. `interrupted` is true after a signal.
    pub fn finish(self, interrupted: bool) -> (NodeTally, RunVerdict) {
        let cut_short = interrupted && self.cut_short;
        let verdict = if cut_short { self.verdict.max(RunVerdict::Interrupted) } else { self.verdict };
        let ended = self.tally.done + self.tally.skipped + self.tally.failed;
        (NodeTally { blocked: self.steps - ended, ..self.tally }, verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DONE: StepEnd = StepEnd::Done { rows_with_errors: 0, skipped: false };
    const ROW_ERRORS: StepEnd = StepEnd::Done { rows_with_errors: 1, skipped: true };
    const REFUSED: StepEnd = StepEnd::Failed(Failure { verdict: RunVerdict::Environment, halts: true });
    const OUTAGE: StepEnd = StepEnd::Failed(Failure { verdict: RunVerdict::Later, halts: true });
    const STORE: StepEnd = StepEnd::Failed(Failure { verdict: RunVerdict::Later, halts: false });
    const FAILED: StepEnd = StepEnd::Failed(Failure::OWN);
    const BUG: StepEnd = StepEnd::Failed(Failure::BUG);

    /// `a`, `b` and `c` can run at once, `d` needs `a`.
    fn dispatcher(policy: FailurePolicy, max_parallel: usize) -> Dispatcher {
        let task = |name: &str, needs: &[&str]| {
            (name.to_owned(), 1, needs.iter().map(|need| (*need).to_owned()).collect::<Vec<_>>())
        };
        let queue = Schedule::of([task("a", &[]), task("b", &[]), task("c", &[]), task("d", &["a"])]);
        Dispatcher::new(queue, policy, max_parallel)
    }

    /// Starts the first three steps concurrently, and ends the steps in the given order.
    fn run(ends: &[(&str, StepEnd)], interrupted: bool) -> (NodeTally, RunVerdict) {
        let mut dispatcher = dispatcher(FailurePolicy::KeepGoing, 3);
        while dispatcher.next().is_some() {}
        let mut stopping = interrupted;
        for (name, end) in ends {
            if stopping {
                dispatcher.stop();
            }
            stopping |= dispatcher.ended(name, *end).halt;
        }
        dispatcher.finish(interrupted)
    }

    #[test]
    fn the_verdict_of_a_run_is_the_most_severe_of_its_steps() {
        use RunVerdict::*;
        const STOPPED: StepEnd = StepEnd::Stopped;
        for (a, b, c, interrupted, verdict) in [
            (DONE, DONE, DONE, false, Done),
            (DONE, ROW_ERRORS, DONE, false, RowErrors),
            (FAILED, ROW_ERRORS, DONE, false, Failed),
            // Stopped because of another step, not by a signal.
            (REFUSED, STOPPED, STOPPED, false, Environment),
            (OUTAGE, STOPPED, STOPPED, false, Later),
            (REFUSED, OUTAGE, FAILED, false, Environment),
            (STORE, FAILED, DONE, false, Later),
            (BUG, REFUSED, OUTAGE, false, Bug),
            // After a signal, cancelled steps mean an interruption; a more severe failure still takes precedence.
            (DONE, STOPPED, DONE, true, Interrupted),
            (FAILED, STOPPED, DONE, true, Interrupted),
            (REFUSED, STOPPED, STOPPED, true, Environment),
            (OUTAGE, STOPPED, DONE, true, Later),
        ] {
            let (tally, found) = run(&[("a", a), ("b", b), ("c", c)], interrupted);
            assert_eq!(found, verdict, "{a:?} {b:?} {c:?} interrupted: {interrupted}");
            assert_eq!(tally.done + tally.skipped + tally.failed + tally.blocked, 4);
        }
    }

    #[test]
    fn a_signal_when_all_steps_have_started_does_not_make_the_run_interrupted() {
        let mut dispatcher = dispatcher(FailurePolicy::Stop, 4);
        while dispatcher.next().is_some() {}
        for name in ["a", "b", "c"] {
            dispatcher.ended(name, DONE);
        }
        assert_eq!(dispatcher.next().as_deref(), Some("d"));
        dispatcher.stop();
        dispatcher.ended("d", DONE);
        let done = NodeTally { done: 4, ..NodeTally::default() };
        assert_eq!(dispatcher.finish(true), (done, RunVerdict::Done));
    }

    #[test]
    fn a_step_whose_lease_is_lost_fails_and_the_others_are_stopped() {
        let mut dispatcher = dispatcher(FailurePolicy::KeepGoing, 2);
        while dispatcher.next().is_some() {}
        dispatcher.lease_lost(Some("a".to_owned()));
        let blocked = vec!["d".to_owned()];
        assert_eq!(dispatcher.ended("a", StepEnd::Stopped), Consequence { blocked, halt: true });
        assert_eq!(dispatcher.ended("b", StepEnd::Stopped), Consequence::default());
        assert_eq!(dispatcher.next(), None);
        let tally = NodeTally { failed: 1, blocked: 3, ..NodeTally::default() };
        assert_eq!(dispatcher.finish(false), (tally, RunVerdict::Environment));
    }

    #[test]
    fn no_more_steps_run_at_once_than_there_are_slots() {
        let mut dispatcher = dispatcher(FailurePolicy::Stop, 2);
        assert_eq!((dispatcher.next(), dispatcher.next()), (Some("a".to_owned()), Some("b".to_owned())));
        assert_eq!(dispatcher.next(), None);
        dispatcher.ended("a", DONE);
        assert!(dispatcher.next().is_some());
    }

    #[test]
    fn a_failure_that_halts_takes_precedence_over_keep_going() {
        let mut dispatcher = dispatcher(FailurePolicy::KeepGoing, 1);
        assert_eq!(dispatcher.next().as_deref(), Some("a"));
        assert_eq!(dispatcher.ended("a", REFUSED), Consequence { blocked: vec!["d".to_owned()], halt: true });
        assert_eq!(dispatcher.next(), None);
    }
}
