//! Selections: the nodes that a command is about.

use std::collections::BTreeSet;

use petgraph::Direction;

use super::{Graph, NodeId, NodeVertex};
use crate::{
    diagnostic::{Diagnostic, Diagnostics, did_you_mean},
    model::DatasetRef,
};

/// Kedro's name for all pipelines together.
const DEFAULT: &str = "__default__";

/// Selectors. Each list that is not empty selects nodes; a node is selected when all of them select it. No selector
/// selects everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Nodes of any of these pipelines. The other selectors then see these nodes only.
    pub pipelines: Vec<String>,
    /// These nodes and no others.
    pub nodes: Vec<String>,
    /// These nodes and all their dependents.
    pub from_nodes: Vec<String>,
    /// These nodes and all their dependencies.
    pub to_nodes: Vec<String>,
    /// Nodes that read any of these datasets or parameters, and all their dependents.
    pub from_inputs: Vec<String>,
    /// Nodes that write any of these datasets, and all their dependencies.
    pub to_outputs: Vec<String>,
    /// Nodes with any of these tags.
    pub tags: Vec<String>,
    /// Nodes in any of these namespaces, inner ones too.
    pub namespaces: Vec<String>,
    /// Removed at the end: nodes by name, or by `tag:name`. Their dependents stay.
    pub exclude: Vec<String>,
}

impl Selection {
    /// Splits a list at commas; parts are trimmed, empty ones dropped.
    pub fn split(list: &str) -> Vec<String> {
        list.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
    }

    /// True when there is no selector, which selects everything.
    pub fn is_everything(&self) -> bool {
        *self == Self::default()
    }
}

impl Graph {
    /// The nodes that a selection takes, in execution order. An empty set is not an error.
    ///
    /// # Errors
    /// With every unknown name, and suggestions.
    pub fn select(&self, selection: &Selection) -> Result<BTreeSet<NodeId>, Diagnostics> {
        let mut problems = Diagnostics::default();
        let scope = Scope { graph: self, ids: self.scope(&selection.pipelines, &mut problems) };
        let mut sets = Vec::new();
        let nodes = |names: &[String], problems: &mut Diagnostics| -> BTreeSet<NodeId> {
            names.iter().filter_map(|name| scope.node(name, problems)).collect()
        };
        if !selection.nodes.is_empty() {
            sets.push(nodes(&selection.nodes, &mut problems));
        }
        if !selection.from_nodes.is_empty() {
            sets.push(scope.reach(nodes(&selection.from_nodes, &mut problems), Direction::Outgoing));
        }
        if !selection.to_nodes.is_empty() {
            sets.push(scope.reach(nodes(&selection.to_nodes, &mut problems), Direction::Incoming));
        }
        if !selection.from_inputs.is_empty() {
            let readers = selection.from_inputs.iter().flat_map(|name| scope.readers(name, &mut problems)).collect();
            sets.push(scope.reach(readers, Direction::Outgoing));
        }
        if !selection.to_outputs.is_empty() {
            let writers = selection.to_outputs.iter().filter_map(|name| scope.writer(name, &mut problems)).collect();
            sets.push(scope.reach(writers, Direction::Incoming));
        }
        if !selection.tags.is_empty() {
            selection.tags.iter().for_each(|tag| self.check_tag(tag, &mut problems));
            sets.push(scope.filter(|node| node.tags.iter().any(|tag| selection.tags.contains(tag))));
        }
        if !selection.namespaces.is_empty() {
            let sum = selection.namespaces.iter().flat_map(|name| scope.namespace(name, &mut problems)).collect();
            sets.push(sum);
        }
        let excluded = self.excluded(&selection.exclude, &mut problems);
        if problems.has_errors() {
            return Err(problems);
        }
        let taken = scope.ids.iter().filter(|id| !excluded.contains(id) && sets.iter().all(|set| set.contains(id)));
        Ok(taken.copied().collect())
    }

