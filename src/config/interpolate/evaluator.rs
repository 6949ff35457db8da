//! Evaluation: the value of a tree, of a string with `${…}`, and of what a parsed string is made of.

use std::collections::BTreeSet;

use indexmap::IndexMap;

use super::{
    super::{
        grammar::{self, Element, Interpolation, Part},
        python::{self, Secrecy},
        tree::{Entry, Map, Node, Value},
        tree_path::{TreeKind, TreePath},
    },
    budget::{CopyBudget, string_weight, weight},
    origin::Origin,
    reporter::{Reported, Reporter},
    stack::{Evaluation, EvaluationStack, StackError},
    values::conceal,
};
use crate::{
    diagnostic::{Diagnostic, Diagnostics, Sources, Span},
    model::Secret,
};

/// A value, or its problem was reported.
pub(super) type Result<T> = std::result::Result<T, Reported>;

/// The merged trees that references look into.
#[derive(Clone, Copy)]
pub(in crate::config) struct Roots<'a> {
    /// `parameters.yml` with `--params`.
    pub(in crate::config) parameters: &'a Node,
    /// `globals.yml`.
    pub(in crate::config) globals: &'a Node,
    /// What `--params` gave, alone.
    pub(in crate::config) runtime: &'a Node,
}

/// Where a reference leads.
#[derive(Debug)]
pub(super) enum Target<'a> {
    /// To a node of a tree, not evaluated yet.
    Node(TreePath<'a>),
    /// To a value that a resolver computed.
    Value(Node),
}

/// Resolves trees; see [`Interpolator::entries`].
pub(in crate::config) struct Interpolator<'a> {
    pub(super) roots: Roots<'a>,
    pub(super) environment: &'a dyn Fn(&str) -> Option<String>,
    pub(super) stack: EvaluationStack,
    pub(super) reporter: Reporter<'a>,
    budget: CopyBudget,
    /// Names that `${runtime_params:…}` referred to.
    pub(super) requested: BTreeSet<String>,
    /// Variables of the environment whose values become secrets by the key that they are written under.
    pub(super) secret_variables: BTreeSet<String>,
}

impl<'a> Interpolator<'a> {
    /// An interpolator over these trees.
    pub(in crate::config) fn new(
        roots: Roots<'a>,
        sources: &'a Sources,
        environment: &'a dyn Fn(&str) -> Option<String>,
        problems: &'a mut Diagnostics,
    ) -> Self {
        Self {
            roots,
            environment,
            stack: EvaluationStack::default(),
            reporter: Reporter::new(sources, problems),
            budget: CopyBudget::default(),
            requested: BTreeSet::new(),
            secret_variables: BTreeSet::new(),
        }
    }

    /// The same, where files of some trees could not be read.
    pub(in crate::config) fn with_unread(mut self, unread: &'a [TreeKind]) -> Self {
        self.reporter.unread = unread;
        self
    }

    /// The names that `${runtime_params:…}` referred to, and the variables of the environment whose values are secrets by
    /// the key that they are written under.
    pub(in crate::config) fn into_names(self) -> (BTreeSet<String>, BTreeSet<String>) {
        (self.requested, self.secret_variables)
    }

    /// Resolves a mapping. Values that failed are [`Value::Unresolved`]; their problems are reported.
    pub(in crate::config) fn entries(&mut self, kind: TreeKind, root: &'a Node) -> Node {
        let map = root.as_map().map(|map| self.mapping(&mut TreePath::root(kind, root), map));
        let value = map.and_then(Result::ok).unwrap_or_else(|| Value::Map(Map::default()));
        Node::new(value, root.span)
    }

    /// The value of a node, with everything below it.
    pub(super) fn evaluate(&mut self, path: &mut TreePath<'a>) -> Result<Node> {
        let node = path.node();
        let span = node.span;
        match &node.value {
            Value::Text(text) if grammar::has_interpolation(text) => self.string(path, text),
            Value::Map(map) => {
                let value = self.nested(EvaluationStack::push_collection, span, |this| this.mapping(path, map))?;
                Ok(Node::new(value, span))
            }
            Value::List(list) => {
                let value = self.nested(EvaluationStack::push_collection, span, |this| this.list(path, list))?;
                Ok(Node::new(value, span))
            }
            value => {
                let length = if let Value::Text(text) = value { text.len() } else { 0 };
                self.charge(string_weight(length), span)?;
                Ok(conceal(node.clone(), path))
            }
        }
    }

    fn mapping(&mut self, path: &mut TreePath<'a>, map: &'a Map) -> Result<Value> {
        self.charge(1 + map.entries.len(), path.node().span)?;
        let mut entries = IndexMap::with_capacity(map.entries.len());
        let mut result = Ok(());
        for (index, (key, Entry { key_span, node })) in map.iter().enumerate() {
            path.enter(index, key, node);
            match self.item(path) {
                Ok(node) => drop(entries.insert(key.to_owned(), Entry { key_span: *key_span, node })),
                Err(reported) => result = Err(reported),
            }
            path.leave();
        }
        result.map(|()| Value::Map(Map { entries }))
    }

    fn list(&mut self, path: &mut TreePath<'a>, list: &'a [Node]) -> Result<Value> {
        self.charge(1, path.node().span)?;
        let mut items = Vec::with_capacity(list.len());
        let mut result = Ok(());
        for (index, node) in list.iter().enumerate() {
            path.enter_item(index, node);
            match self.item(path) {
                Ok(node) => items.push(node),
                Err(reported) => result = Err(reported),
            }
            path.leave();
        }
        result.map(|()| Value::List(items))
    }

