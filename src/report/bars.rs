//! Progress bars on a terminal: one per running node, and a footer with the totals of the run.
//!
//! Nothing is drawn in the first half second, so that a short run does not flicker.

use std::{
    io::Write,
    time::{Duration, Instant},
};

use indexmap::IndexMap;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{Event, EventKind, EventSink, RowTally, UsageSnapshot, format::plural, lines::describe, track::Track};
use crate::{model::count, run::Causes};

/// The time after the start of the run before bars are drawn.
const DRAW_DELAY: Duration = Duration::from_millis(500);
/// The maximum number of bars.
const MAX_BARS: usize = 8;
/// The maximum displayed length of a node's name, in characters.
const MAX_NAME: usize = 36;

/// Progress bars that are redrawn in place. Failures and warnings are printed above them permanently.
pub struct Bars {
    out: Box<dyn Write + Send>,
    color: bool,
    multi: MultiProgress,
    /// Creates the draw target; taken when the bars are first drawn.
    target: Option<Box<dyn FnOnce() -> ProgressDrawTarget + Send>>,
    bars: IndexMap<String, ProgressBar>,
    footer: Option<ProgressBar>,
    track: Track,
    failures: Causes,
    clock: Clock,
}

/// The time since the start of the run: taken from events, and measured between them.
struct Clock {
    last: Duration,
    seen: Instant,
}

impl Clock {
    fn now(&self) -> Duration {
        self.last + self.seen.elapsed()
    }
}

impl Bars {
    /// Draws on the target that `target` creates; permanent lines are written to `out`, which must be the same terminal.
    pub fn new(
        out: Box<dyn Write + Send>,
        target: impl FnOnce() -> ProgressDrawTarget + Send + 'static,
        color: bool,
    ) -> Self {
        Self {
            out,
            color,
            multi: MultiProgress::with_draw_target(ProgressDrawTarget::hidden()),
            target: Some(Box::new(target)),
            bars: IndexMap::new(),
            footer: None,
            track: Track::default(),
            failures: Causes::default(),
            clock: Clock { last: Duration::ZERO, seen: Instant::now() },
        }
    }

    fn draw(&mut self, now: Duration) {
        if now < DRAW_DELAY {
            return;
        }
        if let Some(target) = self.target.take() {
            self.multi.set_draw_target(target());
        }
        let running = &self.track.running;
        let ended: Vec<String> = self.bars.keys().filter(|name| !running.contains_key(*name)).cloned().collect();
        for name in ended {
            if let Some(bar) = self.bars.shift_remove(&name) {
                bar.finish_and_clear();
                self.multi.remove(&bar);
            }
        }
        let width =
            running.keys().take(MAX_BARS).map(|name| name.chars().count().min(MAX_NAME)).max().unwrap_or_default();
        for (name, running) in running.iter().take(MAX_BARS) {
            let bar = match self.bars.get(name) {
                Some(bar) => bar,
                None => {
                    let bar = self.multi.insert(self.bars.len(), ProgressBar::new(0));
                    self.bars.entry(name.clone()).or_insert(bar)
                }
            };
            bar.set_style(style(running.partitions.is_some(), width, self.color));
            bar.set_prefix(clip(name));
            if let Some((done, total)) = running.partitions {
                bar.set_length(total as u64);
                bar.set_position(done as u64);
            }
            bar.set_message(running.message(now));
        }
        let footer = self.footer.get_or_insert_with(|| {
            let bar = self.multi.add(ProgressBar::new_spinner());
            bar.set_style(template("{msg}"));
            bar
        });
        footer.set_message(footer_text(&self.track));
    }

    fn print(&mut self, text: &str) {
        // A closed terminal must not end a run that saves paid results. (`suspend` would panic.) The next tick redraws the
        // bars.
        let _ = self.multi.clear();
        let _ = writeln!(self.out, "{text}").and_then(|()| self.out.flush());
    }
}

