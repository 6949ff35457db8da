//! A layered graph layout, left to right.
//!
//! Pure geometry: ranks by the longest path, order inside a rank by the mean position of neighbours, heights by moving
//! boxes towards their neighbours as far as gaps allow. Deterministic, and fast enough for thousands of boxes.

use std::collections::VecDeque;

/// The size of a box.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Size {
    pub width: f64,
    pub height: f64,
}

/// A position.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Point {
    pub x: f64,
    pub y: f64,
}

/// A computed layout.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Layout {
    /// The centre of each box, in the order given.
    pub boxes: Vec<Point>,
    /// The points of each edge, from the right side of one box to the left side of another, in the order given.
    pub edges: Vec<Vec<Point>>,
    /// The size of the whole drawing, from (0, 0).
    pub size: Size,
}

/// Gap between boxes of one rank.
const GAP: f64 = 14.0;
/// Gap between ranks.
const ALLEY: f64 = 64.0;
/// Margin around the drawing.
const MARGIN: f64 = 24.0;
/// Passes over the ranks for ordering, and for heights.
const SWEEPS: usize = 12;
/// Edges that would need more bends than this are drawn without them.
const BENDS: usize = 30_000;

/// Places boxes so that every edge leads from left to right. Edges must not form a cycle.
pub(super) fn layout(boxes: &[Size], edges: &[(usize, usize)]) -> Layout {
    let ranks = ranks(boxes.len(), edges);
    let mut drawing = Drawing::new(boxes, edges, &ranks);
    drawing.order();
    drawing.pull();
    drawing.finish(boxes, edges)
}

/// The column of each box. A box without incoming edges is right before the first one that it leads to.
fn ranks(boxes: usize, edges: &[(usize, usize)]) -> Vec<usize> {
    let mut next = vec![Vec::new(); boxes];
    let mut waiting = vec![0_usize; boxes];
    for &(from, to) in edges {
        next[from].push(to);
        waiting[to] += 1;
    }
    let sources: Vec<usize> = (0..boxes).filter(|i| waiting[*i] == 0).collect();
    let mut ranks = vec![0_usize; boxes];
    let mut ready: VecDeque<usize> = sources.iter().copied().collect();
    while let Some(at) = ready.pop_front() {
        for &to in &next[at] {
            ranks[to] = ranks[to].max(ranks[at] + 1);
            waiting[to] -= 1;
            if waiting[to] == 0 {
                ready.push_back(to);
            }
        }
    }
    for source in sources {
        if let Some(first) = next[source].iter().map(|to| ranks[*to]).min() {
            ranks[source] = first.saturating_sub(1);
        }
    }
    ranks
}

/// Boxes, and bends of long edges as boxes without a size.
struct Drawing {
    sizes: Vec<Size>,
    ranks: Vec<usize>,
    /// Neighbours one rank to the left and to the right.
    left: Vec<Vec<usize>>,
    right: Vec<Vec<usize>>,
    /// The items of each rank, from top to bottom.
    columns: Vec<Vec<usize>>,
    /// The position of each item in its column.
    places: Vec<usize>,
    heights: Vec<f64>,
    /// The bends of each edge.
    bends: Vec<Vec<usize>>,
}

impl Drawing {
    fn new(boxes: &[Size], edges: &[(usize, usize)], ranks: &[usize]) -> Self {
        let mut drawing = Self {
            sizes: boxes.to_vec(),
            ranks: ranks.to_vec(),
            left: vec![Vec::new(); boxes.len()],
            right: vec![Vec::new(); boxes.len()],
            columns: Vec::new(),
            places: Vec::new(),
            heights: Vec::new(),
            bends: Vec::new(),
        };
        let needed: usize = edges.iter().map(|(from, to)| (ranks[*to] - ranks[*from]).saturating_sub(1)).sum();
        for &(from, to) in edges {
            let mut bends = Vec::new();
            let mut at = from;
            if needed <= BENDS {
                for rank in ranks[from] + 1..ranks[to] {
                    let bend = drawing.sizes.len();
                    drawing.sizes.push(Size { width: 0.0, height: 0.0 });
                    drawing.ranks.push(rank);
                    drawing.left.push(vec![at]);
                    drawing.right.push(Vec::new());
                    drawing.right[at].push(bend);
                    bends.push(bend);
                    at = bend;
                }
            }
            drawing.right[at].push(to);
            drawing.left[to].push(at);
            drawing.bends.push(bends);
        }
        let columns = drawing.ranks.iter().max().map_or(0, |last| last + 1);
        drawing.columns = vec![Vec::new(); columns];
        for (thing, rank) in drawing.ranks.iter().enumerate() {
            drawing.columns[*rank].push(thing);
        }
        drawing.places = vec![0; drawing.sizes.len()];
        drawing.heights = vec![0.0; drawing.sizes.len()];
        drawing.number();
        drawing
    }

