//! Cycles: nodes that depend on each other.

use std::collections::HashMap;

use petgraph::{
    algo::kosaraju_scc,
    graph::{DiGraph, NodeIndex},
};

use super::{Edge, Vertex};

/// How many steps the search for a shorter cycle may take, so that a component of thousands of nodes is reported at once.
const STEPS: usize = 2_000_000;

/// One cycle, starting at the node whose name comes first.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cycle {
    /// Node ids in the direction of data; the last leads to the first.
    pub nodes: Vec<usize>,
    /// The edge from each node to the next: a dataset's index, or `None` for an `after:`.
    pub through: Vec<Option<usize>>,
}

/// The shortest cycle of every strongly connected component, sorted by their first nodes' names.
pub(super) fn find<'a>(graph: &DiGraph<Vertex, Edge>, name: impl Fn(usize) -> &'a str) -> Vec<Cycle> {
    // Tarjan's algorithm recurses in petgraph, and a long chain of nodes would overflow the stack.
    let mut cycles: Vec<_> = kosaraju_scc(graph)
        .into_iter()
        .filter(|component| component.len() > 1 || graph.contains_edge(component[0], component[0]))
        .map(|component| describe(graph, shortest(graph, &component, &name), &name))
        .collect();
    cycles.sort_by_key(|cycle| cycle.nodes.first().map(|node| name(*node)));
    cycles
}

/// The vertices of a shortest cycle in a strongly connected part, by breadth-first searches that give up as soon as they
/// cannot beat the best cycle so far.
fn shortest<'a>(
    graph: &DiGraph<Vertex, Edge>,
    component: &[NodeIndex],
    name: impl Fn(usize) -> &'a str,
) -> Vec<NodeIndex> {
    let mut starts: Vec<_> = component.iter().filter_map(|v| Some((name(node(graph, *v)?), *v))).collect();
    starts.sort_unstable();
    // Members of the component only: no way back leads in from outside.
    let inside: HashMap<NodeIndex, usize> = component.iter().enumerate().map(|(i, v)| (*v, i)).collect();
    let mut best: Option<Vec<NodeIndex>> = None;
    let mut steps = STEPS;
    let mut from: Vec<Option<NodeIndex>> = vec![None; component.len()];
    for (_, start) in starts {
        if best.is_some() && steps == 0 {
            break;
        }
        from.fill(None);
        let mut layer = vec![start];
        let mut depth = 1;
        'search: while !layer.is_empty() && best.as_ref().is_none_or(|best| depth < best.len()) {
            let mut next_layer = Vec::new();
            for vertex in layer {
                let mut nexts: Vec<_> = graph.neighbors(vertex).collect();
                nexts.sort_unstable();
                for next in nexts {
                    steps = steps.saturating_sub(1);
                    if next == start {
                        best = Some(path(vertex, start, &from, &inside));
                        break 'search;
                    }
                    if let Some(&position) = inside.get(&next)
                        && from[position].is_none()
                    {
                        from[position] = Some(vertex);
                        next_layer.push(next);
                    }
                }
            }
            layer = next_layer;
            depth += 1;
        }
    }
    best.unwrap_or_else(|| component.to_vec())
}

fn path(
    last: NodeIndex,
    start: NodeIndex,
    from: &[Option<NodeIndex>],
    inside: &HashMap<NodeIndex, usize>,
) -> Vec<NodeIndex> {
    let mut path = vec![last];
    let mut at = last;
    while at != start {
        let Some(before) = inside.get(&at).and_then(|i| from[*i]) else { break };
        path.push(before);
        at = before;
    }
    path.reverse();
    path
}

fn describe<'a>(graph: &DiGraph<Vertex, Edge>, cycle: Vec<NodeIndex>, name: impl Fn(usize) -> &'a str) -> Cycle {
    let mut nodes = Vec::new();
    let mut through = Vec::new();
    for (i, vertex) in cycle.iter().enumerate() {
        let Some(id) = node(graph, *vertex) else { continue };
        nodes.push(id);
        through.push(match graph[cycle[(i + 1) % cycle.len()]] {
            Vertex::Dataset(position) => Some(position),
            Vertex::Node(_) | Vertex::Parameter(_) => None,
        });
    }
    let first = (0..nodes.len()).min_by_key(|i| name(nodes[*i])).unwrap_or_default();
    nodes.rotate_left(first);
    through.rotate_left(first);
    Cycle { nodes, through }
}

fn node(graph: &DiGraph<Vertex, Edge>, vertex: NodeIndex) -> Option<usize> {
    match graph[vertex] {
        Vertex::Node(id) => Some(id.index()),
        Vertex::Dataset(_) | Vertex::Parameter(_) => None,
    }
}