impl EventSink for Bars {
    fn event(&mut self, event: &Event) {
        self.clock = Clock { last: event.elapsed, seen: Instant::now() };
        self.track.event(event);
        match &event.kind {
            EventKind::PartitionFailed { .. }
            | EventKind::NodeFailed { .. }
            | EventKind::NodeFinished { .. }
            | EventKind::NodeOutput { .. }
            | EventKind::Interrupted { .. }
            | EventKind::EndpointWaiting { .. }
            | EventKind::EndpointResponding { .. }
            | EventKind::Warning { .. } => {
                if let Some(text) = describe(event, &mut self.failures, self.color) {
                    self.print(&text);
                }
            }
            EventKind::RunFinished { .. } => {
                self.bars.clear();
                self.footer = None;
                // If clearing fails, the bars remain; the summary is printed in any case.
                let _ = self.multi.clear();
                self.multi.set_draw_target(ProgressDrawTarget::hidden());
            }
            _ => {}
        }
    }

    fn tick(&mut self, usage: UsageSnapshot, _rows: RowTally) {
        self.track.usage = usage;
        if !self.track.running.is_empty() {
            self.draw(self.clock.now());
        }
    }
}

fn style(partitions: bool, width: usize, color: bool) -> ProgressStyle {
    let bar = match (partitions, color) {
        (true, true) => "{bar:24.cyan/bright.black}  ",
        (true, false) => "{bar:24}  ",
        (false, _) => "{spinner} ",
    };
    template(&format!("{{prefix:{width}}}  {bar}{{msg}}")).progress_chars("━╸─")
}

fn template(text: &str) -> ProgressStyle {
    ProgressStyle::with_template(text).expect("the templates are valid")
}

fn footer_text(track: &Track) -> String {
    let mut parts = vec![format!("{} of {}", count(track.ended as u64), plural(track.nodes as u64, "node"))];
    if track.running.len() > MAX_BARS {
        parts.push(format!("{} more running", count((track.running.len() - MAX_BARS) as u64)));
    }
    let spending = track.spending();
    if !spending.is_empty() {
        parts.push(spending);
    }
    parts.join(" · ")
}