    fn scope(&self, pipelines: &[String], problems: &mut Diagnostics) -> BTreeSet<NodeId> {
        let unknown: Vec<_> =
            pipelines.iter().filter(|name| *name != DEFAULT && !self.pipelines.contains(name)).collect();
        for &name in &unknown {
            let known: Vec<_> = self.pipelines.iter().map(|name| format!("`{name}`")).collect();
            let help = did_you_mean(name, &self.pipelines).unwrap_or_else(|| match known.as_slice() {
                [] => "the project has no pipelines".to_owned(),
                known => format!("the project has {}", known.join(", ")),
            });
            problems.push(
                Diagnostic::error("selection::unknown-pipeline", format!("there is no pipeline `{name}`")).help(help),
            );
        }
        let default = pipelines.is_empty() || pipelines.iter().any(|name| name == DEFAULT);
        // A Kedro project may leave some of its pipelines out of the default one.
        let own = self.pipelines.iter().any(|name| name == DEFAULT);
        let all = default && !own;
        // With an unknown pipeline, names are looked up in the whole graph, so that one error does not cause others.
        let taken = |node: &&NodeVertex| {
            let named = |name: &String| pipelines.contains(name) || (default && name == DEFAULT);
            all || !unknown.is_empty() || node.pipelines.iter().any(named)
        };
        self.nodes().iter().filter(taken).map(|node| node.id).collect()
    }

    fn check_tag(&self, tag: &str, problems: &mut Diagnostics) {
        if self.nodes().iter().all(|node| node.tags.iter().all(|known| known != tag)) {
            let tags: BTreeSet<_> = self.nodes().iter().flat_map(|node| &node.tags).collect();
            problems.push(
                Diagnostic::error("selection::unknown-tag", format!("no node has the tag `{tag}`"))
                    .help_opt(did_you_mean(tag, tags)),
            );
        }
    }

    fn excluded(&self, exclude: &[String], problems: &mut Diagnostics) -> BTreeSet<NodeId> {
        let whole = Scope { graph: self, ids: self.nodes().iter().map(|node| node.id).collect() };
        let mut excluded = BTreeSet::new();
        for name in exclude {
            match name.strip_prefix("tag:") {
                Some(tag) => {
                    self.check_tag(tag, problems);
                    excluded.extend(whole.filter(|node| node.tags.iter().any(|known| known == tag)));
                }
                None => excluded.extend(whole.node(name, problems)),
            }
        }
        excluded
    }
}

/// The nodes among which selectors look.
struct Scope<'a> {
    graph: &'a Graph,
    ids: BTreeSet<NodeId>,
}

