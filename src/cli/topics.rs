//! `flow help <topic>`: pages generated from the tables of the code.

use std::fmt::Write as _;

use super::Exit;
use crate::diagnostic::CODES;

/// The page on a topic.
pub(super) fn text(topic: &str) -> Option<String> {
    let mut out = String::new();
    match topic {
        "exit-codes" => {
            for exit in Exit::ALL {
                writeln!(out, "{:>4}  {}", exit.code(), exit.meaning()).expect("a string takes all");
            }
        }
        "diagnostics" => {
            let width = CODES.iter().map(|code| code.code.len()).max().unwrap_or_default();
            for code in CODES {
                writeln!(out, "{:width$}  {}", code.code, code.explain).expect("a string takes all");
            }
        }
        _ => return None,
    }
    Some(out)
}