    /// An item of a collection. Outside of references one that failed stays as unresolved, so that the rest is checked
    /// all the same.
    fn item(&mut self, path: &mut TreePath<'a>) -> Result<Node> {
        match self.evaluate(path) {
            Err(Reported) if self.stack.is_outside_references() => Ok(Node::new(Value::Unresolved, path.node().span)),
            result => result,
        }
    }

    /// The value of a string with `${…}`; computed once however often it is referred to.
    pub(super) fn string(&mut self, path: &TreePath<'a>, text: &str) -> Result<Node> {
        let span = path.node().span;
        let id = path.id();
        match self.stack.evaluation(&id) {
            Evaluation::Done(None) => return Err(Reported),
            Evaluation::Done(Some(value)) => {
                let (weight, span) = (weight(value), value.span);
                // Before the copy is made.
                self.charge(weight, span)?;
                return self.stack.value(&id).cloned().ok_or(Reported);
            }
            Evaluation::InProgress(names) => return Err(self.reporter.cycle(&names, span)),
            Evaluation::Pending => {}
        }
        let push = |stack: &mut EvaluationStack| stack.push_evaluating(id.clone(), path.name());
        let value = self.nested(push, span, |this| {
            let origin = Origin::new(path, text);
            let parts = this.parse(origin)?;
            this.parts(origin, &parts, true)
        });
        let value = value.map(|value| conceal(Node::new(value, span), path));
        self.stack.finish(id, value.clone().ok());
        value
    }

    pub(super) fn parse(&mut self, origin: Origin<'_, 'a>) -> Result<Vec<Part>> {
        grammar::parse_text(origin.text).map_err(|error| self.reporter.syntax(origin, error))
    }

    /// Parts as one value: an interpolation alone keeps its type if `typed`.
    pub(super) fn parts(&mut self, origin: Origin<'_, 'a>, parts: &[Part], typed: bool) -> Result<Value> {
        if let ([Part::Interpolation(interpolation)], true) = (parts, typed) {
            return self.interpolation(origin, interpolation).map(|node| node.value);
        }
        let mut text = String::new();
        let mut secrecy = Secrecy::Public;
        let mut result = Ok(());
        for part in parts {
            match part {
                Part::Text(literal) => text.push_str(literal),
                Part::Interpolation(interpolation) => match self.interpolation(origin, interpolation) {
                    Ok(node) => secrecy = secrecy.and(python::push_str(&node, &mut text)),
                    Err(reported) => result = Err(reported),
                },
            }
        }
        result?;
        self.charge(string_weight(text.len()), origin.string_span())?;
        Ok(match secrecy {
            Secrecy::Public => Value::Text(text),
            Secrecy::Secret => Value::Secret(Secret::new(text)),
            Secrecy::Missing(variable) => Value::MissingSecret { variable },
        })
    }

    fn interpolation(&mut self, origin: Origin<'_, 'a>, interpolation: &Interpolation) -> Result<Node> {
        let origin = origin.interpolation(interpolation);
        let target = self.target(origin, &interpolation.kind)?;
        if let Target::Node(path) = &target
            && path.node().as_text() == Some("???")
        {
            let message = format!("`{}` is `???`: it must be given a value", path.name());
            let label = |problem: Diagnostic| problem.at(path.node().span, "");
            return Err(self.reporter.refuse_with(
                origin,
                "interpolation::missing-value",
                message,
                "needed here",
                label,
            ));
        }
        self.value(target)
    }

    /// The value that a reference leads to.
    pub(super) fn value(&mut self, target: Target<'a>) -> Result<Node> {
        match target {
            Target::Node(mut path) => self.evaluate(&mut path),
            Target::Value(node) => Ok(node),
        }
    }

    /// An argument of a resolver.
    pub(super) fn element(&mut self, origin: Origin<'_, 'a>, element: &Element) -> Result<Node> {
        let span = origin.string_span();
        let value = match element {
            Element::Scalar(value) => value.clone(),
            Element::Mixed(parts) => self.parts(origin, parts, true)?,
            Element::Quoted(parts) => self.parts(origin, parts, false)?,
            Element::List(list) => {
                // All of them, so that each problem is reported.
                let items: Vec<_> = list.iter().map(|item| self.element(origin, item)).collect();
                Value::List(items.into_iter().collect::<Result<_>>()?)
            }
            Element::Dict(dict) => {
                let items: Vec<_> = dict.iter().map(|(key, item)| (key, self.element(origin, item))).collect();
                let entry =
                    |(key, node): (&String, Result<Node>)| Ok((key.clone(), Entry { key_span: span, node: node? }));
                Value::Map(Map { entries: items.into_iter().map(entry).collect::<Result<_>>()? })
            }
        };
        Ok(Node::new(value, span))
    }

    /// Does some work with one more frame on the stack.
    pub(super) fn nested<T>(
        &mut self,
        push: impl FnOnce(&mut EvaluationStack) -> std::result::Result<(), StackError>,
        span: Span,
        work: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        let depth = self.stack.depth();
        push(&mut self.stack).map_err(|error| self.reporter.stack(error, span))?;
        let result = work(self);
        self.stack.truncate(depth);
        result
    }

    /// Counts a copy. What is outside of references is there once in any case.
    fn charge(&mut self, weight: usize, span: Span) -> Result<()> {
        if self.stack.is_outside_references() {
            return Ok(());
        }
        self.budget.charge(weight).map_err(|exhausted| self.reporter.too_large(&exhausted, span))
    }
}
