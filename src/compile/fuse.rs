//! Which nodes become one task: the connected parts of a fuse group whose contraction keeps the graph acyclic.
//!
//! Pure, over numbers: nodes are numbered in an order of execution, so every edge goes from a lower to a higher number.

/// The nodes and their edges.
#[derive(Debug, Clone, Default)]
pub(super) struct FuseInput {
    /// The group of each node, by number.
    pub groups: Vec<Option<usize>>,
    /// Every edge, from the node that comes first.
    pub edges: Vec<(usize, usize)>,
    /// Those along which data flows.
    pub data_edges: Vec<(usize, usize)>,
}

/// A partition of the nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Fused {
    /// Nodes that are one task, in an order of execution; each block is sorted.
    pub blocks: Vec<Vec<usize>>,
    /// Connected parts of a group that cannot be one task.
    pub divided: Vec<Divided>,
}

/// A connected part of a group that cannot be one task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Divided {
    /// Its nodes.
    pub nodes: Vec<usize>,
    /// A node outside that comes after one of them and before another.
    pub between: usize,
}

/// Fuses the nodes of each group.
pub(super) fn fuse(input: &FuseInput) -> Fused {
    let count = input.groups.len();
    let mut quotient = Quotient::new(count, &input.edges);
    let mut divided = Vec::new();
    for component in components(input) {
        let Some(between) = quotient.between(&component) else {
            quotient.merge(&component);
            continue;
        };
        divided.push(Divided { nodes: component.clone(), between });
        // Two at a time, until nothing fits together any more: an edge that is refused now may be contracted later.
        let inside = |node: &usize| component.binary_search(node).is_ok();
        let edges: Vec<(usize, usize)> =
            input.data_edges.iter().copied().filter(|(from, to)| inside(from) && inside(to)).collect();
        let mut changed = true;
        while std::mem::take(&mut changed) {
            for &(from, to) in &edges {
                if quotient.block[from] != quotient.block[to] && quotient.between(&[from, to]).is_none() {
                    quotient.merge(&[from, to]);
                    changed = true;
                }
            }
        }
    }
    Fused { blocks: quotient.in_order(), divided }
}

/// The connected parts of all groups with more than one node, by their first node; each is sorted.
fn components(input: &FuseInput) -> Vec<Vec<usize>> {
    let mut neighbours = vec![Vec::new(); input.groups.len()];
    for &(from, to) in &input.data_edges {
        if input.groups[from].is_some() && input.groups[from] == input.groups[to] {
            neighbours[from].push(to);
            neighbours[to].push(from);
        }
    }
    let mut seen = vec![false; input.groups.len()];
    let mut found = Vec::new();
    for start in 0..input.groups.len() {
        if std::mem::replace(&mut seen[start], true) {
            continue;
        }
        let mut component = vec![start];
        let mut at = 0;
        while let Some(&node) = component.get(at) {
            at += 1;
            for &next in &neighbours[node] {
                if !std::mem::replace(&mut seen[next], true) {
                    component.push(next);
                }
            }
        }
        if component.len() > 1 {
            component.sort_unstable();
            found.push(component);
        }
    }
    found
}

/// The graph of blocks. It is acyclic at all times.
struct Quotient {
    /// The block of each node.
    block: Vec<usize>,
    /// The nodes of each block, sorted; empty for a block that was merged into another.
    members: Vec<Vec<usize>>,
    successors: Vec<Vec<usize>>,
}

impl Quotient {
    fn new(count: usize, edges: &[(usize, usize)]) -> Self {
        let mut successors = vec![Vec::new(); count];
        for &(from, to) in edges {
            successors[from].push(to);
        }
        for list in &mut successors {
            list.sort_unstable();
            list.dedup();
        }
        Self { block: (0..count).collect(), members: (0..count).map(|node| vec![node]).collect(), successors }
    }

    /// A node outside of the blocks of these nodes that is on a path from one of them to another: contracting them would make
    /// a cycle.
    fn between(&self, nodes: &[usize]) -> Option<usize> {
        let mut inside: Vec<usize> = nodes.iter().map(|node| self.block[*node]).collect();
        inside.sort_unstable();
        inside.dedup();
        let is_inside = |block: usize| inside.binary_search(&block).is_ok();
        let last = inside.iter().filter_map(|block| self.members[*block].last()).max().copied()?;
        let mut seen = std::collections::HashSet::new();
        // Each with the block outside through which it was reached first.
        let mut open: Vec<(usize, usize)> = Vec::new();
        let next = |block: usize| self.members[block].iter().flat_map(|node| &self.successors[*node]);
        for &block in &inside {
            for &node in next(block).filter(|node| !is_inside(self.block[**node])) {
                open.push((self.block[node], node));
            }
        }
        while let Some((block, through)) = open.pop() {
            // Every edge goes to a higher number: a block that begins after the last of them leads to none.
            if self.members[block][0] > last || !seen.insert(block) {
                continue;
            }
            for &node in next(block) {
                if is_inside(self.block[node]) {
                    return Some(through);
                }
                open.push((self.block[node], through));
            }
        }
        None
    }

    fn merge(&mut self, nodes: &[usize]) {
        let into = self.block[nodes[0]];
        for node in nodes {
            let from = self.block[*node];
            if from != into {
                let moved = std::mem::take(&mut self.members[from]);
                for member in &moved {
                    self.block[*member] = into;
                }
                self.members[into].extend(moved);
            }
        }
        self.members[into].sort_unstable();
    }