impl Scope<'_> {
    fn nodes(&self) -> impl Iterator<Item = &NodeVertex> {
        self.ids.iter().map(|id| &self.graph[*id])
    }

    fn filter(&self, take: impl Fn(&NodeVertex) -> bool) -> BTreeSet<NodeId> {
        self.nodes().filter(|node| take(node)).map(|node| node.id).collect()
    }

    fn reach(&self, starts: BTreeSet<NodeId>, direction: Direction) -> BTreeSet<NodeId> {
        self.graph.reach(starts, direction, |id| self.ids.contains(&id))
    }

    fn node(&self, name: &str, problems: &mut Diagnostics) -> Option<NodeId> {
        let found = self.graph.node(name);
        if let Some(node) = found.filter(|node| self.ids.contains(&node.id)) {
            return Some(node.id);
        }
        let elsewhere = found
            .map(|node| format!("it belongs to pipeline `{}`, which is not selected", node.pipelines.join("` and `")));
        let inner = || {
            let ending = format!(".{name}");
            let full = self.nodes().find(|node| node.name.ends_with(&ending))?;
            Some(format!("did you mean `{}`?", full.name))
        };
        let help = elsewhere.or_else(inner).or_else(|| did_you_mean(name, self.nodes().map(|node| &node.name)));
        problems.push(
            Diagnostic::error("selection::unknown-node", format!("there is no node `{name}`"))
                .help(help.unwrap_or_else(|| "`flow ls nodes` lists them".to_owned())),
        );
        None
    }

    /// Nodes that read a dataset. A view selects readers of that view, or of any view if there are none.
    fn readers(&self, name: &str, problems: &mut Diagnostics) -> BTreeSet<NodeId> {
        if let Some(wanted) = self.known(name, problems) {
            let reads = |node: &NodeVertex, wanted: &dyn Fn(&DatasetRef) -> bool| {
                node.inputs.iter().any(|link| wanted(&link.dataset))
            };
            let exact = self.filter(|node| reads(node, &|dataset| *dataset == wanted));
            if !exact.is_empty() {
                return exact;
            }
            return self.filter(|node| reads(node, &|dataset| dataset.base() == wanted.base()));
        }
        BTreeSet::new()
    }

    /// The node that writes a dataset. There is one for all views.
    fn writer(&self, name: &str, problems: &mut Diagnostics) -> Option<NodeId> {
        let wanted = self.known(name, problems)?;
        self.graph.dataset(wanted.base())?.producer.filter(|id| self.ids.contains(id))
    }

    /// A dataset or parameter that some node names: the exact name, or a base name for all its views.
    fn known(&self, name: &str, problems: &mut Diagnostics) -> Option<DatasetRef> {
        let wanted: Option<DatasetRef> = name.parse().ok();
        let fits = |node: &NodeVertex| {
            node.inputs.iter().chain(&node.outputs).any(|link| {
                wanted.as_ref().is_some_and(|wanted| {
                    link.dataset == *wanted || wanted.view().is_none() && link.dataset.base() == wanted.base()
                })
            })
        };
        if self.nodes().any(&fits) {
            return wanted;
        }
        let links = |nodes: &mut dyn Iterator<Item = &NodeVertex>| -> BTreeSet<String> {
            let all = nodes.flat_map(|node| node.inputs.iter().chain(&node.outputs));
            all.flat_map(|link| [link.dataset.to_string(), link.dataset.base().to_owned()]).collect()
        };
        let views: Vec<_> = wanted
            .iter()
            .filter_map(|wanted| self.graph.dataset(wanted.base()))
            .flat_map(|dataset| dataset.views.iter().map(|view| format!("`{}`", view.name)))
            .collect();
        let help = if let Some(node) = self.graph.nodes().iter().find(|node| fits(node)) {
            format!("it belongs to pipeline `{}`, which is not selected", node.pipelines.join("` and `"))
        } else if !views.is_empty() {
            format!("nodes name {}", views.join(", "))
        } else {
            did_you_mean(name, links(&mut self.nodes()))
                .unwrap_or_else(|| "name a dataset that a node reads or writes".to_owned())
        };
        problems.push(
            Diagnostic::error("selection::unknown-dataset", format!("no node reads or writes `{name}`")).help(help),
        );
        None
    }

    fn namespace(&self, name: &str, problems: &mut Diagnostics) -> BTreeSet<NodeId> {
        let found = self.filter(|node| node.namespace.as_deref().is_some_and(|namespace| is_in(namespace, name)));
        if found.is_empty() {
            // Outer namespaces count too, whether or not a node is directly in them.
            let known: BTreeSet<&str> = self
                .nodes()
                .filter_map(|node| node.namespace.as_deref())
                .flat_map(|full| full.match_indices('.').map(|(dot, _)| &full[..dot]).chain([full]))
                .collect();
            let help = did_you_mean(name, &known).or_else(|| {
                let known: Vec<_> = known.iter().map(|name| format!("`{name}`")).collect();
                Some(format!("there are {}", known.join(", "))).filter(|_| !known.is_empty())
            });
            problems.push(
                Diagnostic::error("selection::unknown-namespace", format!("no node is in the namespace `{name}`"))
                    .help_opt(help),
            );
        }
        found
    }
}

