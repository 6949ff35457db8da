//! Resolvers: what `${name:arguments}` gives.

use super::{
    super::{
        grammar::{self, Element},
        python::{self, Secrecy},
        tree::{Node, Value},
        tree_path::{TreeKind, TreePath},
        yaml,
    },
    evaluator::{Interpolator, Result, Target},
    origin::Origin,
    stack::EvaluationStack,
    values::{Concealed, as_mapping, dotted, into_secret, relocated},
};
use crate::{
    diagnostic::{Diagnostic, Diagnostics, did_you_mean},
    model::{Secret, is_secret_name},
};

/// Names of resolvers, and how many arguments each takes at most; all need one.
const RESOLVERS: &[(&str, usize)] = &[
    ("globals", 2),
    ("params", 2),
    ("runtime_params", 2),
    ("oc.env", 2),
    ("env", 2),
    ("oc.decode", 1),
    ("oc.select", 2),
    ("oc.create", 1),
    ("oc.dict.keys", 1),
    ("oc.dict.values", 1),
];

impl<'a> Interpolator<'a> {
    /// Calls a resolver.
    pub(super) fn call(&mut self, origin: Origin<'_, 'a>, name: &str, arguments: &[Element]) -> Result<Target<'a>> {
        let Some((_, most)) = RESOLVERS.iter().find(|(known, _)| *known == name) else {
            let names: Vec<&str> = RESOLVERS.iter().map(|(name, _)| *name).collect();
            let list = format!("resolvers: {}; write `\\${{` for a literal `${{`", names.join(", "));
            let help = |problem: Diagnostic| problem.help_opt(did_you_mean(name, names)).help(list);
            let message = format!("there is no resolver `{name}`");
            return Err(self.reporter.refuse_with(origin, "interpolation::unknown-resolver", message, "", help));
        };
        let (argument, default) = match arguments {
            [argument] => (argument, None),
            [argument, default] if *most == 2 => (argument, Some(default)),
            _ => {
                let wanted = if *most == 2 { "a name and at most a default" } else { "one argument" };
                let message = format!("`{name}` takes {wanted}, but {} arguments were given", arguments.len());
                return Err(self.reporter.refuse(origin, "interpolation::arguments", message));
            }
        };
        match name {
            "globals" | "params" | "runtime_params" => self.other_tree(origin, name, argument, default),
            "oc.select" => {
                let path = self.argument_text(origin, argument)?;
                match (self.select(origin, &dotted(&path))?, default) {
                    (Some(target), _) => Ok(target),
                    (None, Some(default)) => self.element(origin, default).map(Target::Value),
                    (None, None) => Ok(Target::Value(Node::new(Value::Null, origin.string_span()))),
                }
            }
            "oc.decode" => self.decode(origin, argument).map(Target::Value),
            "oc.create" => self.create(origin, argument).map(Target::Value),
            "oc.dict.keys" | "oc.dict.values" => self.dict(origin, name == "oc.dict.keys", argument).map(Target::Value),
            _ => self.variable(origin, argument, default).map(Target::Value),
        }
    }

    /// `globals:`, `params:` and `runtime_params:`.
    fn other_tree(
        &mut self,
        origin: Origin<'_, 'a>,
        name: &str,
        argument: &Element,
        default: Option<&Element>,
    ) -> Result<Target<'a>> {
        let path = self.argument_text(origin, argument)?;
        let (kind, root) = match name {
            "globals" => (TreeKind::Globals, self.roots.globals),
            "params" => (TreeKind::Parameters, self.roots.parameters),
            _ => (TreeKind::Runtime, self.roots.runtime),
        };
        let from = origin.path.kind();
        if name == "params" && !matches!(from, TreeKind::Catalog | TreeKind::Pipeline | TreeKind::Parameters) {
            let message = format!("`params:` cannot be used in {}", from.description());
            return Err(self.reporter.refuse(origin, "interpolation::arguments", message));
        }
        if name == "globals" && path.starts_with('_') && from != TreeKind::Globals {
            let message =
                format!("`{path}` is private to globals.yml: names that begin with `_` cannot be used in other files");
            return Err(self.reporter.refuse(origin, "interpolation::missing-key", message));
        }
        if kind == TreeKind::Runtime {
            self.requested.insert(path.clone());
        }
        match (self.walk(TreePath::root(kind, root), &path, origin)?, default) {
            (Some(target), _) => Ok(target),
            (None, Some(default)) => self.element(origin, default).map(Target::Value),
            (None, None) => Err(self.reporter.missing(origin, root, &path, kind)),
        }
    }

    /// `oc.env:NAME,default`. A variable named like a secret gives one, wherever it is used.
    fn variable(&mut self, origin: Origin<'_, 'a>, argument: &Element, default: Option<&Element>) -> Result<Node> {
        let variable = self.argument_text(origin, argument)?;
        let secret = is_secret_name(&variable);
        if origin.path.is_secret_by_name() {
            self.secret_variables.insert(variable.clone());
        }
        let value = match ((self.environment)(&variable).filter(|_| !variable.is_empty()), default) {
            (Some(text), _) if secret => Value::Secret(Secret::new(text)),
            (Some(text), _) => Value::Text(text),
            (None, Some(default)) => {
                let node = self.element(origin, default)?;
                let mut text = String::new();
                match (&node.value, python::push_str(&node, &mut text)) {
                    (Value::Null, _) => Value::Null,
                    (_, Secrecy::Missing(variable)) => Value::MissingSecret { variable },
                    (_, Secrecy::Public) if !secret => Value::Text(text),
                    _ => Value::Secret(Secret::new(text)),
                }
            }
            (None, None) if secret || origin.path.is_secret() => Value::MissingSecret { variable },
            (None, None) => {
                let message = format!("the environment variable `{variable}` is not set");
                let help = format!("set it, or give a default: `${{oc.env:{variable},default}}`");
                return Err(self.reporter.refuse_with(
                    origin,
                    "interpolation::missing-variable",
                    message,
                    "needed here",
                    |problem| problem.help(help),
                ));
            }
        };
        Ok(Node::new(value, origin.string_span()))
    }

    fn decode(&mut self, origin: Origin<'_, 'a>, argument: &Element) -> Result<Node> {
        let node = self.element(origin, argument)?;
        let (text, secret) = match &node.value {
            Value::Null | Value::MissingSecret { .. } => return Ok(node),
            Value::Text(text) => (text.as_str(), false),
            Value::Secret(secret) => (secret.expose(), true),
            _ => {
                let message = format!("`oc.decode` takes a string, not {}", node.kind());
                return Err(self.reporter.refuse(origin, "interpolation::arguments", message));
            }
        };
        match grammar::parse_element(text) {
            Ok(element) => {
                let push = EvaluationStack::push_collection;
                let node = self.nested(push, origin.string_span(), |this| this.element(origin, &element))?;
                Ok(if secret { into_secret(node, Concealed::Scalars) } else { node })
            }
            Err(error) => {
                // Not shown where it is a secret.
                let message = if secret {
                    "the secret given to `oc.decode` cannot be parsed".to_owned()
                } else {
                    format!("the string given to `oc.decode` cannot be parsed: {}", error.message)
                };
                Err(self.reporter.refuse(origin, "interpolation::syntax", message))
            }
        }
    }

    fn create(&mut self, origin: Origin<'_, 'a>, argument: &Element) -> Result<Node> {
        let node = self.element(origin, argument)?;
        let Value::Text(text) = &node.value else { return Ok(node) };
        // Read as YAML, as OmegaConf does; all of it is located at the interpolation.
        let span = origin.string_span();
        let mut own = Diagnostics::default();
        match yaml::parse(span.source, text, &mut own) {
            Some(node) => Ok(relocated(as_mapping(node, text), span)),
            None => {
                let reason = own.as_slice().first().map_or("", |d| d.message.as_str());
                let message = format!("the string given to `oc.create` is not valid YAML: {reason}");
                Err(self.reporter.push(Diagnostic::error("interpolation::syntax", message).at(span, "")))
            }
        }
    }

    fn dict(&mut self, origin: Origin<'_, 'a>, keys: bool, argument: &Element) -> Result<Node> {
        let mut node = self.element(origin, argument)?;
        if let Value::Text(path) = &node.value {
            let Some(target) = self.select(origin, path)? else {
                return Err(self.reporter.missing_in_file(origin, path));
            };
            node = self.value(target)?;
        }
        let Value::Map(map) = node.value else {
            let message = format!("`oc.dict` takes a mapping, not {}", node.kind());
            return Err(self.reporter.refuse(origin, "interpolation::arguments", message));
        };
        let list = map
            .entries
            .into_iter()
            .map(|(key, entry)| if keys { Node::new(Value::Text(key), entry.key_span) } else { entry.node });
        Ok(Node::new(Value::List(list.collect()), origin.string_span()))
    }

    /// An argument that must be a plain word.
    fn argument_text(&mut self, origin: Origin<'_, 'a>, argument: &Element) -> Result<String> {
        let node = self.element(origin, argument)?;
        let mut text = String::new();
        match (&node.value, python::push_str(&node, &mut text)) {
            (Value::Text(_) | Value::Int(_) | Value::Bool(_) | Value::Float(_), Secrecy::Public) => Ok(text),
            _ => {
                let message = format!("the first argument must be a name, not {}", node.kind());
                Err(self.reporter.refuse(origin, "interpolation::arguments", message))
            }
        }
    }
}
