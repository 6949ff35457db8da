//! The sender of the event stream, and the loop that consumes it.
//!
//! Sending never blocks: a slow terminal must not slow down the run. One thread receives the events (see
//! [`run_event_loop`]) and writes each to the ledger before it is displayed.

use std::{
    borrow::Cow,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    time::{Duration, Instant},
};

use super::{
    event::{Event, EventKind},
    ledger::Ledger,
};
use crate::model::{RowTally, SecretMask, Usage, UsageSnapshot, count};

/// The interval between calls of [`EventSink::tick`].
const TICK: Duration = Duration::from_millis(100);

/// Emits the events of a run. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Events {
    run: Arc<str>,
    begin: Instant,
    sender: Sender<Event>,
    backlog: Arc<Backlog>,
    mask: SecretMask,
    rows: Arc<Mutex<RowTally>>,
}

/// The events of a run, in order.
#[derive(Debug)]
pub struct EventReceiver {
    receiver: Receiver<Event>,
    backlog: Arc<Backlog>,
}

/// Output of programs that waits to be written. There may be any amount of it, and a terminal may take none.
#[derive(Debug, Default)]
struct Backlog {
    bytes: AtomicUsize,
    left_out: AtomicU64,
}

impl Backlog {
    const LIMIT: usize = 16 << 20;
    /// About what an event takes besides its line, so that empty lines count too.
    const OF_EVENT: usize = 256;

    /// True for an event that may wait; false for a line of output that is left out.
    fn takes(&self, kind: &EventKind) -> bool {
        let EventKind::NodeOutput { line, .. } = kind else { return true };
        let bytes = line.len() + Self::OF_EVENT;
        let fits = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes <= Self::LIMIT;
        if !fits {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
        fits
    }

    fn took(&self, kind: &EventKind) {
        if let EventKind::NodeOutput { line, .. } = kind {
            self.bytes.fetch_sub(line.len() + Self::OF_EVENT, Ordering::Relaxed);
        }
    }

    /// How many lines were left out, once most of what waited is written or nothing more comes.
    fn left_out(&self, over: bool) -> Option<String> {
        if !over && self.bytes.load(Ordering::Relaxed) > Self::LIMIT / 2 {
            return None;
        }
        let lines = self.left_out.swap(0, Ordering::Relaxed);
        (lines > 0).then(|| {
            let lines = count(lines);
            format!("{lines} lines of output of programs were left out: they came faster than they could be written")
        })
    }
}

/// Consumes the events of a run.
pub trait EventSink {
    /// Called for each event, in order.
    fn event(&mut self, event: &Event);
    /// Called with the current counters, ten times a second during a run.
    fn tick(&mut self, _usage: UsageSnapshot, _rows: RowTally) {}
}

impl Events {
    /// Creates an event stream: its sender and its receiver.
    pub fn new(run: &str) -> (Self, EventReceiver) {
        let (sender, receiver) = channel();
        let backlog = Arc::<Backlog>::default();
        let events = Self {
            run: run.into(),
            begin: Instant::now(),
            sender,
            backlog: backlog.clone(),
            mask: SecretMask::default(),
            rows: Arc::default(),
        };
        (events, EventReceiver { receiver, backlog })
    }

    /// The same stream, with the secrets of `mask` removed from its messages.
    #[must_use]
    pub fn masking(self, mask: SecretMask) -> Self {
        Self { mask, ..self }
    }

    /// Emits an event. Output of programs is left out while too much of it waits, and the number of lines is told.
    pub fn send(&self, mut kind: EventKind) {
        for text in kind.texts() {
            if let Cow::Owned(masked) = self.mask.mask(text) {
                *text = masked;
            }
        }
        // After secrets are masked: the receiver sees this length.
        if !self.backlog.takes(&kind) {
            return;
        }
        let event = Event { run: self.run.to_string(), elapsed: self.begin.elapsed(), kind };
        // The receiver is dropped only when the process exits.
        let _ = self.sender.send(event);
    }

