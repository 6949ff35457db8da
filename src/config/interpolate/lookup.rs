//! Lookup: the node or value that a reference leads to, found without computing more than the way there needs.

use std::collections::HashSet;

use super::{
    super::{
        grammar::{self, Part, Reference},
        tree::Value,
        tree_path::{MAX_CUTS, TreeNodeId, TreePath, array_index, cuts, value_at},
    },
    evaluator::{Interpolator, Result, Target},
    origin::Origin,
};

/// A node from which a path continues.
struct Candidate<'a, 'p> {
    path: TreePath<'a>,
    /// What is left of the path.
    rest: &'p str,
    /// Frames of the stack when it was found.
    depth: usize,
}

impl<'a> Interpolator<'a> {
    /// What an interpolation leads to.
    pub(super) fn target(&mut self, origin: Origin<'_, 'a>, reference: &Reference) -> Result<Target<'a>> {
        match reference {
            Reference::Path(parts) => {
                let path = self.word(origin, parts)?;
                match self.select(origin, &path)? {
                    Some(target) => Ok(target),
                    None => Err(self.reporter.missing_in_file(origin, &path)),
                }
            }
            Reference::Resolver { name, arguments } => {
                let name = self.word(origin, std::slice::from_ref(name))?;
                self.call(origin, &name, arguments)
            }
        }
    }

    /// Parts that must make a plain word: a path, or a resolver's name.
    fn word(&mut self, origin: Origin<'_, 'a>, parts: &[Part]) -> Result<String> {
        match self.parts(origin, parts, false)? {
            Value::Text(text) => Ok(text),
            _ => Err(self.reporter.refuse(origin, "interpolation::arguments", "a key cannot be named by a secret")),
        }
    }

    /// Follows a path of the same file: `a.b` from its root, `.a` from the collection around the reference.
    pub(super) fn select(&mut self, origin: Origin<'_, 'a>, path: &str) -> Result<Option<Target<'a>>> {
        let rest = path.trim_start_matches('.');
        match origin.path.ancestor(path.len() - rest.len()) {
            Some(start) => self.walk(start, rest, origin),
            None => Ok(None),
        }
    }

    /// Goes down a dotted path. At each mapping the longest key that fits is tried first, as in
    /// [`Node::at_path`](super::super::tree::Node::at_path).
    pub(super) fn walk(
        &mut self,
        start: TreePath<'a>,
        path: &str,
        origin: Origin<'_, 'a>,
    ) -> Result<Option<Target<'a>>> {
        let base = self.stack.depth();
        let found = self.search(Candidate { path: start, rest: path, depth: base }, origin);
        self.stack.truncate(base);
        found
    }

    /// Depth first, so that what was passed on the way to a candidate is on the stack.
    fn search(&mut self, start: Candidate<'a, '_>, origin: Origin<'_, 'a>) -> Result<Option<Target<'a>>> {
        let base = start.depth;
        // References that were passed, with what was left of the path: they lead nowhere a second time either.
        let mut visited = HashSet::new();
        let mut candidates = vec![start];
        while let Some(Candidate { path, rest, depth }) = candidates.pop() {
            self.stack.truncate(depth);
            if rest.is_empty() {
                return Ok(Some(Target::Node(path)));
            }
            let mut path = match self.behind(path, rest, base, &mut visited, origin)? {
                Some(Target::Node(path)) => path,
                Some(value) => return Ok(Some(value)),
                None => continue,
            };
            let depth = self.stack.depth();
            match &path.node().value {
                Value::Map(map) => {
                    let first = candidates.len();
                    for cut in cuts(rest).take(MAX_CUTS) {
                        let Some((index, key, entry)) = map.entries.get_full(&rest[..cut]) else { continue };
                        let mut path = path.clone();
                        path.enter(index, key, &entry.node);
                        candidates.push(Candidate { path, rest: rest.get(cut + 1..).unwrap_or_default(), depth });
                    }
                    // The last one is tried first.
                    candidates[first..].reverse();
                }
                Value::List(list) => {
                    let (segment, rest) = rest.split_once('.').unwrap_or((rest, ""));
                    if let Some(index) = array_index(segment, list.len()) {
                        path.enter_item(index, &list[index]);
                        candidates.push(Candidate { path, rest, depth });
                    }
                }
                _ => {}
            }
        }
        Ok(None)
    }

    /// The collection at a path, or the value at `rest` below it: where the node is itself a reference, what that leads
    /// to. `None` when `rest` leads nowhere.
    fn behind(
        &mut self,
        mut path: TreePath<'a>,
        rest: &str,
        base: usize,
        visited: &mut HashSet<(TreeNodeId, usize)>,
        origin: Origin<'_, 'a>,
    ) -> Result<Option<Target<'a>>> {
        while let Value::Text(text) = &path.node().value {
            if !grammar::has_interpolation(text) {
                return Ok(None);
            }
            let passed = self.stack.push_passed(base, &path, rest.len());
            passed.map_err(|error| self.reporter.stack(error, origin.string_span()))?;
            if !visited.insert((path.id(), rest.len())) {
                return Ok(None);
            }
            match self.follow(&path, text, rest)? {
                Target::Node(next) => path = next,
                Target::Value(node) => return Ok(value_at(&node, rest).cloned().map(Target::Value)),
            }
        }
        Ok(Some(Target::Node(path)))
    }

    /// Where a string on the way of a path leads. It is on top of the stack.
    fn follow(&mut self, path: &TreePath<'a>, text: &str, rest: &str) -> Result<Target<'a>> {
        let origin = Origin::new(path, text);
        let parts = self.parse(origin)?;
        let [Part::Interpolation(interpolation)] = parts.as_slice() else {
            return self.string(path, text).map(Target::Value);
        };
        let following = self.stack.begin_following();
        following.map_err(|error| self.reporter.stack(error, origin.string_span()))?;
        let target = self.target(origin.interpolation(interpolation), &interpolation.kind);
        self.stack.end_following(rest.len());
        target
    }
}
