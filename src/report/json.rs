//! JSON lines: one event a line, for programs.

use std::io::Write;

use crate::run::{Audience, event::Event};

/// Writes every event the moment it comes.
pub struct JsonLines {
    /// `None` once the reader has gone away.
    out: Option<Box<dyn Write + Send>>,
}

impl JsonLines {
    /// Writes to `out`, flushed after each line.
    pub fn new(out: Box<dyn Write + Send>) -> Self {
        Self { out: Some(out) }
    }
}

impl Audience for JsonLines {
    fn event(&mut self, event: &Event) {
        let Some(out) = &mut self.out else { return };
        let mut line = event.to_json().to_string();
        line.push('\n');
        // A reader that has gone away (`| head`) must not end a run that saves paid work.
        if out.write_all(line.as_bytes()).and_then(|()| out.flush()).is_err() {
            self.out = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::{
        super::testing::{Paper, event},
        *,
    };
    use crate::run::event::{EventKind, RunSummary};

    #[test]
    fn each_event_is_one_line_and_the_last_is_the_summary() {
        let paper = Paper::default();
        let mut lines = JsonLines::new(paper.writer());
        lines.event(&event(0.0, EventKind::RunStarted { pipeline: None, env: None, nodes: 2 }));
        lines.event(&event(1.5, EventKind::Warning { message: "a\nb".to_owned() }));
        lines.event(&event(2.0, EventKind::RunFinished { summary: RunSummary::default() }));
        let text = paper.text();
        let parsed: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("a line is an object")).collect();
        let kinds: Vec<_> = parsed.iter().map(|line| line["kind"].as_str().expect("a text")).collect();
        assert_eq!(kinds, ["run.started", "warning", "run.finished"]);
        assert!(parsed.iter().all(|line| line["v"] == 1 && line["run"] == "r1"));
        assert_eq!(parsed[2]["status"], "ok");
    }

    #[test]
    fn a_reader_that_has_gone_away_is_left_alone() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut lines = JsonLines::new(Box::new(Closed));
        lines.event(&event(0.0, EventKind::Warning { message: String::new() }));
        assert!(lines.out.is_none());
    }
}