    fn number(&mut self) {
        for column in &self.columns {
            for (place, thing) in column.iter().enumerate() {
                self.places[*thing] = place;
            }
        }
    }

    /// Orders each column by the positions of neighbours, back and forth, and keeps the order with the fewest crossings.
    fn order(&mut self) {
        let mut best = (self.crossings(), self.columns.clone());
        for sweep in 0..SWEEPS {
            let forth = sweep.is_multiple_of(2);
            let count = self.columns.len();
            for step in 0..count {
                let column = if forth { step } else { count - 1 - step };
                let mut things = std::mem::take(&mut self.columns[column]);
                let neighbours = if forth { &self.left } else { &self.right };
                let mean = |thing: usize| {
                    let near = &neighbours[thing];
                    if near.is_empty() {
                        return self.places[thing] as f64;
                    }
                    near.iter().map(|other| self.places[*other] as f64).sum::<f64>() / near.len() as f64
                };
                let mut keyed: Vec<(f64, usize)> = things.iter().map(|thing| (mean(*thing), *thing)).collect();
                // The sort is stable: ties keep their order.
                keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
                things = keyed.into_iter().map(|(_, thing)| thing).collect();
                for (place, thing) in things.iter().enumerate() {
                    self.places[*thing] = place;
                }
                self.columns[column] = things;
            }
            let crossings = self.crossings();
            if crossings < best.0 {
                best = (crossings, self.columns.clone());
            }
            if crossings == 0 {
                break;
            }
        }
        self.columns = best.1;
        self.number();
    }

    /// How often edges between neighbouring columns cross (inversions, counted with a Fenwick tree).
    fn crossings(&self) -> u64 {
        let mut crossings = 0;
        for (column, things) in self.columns.iter().enumerate() {
            let Some(next) = self.columns.get(column + 1) else { break };
            let mut tree = vec![0_u64; next.len() + 1];
            let mut seen = 0;
            for thing in things {
                let mut ends: Vec<usize> = self.right[*thing]
                    .iter()
                    .filter(|to| self.ranks[**to] == column + 1)
                    .map(|to| self.places[*to])
                    .collect();
                ends.sort_unstable();
                for end in &ends {
                    // Edges seen so far that end below this one cross it.
                    let mut not_below = 0;
                    let mut i = end + 1;
                    while i > 0 {
                        not_below += tree[i];
                        i &= i - 1;
                    }
                    crossings += seen - not_below;
                }
                for end in ends {
                    seen += 1;
                    let mut i = end + 1;
                    while i < tree.len() {
                        tree[i] += 1;
                        i += i & i.wrapping_neg();
                    }
                }
            }
        }
        crossings
    }

    /// Moves items towards the mean height of their neighbours, keeping order and gaps.
    fn pull(&mut self) {
        for column in &self.columns {
            let mut y = 0.0;
            for thing in column {
                let height = self.sizes[*thing].height;
                self.heights[*thing] = y + height / 2.0;
                y += height + GAP;
            }
        }
        for sweep in 0..SWEEPS {
            let count = self.columns.len();
            for step in 0..count {
                let column = if sweep.is_multiple_of(2) { step } else { count - 1 - step };
                let wishes: Vec<f64> = self.columns[column].iter().map(|thing| self.wish(*thing, sweep)).collect();
                let heights = settle(&wishes, &self.gaps(column));
                for (thing, height) in self.columns[column].iter().zip(heights) {
                    self.heights[*thing] = height;
                }
            }
        }
    }

