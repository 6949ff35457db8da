//! `${…}` on merged trees: after this no interpolation is left, and secrets are secrets.
//!
//! Owns what a reference means: which tree it looks into, what keeps its type, what becomes a secret, and what runs in a
//! cycle. Works on trees, never on text, so that a value cannot inject syntax and every problem has its place.

use std::collections::{BTreeSet, HashMap};

use super::{
    grammar::{self, Element, Interpolation, Part, Reference},
    place::{Area, Place, Target, array_index, value_at},
    python::{self, Taint},
    tree::{Map, Node, Value},
};
use crate::{
    diagnostic::{Diagnostic, Diagnostics, Sources, Span, did_you_mean},
    model::{Secret, is_secret_name},
};

/// References that lead to references, and collections on the way, before a chain is refused.
const MAX_DEPTH: usize = 150;
/// Values (long texts count for several) that references may repeat in all.
const MAX_REPEATED: usize = 2_000_000;
/// Errors that get a suggestion; looking for one costs a walk over all names.
const MAX_SUGGESTIONS: usize = 50;
/// Names of resolvers.
const RESOLVERS: &[&str] = &[
    "globals",
    "params",
    "runtime_params",
    "oc.env",
    "env",
    "oc.decode",
    "oc.select",
    "oc.create",
    "oc.dict.keys",
    "oc.dict.values",
];

/// A value could not be had; the reason is among the problems.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failed;

type Result<T> = std::result::Result<T, Failed>;

/// The merged trees that references look into.
#[derive(Clone, Copy)]
pub(super) struct Roots<'a> {
    /// `parameters.yml` with `--params`.
    pub(super) parameters: &'a Node,
    /// `globals.yml`.
    pub(super) globals: &'a Node,
    /// What `--params` gave, alone.
    pub(super) runtime: &'a Node,
}

/// Resolves trees; see [`Interpolator::entries`].
pub(super) struct Interpolator<'a> {
    roots: Roots<'a>,
    sources: &'a Sources,
    environment: &'a dyn Fn(&str) -> Option<String>,
    problems: &'a mut Diagnostics,
    /// Results by the address of the text they came from; the trees stay put meanwhile.
    known: HashMap<*const Node, Result<Node>>,
    /// Texts that are being resolved, outermost first, for naming circles.
    active: Vec<(*const Node, String)>,
    /// Texts that were passed on the way of a path, for naming circles.
    hops: Vec<String>,
    depth: usize,
    /// Above zero while following references.
    following: usize,
    repeated: usize,
    suggested: usize,
    /// Values that could not be resolved.
    failures: usize,
    /// Trees of which a part could not be read: what is missing there may be in it.
    unread: &'a [Area],
    /// Names that `${runtime_params:…}` asked for.
    asked: BTreeSet<String>,
}

/// The text that is being resolved.
struct Site<'p, 'a> {
    place: &'p Place<'a>,
    text: &'p str,
    span: Span,
}

impl<'a> Interpolator<'a> {
    /// An interpolator over these trees.
    pub(super) fn new(
        roots: Roots<'a>,
        sources: &'a Sources,
        environment: &'a dyn Fn(&str) -> Option<String>,
        problems: &'a mut Diagnostics,
    ) -> Self {
        Self {
            roots,
            sources,
            environment,
            problems,
            known: HashMap::new(),
            active: Vec::new(),
            hops: Vec::new(),
            depth: 0,
            following: 0,
            repeated: 0,
            suggested: 0,
            failures: 0,
            unread: &[],
            asked: BTreeSet::new(),
        }
    }

    /// The same, where parts of some trees could not be read.
    pub(super) fn without(self, unread: &'a [Area]) -> Self {
        Self { unread, ..self }
    }

    /// The names that `${runtime_params:…}` asked for.
    pub(super) fn into_asked(self) -> BTreeSet<String> {
        self.asked
    }

