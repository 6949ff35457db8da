//! YAML to the spanned tree: anchors, `<<` merges, duplicate keys, and limits that hold against hostile files.
//!
//! The events come from `granit-parser`; what a tree is, and what is refused, is decided here. YAML is 1.2 core; a
//! scalar that YAML 1.1 reads otherwise is kept and warned about.

use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle, StructureStyle, Tag};
use indexmap::{IndexMap, map::Entry as MapEntry};

use super::{
    scalar,
    tree::{Entry, MAX_DEPTH, Map, Node, Value},
    yaml_errors::{self, syntax_error},
};
use crate::diagnostic::{Diagnostic, Diagnostics, SourceId, Span};

/// Values (long texts count for several) that aliases and merges of one file may repeat.
const MAX_REPEATED: usize = 1_000_000;
/// Warnings of one kind and file before the rest is only counted.
const MAX_WARNINGS: usize = 50;

/// Reads a file that must be a mapping. An empty file is an empty mapping. `None` when it was refused.
pub(super) fn parse_file(source: SourceId, text: &str, problems: &mut Diagnostics) -> Option<Node> {
    let node = parse(source, text, problems)?;
    match node.value {
        Value::Map(_) => Some(node),
        Value::Null => Some(Node::new(Value::Map(Map::default()), node.span)),
        _ => {
            let kind = node.kind();
            problems.push(
                Diagnostic::error("yaml::not-a-mapping", format!("the file holds {kind} where a mapping is expected"))
                    .at(Span { end: node.span.start + 1, ..node.span }, "")
                    .help("write `name: value` lines"),
            );
            None
        }
    }
}

/// Reads one YAML value of any kind. Nothing at all is `null`. `None` when it was refused.
pub fn parse(source: SourceId, text: &str, problems: &mut Diagnostics) -> Option<Node> {
    let options = granit_parser::options! { flow_nesting_limit: MAX_DEPTH, block_nesting_limit: MAX_DEPTH };
    let mut builder = Builder::new(source, text);
    let mut failed = false;
    for event in Parser::new_from_str_with_options(text, options) {
        let step = match event {
            Ok((event, span)) => builder.event(event, builder.span(span.byte_range())),
            Err(error) => Err(syntax_error(&error, source, text, builder.open_bracket())),
        };
        if let Err(problem) = step {
            builder.problems.push(problem);
            failed = true;
            break;
        }
    }
    if builder.ambiguous > MAX_WARNINGS {
        builder.problems.push(
            Diagnostic::warning(
                "yaml::ambiguous-scalar",
                format!(
                    "{} more values of this file are read differently by YAML 1.1",
                    builder.ambiguous - MAX_WARNINGS
                ),
            )
            .at(Span { source, start: 0, end: 0 }, ""),
        );
    }
    let nothing = Node::new(Value::Null, Span { source, start: 0, end: 0 });
    let refused = failed || builder.refused;
    let root = builder.root.take();
    problems.extend(std::mem::take(&mut builder.problems));
    (!refused).then(|| root.unwrap_or(nothing))
}

/// A collection that is still open.
struct Frame {
    start: usize,
    /// End of the last child; a block collection's own end event sits at the next token.
    end: usize,
    flow: bool,
    anchor: usize,
    /// Depth below this frame, for aliases of it.
    depth: usize,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    Map {
        entries: IndexMap<String, Entry>,
        /// A key that waits for its value.
        key: Option<(Key, Span)>,
        /// Values of `<<`, in the order written, with the place of the `<<`.
        merges: Vec<(Node, Span)>,
    },
}

enum Key {
    Name(String),
    Merge,
}

struct Anchored {
    node: Node,
    weight: usize,
    depth: usize,
}

struct Builder<'t> {
    source: SourceId,
    text: &'t str,
    stack: Vec<Frame>,
    anchors: HashMap<usize, Anchored>,
    repeated: usize,
    root: Option<Node>,
    documents: usize,
    ambiguous: usize,
    refused: bool,
    problems: Vec<Diagnostic>,
}

impl<'t> Builder<'t> {
    fn new(source: SourceId, text: &'t str) -> Self {
        Self {
            source,
            text,
            stack: Vec::new(),
            anchors: HashMap::new(),
            repeated: 0,
            root: None,
            documents: 0,
            ambiguous: 0,
            refused: false,
            problems: Vec::new(),
        }
    }