    fn wish(&self, thing: usize, sweep: usize) -> f64 {
        let sides: &[&Vec<usize>] = match sweep {
            _ if sweep + 2 >= SWEEPS => &[&self.left[thing], &self.right[thing]],
            _ if sweep.is_multiple_of(2) => &[&self.left[thing]],
            _ => &[&self.right[thing]],
        };
        let near: Vec<f64> = sides.iter().flat_map(|side| side.iter()).map(|other| self.heights[*other]).collect();
        if near.is_empty() { self.heights[thing] } else { near.iter().sum::<f64>() / near.len() as f64 }
    }

    /// The minimal distance of each item of a column from the one above it.
    fn gaps(&self, column: usize) -> Vec<f64> {
        let things = &self.columns[column];
        things.windows(2).map(|pair| (self.sizes[pair[0]].height + self.sizes[pair[1]].height) / 2.0 + GAP).collect()
    }

    fn finish(self, boxes: &[Size], edges: &[(usize, usize)]) -> Layout {
        let mut x = MARGIN;
        let mut middles = Vec::with_capacity(self.columns.len());
        for column in &self.columns {
            let width = column.iter().map(|thing| self.sizes[*thing].width).fold(0.0, f64::max);
            middles.push(x + width / 2.0);
            x += width + ALLEY;
        }
        let top = |thing: usize| self.heights[thing] - self.sizes[thing].height / 2.0;
        let bottom = |thing: usize| self.heights[thing] + self.sizes[thing].height / 2.0;
        let all = 0..self.sizes.len();
        let highest = all.clone().map(top).fold(f64::INFINITY, f64::min);
        let lowest = all.map(bottom).fold(f64::NEG_INFINITY, f64::max);
        let point = |thing: usize| Point { x: middles[self.ranks[thing]], y: self.heights[thing] - highest + MARGIN };
        let paths = edges.iter().zip(&self.bends).map(|(&(from, to), bends)| {
            let (start, end) = (point(from), point(to));
            let start = Point { x: start.x + boxes[from].width / 2.0, ..start };
            let end = Point { x: end.x - boxes[to].width / 2.0, ..end };
            let mut path = vec![start];
            path.extend(bends.iter().map(|bend| point(*bend)));
            path.push(end);
            path
        });
        let empty = boxes.is_empty();
        let size = Size {
            width: if empty { 2.0 * MARGIN } else { x - ALLEY + MARGIN },
            height: if empty { 2.0 * MARGIN } else { lowest - highest + 2.0 * MARGIN },
        };
        Layout { boxes: (0..boxes.len()).map(point).collect(), edges: paths.collect(), size }
    }
}

