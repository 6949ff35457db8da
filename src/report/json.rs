//! JSON lines: one event per line, for programs.

use std::io::{self, Write};

use crate::{
    model::visible_json_text,
    run::{EventSink, event::Event},
};

/// Writes every event immediately.
pub struct JsonLines {
    /// `None` after a write has failed.
    out: Option<Box<dyn Write + Send>>,
    /// Receives a warning if a write fails.
    messages: Box<dyn Write + Send>,
}

impl JsonLines {
    /// Writes to `out`, flushed after each line; a warning about a failed write goes to `messages`.
    pub fn new(out: Box<dyn Write + Send>, messages: Box<dyn Write + Send>) -> Self {
        Self { out: Some(out), messages }
    }
}

impl EventSink for JsonLines {
    fn event(&mut self, event: &Event) {
        let Some(out) = &mut self.out else { return };
        let mut line = visible_json_text(&event.to_json().to_string()).into_owned();
        line.push('\n');
        // A closed pipe (`| head`) must not end a run that saves paid results.
        if let Err(error) = out.write_all(line.as_bytes()).and_then(|()| out.flush()) {
            self.out = None;
            if error.kind() != io::ErrorKind::BrokenPipe {
                let _ = writeln!(
                    self.messages,
                    "warning: cannot write events to stdout: {error}; the run continues without them"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::testing::{TestWriter, event, run_started},
        *,
    };
    use crate::run::event::{EventKind, RunSummary};

    #[test]
    fn each_event_is_one_line_and_the_last_is_the_summary() {
        let output = TestWriter::default();
        let mut lines = JsonLines::new(output.writer(), TestWriter::default().writer());
        lines.event(&event(0.0, run_started(2)));
        lines.event(&event(1.5, EventKind::Warning { message: "a\nb".to_owned() }));
        lines.event(&event(2.0, EventKind::RunFinished { summary: RunSummary::default() }));
        let text = output.text();
        let parsed: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("valid JSON")).collect();
        let kinds: Vec<_> = parsed.iter().map(|line| line["kind"].as_str().expect("a string")).collect();
        assert_eq!(kinds, ["run.started", "warning", "run.finished"]);
        assert!(parsed.iter().all(|line| line["v"] == 1 && line["run"] == "r1"));
        assert_eq!(parsed[2]["status"], "ok");
    }

    #[test]
    fn a_closed_pipe_is_ignored_and_a_full_disk_is_reported_once() {
        struct Broken(io::ErrorKind);
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(self.0.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        for (kind, warnings) in [(io::ErrorKind::BrokenPipe, 0), (io::ErrorKind::StorageFull, 1)] {
            let messages = TestWriter::default();
            let mut lines = JsonLines::new(Box::new(Broken(kind)), messages.writer());
            for _ in 0..3 {
                lines.event(&event(0.0, EventKind::Warning { message: String::new() }));
            }
            assert_eq!(messages.text().lines().count(), warnings, "{kind}");
        }
    }
}