    /// Resolves a mapping. Values that failed are [`Value::Unresolved`], and told by the flag; their problems are
    /// reported.
    pub(super) fn entries(&mut self, area: Area, root: &'a Node) -> (Node, bool) {
        let mut place = Place::root(area, root);
        let before = self.failures;
        let mut entries = Map::default();
        for (key, entry) in root.as_map().map(Map::iter).into_iter().flatten() {
            place.enter(key, &entry.node);
            let node = self.resolve(&mut place).unwrap_or_else(|Failed| self.unresolved(entry.node.span));
            entries.entries.insert(key.to_owned(), super::Entry { key_span: entry.key_span, node });
            place.leave();
        }
        (Node::new(Value::Map(entries), root.span), before == self.failures)
    }

    /// True outside of references: what fails here fails for itself alone.
    fn is_direct(&self) -> bool {
        self.following == 0 && self.active.is_empty()
    }

    fn unresolved(&mut self, span: Span) -> Node {
        self.failures += 1;
        Node::new(Value::Unresolved, span)
    }

    /// The value at a place, with everything below it.
    fn resolve(&mut self, place: &mut Place<'a>) -> Result<Node> {
        let node = place.node();
        match &node.value {
            Value::Text(text) if grammar::has_interpolation(text) => self.interpolated(place, text),
            Value::Map(map) => self.deeper(node.span, |this| {
                let mut entries = Map { entries: indexmap::IndexMap::with_capacity(map.entries.len()) };
                let mut sound = true;
                this.charge(1 + map.entries.len(), node.span)?;
                for (key, entry) in map.iter() {
                    place.enter(key, &entry.node);
                    match this.resolve(place) {
                        Ok(node) => {
                            entries.entries.insert(key.to_owned(), super::Entry { key_span: entry.key_span, node });
                        }
                        // What stands beside it is checked all the same.
                        Err(Failed) if this.is_direct() => {
                            let node = this.unresolved(entry.node.span);
                            entries.entries.insert(key.to_owned(), super::Entry { key_span: entry.key_span, node });
                        }
                        Err(Failed) => sound = false,
                    }
                    place.leave();
                }
                if sound { Ok(Node::new(Value::Map(entries), node.span)) } else { Err(Failed) }
            }),
            Value::List(list) => self.deeper(node.span, |this| {
                let mut items = Vec::with_capacity(list.len());
                let mut sound = true;
                this.charge(1, node.span)?;
                for (index, item) in list.iter().enumerate() {
                    place.enter_item(index, item);
                    match this.resolve(place) {
                        Ok(node) => items.push(node),
                        Err(Failed) if this.is_direct() => items.push(this.unresolved(item.span)),
                        Err(Failed) => sound = false,
                    }
                    place.leave();
                }
                if sound { Ok(Node::new(Value::List(items), node.span)) } else { Err(Failed) }
            }),
            value => {
                let length = if let Value::Text(text) = value { text.len() } else { 0 };
                self.charge(1 + length / 64, node.span)?;
                Ok(conceal(node.clone(), place))
            }
        }
    }

    /// A text with `${`; resolved once however often it is referred to.
    fn interpolated(&mut self, place: &Place<'a>, text: &str) -> Result<Node> {
        let node = place.node();
        let address = std::ptr::from_ref(node);
        if let Some(known) = self.known.get(&address) {
            let known = known.clone();
            if let Ok(node) = &known {
                self.charge(weight(node), node.span)?;
            }
            return known;
        }
        if let Some(first) = self.active.iter().position(|(active, _)| *active == address) {
            let cycle: Vec<&str> = self.active[first..].iter().map(|(_, name)| name.as_str()).collect();
            let problem = cycle_problem(&cycle, node.span);
            self.problems.push(problem);
            return Err(Failed);
        }
        self.active.push((address, place.name()));
        let result = self.deeper(node.span, |this| {
            let site = Site { place, text, span: node.span };
            let parts = this.parse(&site)?;
            this.parts(&site, &parts, true)
        });
        self.active.pop();
        let result = result.map(|value| conceal(Node::new(value, node.span), place));
        self.known.insert(address, result.clone());
        result
    }

    fn parse(&mut self, site: &Site<'_, 'a>) -> Result<Vec<Part>> {
        grammar::parse_text(site.text).map_err(|error| {
            let span = self.within(site, error.at, error.at + 1);
            let cut = self.text_after(site.span).starts_with(" #");
            self.problems.push(
                Diagnostic::error("interpolation::syntax", error.message)
                    .at(span, "")
                    .help_opt(error.help)
                    .help_opt(cut.then_some("put the whole value in quotes: ` #` begins a comment")),
            );
            Failed
        })
    }

