//! The tree builder: parser events to nodes.

use std::collections::HashMap;

use granit_parser::{Event, ScalarStyle, StructureStyle, Tag};
use indexmap::{IndexMap, map::Entry as MapEntry};

use super::errors;
use crate::{
    config::{
        scalar,
        tree::{Entry, MAX_DEPTH, Map, Node, Value},
    },
    diagnostic::{Diagnostic, Diagnostics, SourceId, Span},
};

/// Values (long strings count for several) that aliases and merges of one file may repeat.
const MAX_REPEATED: usize = 1_000_000;
/// Warnings of one file about ambiguous scalars; further ones are counted.
pub(super) const MAX_WARNINGS: usize = 50;

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
        /// A key whose value comes next.
        key: Option<(Key, Span)>,
        /// Values of `<<`, in the order written, with the location of the `<<`.
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

pub(super) struct Builder<'t> {
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
    pub(super) fn new(source: SourceId, text: &'t str) -> Self {
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

    pub(super) fn span(&self, range: Option<std::ops::Range<usize>>) -> Span {
        let range = range.unwrap_or(0..0);
        Span { source: self.source, start: range.start, end: range.end.max(range.start) }
    }

    /// The innermost bracket that is still open.
    pub(super) fn open_bracket(&self) -> Option<Span> {
        let frame = self.stack.last().filter(|frame| frame.flow)?;
        Some(Span { source: self.source, start: frame.start, end: frame.start + 1 })
    }

    pub(super) fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Diagnostic> {
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
                // Before the copy is made.
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

    /// Records a problem after which there is no tree.
    pub(super) fn refuse(&mut self, problem: Diagnostic) {
        self.problems.push(problem);
        self.refused = true;
    }

    /// The tree, unless something was refused. Problems go to `problems`.
    pub(super) fn finish(mut self, problems: &mut Diagnostics) -> Option<Node> {
        let start = Span { source: self.source, start: 0, end: 0 };
        if let Some(more) = self.ambiguous.checked_sub(MAX_WARNINGS).filter(|more| *more > 0) {
            let message = format!("{more} more values of this file are read differently by YAML 1.1");
            self.problems.push(Diagnostic::warning("yaml::ambiguous-scalar", message).at(start, ""));
        }
        problems.extend(self.problems);
        (!self.refused).then(|| self.root.unwrap_or_else(|| Node::new(Value::Null, start)))
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
        for (node, location) in merges {
            let list = match node.value {
                Value::List(list) => list,
                value => vec![Node::new(value, node.span)],
            };
            for node in list.into_iter().rev() {
                let kind = node.kind();
                let Value::Map(map) = node.value else {
                    return Err(Diagnostic::error("yaml::merge", format!("`<<` takes a mapping, not {kind}"))
                        .at(location, "")
                        .at(node.span, kind)
                        .help("write `<<: *anchor` or `<<: [*one, *two]`"));
                };
                merged.extend(map.entries);
            }
        }
        merged.extend(entries);
        Ok(merged)
    }

    /// Adds a finished node to the innermost open collection.
    fn add(&mut self, node: Node, depth: usize) -> Result<(), Diagnostic> {
        let span = node.span;
        self.attach(node, depth, span)
    }

    /// Adds a copy of an anchored node, whose span is that of the anchor.
    fn add_alias(&mut self, node: Node, depth: usize, used_at: Span) -> Result<(), Diagnostic> {
        self.check_depth(depth, used_at)?;
        self.attach(node, depth, used_at)
    }

    fn attach(&mut self, node: Node, depth: usize, used_at: Span) -> Result<(), Diagnostic> {
        let expects_key = self.expects_key();
        let Some(frame) = self.stack.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        frame.end = frame.end.max(used_at.end);
        // Merged keys move up: out of their own mapping, and out of the list around it.
        let lost = match &frame.content {
            Content::Map { key: Some((Key::Merge, _)), .. } => 1 + usize::from(node.as_list().is_some()),
            _ => 0,
        };
        frame.depth = frame.depth.max(depth.saturating_sub(lost));
        if expects_key {
            let name = key_text(&node, &self.text[used_at.start..used_at.end]).ok_or_else(|| {
                Diagnostic::error("yaml::complex-key", "a key must be a scalar").at(used_at, node.kind())
            })?;
            self.set_key(Key::Name(name), used_at);
            return Ok(());
        }
        match &mut frame.content {
            Content::List(list) => list.push(node),
            Content::Map { entries, key, merges } => match key.take() {
                Some((Key::Merge, location)) => merges.push((node, location)),
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
                        self.refuse(problem);
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
        if self.stack.len() + more <= MAX_DEPTH { Ok(()) } else { Err(errors::too_deep(span)) }
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

/// Any scalar as a key: as written, so that `1` and `"1"` are one key.
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

/// How much memory a copy takes: one for each value, more for long strings.
fn weight(node: &Node) -> usize {
    match &node.value {
        Value::Text(text) => 1 + text.len() / 64,
        Value::List(list) => 1 + list.iter().map(weight).sum::<usize>(),
        Value::Map(map) => 1 + map.iter().map(|(key, entry)| 1 + key.len() / 64 + weight(&entry.node)).sum::<usize>(),
        _ => 1,
    }
}
