//! Problems that only show when all links of a dataset, or all nodes, are seen together.

use petgraph::graph::DiGraph;

use super::{
    DatasetMetadata, Edge, Vertex,
    build::{BoundNode, Builder, DatasetLinks, LinkIndex},
    cycle::{self, Cycle},
};
use crate::{diagnostic::Diagnostic, model::base_name};

impl Builder<'_> {
    pub(super) fn check_writers(&mut self, base: &str, usage: &DatasetLinks, bound_nodes: &[BoundNode<'_>]) {
        let node = |index: usize| bound_nodes[index].spec.name.value.as_str();
        if let [(first, first_link), others @ ..] = usage.writers.as_slice() {
            for (other, other_link) in others {
                let message = if first == other {
                    format!("node `{}` writes `{base}` twice", node(*first))
                } else {
                    format!("`{base}` is written by `{}` and by `{}`", node(*first), node(*other))
                };
                self.error(
                    Diagnostic::error("graph::two-producers", message)
                        .at(bound_nodes[*other].outputs[*other_link].span, "written here again")
                        .at(bound_nodes[*first].outputs[*first_link].span, "written here")
                        .help("let one of them write another dataset: a dataset, with all its views, is written by one node"),
                );
            }
        }
        for (writer, written) in &usage.writers {
            for (_, read) in usage.readers.iter().filter(|(reader, _)| reader == writer) {
                self.error(
                    Diagnostic::error(
                        "graph::reads-its-output",
                        format!("node `{}` reads and writes `{base}`", node(*writer)),
                    )
                    .at(bound_nodes[*writer].outputs[*written].span, "written here")
                    .at(bound_nodes[*writer].inputs[*read].span, "read here")
                    .help("write the new state to a dataset of its own: views of one dataset are the same data"),
                );
            }
        }
        if let ([], Some((index, position))) = (usage.writers.as_slice(), usage.readers.first()) {
            let link = &bound_nodes[*index].inputs[*position];
            if self.metadata(&link.dataset).is_some_and(|metadata| !metadata.persistent) {
                let message = format!("`{}` is kept in memory only, and no node writes it", link.dataset);
                self.problems.push(
                    Diagnostic::warning("graph::never-written", message)
                        .at(link.span, format!("read by `{}`", node(*index)))
                        .help("give it a `path` in the catalog, or write it with a node"),
                );
            }
        }
    }

    pub(super) fn check_bare_names(&mut self, base: &str, usage: &DatasetLinks, bound_nodes: &[BoundNode<'_>]) {
        let links = || {
            let read = usage.readers.iter().map(|(index, position)| &bound_nodes[*index].inputs[*position]);
            usage.writers.iter().map(|(index, position)| &bound_nodes[*index].outputs[*position]).chain(read)
        };
        let bare = links().find(|link| link.dataset.view().is_none());
        let viewed = links().find(|link| link.dataset.view().is_some());
        let (Some(bare), Some(viewed)) = (bare, viewed) else { return };
        // An unknown name has been reported with the views that there are.
        if self.metadata(&bare.dataset).is_none() || self.metadata(&viewed.dataset).is_none() {
            return;
        }
        self.error(
            Diagnostic::error(
                "graph::bare-name-beside-views",
                format!("`{base}` is used with and without a view, which would be two separate datasets"),
            )
            .at(bare.span, "without a view")
            .at(viewed.span, "with a view")
            .help(format!("use a view everywhere, such as `{}`", viewed.dataset)),
        );
    }

    /// Views of one dataset must be the same data.
    pub(super) fn check_views(&mut self, links: &LinkIndex) {
        let mut bases: Vec<_> = self.views.iter().filter(|(_, names)| names.len() > 1).collect();
        bases.sort_unstable();
        let groups: Vec<Vec<String>> = bases.into_iter().map(|(_, names)| names.clone()).collect();
        for names in groups {
            let mut first: Option<(String, DatasetMetadata)> = None;
            for name in names {
                let Some(metadata) = name.parse().ok().and_then(|view| self.metadata(&view).cloned()) else { continue };
                let Some((first_name, first_metadata)) = &first else {
                    first = Some((name, metadata));
                    continue;
                };
                let location = |metadata: &DatasetMetadata| metadata.location.as_deref().map(plain_path);
                if location(first_metadata) == location(&metadata) {
                    continue;
                }
                let at = |metadata: &DatasetMetadata| metadata.location.clone().unwrap_or_else(|| "memory".to_owned());
                let message =
                    format!("`{first_name}` and `{name}` are views of one dataset but have different locations");
                let base = base_name(&name);
                // Readers of one view would not see what was written to the other.
                let written = links.datasets.get(base).is_some_and(|usage| !usage.writers.is_empty());
                let new = if written { Diagnostic::error } else { Diagnostic::warning };
                let problem = new("graph::views-apart", message);
                let problem = problem
                    .at_opt(metadata.name_span, at(&metadata))
                    .at_opt(first_metadata.name_span, at(first_metadata))
                    .help("give all views of a dataset the same `path`");
                if written {
                    self.error(problem);
                } else {
                    self.problems.push(problem);
                }
            }
        }
    }

    pub(super) fn check_cycles(
        &mut self,
        graph: &DiGraph<Vertex, Edge>,
        bound_nodes: &[BoundNode<'_>],
        links: &LinkIndex,
    ) {
        let bases: Vec<_> = links.datasets.keys().collect();
        for cycle in cycle::find(graph, |index| bound_nodes[index].spec.name.value.as_str()) {
            let Cycle { nodes, through } = cycle;
            let name = |index: usize| bound_nodes[index].spec.name.value.as_str();
            let mut shown: Vec<_> = nodes.iter().map(|index| format!("`{}`", name(*index))).collect();
            shown.extend(shown.first().cloned());
            let message = format!("nodes depend on each other in a cycle: {}", shown.join(" → "));
            let mut diagnostic = Diagnostic::error("graph::cycle", message);
            for (i, index) in nodes.iter().enumerate() {
                let next = nodes[(i + 1) % nodes.len()];
                let bound = &bound_nodes[next];
                let (span, text) = match through[i] {
                    None => (
                        bound.after.iter().find(|(other, _)| other == index).map(|(_, span)| *span),
                        format!("`{}` comes after `{}`", name(next), name(*index)),
                    ),
                    Some(dataset) => {
                        let base = bases[dataset];
                        (
                            bound.inputs.iter().find(|link| link.dataset.base() == base).map(|link| link.span),
                            format!("`{}` reads `{base}`, which `{}` writes", name(next), name(*index)),
                        )
                    }
                };
                diagnostic = diagnostic.at(span.unwrap_or(bound.spec.name.span), text);
            }
            self.error(
                diagnostic
                    .help("remove one of these dependencies; write a dataset's new state to a dataset of its own"),
            );
        }
    }
}

/// A path in normal form: without trailing slashes and `.`, and without `..` after a folder.
fn plain_path(location: &str) -> String {
    let location = location.strip_prefix("file://").unwrap_or(location);
    if location.contains("://") {
        return location.trim_end_matches('/').to_owned();
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in location.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part == ".." && parts.last().is_some_and(|last| *last != "..") {
            parts.pop();
        } else {
            parts.push(part);
        }
    }
    let root = if location.starts_with('/') { "/" } else { "" };
    format!("{root}{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Sketch, check};

    #[test]
    fn a_dataset_has_one_producer_over_all_its_views() {
        check(
            &Sketch::new().node("p", "one", &[], &["x@a"]).node("p", "two", &[], &["x@b"]),
            &[
                "graph::two-producers: `x` is written by `one` and by `two`\n  at x@b: written here again\n  at x@a: written here\n  \
               help: let one of them write another dataset: a dataset, with all its views, is written by one node",
            ],
        );
        check(
            &Sketch::new().node("p", "one", &[], &["x@a", "x@b"]),
            &[
                "graph::two-producers: node `one` writes `x` twice\n  at x@b: written here again\n  at x@a: written here\n  help: \
               let one of them write another dataset: a dataset, with all its views, is written by one node",
            ],
        );
    }

    #[test]
    fn a_node_does_not_read_what_it_writes_under_any_view() {
        check(
            &Sketch::new().node("p", "n", &["x@a"], &["x@b"]),
            &[
                "graph::reads-its-output: node `n` reads and writes `x`\n  at x@b: written here\n  at x@a: read here\n  help: write the new state to a dataset of its own: views of one dataset are the same data",
            ],
        );
    }

    #[test]
    fn a_bare_name_beside_a_view_is_an_error_even_between_readers() {
        check(
            &Sketch::new().node("p", "n", &["x"], &[]).node("p", "m", &["x@table"], &[]),
            &[
                "graph::bare-name-beside-views: `x` is used with and without a view, which would be two separate datasets\n  at x: \
               without a view\n  at x@table: with a view\n  help: use a view everywhere, such as `x@table`",
            ],
        );
    }

    #[test]
    fn a_cycle_is_shown_whole_and_the_shortest_one_of_its_component() {
        check(
            &Sketch::new()
                .node("p", "c", &["y@b"], &["z"])
                .node("p", "a", &["z", "long3"], &["x"])
                .node("p", "b", &["x"], &["y@a", "long1"])
                .node("p", "l", &["long1"], &["long2"])
                .node("p", "m", &["long2"], &["long3"])
                .node("p", "free", &["z"], &["end"]),
            &[
                "graph::cycle: nodes depend on each other in a cycle: `a` → `b` → `c` → `a`\n  at x: `b` reads `x`, which `a` writes\n  \
               at y@b: `c` reads `y`, which `b` writes\n  at z: `a` reads `z`, which `c` writes\n  help: remove one of these dependencies; write a dataset's new state to a dataset of its own",
            ],
        );
        check(
            &Sketch::new()
                .node("p", "a", &["y"], &["x"])
                .node("p", "b", &["x"], &[])
                .after("a", &["b"])
                .node("p", "s", &[], &[])
                .after("s", &["s"]),
            &[
                "graph::cycle: nodes depend on each other in a cycle: `a` → `b` → `a`\n  at x: `b` reads `x`, which `a` writes\n  at \
                 b: `a` comes after `b`\n  help: remove one of these dependencies; write a dataset's new state to a dataset of its own",
                "graph::cycle: nodes depend on each other in a cycle: `s` → `s`\n  at s: `s` comes after `s`\n  help: remove one of these dependencies; write a dataset's new state to a dataset of its own",
            ],
        );
    }

    #[test]
    fn views_of_a_written_dataset_at_different_locations_are_an_error() {
        let sketch = |location: &str| {
            let location = location.to_owned();
            Sketch::new()
                .node("p", "n", &[], &["x@a"])
                .dataset("x@a", |metadata| metadata.location = Some("data/x".into()))
                .dataset("x@b", move |metadata| metadata.location = Some(location))
        };
        for same in ["data/x/", "./data/x", "data//./y/../x", "file://data/x"] {
            check(&sketch(same), &[]);
        }
        check(
            &sketch("data/y"),
            &[
                "graph::views-apart: `x@a` and `x@b` are views of one dataset but have different locations\n  at x@b: data/y\n  at \
                 x@a: data/x\n  help: give all views of a dataset the same `path`",
            ],
        );
    }

    #[test]
    fn views_at_different_locations_and_memory_that_no_node_writes_are_warnings() {
        let sketch = Sketch::new()
            .node("p", "n", &["x@a"], &[])
            .dataset("x@a", |metadata| metadata.location = Some("data/x/".into()))
            .dataset("x@b", |metadata| metadata.location = Some("data/x".into()))
            .dataset("x@c", |metadata| metadata.location = Some("data/z".into()));
        check(
            &sketch,
            &[
                "graph::views-apart: `x@a` and `x@c` are views of one dataset but have different locations\n  at x@c: data/z\n  at \
               x@a: data/x/\n  help: give all views of a dataset the same `path`",
            ],
        );
        check(
            &Sketch::new().node("p", "n", &["m"], &[]).dataset("m", |metadata| metadata.persistent = false),
            &[
                "graph::never-written: `m` is kept in memory only, and no node writes it\n  at m: read by `n`\n  help: give it a `path` in the catalog, or write it with a node",
            ],
        );
    }
}