    /// The blocks in an order of execution: of those that could come next, the one with the lowest node.
    fn in_order(mut self) -> Vec<Vec<usize>> {
        let mut waiting = vec![0_usize; self.block.len()];
        let edges = |from: &Vec<usize>, quotient: &Self| -> Vec<usize> {
            let own = quotient.block[from[0]];
            let all = from.iter().flat_map(|node| &quotient.successors[*node]).map(|node| quotient.block[*node]);
            all.filter(|block| *block != own).collect()
        };
        for members in self.members.iter().filter(|members| !members.is_empty()) {
            edges(members, &self).into_iter().for_each(|block| waiting[block] += 1);
        }
        let first = |members: &[usize], block: usize| std::cmp::Reverse((members[0], block));
        let mut ready: std::collections::BinaryHeap<_> = (self.members.iter().enumerate())
            .filter(|(block, members)| !members.is_empty() && waiting[*block] == 0)
            .map(|(block, members)| first(members, block))
            .collect();
        let mut ordered = Vec::new();
        while let Some(std::cmp::Reverse((_, block))) = ready.pop() {
            for next in edges(&self.members[block], &self) {
                waiting[next] -= 1;
                if waiting[next] == 0 {
                    ready.push(first(&self.members[next], next));
                }
            }
            ordered.push(block);
        }
        ordered.into_iter().map(|block| std::mem::take(&mut self.members[block])).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn input(groups: &[Option<usize>], edges: &[(usize, usize)]) -> FuseInput {
        FuseInput { groups: groups.to_vec(), edges: edges.to_vec(), data_edges: edges.to_vec() }
    }

    #[test]
    fn a_node_between_two_of_a_group_is_not_enclosed() {
        // A → B, A → X, {B, X} → C, with A, B and C in one group.
        let g = Some(0);
        let fused = fuse(&input(&[g, g, None, g], &[(0, 1), (0, 2), (1, 3), (2, 3)]));
        assert_eq!(fused.blocks, [vec![0, 1], vec![2], vec![3]]);
        assert_eq!(fused.divided, [Divided { nodes: vec![0, 1, 3], between: 2 }]);
    }

    #[test]
    fn parts_of_a_group_that_share_no_data_are_tasks_of_their_own() {
        let g = Some(0);
        let fused = fuse(&input(&[g, g, g, g], &[(0, 2), (1, 3)]));
        assert_eq!(fused.blocks, [vec![0, 2], vec![1, 3]]);
        assert!(fused.divided.is_empty());
    }

    #[test]
    fn two_groups_that_each_could_be_one_task_do_not_wait_for_each_other() {
        let (a, b) = (Some(0), Some(1));
        // a1 → a2, b1 → b2, a1 → b2, b1 → a2.
        let fused = fuse(&input(&[a, b, a, b], &[(0, 2), (1, 3), (0, 3), (1, 2)]));
        assert_eq!(fused.blocks.len(), 3);
        assert_eq!(fused.divided.len(), 1);
    }

    #[test]
    fn a_part_that_encloses_nothing_is_one_task_however_its_edges_are_ordered() {
        let g = Some(0);
        // A → C is also a path over B.
        let fused = fuse(&input(&[g, g, g], &[(0, 2), (0, 1), (1, 2)]));
        assert_eq!(fused.blocks, [vec![0, 1, 2]]);
    }

    #[test]
    fn ten_thousand_nodes_take_no_time() {
        let count = 10_000;
        let groups: Vec<_> = (0..count).map(|node| (node % 3 != 2).then_some(node / 30)).collect();
        let edges: Vec<_> =
            (1..count).flat_map(|node| [(node - 1, node), (node / 2, node)]).filter(|(a, b)| a < b).collect();
        let fused = fuse(&input(&groups, &edges));
        assert_eq!(fused.blocks.iter().map(Vec::len).sum::<usize>(), count);
    }

    /// Up to 12 nodes in up to 3 groups, with any edges that go forward.
    fn graphs() -> impl Strategy<Value = FuseInput> {
        (1_usize..12).prop_flat_map(|count| {
            let groups = proptest::collection::vec(proptest::option::weighted(0.7, 0_usize..3), count);
            let edges = proptest::collection::vec((0..count, 0..count, any::<bool>()), 0..30);
            (groups, edges).prop_map(|(groups, edges)| {
                let forward = |(a, b, data): (usize, usize, bool)| (a != b).then_some((a.min(b), a.max(b), data));
                let edges: Vec<_> = edges.into_iter().filter_map(forward).collect();
                FuseInput {
                    groups,
                    edges: edges.iter().map(|(a, b, _)| (*a, *b)).collect(),
                    data_edges: edges.iter().filter(|edge| edge.2).map(|(a, b, _)| (*a, *b)).collect(),
                }
            })
        })
    }

    proptest! {
        #[test]
        fn contraction_is_always_acyclic(input in graphs()) {
            let fused = fuse(&input);
            let mut block = vec![usize::MAX; input.groups.len()];
            for (index, nodes) in fused.blocks.iter().enumerate() {
                for node in nodes {
                    prop_assert_eq!(std::mem::replace(&mut block[*node], index), usize::MAX, "a node is in one block");
                }
                prop_assert!(nodes.len() == 1 || nodes.iter().all(|node| input.groups[*node].is_some()
                    && input.groups[*node] == input.groups[nodes[0]]));
            }
            prop_assert!(block.iter().all(|block| *block != usize::MAX), "every node is in a block");
            // The blocks are in an order of execution, so there is no cycle.
            for (from, to) in &input.edges {
                prop_assert!(block[*from] <= block[*to], "{} → {}", from, to);
            }
            // Nothing is left apart that could be together: each edge inside a group that is between two blocks is needed.
            for (from, to) in &input.data_edges {
                if block[*from] != block[*to] && input.groups[*from].is_some() && input.groups[*from] == input.groups[*to] {
                    prop_assert!(!fused.divided.is_empty());
                }
            }
        }
    }
}
