//! What a person or a program sees of a run.
//!
//! Owns the displays: bars, lines, JSON lines and the summary at the end. Each reads events and nothing else; none of
//! them can slow or change a run. Must not know the graph, the catalog or how work is done.

mod bars;
mod format;
mod json;
mod lines;
mod summary;
#[cfg(test)]
mod testing;
mod track;

use std::{
    io::{self, Write},
    sync::{Arc, Mutex, PoisonError},
};

use indicatif::ProgressDrawTarget;

pub use bars::Bars;
pub use format::{count, duration, money, plural};
pub use json::JsonLines;
pub use lines::Lines;
pub use summary::Summary;

use crate::{
    embed::RowTally,
    model::UsageSnapshot,
    run::{
        EventSink,
        event::{Event, EventKind},
    },
};

/// Draws at most so many times a second.
const HERTZ: u8 = 10;

/// `--progress` as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProgressFlag {
    /// What fits the place: bars on a terminal, lines elsewhere.
    Auto,
    /// Bars, as far as there is a terminal to draw them on.
    Bar,
    /// Lines.
    Lines,
    /// Nothing until the end.
    None,
}

/// How a run is shown on stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Display {
    /// Bars that are drawn anew, then the summary.
    Bars,
    /// Lines that stay, then the summary.
    Lines,
    /// The summary only.
    Summary,
    /// Only what went wrong.
    Quiet,
}

/// Decides how a run is shown.
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

/// Everybody who watches a run of the binary: JSON lines on stdout if asked for, a display and a summary on stderr.
/// `command` is what was typed, for "how to go on".
pub fn event_sink(display: Display, json: bool, color: bool, command: &str) -> Box<dyn EventSink + Send> {
    let stderr = || -> Box<dyn Write + Send> { Box::new(io::stderr()) };
    let mut all: Vec<Box<dyn EventSink + Send>> = Vec::new();
    if json {
        all.push(Box::new(JsonLines::new(Box::new(io::stdout()), stderr())));
    }
    match display {
        Display::Bars => {
            let target = || ProgressDrawTarget::stderr_with_hz(HERTZ);
            all.push(Box::new(Bars::new(stderr(), target, color)));
        }
        Display::Lines => all.push(Box::new(Lines::new(stderr(), color))),
        Display::Summary | Display::Quiet => {}
    }
    all.push(Box::new(Summary::new(stderr(), display, color, command)));
    Box::new(EventSinks(all))
}

/// A run as a report to people: when what happened, and how it ended.
pub fn story(events: &[Event]) -> String {
    let text = SharedText::default();
    let mut readers: [Box<dyn EventSink>; 2] = [
        Box::new(Lines::new(Box::new(text.clone()), false)),
        Box::new(Summary::new(Box::new(text.clone()), Display::Lines, false, "")),
    ];
    for event in events {
        readers.iter_mut().for_each(|reader| reader.event(event));
    }
    text.read()
}

/// Text that is written by several and read in the end.
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

/// Several displays, told in order.
struct EventSinks(Vec<Box<dyn EventSink + Send>>);

impl EventSink for EventSinks {
    fn event(&mut self, event: &Event) {
        self.0.iter_mut().for_each(|one| one.event(event));
    }

    fn tick(&mut self, usage: UsageSnapshot, rows: RowTally) {
        self.0.iter_mut().for_each(|one| one.tick(usage, rows));
    }
}

/// Paints a text, if colours are wanted.
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
    fn the_display_is_decided_as_the_table_says() {
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
    fn colours_only_when_wanted() {
        assert_eq!(paint("x", RED, false), "x");
        assert_eq!(paint("x", RED, true), "\u{1b}[1m\u{1b}[31mx\u{1b}[0m");
    }
}
