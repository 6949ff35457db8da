//! Parameters that files refer to: what `--params` sets must be among them, or among those that files define.

use std::collections::BTreeSet;

use super::{
    grammar::{self, Element, Part, Reference},
    params::UnknownParameter,
    spec::PipelineSpec,
    tree::{Map, Node, Value},
    tree_path::is_below,
};
use crate::diagnostic::{Diagnostic, Diagnostics, did_you_mean};

/// Parameters that files refer to.
#[derive(Debug, Default)]
pub(super) struct ReferencedParameters {
    /// `${runtime_params:…}`: found in `--params` alone.
    runtime: BTreeSet<String>,
    /// `${params:…}`, and `params:…` of nodes: found in the parameters.
    parameters: BTreeSet<String>,
}

impl ReferencedParameters {
    /// Adds the references of a tree before it is interpolated, so that those in unused defaults count too.
    pub(super) fn read(&mut self, node: &Node) {
        match &node.value {
            Value::Text(text) if grammar::has_interpolation(text) => {
                // Invalid syntax is reported when the string is evaluated.
                self.parts(&grammar::parse_text(text).unwrap_or_default());
            }
            Value::List(list) => list.iter().for_each(|item| self.read(item)),
            Value::Map(map) => map.iter().for_each(|(_, entry)| self.read(&entry.node)),
            _ => {}
        }
    }

    /// Adds the names that only interpolation found out.
    pub(super) fn extend_runtime(&mut self, names: BTreeSet<String>) {
        self.runtime.extend(names);
    }

    /// Adds the parameters that are inputs of the nodes of a pipeline.
    pub(super) fn read_pipeline(&mut self, pipeline: &PipelineSpec) {
        let inputs = pipeline.nodes.iter().flat_map(|node| &node.inputs.list);
        let names = inputs.filter_map(|binding| binding.dataset.value.strip_prefix("params:"));
        self.parameters.extend(names.map(str::to_owned));
    }

    fn parts(&mut self, parts: &[Part]) {
        for part in parts {
            let Part::Interpolation(interpolation) = part else { continue };
            match &interpolation.kind {
                Reference::Path(parts) => self.parts(parts),
                Reference::Resolver { name, arguments } => {
                    if let (Part::Text(name), Some(Element::Mixed(parts) | Element::Quoted(parts))) =
                        (&**name, arguments.first())
                    {
                        self.name(name, parts);
                    }
                    if let (Part::Text(name), Some(Element::Scalar(Value::Text(path)))) = (&**name, arguments.first()) {
                        self.name(name, &[Part::Text(path.clone())]);
                    }
                    arguments.iter().for_each(|argument| self.element(argument));
                }
            }
        }
    }

    fn name(&mut self, resolver: &str, path: &[Part]) {
        let [Part::Text(path)] = path else { return };
        match resolver {
            "runtime_params" => drop(self.runtime.insert(path.clone())),
            "params" => drop(self.parameters.insert(path.clone())),
            _ => {}
        }
    }

    fn element(&mut self, element: &Element) {
        match element {
            Element::Scalar(_) => {}
            Element::Mixed(parts) | Element::Quoted(parts) => self.parts(parts),
            Element::List(list) => list.iter().for_each(|item| self.element(item)),
            Element::Dict(dict) => dict.iter().for_each(|(_, item)| self.element(item)),
        }
    }

    /// Reports what `--params` sets and no file defines or refers to. `parameters` are those of the files alone.
    pub(super) fn check(&self, unknown: &[UnknownParameter], parameters: &Node, problems: &mut Diagnostics) {
        if unknown.is_empty() {
            return;
        }
        let absent = |path: &&String| parameters.at_path(path).is_none();
        let mut names: Vec<String> =
            self.runtime.iter().chain(self.parameters.iter().filter(absent)).cloned().collect();
        let known =
            |name: &str| names.iter().any(|referenced| is_below(name, referenced) || is_below(referenced, name));
        let unknown: Vec<&UnknownParameter> = unknown.iter().filter(|unknown| !known(&unknown.path)).collect();
        collect_paths(parameters, "", &mut names);
        for UnknownParameter { path, span } in unknown {
            problems.push(
                Diagnostic::error("config::unknown-parameter", format!("unknown parameter `{path}`"))
                    .at(*span, "")
                    .help_opt(did_you_mean(path, &names))
                    .help(format!("write `+{path}=…` to add it")),
            );
        }
    }
}

fn collect_paths(node: &Node, prefix: &str, names: &mut Vec<String>) {
    for (key, entry) in node.as_map().into_iter().flat_map(Map::iter) {
        let path = if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") };
        collect_paths(&entry.node, &path, names);
        names.push(path);
    }
}