    /// Parts as one value: an interpolation alone keeps its type unless `typed` is false.
    fn parts(&mut self, site: &Site<'_, 'a>, parts: &[Part], typed: bool) -> Result<Value> {
        if let ([Part::Interpolation(interpolation)], true) = (parts, typed) {
            return self.interpolation(site, interpolation).map(|node| node.value);
        }
        let mut text = String::new();
        let mut taint = Taint::None;
        let mut sound = true;
        for part in parts {
            match part {
                Part::Text(literal) => text.push_str(literal),
                Part::Interpolation(interpolation) => match self.interpolation(site, interpolation) {
                    Ok(node) => taint = taint.and(python::push_str(&node, &mut text)),
                    Err(Failed) => sound = false,
                },
            }
        }
        if !sound {
            return Err(Failed);
        }
        self.charge(1 + text.len() / 64, site.span)?;
        Ok(match taint {
            Taint::None => Value::Text(text),
            Taint::Secret => Value::Secret(Secret::new(text)),
            Taint::Missing(variable) => Value::MissingSecret { variable },
        })
    }

    fn interpolation(&mut self, site: &Site<'_, 'a>, interpolation: &Interpolation) -> Result<Node> {
        let target = self.target(site, interpolation)?;
        match target {
            Target::Value(node) => Ok(node),
            Target::Place(mut place) => {
                if place.node().as_text() == Some("???") {
                    let span = self.within(site, interpolation.start, interpolation.end);
                    self.problems.push(
                        Diagnostic::error(
                            "interpolation::missing-value",
                            format!("`{}` is `???`: it must be given a value", place.name()),
                        )
                        .at(span, "needed here")
                        .at(place.node().span, ""),
                    );
                    return Err(Failed);
                }
                self.following += 1;
                let result = self.resolve(&mut place);
                self.following -= 1;
                result
            }
        }
    }

