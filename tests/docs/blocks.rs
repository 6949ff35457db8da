//! The blocks of a page: commands with what they print, and files.

/// A command and the lines below it.
pub struct Step {
    pub line: usize,
    pub command: String,
    pub expected: Vec<String>,
}

/// The commands of the `console` blocks of a page: lines after `$ `.
pub fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut inside = false;
    for (at, line) in text.lines().enumerate() {
        if line.starts_with("```") {
            inside = line == "```console";
            continue;
        }
        if !inside {
            continue;
        }
        match line.strip_prefix("$ ") {
            Some(command) => steps.push(Step { line: at + 1, command: command.to_owned(), expected: Vec::new() }),
            None => {
                if let Some(step) = steps.last_mut() {
                    step.expected.push(line.to_owned());
                }
            }
        }
    }
    steps
}

/// `…` in a line is any text.
fn fits(pattern: &str, line: &str) -> bool {
    let mut parts = pattern.split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    let parts: Vec<_> = parts.collect();
    for (at, part) in parts.iter().enumerate() {
        if at == parts.len() - 1 {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(found) => rest = &rest[found + part.len()..],
            None => return false,
        }
    }
    rest.is_empty()
}

/// A line of only `…` is any lines.
pub fn all_fit(patterns: &[String], lines: &[&str]) -> bool {
    match patterns.split_first() {
        None => lines.is_empty(),
        Some((any, rest)) if any.trim() == "…" => (0..=lines.len()).any(|skip| all_fit(rest, &lines[skip..])),
        Some((pattern, rest)) => {
            lines.split_first().is_some_and(|(line, more)| fits(pattern, line) && all_fit(rest, more))
        }
    }
}

#[test]
fn patterns_match_as_said() {
    assert!(fits("done in …s", "done in 0.3s") && !fits("done in …s", "done in 0.3"));
    assert!(fits("a…b…c", "a1b2c") && !fits("a…b…c", "a1c2b"));
    let patterns = ["x", "…", "y"].map(str::to_owned);
    assert!(
        all_fit(&patterns, &["x", "1", "2", "y"])
            && all_fit(&patterns, &["x", "y"])
            && !all_fit(&patterns, &["x", "1"])
    );
}
