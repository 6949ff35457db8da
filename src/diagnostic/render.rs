//! Diagnostics as text and as JSON. Neither shows a secret of a source line.

use std::{
    collections::{BTreeSet, HashMap},
    ops::Range,
};

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use serde_json::{Value as Json, json};

use super::{
    Diagnostic, Label, Severity, SourceId, Sources,
    mask::{fit_to_show, mask_line, opens_a_secret},
};
use crate::model::{visible, visible_in_place, visible_line};

/// Labels further apart than this many lines get an excerpt of their own.
const MAX_LABEL_DISTANCE: usize = 12;
/// More diagnostics are counted instead of shown.
const MAX_DIAGNOSTICS: usize = 100;
/// Longer lines are not shown; the renderer shortens those that are merely wider than a screen.
const MAX_LINE_LENGTH: usize = 4000;

/// Renders diagnostics one below the other, in the order given, each with its source lines and its help. When there are
/// errors, the last line counts them: `error: 3 problems in 2 files`. With `color` the result contains ANSI escapes.
pub fn render(diagnostics: &[Diagnostic], sources: &Sources, color: bool) -> String {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let mut lines = LineIndex { sources, starts: HashMap::new() };
    let mut out = String::new();
    // Errors come before warnings when not all fit.
    let (errors, warnings): (Vec<_>, Vec<_>) = diagnostics.iter().partition(|d| d.severity == Severity::Error);
    let shown: Vec<_> = match diagnostics.len() {
        ..=MAX_DIAGNOSTICS => diagnostics.iter().collect(),
        _ => errors.into_iter().chain(warnings).take(MAX_DIAGNOSTICS).collect(),
    };
    for diagnostic in &shown {
        out.push_str(&render_one(diagnostic, &mut lines, &renderer));
        out.push_str("\n\n");
    }
    if diagnostics.len() > shown.len() {
        out.push_str(&format!("and {} more; `--output json` has them all\n\n", diagnostics.len() - shown.len()));
    }
    if let Some(summary) = summary(diagnostics) {
        let level = Level::ERROR.primary_title(summary);
        out.push_str(&renderer.render(&[Group::with_title(level)]));
        out.push('\n');
    }
    out
}

fn summary(diagnostics: &[Diagnostic]) -> Option<String> {
    let errors = || diagnostics.iter().filter(|d| d.severity == Severity::Error);
    let count = errors().count();
    let warnings = diagnostics.len() - count;
    let files: BTreeSet<SourceId> = errors().filter_map(|d| d.labels.first()).map(|l| l.span.source).collect();
    let plural = |n: usize, word: &str| if n == 1 { format!("1 {word}") } else { format!("{n} {word}s") };
    (count > 0).then(|| {
        let mut text = plural(count, "problem");
        if !files.is_empty() {
            text = format!("{text} in {}", plural(files.len(), "file"));
        }
        if warnings > 0 {
            text = format!("{text}, {}", plural(warnings, "warning"));
        }
        text
    })
}

fn render_one(diagnostic: &Diagnostic, lines: &mut LineIndex<'_>, renderer: &Renderer) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let title = level.primary_title(visible(&fit_to_show(&diagnostic.message)).into_owned()).id(diagnostic.code);
    let mut group = Group::with_title(title);
    for excerpt in excerpts(diagnostic, lines) {
        let Some(text) = excerpt.text else {
            group = group.element(Origin::path(excerpt.name).line(excerpt.line).char_column(excerpt.column));
            continue;
        };
        let mut snippet = Snippet::source(text).line_start(excerpt.first_line).path(excerpt.name);
        for (range, label, primary) in excerpt.annotations {
            let kind = if primary { AnnotationKind::Primary } else { AnnotationKind::Context };
            let annotation = kind.span(range);
            snippet = snippet.annotation(if label.is_empty() {
                annotation
            } else {
                annotation.label(visible(&fit_to_show(&label)).into_owned())
            });
        }
        group = group.element(snippet);
    }
    for help in &diagnostic.help {
        group = group.element(Level::HELP.message(visible(&fit_to_show(help)).into_owned()));
    }
    renderer.render(&[group])
}