    /// What an interpolation points at, not yet resolved where it is a place in a tree.
    fn target(&mut self, site: &Site<'_, 'a>, interpolation: &Interpolation) -> Result<Target<'a>> {
        match &interpolation.kind {
            Reference::Path(parts) => {
                let path = self.word(site, interpolation, parts)?;
                match self.select(site, &path)? {
                    Some(target) => Ok(target),
                    None => Err(self.missing_here(site, interpolation, &path)),
                }
            }
            Reference::Resolver { name, arguments } => {
                let name = self.word(site, interpolation, std::slice::from_ref(name))?;
                self.call(site, interpolation, &name, arguments)
            }
        }
    }

    /// Parts that must make a plain word: a path, a resolver's name.
    fn word(&mut self, site: &Site<'_, 'a>, interpolation: &Interpolation, parts: &[Part]) -> Result<String> {
        match self.parts(site, parts, false)? {
            Value::Text(text) => Ok(text),
            _ => Err(self.refuse(site, interpolation, "interpolation::arguments", "a key cannot be named by a secret")),
        }
    }

    /// Follows a path from a site: `a.b` from the root of its file, `.a` from beside it.
    fn select(&mut self, site: &Site<'_, 'a>, path: &str) -> Result<Option<Target<'a>>> {
        let rest = path.trim_start_matches('.');
        let dots = path.len() - rest.len();
        match site.place.up(dots) {
            Some(start) => self.walk(start, rest, site),
            None => Ok(None),
        }
    }

    /// Goes down a dotted path. At each mapping the longest key that fits is tried first, as in [`Node::at_path`].
    fn walk(&mut self, start: Place<'a>, path: &str, site: &Site<'_, 'a>) -> Result<Option<Target<'a>>> {
        self.deeper(site.span, |this| {
            let mut followed: Vec<(*const Node, usize, String)> = Vec::new();
            let hops = this.hops.len();
            let found = this.walk_from(start, path, site, &mut followed);
            this.hops.truncate(hops);
            found
        })
    }

    fn walk_from(
        &mut self,
        mut place: Place<'a>,
        path: &str,
        site: &Site<'_, 'a>,
        followed: &mut Vec<(*const Node, usize, String)>,
    ) -> Result<Option<Target<'a>>> {
        if path.is_empty() {
            return Ok(Some(Target::Place(place)));
        }
        // What stands here may itself be a reference.
        while let Value::Text(text) = &place.node().value {
            if !grammar::has_interpolation(text) {
                return Ok(None);
            }
            let address = std::ptr::from_ref(place.node());
            if followed.iter().any(|(other, rest, _)| *other == address && *rest == path.len())
                || followed.len() >= MAX_DEPTH
            {
                let first = followed.iter().position(|(other, ..)| *other == address).unwrap_or(0);
                let cycle: Vec<&str> = followed[first..].iter().map(|(.., name)| name.as_str()).collect();
                self.problems.push(cycle_problem(&cycle, site.span));
                return Err(Failed);
            }
            followed.push((address, path.len(), place.name()));
            self.hops.push(place.name());
            match self.follow(&place, text)? {
                Target::Place(next) => place = next,
                Target::Value(node) => return Ok(value_at(&node, path).map(|node| Target::Value(node.clone()))),
            }
        }
        match &place.node().value {
            Value::Map(map) => {
                // A whole key that holds dots comes before its parts.
                let cuts = std::iter::once(path.len()).chain(path.rmatch_indices('.').map(|(dot, _)| dot));
                for cut in cuts.take(MAX_DEPTH) {
                    let Some(node) = map.get(&path[..cut]) else { continue };
                    let mut below = place.clone();
                    below.enter(&path[..cut], node);
                    let rest = path.get(cut + 1..).unwrap_or_default();
                    if let Some(found) = self.walk_from(below, rest, site, followed)? {
                        return Ok(Some(found));
                    }
                }
                Ok(None)
            }
            Value::List(list) => {
                let (segment, rest) = path.split_once('.').unwrap_or((path, ""));
                let Some(index) = array_index(segment, list.len()) else { return Ok(None) };
                place.enter_item(index, &list[index]);
                self.walk_from(place, rest, site, followed)
            }
            _ => Ok(None),
        }
    }

    /// Where a text on the way of a path leads, without resolving more than is needed.
    fn follow(&mut self, place: &Place<'a>, text: &str) -> Result<Target<'a>> {
        let node = place.node();
        let site = Site { place, text, span: node.span };
        let parts = self.parse(&site)?;
        match parts.as_slice() {
            [Part::Interpolation(interpolation)] => {
                let address = std::ptr::from_ref(node);
                // Once is fine: the value that is being built may ask for another part of what it refers to.
                if self.active.iter().filter(|(active, _)| *active == address).count() > 1 {
                    let own = place.name();
                    let way = self.hops.iter().map(String::as_str).skip_while(|name| *name != own);
                    let mut cycle: Vec<&str> = way.skip(1).take_while(|name| *name != own).collect();
                    cycle.insert(0, &own);
                    self.problems.push(cycle_problem(&cycle, node.span));
                    return Err(Failed);
                }
                self.active.push((address, place.name()));
                let target = self.deeper(node.span, |this| this.target(&site, interpolation));
                self.active.pop();
                target
            }
            _ => self.interpolated(place, text).map(Target::Value),
        }
    }

    fn call(
        &mut self,
        site: &Site<'_, 'a>,
        interpolation: &Interpolation,
        name: &str,
        arguments: &[Element],
    ) -> Result<Target<'a>> {
        let (least, most) = match name {
            "globals" | "params" | "runtime_params" | "oc.env" | "env" | "oc.select" => (1, 2),
            _ => (1, 1),
        };
        if RESOLVERS.contains(&name) && !(least..=most).contains(&arguments.len()) {
            let wanted = if most == 2 { "a name and at most a default" } else { "one argument" };
            let message = format!("`{name}` takes {wanted}, but {} arguments were given", arguments.len());
            return Err(self.refuse(site, interpolation, "interpolation::arguments", &message));
        }
        let default = arguments.get(1);
        match name {
            "globals" | "params" | "runtime_params" => {
                self.other_file(site, interpolation, name, &arguments[0], default)
            }
            "oc.env" | "env" => self.variable(site, interpolation, &arguments[0], default).map(Target::Value),
            "oc.select" => {
                let path = self.argument_text(site, interpolation, &arguments[0])?;
                let path = dotted(&path);
                match (self.select(site, &path)?, default) {
                    (Some(target), _) => Ok(target),
                    (None, Some(default)) => self.element(site, default).map(Target::Value),
                    (None, None) => Ok(Target::Value(Node::new(Value::Null, site.span))),
                }
            }
            "oc.decode" => self.decode(site, interpolation, &arguments[0]).map(Target::Value),
            "oc.create" => self.create(site, &arguments[0]).map(Target::Value),
            "oc.dict.keys" | "oc.dict.values" => {
                self.dict(site, interpolation, name == "oc.dict.keys", &arguments[0]).map(Target::Value)
            }
            _ => {
                let span = self.within(site, interpolation.start, interpolation.end);
                self.problems.push(
                    Diagnostic::error("interpolation::unknown-resolver", format!("there is no resolver `{name}`"))
                        .at(span, "")
                        .help_opt(did_you_mean(name, RESOLVERS))
                        .help(format!("resolvers: {}; write `\\${{` for a literal `${{`", RESOLVERS.join(", "))),
                );
                Err(Failed)
            }
        }
    }

    /// `globals:`, `params:` and `runtime_params:`.
    fn other_file(
        &mut self,
        site: &Site<'_, 'a>,
        interpolation: &Interpolation,
        name: &str,
        argument: &Element,
        default: Option<&Element>,
    ) -> Result<Target<'a>> {
        let path = self.argument_text(site, interpolation, argument)?;
        let (area, root) = match name {
            "globals" => (Area::Globals, self.roots.globals),
            "params" => (Area::Parameters, self.roots.parameters),
            _ => (Area::Runtime, self.roots.runtime),
        };
        if name == "params" && !matches!(site.place.area(), Area::Catalog | Area::Pipeline | Area::Parameters) {
            let message = format!("`params:` cannot be used in {}", site.place.area().file());
            return Err(self.refuse(site, interpolation, "interpolation::arguments", &message));
        }
        if name == "globals" && path.starts_with('_') && site.place.area() != Area::Globals {
            let message =
                format!("`{path}` is private to globals.yml: names that begin with `_` cannot be used in other files");
            return Err(self.refuse(site, interpolation, "interpolation::missing-key", &message));
        }
        if area == Area::Runtime {
            self.asked.insert(path.clone());
        }
        match (self.walk(Place::root(area, root), &path, site)?, default) {
            (Some(target), _) => Ok(target),
            (None, Some(default)) => self.element(site, default).map(Target::Value),
            (None, None) => Err(self.missing(site, interpolation, root, &path, area)),
        }
    }

    /// `oc.env:NAME,default`. A variable named like a secret gives one, wherever it is used.
    fn variable(
        &mut self,
        site: &Site<'_, 'a>,
        interpolation: &Interpolation,
        argument: &Element,
        default: Option<&Element>,
    ) -> Result<Node> {
        let variable = self.argument_text(site, interpolation, argument)?;
        let secret = is_secret_name(&variable);
        let value = match ((self.environment)(&variable).filter(|_| !variable.is_empty()), default) {
            (Some(text), _) if secret => Value::Secret(Secret::new(text)),
            (Some(text), _) => Value::Text(text),
            (None, Some(default)) => {
                let node = self.element(site, default)?;
                let mut text = String::new();
                match (&node.value, python::push_str(&node, &mut text)) {
                    (Value::Null, _) => Value::Null,
                    (_, Taint::Missing(variable)) => Value::MissingSecret { variable },
                    (_, Taint::None) if !secret => Value::Text(text),
                    _ => Value::Secret(Secret::new(text)),
                }
            }
            (None, None) if secret || site.place.is_secret() => Value::MissingSecret { variable },
            (None, None) => {
                let span = self.within(site, interpolation.start, interpolation.end);
                self.problems.push(
                    Diagnostic::error(
                        "interpolation::missing-variable",
                        format!("the environment variable `{variable}` is not set"),
                    )
                    .at(span, "needed here")
                    .help(format!("set it, or give a default: `${{oc.env:{variable},default}}`")),
                );
                return Err(Failed);
            }
        };
        Ok(Node::new(value, site.span))
    }

    fn decode(&mut self, site: &Site<'_, 'a>, interpolation: &Interpolation, argument: &Element) -> Result<Node> {
        let node = self.element(site, argument)?;
        let (text, secret) = match &node.value {
            Value::Null | Value::MissingSecret { .. } => return Ok(node),
            Value::Text(text) => (text.as_str(), false),
            Value::Secret(secret) => (secret.expose(), true),
            _ => {
                let message = format!("`oc.decode` takes a string, not {}", node.kind());
                return Err(self.refuse(site, interpolation, "interpolation::arguments", &message));
            }
        };
        match grammar::parse_element(text) {
            Ok(element) => {
                let node = self.deeper(site.span, |this| this.element(site, &element))?;
                Ok(if secret { into_secret(node, true) } else { node })
            }
            Err(error) => {
                // The text may be a secret, so that it is not shown.
                let message = format!("the string given to `oc.decode` cannot be parsed: {}", error.message);
                let message =
                    if secret { "the secret given to `oc.decode` cannot be parsed" } else { message.as_str() };
                Err(self.refuse(site, interpolation, "interpolation::syntax", message))
            }
        }
    }

    fn create(&mut self, site: &Site<'_, 'a>, argument: &Element) -> Result<Node> {
        let node = self.element(site, argument)?;
        let Value::Text(text) = &node.value else { return Ok(node) };
        // A text is read as YAML, as OmegaConf does; its places are those of the interpolation.
        let mut own = Diagnostics::default();
        match super::yaml::parse(site.span.source, text, &mut own) {
            Some(node) => Ok(moved(as_mapping(node, text), site.span)),
            None => {
                let reason = own.as_slice().first().map_or("", |d| d.message.as_str());
                self.problems.push(
                    Diagnostic::error(
                        "interpolation::syntax",
                        format!("the string given to `oc.create` is not valid YAML: {reason}"),
                    )
                    .at(site.span, ""),
                );
                Err(Failed)
            }
        }
    }

    fn dict(
        &mut self,
        site: &Site<'_, 'a>,
        interpolation: &Interpolation,
        keys: bool,
        argument: &Element,
    ) -> Result<Node> {
        let mut node = self.element(site, argument)?;
        if let Value::Text(path) = &node.value {
            let path = path.clone();
            node = match self.select(site, &path)? {
                Some(Target::Value(node)) => node,
                Some(Target::Place(mut place)) => {
                    self.following += 1;
                    let result = self.resolve(&mut place);
                    self.following -= 1;
                    result?
                }
                None => return Err(self.missing_here(site, interpolation, &path)),
            };
        }
        let Value::Map(map) = node.value else {
            let message = format!("`oc.dict` takes a mapping, not {}", node.kind());
            return Err(self.refuse(site, interpolation, "interpolation::arguments", &message));
        };
        let list = map
            .entries
            .into_iter()
            .map(|(key, entry)| if keys { Node::new(Value::Text(key), entry.key_span) } else { entry.node });
        Ok(Node::new(Value::List(list.collect()), site.span))
    }

    fn element(&mut self, site: &Site<'_, 'a>, element: &Element) -> Result<Node> {
        let value = match element {
            Element::Scalar(value) => value.clone(),
            Element::Mixed(parts) => self.parts(site, parts, true)?,
            Element::Quoted(parts) => self.parts(site, parts, false)?,
            Element::List(list) => {
                // All of them, so that each problem is told.
                let items: Vec<_> = list.iter().map(|item| self.element(site, item)).collect();
                Value::List(items.into_iter().collect::<Result<_>>()?)
            }
            Element::Dict(dict) => {
                let mut map = Map::default();
                let items: Vec<_> = dict.iter().map(|(key, item)| (key, self.element(site, item))).collect();
                for (key, node) in items {
                    let node = node?;
                    map.entries.insert(key.clone(), super::Entry { key_span: site.span, node });
                }
                Value::Map(map)
            }
        };
        Ok(Node::new(value, site.span))
    }

    /// An argument that must be a plain word.
    fn argument_text(
        &mut self,
        site: &Site<'_, 'a>,
        interpolation: &Interpolation,
        argument: &Element,
    ) -> Result<String> {
        let node = self.element(site, argument)?;
        let mut text = String::new();
        match (&node.value, python::push_str(&node, &mut text)) {
            (Value::Text(_) | Value::Int(_) | Value::Bool(_) | Value::Float(_), Taint::None) => Ok(text),
            _ => {
                let message = format!("the first argument must be a name, not {}", node.kind());
                Err(self.refuse(site, interpolation, "interpolation::arguments", &message))
            }
        }
    }

    fn deeper<T>(&mut self, span: Span, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth >= MAX_DEPTH + super::tree::MAX_DEPTH || self.active.len() > MAX_DEPTH {
            self.problems
                .push(Diagnostic::error("interpolation::too-deep", "references are nested too deep").at(span, ""));
            return Err(Failed);
        }
        self.depth += 1;
        let result = work(self);
        self.depth -= 1;
        result
    }

    fn charge(&mut self, weight: usize, span: Span) -> Result<()> {
        if self.following == 0 && self.active.is_empty() {
            return Ok(());
        }
        self.repeated += weight;
        if self.repeated <= MAX_REPEATED {
            return Ok(());
        }
        // Once is enough: everything after is beyond the limit as well.
        if self.repeated - weight > MAX_REPEATED {
            return Err(Failed);
        }
        self.problems.push(
            Diagnostic::error(
                "interpolation::too-large",
                format!("references expand to more than {MAX_REPEATED} values"),
            )
            .at(span, "the limit is reached here")
            .help("reduce the repetition: references to references multiply"),
        );
        Err(Failed)
    }

    fn refuse(
        &mut self,
        site: &Site<'_, 'a>,
        interpolation: &Interpolation,
        code: &'static str,
        message: &str,
    ) -> Failed {
        let span = self.within(site, interpolation.start, interpolation.end);
        self.problems.push(Diagnostic::error(code, message).at(span, ""));
        Failed
    }

    /// A path of the same file that leads nowhere.
    fn missing_here(&mut self, site: &Site<'_, 'a>, interpolation: &Interpolation, path: &str) -> Failed {
        let rest = path.trim_start_matches('.');
        let area = site.place.area();
        match site.place.up(path.len() - rest.len()) {
            Some(base) => self.missing(site, interpolation, base.node(), rest, area),
            None => {
                let message = format!("`${{{path}}}` has too many dots: it leads outside of {}", area.file());
                self.refuse(site, interpolation, "interpolation::missing-key", &message)
            }
        }
    }

    fn missing(
        &mut self,
        site: &Site<'_, 'a>,
        interpolation: &Interpolation,
        base: &Node,
        path: &str,
        area: Area,
    ) -> Failed {
        if self.unread.contains(&area) {
            return Failed;
        }
        let file = area.file();
        let span = self.within(site, interpolation.start, interpolation.end);
        self.suggested += 1;
        let help = (self.suggested <= MAX_SUGGESTIONS).then(|| suggestion(base, path)).flatten();
        self.problems.push(
            Diagnostic::error("interpolation::missing-key", format!("there is no `{path}` in {file}"))
                .at(span, "needed here")
                .help_opt(help),
        );
        Failed
    }

    /// The place in the file of a range of the decoded text. Escapes and folded lines make the two differ, so that the
    /// n-th `${` of one is looked up as the n-th of the other.
    fn within(&self, site: &Site<'_, 'a>, start: usize, end: usize) -> Span {
        let source = &self.sources.get(site.span.source).text;
        let raw = source.get(site.span.start..site.span.end).unwrap_or_default();
        let text = site.text;
        let start = text.floor_char_boundary(start.min(text.len()));
        let end = text.floor_char_boundary(end.clamp(start, text.len()));
        let opening = text.get(..(start + 2).min(text.len())).and_then(|head| head.rfind("${")).unwrap_or(0);
        let before = text[..opening].matches("${").count();
        let Some((at, _)) = raw.match_indices("${").nth(before) else { return site.span };
        let begin = if raw[at..].starts_with(&text[opening..start]) { at + start - opening } else { at };
        let length = if raw[begin..].starts_with(&text[start..end]) { end - start } else { 2.min(raw.len() - begin) };
        Span { source: site.span.source, start: site.span.start + begin, end: site.span.start + begin + length }
    }

    fn text_after(&self, span: Span) -> &str {
        self.sources.get(span.source).text.get(span.end..).unwrap_or_default()
    }
}