/// True for the namespace itself and all inside it.
fn is_in(namespace: &str, outer: &str) -> bool {
    namespace.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::{super::testing::Sketch, *};

    /// ```text
    /// raw ─ clean ─ x@table … x@partitioned ─ embed ─ y ─ join ─ report ─ publish (other pipeline)
    ///        │                                             │
    ///        └ params:a                 side ─ prepare ─ z ┘      archive after join
    /// ```
    fn graph() -> Graph {
        Sketch::new()
            .node("main", "clean", &["raw", "params:a"], &["x@table"])
            .node("main", "embed", &["x@partitioned", "params:b.c"], &["y"])
            .node("main", "ns.prepare", &["side", "params:a"], &["z"])
            .node("main", "join", &["y", "z"], &["report"])
            .node("main", "archive", &["parameters"], &[])
            .after("archive", &["join"])
            .node("other", "publish", &["report"], &["site"])
            .node("other", "ns.in.again", &["site"], &[])
            .pipeline("empty")
            .tags("clean", &["fast", "first"])
            .tags("embed", &["slow"])
            .tags("join", &["slow", "last"])
            .namespace("ns.prepare", "ns")
            .namespace("ns.in.again", "ns.in")
            .graph()
    }

    fn select(edit: impl FnOnce(&mut Selection)) -> Result<Vec<String>, Vec<String>> {
        let mut selection = Selection::default();
        edit(&mut selection);
        let graph = graph();
        match graph.select(&selection) {
            Ok(ids) => Ok(ids.into_iter().map(|id| graph[id].name.clone()).collect()),
            Err(problems) => Err(problems
                .as_slice()
                .iter()
                .map(|p| format!("{}: {}; {}", p.code, p.message, p.help.join("; ")))
                .collect()),
        }
    }

    fn list(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    const ALL: &[&str] = &["clean", "ns.prepare", "embed", "join", "archive", "publish", "ns.in.again"];

    #[test]
    fn lists_are_parted_at_commas_and_trimmed() {
        assert_eq!(Selection::split(" a, b ,,c,"), ["a", "b", "c"]);
        assert_eq!(Selection::split(""), [""; 0]);
    }

    #[test]
    fn each_selector_means_what_it_means_in_kedro() {
        type Edit = fn(&mut Selection, Vec<String>);
        let nodes: Edit = |s, v| s.nodes = v;
        let from_nodes: Edit = |s, v| s.from_nodes = v;
        let to_nodes: Edit = |s, v| s.to_nodes = v;
        let from_inputs: Edit = |s, v| s.from_inputs = v;
        let to_outputs: Edit = |s, v| s.to_outputs = v;
        let tags: Edit = |s, v| s.tags = v;
        let namespaces: Edit = |s, v| s.namespaces = v;
        let pipelines: Edit = |s, v| s.pipelines = v;
        let exclude: Edit = |s, v| s.exclude = v;
        let after_join: &[&str] = &["join", "archive", "publish", "ns.in.again"];
        let cases: &[(&str, Edit, &[&str], &[&str])] = &[
            ("nothing", nodes, &[], ALL),
            ("nodes", nodes, &["join", "clean"], &["clean", "join"]),
            ("from_nodes", from_nodes, &["join"], after_join),
            ("from_nodes", from_nodes, &["archive", "publish"], &["archive", "publish", "ns.in.again"]),
            ("to_nodes", to_nodes, &["embed"], &["clean", "embed"]),
            ("to_nodes", to_nodes, &["archive"], &["clean", "ns.prepare", "embed", "join", "archive"]),
            ("from_inputs", from_inputs, &["raw"], &["clean", "embed", "join", "archive", "publish", "ns.in.again"]),
            ("from_inputs", from_inputs, &["x"], &["embed", "join", "archive", "publish", "ns.in.again"]),
            ("from_inputs", from_inputs, &["x@partitioned"], &["embed", "join", "archive", "publish", "ns.in.again"]),
            (
                "from_inputs, written view",
                from_inputs,
                &["x@table"],
                &["embed", "join", "archive", "publish", "ns.in.again"],
            ),
            (
                "from_inputs, parameter",
                from_inputs,
                &["params:b.c"],
                &["embed", "join", "archive", "publish", "ns.in.again"],
            ),
            ("from_inputs, whole parameters", from_inputs, &["parameters"], &["archive"]),
            ("to_outputs", to_outputs, &["x"], &["clean"]),
            ("to_outputs", to_outputs, &["x@table", "z"], &["clean", "ns.prepare"]),
            ("to_outputs, read view", to_outputs, &["x@partitioned"], &["clean"]),
            ("to_outputs of a free input", to_outputs, &["raw"], &[]),
            ("tags", tags, &["slow"], &["embed", "join"]),
            ("tags", tags, &["first", "last"], &["clean", "join"]),
            ("namespaces", namespaces, &["ns.in"], &["ns.in.again"]),
            ("namespaces, overlapping", namespaces, &["ns", "ns.in"], &["ns.prepare", "ns.in.again"]),
            ("pipelines", pipelines, &["other"], &["publish", "ns.in.again"]),
            ("pipelines", pipelines, &["other", "main"], ALL),
            ("pipelines", pipelines, &["__default__"], ALL),
            ("pipelines, empty", pipelines, &["empty"], &[]),
            ("exclude", exclude, &["tag:slow", "publish"], &["clean", "ns.prepare", "archive", "ns.in.again"]),
        ];
        for (what, edit, names, wanted) in cases {
            let found = select(|selection| edit(selection, list(names)));
            assert_eq!(found, Ok(list(wanted)), "{what} {names:?}");
        }
    }

    #[test]
    fn selectors_are_intersected_and_may_leave_nothing() {
        let found = select(|s| {
            s.from_nodes = list(&["clean"]);
            s.to_nodes = list(&["join"]);
            s.tags = list(&["slow"]);
        });
        assert_eq!(found, Ok(list(&["embed", "join"])));
        let found = select(|s| {
            s.nodes = list(&["clean"]);
            s.tags = list(&["slow"]);
        });
        assert_eq!(found, Ok(Vec::new()));
    }

    #[test]
    fn other_selectors_see_the_selected_pipelines_only() {
        let found = select(|s| {
            s.pipelines = list(&["main"]);
            s.from_nodes = list(&["join"]);
        });
        assert_eq!(found, Ok(list(&["join", "archive"])));
        let found = select(|s| {
            s.pipelines = list(&["main"]);
            s.nodes = list(&["publish"]);
            s.from_inputs = list(&["site"]);
        });
        assert_eq!(
            found,
            Err(list(&[
                "selection::unknown-node: there is no node `publish`; it belongs to pipeline `other`, which is not selected",
                "selection::unknown-dataset: no node reads or writes `site`; it belongs to pipeline `other`, which is not selected",
            ]))
        );
    }

    #[test]
    fn every_unknown_name_is_reported_with_a_suggestion() {
        let found = select(|s| {
            s.pipelines = list(&["mian", "none"]);
            s.nodes = list(&["clean"]);
        });
        assert_eq!(
            found,
            Err(list(&[
                "selection::unknown-pipeline: there is no pipeline `mian`; did you mean `main`?",
                "selection::unknown-pipeline: there is no pipeline `none`; the project has `main`, `other`, `empty`",
            ]))
        );
        let found = select(|s| {
            s.nodes = list(&["prepare", "clen", "unknown"]);
            s.from_inputs = list(&["x@spark", "rawe", "params:q", "a@b@c"]);
            s.tags = list(&["slwo"]);
            s.namespaces = list(&["n", "elsewhere"]);
            s.exclude = list(&["tag:none", "joni"]);
        });
        assert_eq!(
            found,
            Err(list(&[
                "selection::unknown-node: there is no node `prepare`; did you mean `ns.prepare`?",
                "selection::unknown-node: there is no node `clen`; did you mean `clean`?",
                "selection::unknown-node: there is no node `unknown`; `flow ls nodes` lists them",
                "selection::unknown-dataset: no node reads or writes `x@spark`; nodes name `x@partitioned`, `x@table`",
                "selection::unknown-dataset: no node reads or writes `rawe`; did you mean `raw`?",
                "selection::unknown-dataset: no node reads or writes `params:q`; did you mean `params:a`?",
                "selection::unknown-dataset: no node reads or writes `a@b@c`; name a dataset that a node reads or writes",
                "selection::unknown-tag: no node has the tag `slwo`; did you mean `slow`?",
                "selection::unknown-namespace: no node is in the namespace `n`; did you mean `ns`?",
                "selection::unknown-namespace: no node is in the namespace `elsewhere`; there are `ns`, `ns.in`",
                "selection::unknown-tag: no node has the tag `none`; ",
                "selection::unknown-node: there is no node `joni`; did you mean `join`?",
            ]))
        );
    }

    #[test]
    fn a_node_of_two_pipelines_is_selected_through_either() {
        let graph =
            Sketch::new().node("part", "n", &[], &["b"]).include("all", "part").node("all", "m", &["b"], &[]).graph();
        for (pipeline, wanted) in [("part", 1), ("all", 2)] {
            let selection = Selection { pipelines: list(&[pipeline]), ..Selection::default() };
            assert_eq!(graph.select(&selection).map(|ids| ids.len()).ok(), Some(wanted), "{pipeline}");
        }
    }
}