/// Consecutive lines of one source, with annotations.
struct Excerpt {
    name: String,
    /// The lines; `None` when one of them is too long to be shown.
    text: Option<String>,
    first_line: usize,
    /// The position of the first label; columns from 1.
    line: usize,
    column: usize,
    /// Byte ranges in `text`, their labels, and whether it is the primary one.
    annotations: Vec<(Range<usize>, String, bool)>,
}

fn excerpts(diagnostic: &Diagnostic, lines: &mut LineIndex<'_>) -> Vec<Excerpt> {
    let mut groups: Vec<Vec<(usize, &Label, bool)>> = Vec::new();
    for (index, label) in diagnostic.labels.iter().enumerate() {
        let line = lines.number(label.span.source, label.span.start);
        let near = |group: &Vec<(usize, &Label, bool)>| {
            group[0].1.span.source == label.span.source
                && group.iter().any(|(other, ..)| other.abs_diff(line) <= MAX_LABEL_DISTANCE)
        };
        match groups.iter_mut().find(|group| near(group)) {
            Some(group) => group.push((line, label, index == 0)),
            None => groups.push(vec![(line, label, index == 0)]),
        }
    }
    groups.iter().map(|group| excerpt(group, lines)).collect()
}

fn excerpt(group: &[(usize, &Label, bool)], lines: &mut LineIndex<'_>) -> Excerpt {
    let source = group[0].1.span.source;
    let (line, label, _) = group[0];
    let first = group.iter().map(|(line, ..)| *line).min().unwrap_or(line);
    let last = group.iter().map(|(line, ..)| *line).max().unwrap_or(line);
    let column = lines.column(source, line, label.span.start);
    let mut text = Some(String::new());
    let mut annotations = Vec::new();
    for number in first..=last {
        let whole = lines.range(source, number);
        let Some(shown) = text.as_mut().filter(|_| whole.len() <= MAX_LINE_LENGTH) else {
            text = None;
            break;
        };
        let masked = lines.masked(source, number);
        for (_, label, primary) in group.iter().filter(|(line, ..)| *line == number) {
            // Only the part of a span on its first line is underlined: a whole mapping underlined says nothing.
            let clip = |at: usize| masked.floor_char_boundary(at.saturating_sub(whole.start).min(masked.len()));
            let (start, end) = (clip(label.span.start), clip(label.span.end));
            annotations.push((shown.len() + start..shown.len() + end.max(start), label.text.clone(), *primary));
        }
        shown.push_str(&masked);
        shown.push('\n');
    }
    let name = visible_line(&lines.sources.get(source).name).into_owned();
    Excerpt { name, text, first_line: first + 1, line: line + 1, column, annotations }
}

/// Line starts of the sources, computed once per source.
struct LineIndex<'a> {
    sources: &'a Sources,
    starts: HashMap<SourceId, Vec<usize>>,
}

impl LineIndex<'_> {
    fn starts(&mut self, source: SourceId) -> &[usize] {
        let text = &self.sources.get(source).text;
        self.starts
            .entry(source)
            .or_insert_with(|| std::iter::once(0).chain(text.match_indices('\n').map(|(i, _)| i + 1)).collect())
    }

    /// The line of an offset, from 0.
    fn number(&mut self, source: SourceId, offset: usize) -> usize {
        let length = self.sources.get(source).text.len();
        let starts = self.starts(source);
        let line = starts.partition_point(|start| *start <= offset).saturating_sub(1);
        // The end of the file is after its last line, not on an empty line after it.
        if offset >= length && line > 0 && starts[line] == length { line - 1 } else { line }
    }

    /// The bytes of a line without its line break.
    fn range(&mut self, source: SourceId, line: usize) -> Range<usize> {
        let text = &self.sources.get(source).text;
        let starts = self.starts(source);
        let start = starts[line];
        let end = starts.get(line + 1).map_or(text.len(), |next| next - 1);
        start..start + text[start..end].trim_end_matches('\r').len()
    }

    fn column(&mut self, source: SourceId, line: usize, offset: usize) -> usize {
        let range = self.range(source, line);
        let text = &self.sources.get(source).text;
        let end = text.floor_char_boundary(offset.clamp(range.start, range.end));
        text[range.start..end].chars().count() + 1
    }

    fn masked(&mut self, source: SourceId, line: usize) -> String {
        let range = self.range(source, line);
        let text = self.sources.get(source).text.clone();
        let shown = &text[range];
        let all = self.sources.get(source).secret || self.under_a_secret(source, line, shown, &text);
        visible_in_place(&mask_line(shown, all))
    }

    /// True for a line of a block whose key is named like a secret (`private_key: |`).
    fn under_a_secret(&mut self, source: SourceId, line: usize, shown: &str, text: &str) -> bool {
        let indentation = |line: &str| line.len() - line.trim_start().len();
        let mut own = indentation(shown);
        // A PEM key has a few dozen lines; a longer search would cost time on hostile files.
        for above in (line.saturating_sub(200)..line).rev() {
            let above = &text[self.range(source, above)];
            let content = above.trim_start();
            if content.is_empty() || content.starts_with('#') || indentation(above) >= own {
                continue;
            }
            if opens_a_secret(above) {
                return true;
            }
            // Its own key may be one of several of a mapping of secrets.
            own = indentation(above);
            if own == 0 {
                break;
            }
        }
        false
    }
}