fn cycle_problem(cycle: &[&str], span: Span) -> Diagnostic {
    let mut names = cycle.join("` → `");
    if let Some(first) = cycle.first() {
        names = format!("`{names}` → `{first}`");
    }
    Diagnostic::error("interpolation::cycle", format!("references form a cycle: {names}")).at(span, "")
}

/// True for a tree that resolving would not change: it holds no interpolation and no secret.
pub(super) fn is_plain(node: &Node) -> bool {
    match &node.value {
        Value::Text(text) => !grammar::has_interpolation(text),
        Value::List(list) => list.iter().all(is_plain),
        Value::Map(map) => map.iter().all(|(key, entry)| {
            let secret = is_secret_name(key) || key == "credentials";
            !secret && is_plain(&entry.node)
        }),
        _ => true,
    }
}

/// The nearest name on the level where a path leaves the tree.
fn suggestion(base: &Node, path: &str) -> Option<String> {
    let Value::Map(map) = &base.value else { return None };
    let keys = || map.entries.keys();
    if let Some(found) = did_you_mean(path, keys()) {
        return Some(found);
    }
    let cuts = path.rmatch_indices('.').map(|(dot, _)| dot);
    for cut in cuts {
        if let Some(node) = map.get(&path[..cut]) {
            return suggestion(node, &path[cut + 1..]);
        }
    }
    did_you_mean(path.split('.').next().unwrap_or(path), keys())
}