/// Truncates a long name at its start, since names are more likely to differ at the end.
fn clip(name: &str) -> String {
    let length = name.chars().count();
    if length <= MAX_NAME {
        return name.to_owned();
    }
    let tail: String = name.chars().skip(length - MAX_NAME + 1).collect();
    format!("…{tail}")
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use indicatif::TermLike;

    use super::{
        super::testing::{
            TestWriter, event, node_finished, node_started, partition_failed, partition_finished, run_started,
        },
        *,
    };
    use crate::run::event::RunSummary;

    /// A terminal that records all output.
    #[derive(Debug, Clone, Default)]
    struct TestTerminal(Arc<Mutex<String>>);

    impl TestTerminal {
        fn text(&self) -> String {
            self.0.lock().expect("no test panicked").clone()
        }

        fn push(&self, text: &str) -> io::Result<()> {
            self.0.lock().expect("no test panicked").push_str(text);
            Ok(())
        }
    }

    impl TermLike for TestTerminal {
        fn width(&self) -> u16 {
            120
        }
        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn write_line(&self, text: &str) -> io::Result<()> {
            self.push(text)?;
            self.push("\n")
        }
        fn write_str(&self, text: &str) -> io::Result<()> {
            self.push(text)
        }
        fn clear_line(&self) -> io::Result<()> {
            Ok(())
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    fn bars() -> (Bars, TestTerminal, TestWriter) {
        let (terminal, output) = (TestTerminal::default(), TestWriter::default());
        let drawn = terminal.clone();
        let bars = Bars::new(output.writer(), move || ProgressDrawTarget::term_like(Box::new(drawn)), false);
        (bars, terminal, output)
    }

    /// A terminal that was closed.
    #[derive(Debug)]
    struct Closed;

    fn closed<T>() -> io::Result<T> {
        Err(io::Error::other("Input/output error"))
    }

    impl TermLike for Closed {
        fn width(&self) -> u16 {
            120
        }
        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            closed()
        }
        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            closed()
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            closed()
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            closed()
        }
        fn write_line(&self, _: &str) -> io::Result<()> {
            closed()
        }
        fn write_str(&self, _: &str) -> io::Result<()> {
            closed()
        }
        fn clear_line(&self) -> io::Result<()> {
            closed()
        }
        fn flush(&self) -> io::Result<()> {
            closed()
        }
    }

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            closed()
        }
        fn flush(&mut self) -> io::Result<()> {
            closed()
        }
    }

    #[test]
    fn a_closed_terminal_does_not_end_the_run() {
        let mut bars = Bars::new(Box::new(Closed), || ProgressDrawTarget::term_like(Box::new(Closed)), false);
        bars.event(&event(0.0, run_started(2)));
        for node in ["cut", "embed"] {
            bars.event(&event(0.0, node_started(node, Some(24), 0)));
        }
        bars.draw(Duration::from_secs(1));
        bars.event(&event(1.0, partition_failed("embed", 3, "timed out")));
        bars.event(&event(1.0, node_finished("cut", 0, (0, 0, 0), 1.0)));
        bars.draw(Duration::from_secs(2));
        bars.event(&event(2.0, EventKind::RunFinished { summary: RunSummary::default() }));
    }

    #[test]
    fn nothing_is_drawn_in_the_first_half_second_and_bars_after_it() {
        let (mut bars, terminal, output) = bars();
        bars.event(&event(0.0, run_started(2)));
        bars.event(&event(0.0, node_started("embed", Some(24), 6)));
        bars.draw(Duration::from_millis(499));
        assert_eq!(terminal.text(), "");
        bars.event(&event(2.0, partition_finished("embed", 1, 500, 12, 24)));
        bars.track.usage = UsageSnapshot { requests: 7, ..UsageSnapshot::default() };
        bars.draw(Duration::from_secs(2));
        let text = terminal.text();
        assert!(text.contains("embed  ━━━━━━━━━━━━"), "{text}");
        assert!(text.contains("12 of 24 partitions · 250 rows/s · 4.0 s left"), "{text}");
        assert!(text.contains("0 of 2 nodes · 7 requests"), "{text}");
        assert_eq!(output.text(), "", "no permanent line without a failure");
    }

    #[test]
    fn failures_stay_above_the_bars_even_before_anything_is_drawn() {
        let (mut bars, _, output) = bars();
        bars.event(&event(0.0, node_started("embed", Some(24), 0)));
        bars.event(&event(0.1, partition_failed("embed", 3, "timed out")));
        bars.draw(Duration::from_secs(1));
        bars.event(&event(1.0, node_finished("embed", 2_300, (23, 0, 1), 1.0)));
        assert_eq!(
            output.text(),
            "embed: failed bucket=3: timed out\nembed: done, 2,300 rows, 23 partitions, 1 failed, 1.0 s\n"
        );
    }

    #[test]
    fn at_most_eight_nodes_have_a_bar_and_the_rest_is_counted() {
        let (mut bars, _, _) = bars();
        bars.event(&event(0.0, run_started(20)));
        for i in 0..11 {
            bars.event(&event(0.0, node_started(&format!("n{i}"), None, 0)));
        }
        bars.draw(Duration::from_secs(1));
        assert_eq!(bars.bars.len(), MAX_BARS);
        assert_eq!(footer_text(&bars.track), "0 of 20 nodes · 3 more running");
        for i in 0..5 {
            bars.event(&event(1.0, node_finished(&format!("n{i}"), 0, (0, 0, 0), 1.0)));
        }
        bars.draw(Duration::from_secs(2));
        assert_eq!(bars.bars.keys().collect::<Vec<_>>(), ["n5", "n6", "n7", "n8", "n9", "n10"]);
        bars.event(&event(2.0, EventKind::RunFinished { summary: RunSummary::default() }));
        assert!(bars.bars.is_empty() && bars.multi.is_hidden());
    }

    #[test]
    fn long_names_are_truncated_at_the_start() {
        assert_eq!(clip("short"), "short");
        let clipped = clip(&format!("{}tail", "x".repeat(60)));
        assert_eq!((clipped.chars().count(), clipped.ends_with("tail")), (MAX_NAME, true));
    }
}