    fn span(&self, range: Option<std::ops::Range<usize>>) -> Span {
        let range = range.unwrap_or(0..0);
        Span { source: self.source, start: range.start, end: range.end.max(range.start) }
    }

    /// Where the innermost bracket that is still open stands.
    fn open_bracket(&self) -> Option<Span> {
        let frame = self.stack.last().filter(|frame| frame.flow)?;
        Some(Span { source: self.source, start: frame.start, end: frame.start + 1 })
    }

    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Diagnostic> {
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(Diagnostic::error("yaml::several-documents", "the file holds more than one document")
                        .at(span, "a second document begins here")
                        .help("keep one document per file"));
                }
                Ok(())
            }
            Event::Scalar(text, style, anchor, tag) => {
                let is_key = self.expects_key();
                let (value, merge) = self.scalar(text, style, tag.as_deref(), span, is_key)?;
                let node = Node::new(value, span);
                self.remember(anchor, &node, 0, span)?;
                if merge {
                    self.set_key(Key::Merge, span);
                    return Ok(());
                }
                self.add(node, 0)
            }
            Event::Alias(id) => {
                let Some(anchored) = self.anchors.get(&id) else {
                    return Err(Diagnostic::error(
                        "yaml::recursive-alias",
                        "an alias refers to a value that contains it",
                    )
                    .at(span, "")
                    .help("write out the inner value: a value cannot contain itself"));
                };
                let (weight, depth) = (anchored.weight, anchored.depth);
                // Checked before the copy is made.
                self.charge(weight, span)?;
                let node = self.anchors[&id].node.clone();
                self.add_alias(node, depth, span)
            }
            Event::SequenceStart(style, anchor, tag) => {
                collection_tag(tag.as_deref(), "seq", span)?;
                self.open(span, style, anchor, Content::List(Vec::new()))
            }
            Event::MappingStart(style, anchor, tag) => {
                collection_tag(tag.as_deref(), "map", span)?;
                let content = Content::Map { entries: IndexMap::new(), key: None, merges: Vec::new() };
                self.open(span, style, anchor, content)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(span),
            _ => Ok(()),
        }
    }

    fn open(&mut self, span: Span, style: StructureStyle, anchor: usize, content: Content) -> Result<(), Diagnostic> {
        if self.expects_key() {
            return Err(Diagnostic::error("yaml::complex-key", "a key must be a scalar")
                .at(Span { end: span.start + 1, ..span }, "this key is a collection")
                .help("put the key in quotes if a placeholder such as `{name}` is meant"));
        }
        self.check_depth(1, span)?;
        let flow = style == StructureStyle::Flow;
        self.stack.push(Frame { start: span.start, end: span.end, flow, anchor, depth: 0, content });
        Ok(())
    }

    fn close(&mut self, span: Span) -> Result<(), Diagnostic> {
        let Some(frame) = self.stack.pop() else { return Ok(()) };
        let end = if frame.flow { span.end } else { frame.end };
        let span = Span { source: self.source, start: frame.start, end: end.max(frame.start) };
        let value = match frame.content {
            Content::List(list) => Value::List(list),
            Content::Map { entries, merges, .. } if merges.is_empty() => Value::Map(Map { entries }),
            Content::Map { entries, merges, .. } => Value::Map(Map { entries: self.merge(entries, merges)? }),
        };
        let node = Node::new(value, span);
        self.remember(frame.anchor, &node, frame.depth + 1, span)?;
        self.add(node, frame.depth + 1)
    }

    /// Puts merged keys below explicit ones. In a list the first mapping wins; a later `<<` wins over an earlier one.
    fn merge(
        &mut self,
        entries: IndexMap<String, Entry>,
        merges: Vec<(Node, Span)>,
    ) -> Result<IndexMap<String, Entry>, Diagnostic> {
        let mut merged = IndexMap::new();
        for (node, place) in merges {
            let list = match node.value {
                Value::List(list) => list,
                value => vec![Node::new(value, node.span)],
            };
            for node in list.into_iter().rev() {
                let kind = node.kind();
                let Value::Map(map) = node.value else {
                    return Err(Diagnostic::error("yaml::merge", format!("`<<` takes a mapping, not {kind}"))
                        .at(place, "")
                        .at(node.span, kind)
                        .help("write `<<: *anchor` or `<<: [*one, *two]`"));
                };
                merged.extend(map.entries);
            }
        }
        merged.extend(entries);
        Ok(merged)
    }

    /// Adds a finished node where it belongs.
    fn add(&mut self, node: Node, depth: usize) -> Result<(), Diagnostic> {
        let span = node.span;
        self.place(node, depth, span)
    }

    /// Adds a copy whose place of use is not its place of birth.
    fn add_alias(&mut self, node: Node, depth: usize, site: Span) -> Result<(), Diagnostic> {
        self.check_depth(depth, site)?;
        self.place(node, depth, site)
    }

    fn place(&mut self, node: Node, depth: usize, site: Span) -> Result<(), Diagnostic> {
        let expects_key = self.expects_key();
        let Some(frame) = self.stack.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        frame.end = frame.end.max(site.end);
        // What is merged moves up: into this mapping, out of its own and out of the list around it.
        let lost = match &frame.content {
            Content::Map { key: Some((Key::Merge, _)), .. } => 1 + usize::from(node.as_list().is_some()),
            _ => 0,
        };
        frame.depth = frame.depth.max(depth.saturating_sub(lost));
        if expects_key {
            let name = key_text(&node, &self.text[site.start..site.end]).ok_or_else(|| {
                Diagnostic::error("yaml::complex-key", "a key must be a scalar").at(site, node.kind())
            })?;
            self.set_key(Key::Name(name), site);
            return Ok(());
        }
        match &mut frame.content {
            Content::List(list) => list.push(node),
            Content::Map { entries, key, merges } => match key.take() {
                Some((Key::Merge, place)) => merges.push((node, place)),
                Some((Key::Name(name), key_span)) => match entries.entry(name) {
                    MapEntry::Vacant(vacant) => {
                        vacant.insert(Entry { key_span, node });
                    }
                    MapEntry::Occupied(occupied) => {
                        let problem =
                            Diagnostic::error("yaml::duplicate-key", format!("duplicate key `{}`", occupied.key()))
                                .at(key_span, "duplicate")
                                .at(occupied.get().key_span, "first here")
                                .help("keep one of them");
                        self.problems.push(problem);
                        self.refused = true;
                    }
                },
                None => {}
            },
        }
        Ok(())
    }

    fn expects_key(&self) -> bool {
        matches!(self.stack.last(), Some(Frame { content: Content::Map { key: None, .. }, .. }))
    }

    fn set_key(&mut self, name: Key, span: Span) {
        if let Some(Frame { content: Content::Map { key, .. }, end, .. }) = self.stack.last_mut() {
            *end = (*end).max(span.end);
            *key = Some((name, span));
        }
    }

    fn remember(&mut self, anchor: usize, node: &Node, depth: usize, span: Span) -> Result<(), Diagnostic> {
        if anchor != 0 {
            let weight = weight(node);
            self.charge(weight, span)?;
            self.anchors.insert(anchor, Anchored { node: node.clone(), weight, depth });
        }
        Ok(())
    }

    fn charge(&mut self, weight: usize, span: Span) -> Result<(), Diagnostic> {
        self.repeated += weight;
        if self.repeated <= MAX_REPEATED {
            return Ok(());
        }
        Err(Diagnostic::error(
            "yaml::too-many-aliases",
            format!("anchors and aliases of this file expand to more than {MAX_REPEATED} values"),
        )
        .at(Span { end: span.end.min(span.start + 40), ..span }, "the limit is reached here")
        .help("reduce the repetition, or use several files: anchors inside anchors multiply"))
    }

    fn check_depth(&self, more: usize, span: Span) -> Result<(), Diagnostic> {
        if self.stack.len() + more <= MAX_DEPTH { Ok(()) } else { Err(yaml_errors::too_deep(span)) }
    }

    /// The value of a scalar, and whether it is the merge key.
    fn scalar(
        &mut self,
        text: std::borrow::Cow<'_, str>,
        style: ScalarStyle,
        tag: Option<&Tag>,
        span: Span,
        is_key: bool,
    ) -> Result<(Value, bool), Diagnostic> {
        let plain = style == ScalarStyle::Plain;
        let Some(tag) = tag else {
            if !plain {
                return Ok((Value::Text(text.into_owned()), false));
            }
            if is_key {
                let merge = text == "<<";
                return Ok((Value::Text(text.into_owned()), merge));
            }
            if let Some(other) = scalar::ambiguity(&text) {
                self.warn_ambiguous(&text, &other, span);
            }
            return Ok((scalar::core(&text), false));
        };
        let value = match (tag.core_suffix(), tag.handle(), tag.suffix()) {
            (Some("str"), ..) | (None, "" | "!", "" | "!") => return Ok((Value::Text(text.into_owned()), false)),
            (Some(_), ..) => scalar::core(&text),
            (None, ..) => return Err(unknown_tag(tag, span)),
        };
        let value = match (tag.core_suffix(), value) {
            (Some("int"), value @ Value::Int(_)) | (Some("bool"), value @ Value::Bool(_)) => value,
            (Some("null"), Value::Null) => Value::Null,
            (Some("float"), Value::Int(number)) => Value::Float(number as f64),
            (Some("float"), value @ Value::Float(_)) => value,
            _ => {
                return Err(
                    Diagnostic::error("yaml::tag", format!("the value does not fit its tag `{tag}`")).at(span, "")
                );
            }
        };
        Ok((value, false))
    }

    fn warn_ambiguous(&mut self, text: &str, other: &str, span: Span) {
        self.ambiguous += 1;
        if self.ambiguous > MAX_WARNINGS {
            return;
        }
        let here = match scalar::core(text) {
            Value::Int(number) => format!("the number {number}"),
            _ => "a string".to_owned(),
        };
        let help = match other {
            "the boolean `true`" => format!("write `true`, or `\"{text}\"` for a string"),
            "the boolean `false`" => format!("write `false`, or `\"{text}\"` for a string"),
            _ => format!("write `\"{text}\"` for a string, or write the number that is meant"),
        };
        self.problems.push(
            Diagnostic::warning(
                "yaml::ambiguous-scalar",
                format!("`{text}` is {here} in YAML 1.2, but {other} in YAML 1.1"),
            )
            .at(span, "")
            .help(help),
        );
    }
}

