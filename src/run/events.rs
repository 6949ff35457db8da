//! The sending end of the stream of events.
//!
//! Sending never waits: a slow terminal must not slow the work. One thread reads the other end (see [`run_event_loop`]): it
//! writes the ledger first and shows the event then.

use std::{
    borrow::Cow,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    time::{Duration, Instant},
};

use super::{
    event::{Event, EventKind},
    ledger::Ledger,
};
use crate::{
    embed::RowTally,
    model::{SecretMask, Usage, UsageSnapshot},
};

/// How often a display is asked to look at the counters.
const TICK: Duration = Duration::from_millis(100);

/// Where a run tells what happens. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Events {
    run: Arc<str>,
    begin: Instant,
    sender: Sender<Event>,
    mask: SecretMask,
    rows: Arc<Mutex<RowTally>>,
}

/// Reads what happens in a run.
pub trait EventSink {
    /// One event, in order.
    fn event(&mut self, event: &Event);
    /// The counters now, ten times a second while something runs.
    fn tick(&mut self, _usage: UsageSnapshot, _rows: RowTally) {}
}

impl Events {
    /// The two ends of a new stream.
    pub fn new(run: &str) -> (Self, Receiver<Event>) {
        let (sender, receiver) = channel();
        (
            Self { run: run.into(), begin: Instant::now(), sender, mask: SecretMask::default(), rows: Arc::default() },
            receiver,
        )
    }

    /// The same stream, with these secrets taken out of what it tells.
    #[must_use]
    pub fn masking(self, mask: SecretMask) -> Self {
        Self { mask, ..self }
    }

    /// Tells that something happened.
    pub fn send(&self, mut kind: EventKind) {
        for text in kind.texts() {
            if let Cow::Owned(masked) = self.mask.mask(text) {
                *text = masked;
            }
        }
        let event = Event { run: self.run.to_string(), elapsed: self.begin.elapsed(), kind };
        // The reader is gone only when the process is ending.
        let _ = self.sender.send(event);
    }

    /// The row counters so far, for displays.
    pub(super) fn rows(&self, rows: RowTally) {
        *self.rows.lock().unwrap_or_else(PoisonError::into_inner) = rows;
    }

    /// Since the run began, to the millisecond.
    pub(super) fn seconds(&self) -> f64 {
        (self.begin.elapsed().as_secs_f64() * 1000.0).round() / 1000.0
    }

    /// The row counters, for the thread that reads the other end.
    pub fn row_counter(&self) -> Arc<Mutex<RowTally>> {
        self.rows.clone()
    }
}

/// Reads events until the last one of the run, or until the last sender is gone: ledger first, then the sink. Blocks;
/// give it a thread of its own.
///
/// The ledger is made with the first event, so that a run that never starts leaves none. One that cannot be written is
/// told once and costs nothing else: it is history, not truth.
pub fn run_event_loop(
    receiver: &Receiver<Event>,
    folder: &Path,
    usage: &Usage,
    rows: &Mutex<RowTally>,
    sink: &mut dyn EventSink,
) {
    let mut ledger = None;
    let mut first = true;
    loop {
        match receiver.recv_timeout(TICK) {
            Ok(event) => {
                let mut lost = None;
                if std::mem::take(&mut first) {
                    match Ledger::create(folder, &event.run) {
                        Ok(open) => ledger = Some(open),
                        Err(error) => lost = Some(format!("{}: {error}", folder.display())),
                    }
                }
                let kept = !matches!(event.kind, EventKind::TableProgress { .. });
                if kept
                    && let Some(open) = &mut ledger
                    && let Err(error) = open.append(&event)
                {
                    ledger = None;
                    lost = Some(error.to_string());
                }
                if let Some(error) = lost {
                    let message = format!("no history of this run is kept: {error}");
                    sink.event(&Event { kind: EventKind::Warning { message }, ..event.clone() });
                }
                sink.event(&event);
                if matches!(event.kind, EventKind::RunFinished { .. }) {
                    return;
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        sink.tick(usage.snapshot(), *rows.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

#[cfg(test)]
mod tests {
    use super::{super::event::RunSummary, *};
    use crate::{model::Secret, run::Cause};

    #[test]
    fn a_secret_in_a_cause_of_failure_is_not_in_the_last_event() {
        let (events, receiver) = Events::new("r1");
        let mask = SecretMask::default();
        mask.add(&Secret::new("canary-key-0123456789"));
        let events = events.masking(mask);
        let error = "the server refused canary-key-0123456789".to_owned();
        events.send(EventKind::PartitionFailed {
            node: "embed".to_owned(),
            partition: "bucket=0".to_owned(),
            error: error.clone(),
            attempt_seconds: 0.0,
        });
        let cause = Cause { node: "embed".to_owned(), error, partitions: 1, examples: vec!["bucket=0".to_owned()] };
        events.send(EventKind::RunFinished { summary: RunSummary { causes: vec![cause], ..RunSummary::default() } });
        drop(events);
        let shown: Vec<String> = receiver.iter().map(|event| event.to_json().to_string()).collect();
        assert_eq!(shown.len(), 2);
        for line in shown {
            assert!(line.contains("the server refused ***") && !line.contains("canary"), "{line}");
        }
    }
}