/// Makes what stands under a secret's name a secret.
fn conceal(node: Node, place: &Place<'_>) -> Node {
    if place.is_secret() { into_secret(node, place.area() == Area::Credentials) } else { node }
}

fn into_secret(node: Node, booleans: bool) -> Node {
    let value = match node.value {
        Value::Text(text) => Value::Secret(Secret::new(text)),
        Value::Int(_) | Value::Float(_) => Value::Secret(Secret::new(python::to_str(&node))),
        Value::Bool(yes) if booleans => Value::Secret(Secret::new(yes.to_string())),
        Value::List(list) => Value::List(list.into_iter().map(|node| into_secret(node, booleans)).collect()),
        Value::Map(mut map) => {
            for entry in map.entries.values_mut() {
                let node = std::mem::replace(&mut entry.node, Node::new(Value::Null, entry.key_span));
                entry.node = into_secret(node, booleans);
            }
            Value::Map(map)
        }
        value => value,
    };
    Node::new(value, node.span)
}

/// `a[0][b]` as `a.0.b`.
fn dotted(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for c in path.chars() {
        match c {
            '[' if out.is_empty() || out.ends_with('.') => {}
            '[' => out.push('.'),
            ']' => {}
            c => out.push(c),
        }
    }
    out
}

/// What OmegaConf makes of a text that is no collection: a mapping with the text as its only key.
fn as_mapping(node: Node, text: &str) -> Node {
    let mut map = Map::default();
    match node.value {
        Value::Map(_) | Value::List(_) => return node,
        Value::Null => {}
        _ => {
            let nothing = Node::new(Value::Null, node.span);
            map.entries.insert(text.to_owned(), super::Entry { key_span: node.span, node: nothing });
        }
    }
    Node::new(Value::Map(map), node.span)
}

fn moved(mut node: Node, span: Span) -> Node {
    node.span = span;
    match &mut node.value {
        Value::List(list) => {
            list.iter_mut().for_each(|item| *item = moved(std::mem::replace(item, Node::new(Value::Null, span)), span))
        }
        Value::Map(map) => map.entries.values_mut().for_each(|entry| {
            entry.key_span = span;
            entry.node = moved(std::mem::replace(&mut entry.node, Node::new(Value::Null, span)), span);
        }),
        _ => {}
    }
    node
}

/// How much memory a copy takes.
fn weight(node: &Node) -> usize {
    match &node.value {
        Value::Text(text) => 1 + text.len() / 64,
        Value::Secret(secret) => 1 + secret.expose().len() / 64,
        Value::List(list) => 1 + list.iter().map(weight).sum::<usize>(),
        Value::Map(map) => 1 + map.iter().map(|(_, entry)| 1 + weight(&entry.node)).sum::<usize>(),
        _ => 1,
    }
}

#[cfg(test)]
#[path = "interpolate_tests.rs"]
mod tests;
