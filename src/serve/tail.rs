//! Reading a ledger while it grows: whole lines in parts of bounded size, each with the place after it.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
};

use serde::de::IgnoredAny;

/// A part ends with the line that reaches this.
const PART: usize = 64 << 10;
/// A line that is longer is left out.
const LONGEST: usize = 4 << 20;

/// A ledger that is read from a place on.
#[derive(Debug)]
pub(super) struct Tail {
    file: File,
    /// Where the next part begins: after a line.
    place: u64,
}

/// Some lines of a ledger.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// A JSON array of the events.
    pub(super) events: String,
    /// The place after them.
    pub(super) place: u64,
}

impl Tail {
    /// Reads from `place` on, which is one that a [`Part`] had, or 0.
    pub(super) fn new(file: File, place: u64) -> Self {
        Self { file, place }
    }

    /// The next lines that are complete; `None` when there are none for now.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub(super) fn next(&mut self) -> io::Result<Option<Part>> {
        self.file.seek(SeekFrom::Start(self.place))?;
        let mut bytes = Vec::with_capacity(PART);
        (&self.file).take(PART as u64).read_to_end(&mut bytes)?;
        let mut end = bytes.iter().rposition(|byte| *byte == b'\n');
        while end.is_none() && bytes.len() >= PART {
            let before = bytes.len();
            let more = (&self.file).take(PART as u64).read_to_end(&mut bytes)?;
            end = bytes[before..].iter().position(|byte| *byte == b'\n').map(|at| before + at);
            if more == 0 {
                break;
            }
            if bytes.len() > LONGEST {
                // It is no event. A rest is a line of its own, which is not JSON.
                self.place += end.map_or(bytes.len(), |end| end + 1) as u64;
                return Ok(Some(Part { events: "[]".to_owned(), place: self.place }));
            }
        }
        let Some(end) = end else { return Ok(None) };
        self.place += end as u64 + 1;
        let mut events = String::with_capacity(end + 2);
        for line in bytes[..end].split(|byte| *byte == b'\n') {
            // Lines that are damaged are left out.
            if let (Ok(IgnoredAny), Ok(line)) = (serde_json::from_slice(line), std::str::from_utf8(line)) {
                events.push(if events.is_empty() { '[' } else { ',' });
                events.push_str(line.trim());
            }
        }
        if events.is_empty() {
            events.push('[');
        }
        events.push(']');
        Ok(Some(Part { events, place: self.place }))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn tail(folder: &tempfile::TempDir) -> (File, Tail) {
        let path = folder.path().join("ledger");
        let writer = File::create(&path).expect("created");
        (writer, Tail::new(File::open(&path).expect("opened"), 0))
    }

    #[test]
    fn lines_come_when_they_are_complete_and_damaged_ones_never() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut writer, mut tail) = tail(&folder);
        let mut write = |text: &str| writer.write_all(text.as_bytes()).expect("written");
        assert_eq!(tail.next().expect("readable"), None);
        write("{\"a\":1}\n{\"b\":");
        let part = tail.next().expect("readable").expect("a line");
        assert_eq!((part.events.as_str(), part.place), ("[{\"a\":1}]", 8));
        assert_eq!(tail.next().expect("readable"), None);
        write("2}\n{broken\n{\"c\":3}\n");
        let part = tail.next().expect("readable").expect("lines");
        assert_eq!(part.events, "[{\"b\":2},{\"c\":3}]");
        write("nonsense\n");
        assert_eq!(tail.next().expect("readable").expect("a line").events, "[]");
        let file = File::open(folder.path().join("ledger")).expect("opened");
        assert_eq!(Tail::new(file, 8).next().expect("readable").expect("lines").events, "[{\"b\":2},{\"c\":3}]");
    }

    #[test]
    fn parts_are_bounded_and_hold_every_line_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut writer, mut tail) = tail(&folder);
        let long = "x".repeat(PART * 2 + 5);
        let mut expected = Vec::new();
        for i in 0..5_000 {
            let line = format!("{{\"i\":{i},\"text\":\"{}\"}}", if i == 70 { long.as_str() } else { "y" });
            writeln!(writer, "{line}").expect("written");
            expected.push(i);
        }
        writeln!(writer, "\"{}\"", "z".repeat(LONGEST + 10)).expect("written");
        writeln!(writer, "{{\"i\":5000}}").expect("written");
        expected.push(5000);
        let mut found = Vec::new();
        while let Some(part) = tail.next().expect("readable") {
            assert!(part.events.len() < 4 * PART, "{} bytes", part.events.len());
            let events: Vec<serde_json::Value> = serde_json::from_str(&part.events).expect("JSON");
            found.extend(events.iter().map(|event| event["i"].as_u64().expect("a number")));
        }
        assert_eq!(found, expected);
    }
}