    /// Publishes the current row counters to displays.
    pub(super) fn rows(&self, rows: RowTally) {
        *self.rows.lock().unwrap_or_else(PoisonError::into_inner) = rows;
    }

    /// The time since the start of the run in seconds, rounded to milliseconds.
    pub(super) fn seconds(&self) -> f64 {
        (self.begin.elapsed().as_secs_f64() * 1000.0).round() / 1000.0
    }

    /// The row counters, for the thread that runs the event loop.
    pub fn row_counter(&self) -> Arc<Mutex<RowTally>> {
        self.rows.clone()
    }
}

/// Receives events until the last one of the run, or until the last sender is dropped. Each event goes to the ledger
/// first, then to the sink. Blocks; call it on a dedicated thread.
///
/// The ledger is created with the first event, so that a run that never starts leaves none. If it cannot be written, one
/// warning is emitted and the run continues: no result depends on the ledger.
pub fn run_event_loop(
    receiver: &EventReceiver,
    (folder, prune): (&Path, bool),
    usage: &Usage,
    rows: &Mutex<RowTally>,
    sink: &mut dyn EventSink,
) {
    let mut ledger = None;
    let mut first = true;
    loop {
        match receiver.receiver.recv_timeout(TICK) {
            Ok(event) => {
                receiver.backlog.took(&event.kind);
                let over = matches!(event.kind, EventKind::RunFinished { .. });
                let warning = |message: String| Event { kind: EventKind::Warning { message }, ..event.clone() };
                if let Some(told) = receiver.backlog.left_out(over).map(warning) {
                    let _ = ledger.as_mut().map(|open: &mut Ledger| open.append(&told));
                    sink.event(&told);
                }
                let mut failure = None;
                if std::mem::take(&mut first) {
                    match Ledger::create(folder, &event.run, prune) {
                        Ok(open) => ledger = Some(open),
                        Err(error) => failure = Some(format!("{}: {error}", folder.display())),
                    }
                }
                let recorded = !matches!(event.kind, EventKind::TableProgress { .. });
                if recorded
                    && let Some(open) = &mut ledger
                    && let Err(error) = open.append(&event)
                {
                    ledger = None;
                    failure = Some(error.to_string());
                }
                if let Some(error) = failure {
                    sink.event(&warning(format!("cannot write the ledger of this run: {error}")));
                }
                sink.event(&event);
                if over {
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
        let shown: Vec<String> = receiver.receiver.iter().map(|event| event.to_json().to_string()).collect();
        assert_eq!(shown.len(), 2);
        for line in shown {
            assert!(line.contains("the server refused ***") && !line.contains("canary"), "{line}");
        }
    }

    #[test]
    fn output_that_comes_faster_than_it_is_written_is_counted_and_not_kept() {
        #[derive(Default)]
        struct Shown(Vec<String>);
        impl EventSink for Shown {
            fn event(&mut self, event: &Event) {
                match &event.kind {
                    EventKind::NodeOutput { line, .. } => self.0.push(line.clone()),
                    EventKind::Warning { message } => self.0.push(message.clone()),
                    _ => {}
                }
            }
        }
        let (events, receiver) = Events::new("r1");
        let line = "x".repeat(Backlog::LIMIT / 8 - Backlog::OF_EVENT);
        for _ in 0..11 {
            events.send(EventKind::NodeOutput { node: "work".to_owned(), line: line.clone() });
        }
        events.send(EventKind::RunFinished { summary: RunSummary::default() });
        let (folder, mut shown) = (tempfile::tempdir().expect("a folder"), Shown::default());
        run_event_loop(&receiver, (folder.path(), false), &Usage::default(), &Mutex::default(), &mut shown);
        assert_eq!(shown.0.iter().filter(|text| **text == line).count(), 8);
        let told = "3 lines of output of programs were left out: they came faster than they could be written";
        assert_eq!(shown.0.iter().filter(|text| *text == told).count(), 1);
    }
}
