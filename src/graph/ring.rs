//! Rings: nodes that wait for each other.

use std::collections::HashMap;

use petgraph::{
    algo::kosaraju_scc,
    graph::{DiGraph, NodeIndex},
};

use super::{Edge, Vertex};

/// How many steps the search for a shorter ring may take, so that a tangle of thousands of nodes is reported at once.
const STEPS: usize = 2_000_000;

/// One ring, starting at the node whose name comes first.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Members {
    /// Node ids in the direction of data; the last leads to the first.
    pub nodes: Vec<usize>,
    /// What leads from each node to the next: a dataset's position, or `None` for an `after:`.
    pub through: Vec<Option<usize>>,
}

/// The shortest ring of every tangle, sorted by their first nodes' names.
pub(super) fn find<'a>(graph: &DiGraph<Vertex, Edge>, name: impl Fn(usize) -> &'a str) -> Vec<Members> {
    // Tarjan's algorithm recurses in petgraph, and a long chain of nodes would overflow the stack.
    let mut rings: Vec<_> = kosaraju_scc(graph)
        .into_iter()
        .filter(|tangle| tangle.len() > 1 || graph.contains_edge(tangle[0], tangle[0]))
        .map(|tangle| describe(graph, shortest(graph, &tangle, &name), &name))
        .collect();
    rings.sort_by_key(|ring| ring.nodes.first().map(|node| name(*node)));
    rings
}

/// The vertices of a shortest ring in a strongly connected part, by breadth-first searches that give up as soon as they
/// cannot beat the best ring so far.
fn shortest<'a>(
    graph: &DiGraph<Vertex, Edge>,
    tangle: &[NodeIndex],
    name: impl Fn(usize) -> &'a str,
) -> Vec<NodeIndex> {
    let mut starts: Vec<_> = tangle.iter().filter_map(|v| Some((name(node(graph, *v)?), *v))).collect();
    starts.sort_unstable();
    // Members of the tangle only: no way back leads in from outside.
    let inside: HashMap<NodeIndex, usize> = tangle.iter().enumerate().map(|(i, v)| (*v, i)).collect();
    let mut best: Option<Vec<NodeIndex>> = None;
    let mut steps = STEPS;
    let mut from: Vec<Option<NodeIndex>> = vec![None; tangle.len()];
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
    best.unwrap_or_else(|| tangle.to_vec())
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

fn describe<'a>(graph: &DiGraph<Vertex, Edge>, ring: Vec<NodeIndex>, name: impl Fn(usize) -> &'a str) -> Members {
    let mut nodes = Vec::new();
    let mut through = Vec::new();
    for (i, vertex) in ring.iter().enumerate() {
        let Some(id) = node(graph, *vertex) else { continue };
        nodes.push(id);
        through.push(match graph[ring[(i + 1) % ring.len()]] {
            Vertex::Dataset(position) => Some(position),
            Vertex::Node(_) | Vertex::Parameter(_) => None,
        });
    }
    let first = (0..nodes.len()).min_by_key(|i| name(nodes[*i])).unwrap_or_default();
    nodes.rotate_left(first);
    through.rotate_left(first);
    Members { nodes, through }
}

fn node(graph: &DiGraph<Vertex, Edge>, vertex: NodeIndex) -> Option<usize> {
    match graph[vertex] {
        Vertex::Node(id) => Some(id.index()),
        Vertex::Dataset(_) | Vertex::Parameter(_) => None,
    }
}
