//! Ledgers with bytes that nobody expects: what is not damaged is shown, and nothing steers a terminal.

use std::fs;

use super::*;
use crate::model::{fuzz::fuzz, visible};

const ID: &str = "20260102-030405678-00ff";
const WORDS: &[&str] = &[
    "\u{1b}[2J",
    "\\u001b",
    "{",
    "}",
    "\"",
    ",",
    "null",
    "\"kind\":",
    "\"seconds\":",
    "\"rows\":",
    "1e300",
    "-1e300",
    "-5",
    "[]",
];

#[test]
fn what_is_damaged_in_a_ledger_hides_nothing_else() {
    let dir = tempfile::tempdir().expect("a folder");
    let sound = include_str!("../../../tests/fuzz/ledger.jsonl");
    let lines: Vec<&str> = sound.lines().collect();
    let path = dir.path().join(format!("{ID}.jsonl"));
    fuzz("ledgers", 2400, |random| {
        let damaged = random.below(lines.len());
        let other = random.mutated(&[lines[damaged].as_bytes()], WORDS);
        let other: Vec<u8> = other.into_iter().filter(|byte| *byte != b'\n').collect();
        let mut bytes = Vec::new();
        for (number, line) in lines.iter().enumerate() {
            bytes.extend_from_slice(if number == damaged { &other } else { line.as_bytes() });
            bytes.push(b'\n');
        }
        fs::write(&path, &bytes).expect("writes");
        let events = ledger::read(dir.path(), ID).expect("a readable file");
        for (number, line) in lines.iter().enumerate() {
            let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
            assert!(number == damaged || events.contains(&line), "line {number} is lost");
        }
        let events: Vec<Event> = events.iter().filter_map(Event::from_json).collect();
        let run = Run::read(dir.path(), ID).expect("a readable file");
        let shown = [line(&run), title(&run), report::render(&events)].map(|text| visible(&text).into_owned()).concat();
        assert!(!shown.chars().any(|c| c.is_control() && c != '\n' && c != '\t'), "{shown:?}");
        assert!(shown.len() < 64 << 10, "{} bytes", shown.len());
    });
}
