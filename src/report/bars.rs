//! Progress as bars on a terminal: one a running node, and a line below on the whole run.
//!
//! Nothing is drawn in the first half second, so that a short run leaves no flicker.

use std::{
    io::Write,
    time::{Duration, Instant},
};

use indexmap::IndexMap;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{
    Event, EventKind, EventSink, RowTally, UsageSnapshot,
    format::{count, plural},
    lines::describe,
    track::Track,
};
use crate::run::Causes;

/// Before this, nothing is drawn.
const PATIENCE: Duration = Duration::from_millis(500);
/// So many nodes get a bar.
const MANY: usize = 8;
/// Longer names are clipped.
const NAME: usize = 36;

/// Bars, redrawn in place. Failures and warnings are written above them and stay.
pub struct Bars {
    out: Box<dyn Write + Send>,
    color: bool,
    multi: MultiProgress,
    /// Makes the place to draw on, once it is time to.
    target: Option<Box<dyn FnOnce() -> ProgressDrawTarget + Send>>,
    bars: IndexMap<String, ProgressBar>,
    footer: Option<ProgressBar>,
    track: Track,
    failures: Causes,
    clock: Clock,
}

/// Time since the start of the run: told by events, and measured between them.
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
    /// Draws on the target that `target` makes; lines that stay go to `out`, which must be the same terminal.
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
        if now < PATIENCE {
            return;
        }
        if let Some(target) = self.target.take() {
            self.multi.set_draw_target(target());
        }
        let running = &self.track.running;
        let gone: Vec<String> = self.bars.keys().filter(|name| !running.contains_key(*name)).cloned().collect();
        for name in gone {
            if let Some(bar) = self.bars.shift_remove(&name) {
                bar.finish_and_clear();
                self.multi.remove(&bar);
            }
        }
        let width = running.keys().take(MANY).map(|name| name.chars().count().min(NAME)).max().unwrap_or_default();
        for (name, running) in running.iter().take(MANY) {
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

    fn say(&mut self, text: &str) {
        // A terminal that is gone must not end a run that saves paid work. (`suspend` would panic on one.) The bars are
        // drawn anew with the next tick.
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
            | EventKind::Interrupted { .. }
            | EventKind::Warning { .. } => {
                if let Some(text) = describe(event, &mut self.failures, self.color) {
                    self.say(&text);
                }
            }
            EventKind::RunFinished { .. } => {
                self.bars.clear();
                self.footer = None;
                // What cannot be cleared stays; the summary follows in any case.
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
    ProgressStyle::with_template(text).expect("our own templates are well formed")
}

fn footer_text(track: &Track) -> String {
    let mut parts = vec![format!("{} of {}", count(track.ended as u64), plural(track.nodes as u64, "node"))];
    if track.running.len() > MANY {
        parts.push(format!("{} more running", count((track.running.len() - MANY) as u64)));
    }
    let spending = track.spending();
    if !spending.is_empty() {
        parts.push(spending);
    }
    parts.join(" · ")
}

/// Long names keep their ends, which tell them apart.
fn clip(name: &str) -> String {
    let length = name.chars().count();
    if length <= NAME {
        return name.to_owned();
    }
    let tail: String = name.chars().skip(length - NAME + 1).collect();
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
        super::testing::{TestWriter, event, node_finished, node_started, partition_failed, partition_finished},
        *,
    };
    use crate::run::event::RunSummary;

    /// A terminal that remembers every line it was given.
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

    /// A terminal whose other end was closed.
    #[derive(Debug)]
    struct Gone;

    fn gone<T>() -> io::Result<T> {
        Err(io::Error::other("Input/output error"))
    }

    impl TermLike for Gone {
        fn width(&self) -> u16 {
            120
        }
        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            gone()
        }
        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            gone()
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            gone()
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            gone()
        }
        fn write_line(&self, _: &str) -> io::Result<()> {
            gone()
        }
        fn write_str(&self, _: &str) -> io::Result<()> {
            gone()
        }
        fn clear_line(&self) -> io::Result<()> {
            gone()
        }
        fn flush(&self) -> io::Result<()> {
            gone()
        }
    }

    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            gone()
        }
        fn flush(&mut self) -> io::Result<()> {
            gone()
        }
    }

    #[test]
    fn a_terminal_that_was_closed_ends_nothing() {
        let mut bars = Bars::new(Box::new(Gone), || ProgressDrawTarget::term_like(Box::new(Gone)), false);
        bars.event(&event(0.0, EventKind::RunStarted { pipeline: None, env: None, nodes: 2 }));
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
        bars.event(&event(0.0, EventKind::RunStarted { pipeline: None, env: None, nodes: 2 }));
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
        assert_eq!(output.text(), "", "no line stays for what goes well");
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
        bars.event(&event(0.0, EventKind::RunStarted { pipeline: None, env: None, nodes: 20 }));
        for i in 0..11 {
            bars.event(&event(0.0, node_started(&format!("n{i}"), None, 0)));
        }
        bars.draw(Duration::from_secs(1));
        assert_eq!(bars.bars.len(), MANY);
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
    fn long_names_keep_their_ends() {
        assert_eq!(clip("short"), "short");
        let clipped = clip(&format!("{}tail", "x".repeat(60)));
        assert_eq!((clipped.chars().count(), clipped.ends_with("tail")), (NAME, true));
    }
}