/// One diagnostic as JSON: `{"kind":"diagnostic","code","severity","message","labels":[{"file","line","column",
/// "length","text"}],"help":[…]}`. Lines and columns count from 1, columns and lengths in characters.
pub fn json(diagnostic: &Diagnostic, sources: &Sources) -> Json {
    let labels = diagnostic.labels.iter().map(|label| {
        let (line, column) = sources.line_column(label.span);
        let source = sources.get(label.span.source);
        let clip = |at: usize| source.text.floor_char_boundary(at.min(source.text.len()));
        let (start, end) = (clip(label.span.start), clip(label.span.end));
        let length = source.text[start..end.max(start)].chars().count();
        json!({"file": &*source.name, "line": line, "column": column, "length": length, "text": fit_to_show(&label.text)})
    });
    json!({
        "kind": "diagnostic",
        "code": diagnostic.code,
        "severity": match diagnostic.severity { Severity::Error => "error", Severity::Warning => "warning" },
        "message": fit_to_show(&diagnostic.message),
        "labels": labels.collect::<Vec<_>>(),
        "help": diagnostic.help.iter().map(|help| fit_to_show(help)).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Span;

    fn span(source: SourceId, text: &str, part: &str) -> Span {
        let start = text.find(part).expect(part);
        Span { source, start, end: start + part.len() }
    }

    #[test]
    fn an_excerpt_a_hint_and_a_count() {
        let text = "a:\n  type: csv\n  filepaht: data/ä.csv\n  api_key: hunter2\n";
        let mut sources = Sources::default();
        let id = sources.add("catalog.yml", text);
        let error = Diagnostic::error("config::unknown-key", "dataset `a` has no key `filepaht`")
            .at(span(id, text, "filepaht"), "not known")
            .at(span(id, text, "api_key"), "beside this")
            .help("did you mean `filepath`?");
        let rendered = render(&[error], &sources, false);
        let wanted = "\
error[config::unknown-key]: dataset `a` has no key `filepaht`
 --> catalog.yml:3:3
  |
3 |   filepaht: data/ä.csv
  |   ^^^^^^^^ not known
4 |   api_key: *******
  |   ------- beside this
  |
  = help: did you mean `filepath`?

error: 1 problem in 1 file
";
        assert_eq!(rendered, wanted);
        assert!(render(&[], &sources, false).is_empty());
    }

    #[test]
    fn far_labels_and_long_lines_keep_their_positions() {
        let text = format!("a: 1\n{}b: {}x: 2\n", "# note\n".repeat(40), "y".repeat(50_000));
        let mut sources = Sources::default();
        let id = sources.add("catalog.yml", text.as_str());
        let error = Diagnostic::error("config::unknown-key", "twice")
            .at(span(id, &text, "x: 2"), "")
            .at(span(id, &text, "a"), "first");
        let rendered = render(&[error], &sources, false);
        assert!(rendered.contains("catalog.yml:42:50004"), "{rendered}");
        assert!(rendered.contains("catalog.yml:1:1"), "{rendered}");
        assert!(rendered.len() < 1500, "{rendered}");
    }

    #[test]
    fn secret_files_and_blocks_are_never_shown() {
        let text = "db:\n  private_key: |\n    MIIEvQIBADANB\n  path: x\n";
        let mut sources = Sources::default();
        let open = sources.add("parameters.yml", text);
        let closed = sources.add_secret("credentials.yml", "db:\n  user: ada\n");
        let list = [
            Diagnostic::error("config::unknown-key", "one").at(span(open, text, "MIIE"), ""),
            Diagnostic::warning("config::unknown-key", "two").at(Span { source: closed, start: 6, end: 10 }, ""),
        ];
        let rendered = render(&list, &sources, false);
        assert!(!rendered.contains("MIIE") && !rendered.contains("ada"), "{rendered}");
        assert!(rendered.contains("user: ***"), "{rendered}");
        assert!(rendered.ends_with("error: 1 problem in 1 file, 1 warning\n"), "{rendered}");
    }

    #[test]
    fn a_header_is_not_shown_beside_a_problem_with_it() {
        let text = "api:\n  headers:\n# both\n    X-Corp: hunter2\n    X-Long: >\n      hunter3\n  url: x\n";
        let mut sources = Sources::default();
        let id = sources.add("parameters.yml", text);
        let list = ["hunter2", "hunter3", "url"]
            .map(|part| Diagnostic::error("config::unknown-key", "one").at(span(id, text, part), ""));
        let rendered = render(&list, &sources, false);
        assert!(!rendered.contains("hunter"), "{rendered}");
        assert!(rendered.contains("X-Corp: *******") && rendered.contains("url: x"), "{rendered}");
    }

    #[test]
    fn any_span_can_be_rendered() {
        let text = "ä\r\nb";
        let mut sources = Sources::default();
        let id = sources.add("x", text);
        for start in 0..8 {
            for end in 0..8 {
                let error = Diagnostic::error("config::unknown-key", "m").at(Span { source: id, start, end }, "here");
                assert!(render(std::slice::from_ref(&error), &sources, true).contains("here"));
                assert_eq!(json(&error, &sources)["labels"][0]["file"], "x");
            }
        }
    }

    #[test]
    fn escape_sequences_in_names_messages_and_sources_reach_no_terminal() {
        let text = "a: \u{1b}[31mx\u{9b}\u{202e}\n";
        let mut sources = Sources::default();
        let id = sources.add("e\u{1b}[31m\nvil.yml", text);
        let error = Diagnostic::error("config::unknown-key", "m\u{1b}]0;x\u{7}")
            .at(span(id, text, "a"), "l\u{1b}")
            .help("h\u{9b}");
        let rendered = render(&[error], &sources, false);
        assert!(!rendered.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'), "{rendered:?}");
        for part in ["m\\x1b]0;x\\x07", "e\\x1b[31m\\x0avil.yml", "l\\x1b", "h\\x9b"] {
            assert!(rendered.contains(part), "{part}: {rendered}");
        }
    }

    #[test]
    fn a_flood_of_problems_is_cut_short_and_counted_errors_first() {
        let mut list = vec![Diagnostic::warning("config::unknown-key", "note"); MAX_DIAGNOSTICS];
        list.extend(vec![Diagnostic::error("config::unknown-key", "wrong"); MAX_DIAGNOSTICS]);
        let rendered = render(&list, &Sources::default(), false);
        assert_eq!(rendered.matches("wrong").count(), MAX_DIAGNOSTICS);
        assert!(!rendered.contains("note") && rendered.contains("and 100 more;"), "{rendered}");
        assert!(rendered.ends_with("error: 100 problems, 100 warnings\n"), "{rendered}");
    }

    #[test]
    fn json_has_the_promised_keys() {
        let mut sources = Sources::default();
        let id = sources.add("catalog.yml", "ä: 1\n");
        let warning =
            Diagnostic::warning("config::unknown-key", "m").at(Span { source: id, start: 4, end: 5 }, "t").help("h");
        assert_eq!(
            json(&warning, &sources),
            json!({"kind": "diagnostic", "code": "config::unknown-key", "severity": "warning", "message": "m",
                "labels": [{"file": "catalog.yml", "line": 1, "column": 4, "length": 1, "text": "t"}], "help": ["h"]})
        );
    }
}