/// Any scalar as a key: its text as written, so that `1` and `"1"` are one key.
fn key_text(node: &Node, written: &str) -> Option<String> {
    match &node.value {
        Value::Text(text) => Some(text.clone()),
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) if !written.starts_with('*') => {
            Some(written.to_owned())
        }
        Value::Null => Some("null".to_owned()),
        Value::Bool(yes) => Some(yes.to_string()),
        Value::Int(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        _ => None,
    }
}

fn collection_tag(tag: Option<&Tag>, kind: &str, span: Span) -> Result<(), Diagnostic> {
    match tag {
        Some(tag)
            if tag.core_suffix() != Some(kind) && !matches!((tag.handle(), tag.suffix()), ("" | "!", "" | "!")) =>
        {
            Err(unknown_tag(tag, Span { end: span.start + 1, ..span }))
        }
        _ => Ok(()),
    }
}

fn unknown_tag(tag: &Tag, span: Span) -> Diagnostic {
    Diagnostic::error("yaml::tag", format!("unknown tag `{tag}`"))
        .at(span, "")
        .help("use `${…}` for computed values: only YAML's standard tags such as `!!str` are supported")
}

/// How much memory a copy takes: one for each value, more for long texts.
fn weight(node: &Node) -> usize {
    match &node.value {
        Value::Text(text) => 1 + text.len() / 64,
        Value::List(list) => 1 + list.iter().map(weight).sum::<usize>(),
        Value::Map(map) => 1 + map.iter().map(|(key, entry)| 1 + key.len() / 64 + weight(&entry.node)).sum::<usize>(),
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::{Severity, Sources, render};

    fn read(text: &str) -> (Option<Node>, Vec<Diagnostic>) {
        let mut problems = Diagnostics::default();
        let node = parse(SourceId(0), text, &mut problems);
        (node, problems.into_sorted())
    }

    fn json(text: &str) -> String {
        let (node, problems) = read(text);
        assert!(problems.iter().all(|p| p.severity == Severity::Warning), "{text}: {problems:?}");
        node.expect(text).to_json().to_string()
    }

    #[test]
    fn values_keep_their_types() {
        for (text, wanted) in [
            ("", "null"),
            ("# only a comment\n", "null"),
            ("a: 1\nb: [x, 2.5, ~]\nc: {d: true}", r#"{"a":1,"b":["x",2.5,null],"c":{"d":true}}"#),
            ("a: \"1\"\nb: 'x'\nc: !!str 1\nd: ! 1", r#"{"a":"1","b":"x","c":"1","d":"1"}"#),
            ("a: !!int 3\nb: !!float 3", r#"{"a":3,"b":3.0}"#),
            ("a: 2024-01-31\nb: yes\nc: 010", r#"{"a":"2024-01-31","b":"yes","c":10}"#),
            ("1: a\ntrue: b\n1.50: c\n? d\n: e", r#"{"1":"a","true":"b","1.50":"c","d":"e"}"#),
            ("a: |\n  x\n  y\nb: >\n  x\n  y\n", r#"{"a":"x\ny\n","b":"x y\n"}"#),
            ("\u{feff}a: 1", r#"{"a":1}"#),
            ("a:\t1", r#"{"a":1}"#),
            ("a:\r\n  b: 1\r\n", r#"{"a":{"b":1}}"#),
            ("a:\nb: ''", r#"{"a":null,"b":""}"#),
            ("{\"a\": [1, {\"b\": null}]}", r#"{"a":[1,{"b":null}]}"#),
        ] {
            assert_eq!(json(text), wanted, "{text}");
        }
    }

    #[test]
    fn anchors_and_merges_follow_yaml_1_1_as_kedro_does() {
        for (text, wanted) in [
            ("a: &x {p: 1}\nb: *x", r#"{"a":{"p":1},"b":{"p":1}}"#),
            ("a: &x 1\nb: &x 2\nc: *x", r#"{"a":1,"b":2,"c":2}"#),
            ("_b: &b {p: 1, q: 2}\nc:\n  q: 3\n  <<: *b", r#"{"_b":{"p":1,"q":2},"c":{"p":1,"q":3}}"#),
            (
                "a: &a {p: 1}\nb: &b {p: 2, q: 2}\nc: {<<: [*a, *b]}",
                r#"{"a":{"p":1},"b":{"p":2,"q":2},"c":{"p":1,"q":2}}"#,
            ),
            ("a: &a {p: 1}\nb: &b {p: 2}\nc:\n  <<: *a\n  <<: *b", r#"{"a":{"p":1},"b":{"p":2},"c":{"p":2}}"#),
            ("a: &a {p: {x: 1}}\nb: {<<: *a, p: {y: 2}}", r#"{"a":{"p":{"x":1}},"b":{"p":{"y":2}}}"#),
            ("a: &a {p: 1}\nb: &b {<<: *a}\nc: {<<: *b}", r#"{"a":{"p":1},"b":{"p":1},"c":{"p":1}}"#),
            ("a: {<<: {p: 1}, q: 2}\nb: {\"<<\": 1}", r#"{"a":{"p":1,"q":2},"b":{"<<":1}}"#),
            ("a: &k key\n*k : 1", r#"{"a":"key","key":1}"#),
        ] {
            assert_eq!(json(text), wanted, "{text}");
        }
    }

    #[test]
    fn spans_cover_what_was_written() {
        let text = "a:\n  - \"ü\" # note\n  - {b: 1}\nc: &x |\n  text\nd: *x\n";
        let (node, _) = read(text);
        let node = node.expect(text);
        let written = |span: Span| &text[span.start..span.end];
        let map = node.as_map().expect("a mapping");
        assert_eq!(written(map.entries["a"].key_span), "a");
        let list = map.get("a").expect("a");
        assert_eq!(written(list.span), "- \"ü\" # note\n  - {b: 1}");
        assert_eq!(written(list.as_list().expect("a list")[0].span), "\"ü\"");
        assert_eq!(written(list.as_list().expect("a list")[1].span), "{b: 1}");
        assert!(written(map.get("d").expect("d").span).starts_with("text"), "an alias has the place of its anchor");
        assert!(written(node.span).starts_with("a:") && written(node.span).ends_with("*x"));
    }

    #[test]
    fn what_is_refused_says_where_and_how_to_mend_it() {
        for (text, code, place, part) in [
            ("a: 1\nb: 2\n\"a\": 3", "yaml::duplicate-key", "3:1", "first here"),
            ("a: *b", "yaml::unknown-anchor", "1:4", "no anchor `&b`"),
            ("a: *bse\nc: &base 1", "yaml::unknown-anchor", "1:4", "did you mean `base`?"),
            ("a: &x [*x]", "yaml::recursive-alias", "1:8", "cannot contain itself"),
            ("a: 1\n---\nb: 2", "yaml::several-documents", "2:1", "one document per file"),
            ("a: {<<: 1}", "yaml::merge", "1:5", "not an integer"),
            ("{a}: 1", "yaml::complex-key", "1:1", "put the key in quotes"),
            ("a: !secret x", "yaml::tag", "1:12", "unknown tag `!secret`"),
            ("a: !!int x", "yaml::tag", "1:10", "does not fit"),
            ("a: [${b}]", "yaml::syntax", "1:6", "put a value with `${…}` in quotes"),
            ("a: ${f: b}", "yaml::syntax", "1:7", "put a value with `${…}` in quotes"),
            ("a:\n\tb: 1", "yaml::syntax", "2:1", "indent with spaces"),
            ("a:\n  b: 1\n\tc: 2", "yaml::syntax", "3:1", "indent with spaces"),
            ("a: \"x\\d\"", "yaml::syntax", "1:6", "unknown escape"),
            ("a: \"x", "yaml::syntax", "1:4", "unterminated quoted"),
            ("a: [1, 2\nb: 3", "yaml::syntax", "2:2", "this bracket is still open"),
            ("a: @x", "yaml::syntax", "1:4", "put the value in quotes"),
            ("a: 1\n  b: 2", "yaml::syntax", "2:4", "indent"),
        ] {
            let mut sources = Sources::default();
            sources.add("x.yml", text);
            let (node, problems) = read(text);
            assert!(node.is_none(), "{text}");
            let error = problems.iter().find(|p| p.severity == Severity::Error).expect(text);
            let rendered = render(&problems, &sources, false);
            assert_eq!(error.code, code, "{rendered}");
            assert_eq!(sources.place(error.labels[0].span), format!("x.yml:{place}"), "{rendered}");
            assert!(rendered.contains(part), "{rendered}");
        }
    }

    #[test]
    fn every_duplicate_key_is_reported() {
        let (_, problems) = read("a: 1\na: 2\nb: {c: 1, c: 2}");
        assert_eq!(problems.len(), 2);
    }

    #[test]
    fn words_of_yaml_1_1_get_a_warning_with_their_line() {
        let (node, problems) = read("on: 1\na: yes\nb: 'yes'\nc: 010\nd: 1:30\n");
        assert!(node.is_some());
        let messages: Vec<_> = problems.iter().map(|p| p.message.as_str()).collect();
        assert_eq!(
            messages,
            [
                "`yes` is a string in YAML 1.2, but the boolean `true` in YAML 1.1",
                "`010` is the number 10 in YAML 1.2, but an octal number in YAML 1.1",
                "`1:30` is a string in YAML 1.2, but a number in base 60 in YAML 1.1",
            ]
        );
        let (_, many) = read(&"- yes\n".repeat(3 * MAX_WARNINGS));
        assert_eq!(many.len(), MAX_WARNINGS.min(many.len() - 1) + 1);
        assert!(many.iter().any(|p| p.message.starts_with("100 more")), "{:?}", many[0]);
    }

    #[test]
    fn hostile_files_are_refused_in_bounded_time() {
        let bomb: String = std::iter::once("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned())
            .chain((1..12).map(|i| format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 10].join(", "))))
            .collect();
        let chain: String = std::iter::once("a0: &a0 {k0: 0}\n".to_owned())
            .chain((1..10_000).map(|i| format!("a{i}: &a{i} {{<<: *a{}, k{i}: 0}}\n", i - 1)))
            .collect();
        let nested: String = std::iter::once("a0: &a0 [x]\n".to_owned())
            .chain((1..1000).map(|i| format!("a{i}: &a{i} [*a{}]\n", i - 1)))
            .collect();
        for (text, code) in [
            (bomb, "yaml::too-many-aliases"),
            (chain, "yaml::too-many-aliases"),
            (nested, "yaml::too-deep"),
            ("[".repeat(10_000), "yaml::too-deep"),
            ("- ".repeat(10_000), "yaml::too-deep"),
            ("{a: ".repeat(10_000), "yaml::too-deep"),
        ] {
            let (node, problems) = read(&text);
            assert!(node.is_none());
            assert_eq!(problems[0].code, code, "{:?}", problems[0]);
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "[-a<&*: \\n\\t\"'{}\\[\\],|>!?#%@$ü0-]{0,60}") {
            let mut sources = Sources::default();
            sources.add("x.yml", text.as_str());
            let (node, problems) = read(&text);
            proptest::prop_assert!(node.is_some() || problems.iter().any(|p| p.severity == Severity::Error));
            render(&problems, &sources, false);
        }
    }
}