/// The heights nearest to `wishes` (least squares) in which each is at least its gap below the one before: pools of
/// neighbours that touch move together (isotonic regression).
fn settle(wishes: &[f64], gaps: &[f64]) -> Vec<f64> {
    // Without the gaps, "at least the gap below" becomes "not above".
    let mut offset = 0.0;
    let mut offsets = Vec::with_capacity(wishes.len());
    for i in 0..wishes.len() {
        if i > 0 {
            offset += gaps[i - 1];
        }
        offsets.push(offset);
    }
    let mut pools: Vec<(f64, usize)> = Vec::new();
    for (wish, offset) in wishes.iter().zip(&offsets) {
        let mut pool = (wish - offset, 1);
        while let Some(&(sum, count)) = pools.last()
            && sum / count as f64 > pool.0 / pool.1 as f64
        {
            pool = (pool.0 + sum, pool.1 + count);
            pools.pop();
        }
        pools.push(pool);
    }
    let values = pools.into_iter().flat_map(|(sum, count)| std::iter::repeat_n(sum / count as f64, count));
    values.zip(offsets).map(|(value, offset)| value + offset).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOX: Size = Size { width: 100.0, height: 30.0 };

    #[test]
    fn a_chain_is_a_straight_line_to_the_right() {
        let drawn = layout(&[BOX; 3], &[(0, 1), (1, 2)]);
        assert!(drawn.boxes.windows(2).all(|pair| pair[0].x < pair[1].x && pair[0].y == pair[1].y), "{drawn:?}");
        assert_eq!(drawn.edges[0], [Point { x: 124.0, y: 39.0 }, Point { x: 188.0, y: 39.0 }]);
        assert_eq!(drawn.size, Size { width: 3.0 * 100.0 + 2.0 * ALLEY + 2.0 * MARGIN, height: 30.0 + 2.0 * MARGIN });
    }

    #[test]
    fn crossings_are_untangled() {
        // Given in the worst order: 0→5, 1→4, 2→3.
        let drawn = layout(&[BOX; 6], &[(0, 5), (1, 4), (2, 3)]);
        for (from, to) in [(0, 5), (1, 4), (2, 3)] {
            assert_eq!(drawn.boxes[from].y, drawn.boxes[to].y, "{drawn:?}");
        }
    }

    #[test]
    fn a_free_input_is_right_before_its_reader() {
        let drawn = layout(&[BOX; 4], &[(0, 1), (1, 2), (3, 2)]);
        assert_eq!(drawn.boxes[3].x, drawn.boxes[1].x);
    }

    #[test]
    fn pools_settle_as_near_as_they_can() {
        assert_eq!(settle(&[0.0, 100.0], &[10.0]), [0.0, 100.0]);
        assert_eq!(settle(&[50.0, 50.0], &[10.0]), [45.0, 55.0]);
        assert_eq!(settle(&[9.0, 0.0, 0.0], &[3.0, 3.0]), [0.0, 3.0, 6.0]);
        assert_eq!(settle(&[], &[]), [0.0; 0]);
    }

    #[test]
    fn nothing_and_thousands_are_both_drawn() {
        let nothing = layout(&[], &[]);
        assert_eq!((nothing.boxes.len(), nothing.size), (0, Size { width: 2.0 * MARGIN, height: 2.0 * MARGIN }));
        // Every third edge is a long one.
        let edges: Vec<_> = (0..5_000).map(|i| (i, if i % 3 == 0 { (i + 40).min(5_000) } else { i + 1 })).collect();
        let drawn = layout(&[BOX; 5_001], &edges);
        assert!(drawn.boxes.iter().all(|point| point.x.is_finite() && point.y.is_finite()));
    }

    proptest! {
        #[test]
        fn boxes_never_overlap_and_edges_lead_right(
            heights in prop::collection::vec(10.0_f64..80.0, 1..25),
            picks in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..50),
        ) {
            let sizes: Vec<Size> = heights.iter().map(|height| Size { width: 2.0 * height, height: *height }).collect();
            let edges: Vec<(usize, usize)> = picks
                .iter()
                .map(|(a, b)| (a.index(sizes.len()), b.index(sizes.len())))
                .filter(|(a, b)| a != b)
                .map(|(a, b)| (a.min(b), a.max(b)))
                .collect();
            let drawn = layout(&sizes, &edges);
            prop_assert_eq!(&drawn, &layout(&sizes, &edges));
            for (path, (from, to)) in drawn.edges.iter().zip(&edges) {
                prop_assert!(path.windows(2).all(|pair| pair[0].x < pair[1].x), "{} to {}: {:?}", from, to, path);
            }
            for (i, (a, a_size)) in drawn.boxes.iter().zip(&sizes).enumerate() {
                for (b, b_size) in drawn.boxes.iter().zip(&sizes).skip(i + 1) {
                    let apart_x = (a.x - b.x).abs() >= (a_size.width + b_size.width) / 2.0 - 0.001;
                    let apart_y = (a.y - b.y).abs() >= (a_size.height + b_size.height) / 2.0 - 0.001;
                    prop_assert!(apart_x || apart_y, "{:?} and {:?}", a, b);
                }
                let inside = a.y - a_size.height / 2.0 >= -0.001 && a.y + a_size.height / 2.0 <= drawn.size.height + 0.001;
                prop_assert!(inside && a.x + a_size.width / 2.0 <= drawn.size.width, "{:?}", a);
            }
        }
    }
}
