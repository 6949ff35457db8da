//! Reporters of a run: progress bars, progress lines, JSON lines, and the summary at the end.
//!
//! A reporter reads only events, and cannot slow down or change a run. Must not know the graph, the catalog or how nodes
//! are executed.

mod bars;
mod format;
mod json;
mod lines;
mod page;
mod page_group;
mod page_partitions;
mod page_reading;
mod past_runs;
mod summary;
#[cfg(test)]
mod testing;
mod track;
mod visible;

use std::{
    io::{self, Write},
    sync::{Arc, Mutex, PoisonError},
};

use indicatif::ProgressDrawTarget;

pub use bars::Bars;
pub use format::{duration, from_seconds, plural};
pub use json::JsonLines;
pub use lines::Lines;
pub use page::{baseline, document};
pub use past_runs::{PastRun, PastRuns};
pub use summary::Summary;
use visible::VisibleEvents;

use crate::{
    model::{RowTally, UsageSnapshot},
    run::{
        EventSink,
        event::{Event, EventKind},
    },
};

/// The maximum redraw rate of bars, per second.
const HERTZ: u8 = 10;

/// The value of `--progress`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProgressFlag {
    /// Bars on a terminal outside CI, lines otherwise.
    Auto,
    /// Bars on a terminal, lines otherwise.
    Bar,
    /// Lines.
    Lines,
    /// No progress, only the summary.
    None,
}

/// How a run is reported on stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Display {
    /// Progress bars that are redrawn in place, then the summary.
    Bars,
    /// Progress lines, then the summary.
    Lines,
    /// The summary only.
    Summary,
    /// The summary, only after failures or row errors.
    Quiet,
}

/// Decides how a run is reported on stderr.
///
/// | `--quiet` | `--progress` | terminal | CI  | display   |
/// |-----------|--------------|----------|-----|-----------|
/// | yes       | any          | any      | any | `Quiet`   |
/// | no        | `none`       | any      | any | `Summary` |
/// | no        | `lines`      | any      | any | `Lines`   |
/// | no        | `bar`        | yes      | any | `Bars`    |
/// | no        | `bar`        | no       | any | `Lines`   |
/// | no        | `auto`       | yes      | no  | `Bars`    |
/// | no        | `auto`       | yes      | yes | `Lines`   |
/// | no        | `auto`       | no       | any | `Lines`   |
pub fn resolve(flag: ProgressFlag, is_terminal: bool, is_ci: bool, quiet: bool) -> Display {
    match flag {
        _ if quiet => Display::Quiet,
        ProgressFlag::None => Display::Summary,
        ProgressFlag::Bar if is_terminal => Display::Bars,
        ProgressFlag::Auto if is_terminal && !is_ci => Display::Bars,
        ProgressFlag::Bar | ProgressFlag::Auto | ProgressFlag::Lines => Display::Lines,
    }
}

/// The event sink of the binary: JSON lines on stdout if `json` is set, progress and the summary on stderr. `command` is
/// the command line, shown as the command to resume with. `others` get the events too.
pub fn event_sink(
    display: Display,
    json: bool,
    color: bool,
    command: &str,
    others: Vec<Box<dyn EventSink + Send>>,
) -> Box<dyn EventSink + Send> {
    let stderr = || -> Box<dyn Write + Send> { Box::new(io::stderr()) };
    let mut all: Vec<Box<dyn EventSink + Send>> = Vec::new();
    if json {
        all.push(Box::new(JsonLines::new(Box::new(io::stdout()), stderr())));
    }
    match display {
        Display::Bars => {
            let target = || ProgressDrawTarget::stderr_with_hz(HERTZ);
            all.push(Box::new(VisibleEvents(Bars::new(stderr(), target, color))));
        }
        Display::Lines => all.push(Box::new(VisibleEvents(Lines::new(stderr(), color)))),
        Display::Summary | Display::Quiet => {}
    }
    let command = crate::model::visible_line(command);
    all.push(Box::new(VisibleEvents(Summary::new(stderr(), display, color, &command))));
    all.extend(others);
    Box::new(EventSinks(all))
}

/// Renders the events of a run as progress lines and a summary.
pub fn render(events: &[Event]) -> String {
    let text = SharedText::default();
    let mut sinks: [Box<dyn EventSink>; 2] = [
        Box::new(VisibleEvents(Lines::new(Box::new(text.clone()), false))),
        Box::new(VisibleEvents(Summary::new(Box::new(text.clone()), Display::Lines, false, ""))),
    ];
    for event in events {
        sinks.iter_mut().for_each(|sink| sink.event(event));
    }
    text.read()
}

/// A buffer that several writers share.
#[derive(Debug, Clone, Default)]
struct SharedText(Arc<Mutex<Vec<u8>>>);

impl SharedText {
    fn read(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

impl Write for SharedText {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Forwards each event to several sinks, in order.
struct EventSinks(Vec<Box<dyn EventSink + Send>>);

impl EventSink for EventSinks {
    fn event(&mut self, event: &Event) {
        self.0.iter_mut().for_each(|sink| sink.event(event));
    }

    fn tick(&mut self, usage: UsageSnapshot, rows: RowTally) {
        self.0.iter_mut().for_each(|sink| sink.tick(usage, rows));
    }
}

/// Styles a string if `color` is set.
fn paint(text: &str, style: anstyle::Style, color: bool) -> String {
    if color { format!("{}{text}{}", style.render(), style.render_reset()) } else { text.to_owned() }
}

const RED: anstyle::Style = anstyle::AnsiColor::Red.on_default().bold();
const YELLOW: anstyle::Style = anstyle::AnsiColor::Yellow.on_default().bold();
const GREEN: anstyle::Style = anstyle::AnsiColor::Green.on_default().bold();
const BOLD: anstyle::Style = anstyle::Style::new().bold();
const DIM: anstyle::Style = anstyle::Style::new().dimmed();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_display_is_resolved_as_documented() {
        use ProgressFlag::{Auto, Bar, Lines, None};
        for (quiet, flag, terminal, ci, wanted) in [
            (true, Bar, true, false, Display::Quiet),
            (true, None, false, true, Display::Quiet),
            (false, None, true, false, Display::Summary),
            (false, Lines, true, false, Display::Lines),
            (false, Bar, true, true, Display::Bars),
            (false, Bar, false, false, Display::Lines),
            (false, Auto, true, false, Display::Bars),
            (false, Auto, true, true, Display::Lines),
            (false, Auto, false, false, Display::Lines),
        ] {
            assert_eq!(resolve(flag, terminal, ci, quiet), wanted, "{flag:?} {terminal} {ci} {quiet}");
        }
    }

    #[test]
    fn strings_are_styled_only_if_color_is_set() {
        assert_eq!(paint("x", RED, false), "x");
        assert_eq!(paint("x", RED, true), "\u{1b}[1m\u{1b}[31mx\u{1b}[0m");
    }
}
