//! Names that `--params` gives: which of them some file of the project knows.

use std::collections::BTreeSet;

use super::{
    grammar::{self, Element, Part, Reference},
    layers::Unknown,
    place::is_below,
    spec::PipelineSpec,
    tree::{Map, Node, Value},
};
use crate::diagnostic::{Diagnostic, Diagnostics, did_you_mean};

/// Names that files ask for.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// `${runtime_params:…}`: looked for in `--params` alone.
    runtime: BTreeSet<String>,
    /// `${params:…}`, and `params:…` of nodes: looked for in the parameters.
    parameters: BTreeSet<String>,
}

impl Asked {
    /// Adds what a tree asks for, read before it is resolved: a default that is not needed may ask as well.
    pub(super) fn read(&mut self, node: &Node) {
        match &node.value {
            Value::Text(text) if grammar::has_interpolation(text) => {
                // What is no interpolation is reported where it is resolved.
                self.parts(&grammar::parse_text(text).unwrap_or_default());
            }
            Value::List(list) => list.iter().for_each(|item| self.read(item)),
            Value::Map(map) => map.iter().for_each(|(_, entry)| self.read(&entry.node)),
            _ => {}
        }
    }

    /// Adds the names that were only known once they were resolved.
    pub(super) fn extend_runtime(&mut self, names: BTreeSet<String>) {
        self.runtime.extend(names);
    }

    /// Adds what the nodes of a pipeline ask for.
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

    /// Reports names of `--params` that nobody knows. `parameters` are those of the files alone.
    pub(super) fn check(&self, unknown: &[Unknown], parameters: &Node, problems: &mut Diagnostics) {
        if unknown.is_empty() {
            return;
        }
        let absent = |path: &&String| parameters.at_path(path).is_none();
        let mut names: Vec<String> =
            self.runtime.iter().chain(self.parameters.iter().filter(absent)).cloned().collect();
        let known = |name: &str| names.iter().any(|asked| is_below(name, asked) || is_below(asked, name));
        let unknown: Vec<&Unknown> = unknown.iter().filter(|unknown| !known(&unknown.path)).collect();
        collect_paths(parameters, "", &mut names);
        for Unknown { path, span } in unknown {
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
