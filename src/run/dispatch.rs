//! The order of a run: which step starts next, when nothing more does, and what the endings amount to.
//!
//! Pure: it starts nothing and waits for nothing. Who carries the steps out tells it how each ended.

use std::collections::HashSet;

use super::{
    event::NodeTally,
    outcome::{Failure, RunVerdict, StepEnd},
};
use crate::graph::{FailurePolicy, Schedule, TaskState};

/// Hands out steps, and adds up how they ended.
#[derive(Debug)]
pub(crate) struct Dispatcher {
    queue: Schedule,
    policy: FailurePolicy,
    /// Steps at the same time.
    max_parallel: usize,
    running: usize,
    steps: usize,
    tally: NodeTally,
    verdict: RunVerdict,
    /// Steps whose output another run may write by now.
    lost: HashSet<String>,
    /// True when a step was dropped, or one that could have started was not.
    cut_short: bool,
}

/// What the end of a step means for the others.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Consequence {
    /// Steps that can no longer run because of it.
    pub blocked: Vec<String>,
    /// True when everything in flight is to be stopped.
    pub halt: bool,
}

impl Dispatcher {
    /// Hands out the steps of a queue, at most `max_parallel` of them at the same time.
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

    /// The step to start now. `None` while all slots are taken, nothing is ready, or nothing more is to start.
    pub fn next(&mut self) -> Option<String> {
        if self.running >= self.max_parallel {
            return None;
        }
        let name = self.queue.dequeue()?;
        self.running += 1;
        Some(name)
    }

    /// Starts nothing more. What runs may still end well.
    pub fn stop(&mut self) {
        self.cut_short |= self.queue.states().any(|(_, state)| matches!(state, TaskState::Waiting | TaskState::Ready));
        self.queue.stop();
    }

    /// Leaves what runs to itself: it counts as dropped.
    pub fn abandon(&mut self) {
        self.cut_short |= self.running > 0;
        self.stop();
    }

    /// Tells that the lease on a step's output was lost: it ends as a failure, unless it has ended already.
    pub fn lease_lost(&mut self, name: Option<String>) {
        self.verdict = self.verdict.max(RunVerdict::Environment);
        self.lost.extend(name);
        self.stop();
    }

    /// Tells how a running step ended.
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

    /// How the run ended. `interrupted` when somebody asked to stop.
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

    /// Lets the steps end one after another as told, the first three of them at once.
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
    fn of_several_causes_the_one_that_ended_the_run_is_its_verdict() {
        use RunVerdict::*;
        const STOPPED: StepEnd = StepEnd::Stopped;
        for (a, b, c, interrupted, verdict) in [
            (DONE, DONE, DONE, false, Done),
            (DONE, ROW_ERRORS, DONE, false, RowErrors),
            (FAILED, ROW_ERRORS, DONE, false, Failed),
            // Stopped because of the other, and by nobody.
            (REFUSED, STOPPED, STOPPED, false, Environment),
            (OUTAGE, STOPPED, STOPPED, false, Later),
            (REFUSED, OUTAGE, FAILED, false, Environment),
            (STORE, FAILED, DONE, false, Later),
            (BUG, REFUSED, OUTAGE, false, Bug),
            // A person's signal: what it cut short is an interruption, and a refusal is one all the same.
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
    fn a_signal_that_comes_when_nothing_is_left_to_do_interrupts_nothing() {
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
    fn a_step_whose_lease_is_lost_has_failed_and_the_others_are_stopped() {
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
    fn a_failure_that_halts_stops_also_what_keep_going_would_start() {
        let mut dispatcher = dispatcher(FailurePolicy::KeepGoing, 1);
        assert_eq!(dispatcher.next().as_deref(), Some("a"));
        assert_eq!(dispatcher.ended("a", REFUSED), Consequence { blocked: vec!["d".to_owned()], halt: true });
        assert_eq!(dispatcher.next(), None);
    }
}
