//! The evaluation stack: which strings are being evaluated, from the outside in, and the values of those that are done.

use std::collections::HashMap;

use super::super::{
    tree::{self, Node},
    tree_path::{TreeNodeId, TreePath},
};

/// References in progress inside each other.
const MAX_REFERENCES: usize = 150;
/// Frames: references in progress, references passed, and the collections between them.
const MAX_FRAMES: usize = MAX_REFERENCES + tree::MAX_DEPTH;

/// The value of a string with `${…}` as far as it is known.
#[derive(Debug)]
pub(super) enum Evaluation<'s> {
    /// Not needed so far.
    Pending,
    /// It is on the stack, so that it depends on itself: the names on the way, from the outside in.
    InProgress(Vec<String>),
    /// It was computed; `None` when that failed, which was reported.
    Done(Option<&'s Node>),
}

/// Something on the stack.
#[derive(Debug)]
enum Frame {
    /// A mapping or list that is copied item by item.
    Collection,
    /// A string with `${…}`.
    Reference { id: TreeNodeId, name: String, state: FrameState },
}

/// What is done with a string on the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FrameState {
    /// Its value is computed.
    Evaluating,
    /// What it refers to is looked up, without its value, for a path that continues behind it.
    Following,
    /// What it refers to was found, and a path continues from there. `rest` is the length of that path.
    Passed { rest: usize },
}

impl FrameState {
    fn in_progress(self) -> bool {
        matches!(self, Self::Evaluating | Self::Following)
    }
}

/// Why a reference cannot be followed.
#[derive(Debug)]
pub(super) enum StackError {
    /// It leads back to itself: the names on the way.
    Cycle(Vec<String>),
    /// A limit is reached.
    TooDeep,
}

/// What is evaluated now, and what was before.
#[derive(Debug, Default)]
pub(super) struct EvaluationStack {
    frames: Vec<Frame>,
    /// Frames with a state that is in progress.
    in_progress: usize,
    done: HashMap<TreeNodeId, Option<Node>>,
}

impl EvaluationStack {
    /// The number of frames, to go back to with [`EvaluationStack::truncate`].
    pub(super) fn depth(&self) -> usize {
        self.frames.len()
    }

    /// True while no string is in progress: what fails now fails for itself alone.
    pub(super) fn is_outside_references(&self) -> bool {
        self.in_progress == 0
    }

    /// What is known of a string's value.
    pub(super) fn evaluation(&self, id: &TreeNodeId) -> Evaluation<'_> {
        if let Some(value) = self.done.get(id) {
            return Evaluation::Done(value.as_ref());
        }
        let in_progress = |frame: &&Frame| matches!(frame, Frame::Reference { state, .. } if state.in_progress());
        let mut frames = self.frames.iter().filter(in_progress).skip_while(|frame| !frame.is(id)).peekable();
        match frames.peek() {
            Some(_) => Evaluation::InProgress(names(frames)),
            None => Evaluation::Pending,
        }
    }

    /// The value of a string that is done; `None` when it failed.
    pub(super) fn value(&self, id: &TreeNodeId) -> Option<&Node> {
        self.done.get(id)?.as_ref()
    }

    /// Begins to copy a collection.
    pub(super) fn push_collection(&mut self) -> Result<(), StackError> {
        self.push(Frame::Collection)
    }

    /// Begins to compute the value of a string that is pending.
    pub(super) fn push_evaluating(&mut self, id: TreeNodeId, name: String) -> Result<(), StackError> {
        self.push(Frame::Reference { id, name, state: FrameState::Evaluating })
    }

    /// Records the value of a string.
    pub(super) fn finish(&mut self, id: TreeNodeId, value: Option<Node>) {
        self.done.insert(id, value);
    }

    /// Records that a path with `rest` characters to go leads through the string at `path`. `base` is the depth at which
    /// that path was begun.
    pub(super) fn push_passed(&mut self, base: usize, path: &TreePath<'_>, rest: usize) -> Result<(), StackError> {
        let id = path.id();
        let same = |frame: &Frame| frame.is(&id) && frame.state() == Some(FrameState::Passed { rest });
        if let Some(first) = self.frames[base..].iter().position(same) {
            return Err(StackError::Cycle(names(&self.frames[base + first..])));
        }
        self.push(Frame::Reference { id, name: path.name(), state: FrameState::Passed { rest } })
    }

    /// Begins to look up what the string on top, which was passed, refers to.
    pub(super) fn begin_following(&mut self) -> Result<(), StackError> {
        let Some((Frame::Reference { id, state, .. }, below)) = self.frames.split_last_mut() else { return Ok(()) };
        // Once is fine: the value that is being computed may need another part of what it refers to.
        let in_progress = |frame: &&Frame| frame.is(id) && frame.state().is_some_and(FrameState::in_progress);
        if below.iter().filter(in_progress).count() > 1 {
            let way = below.iter().filter(|frame| frame.state().is_some_and(|state| state != FrameState::Evaluating));
            let mut way = way.skip_while(|frame| !frame.is(id));
            let first = way.next();
            return Err(StackError::Cycle(names(first.into_iter().chain(way.take_while(|frame| !frame.is(id))))));
        }
        if self.in_progress >= MAX_REFERENCES {
            return Err(StackError::TooDeep);
        }
        *state = FrameState::Following;
        self.in_progress += 1;
        Ok(())
    }

    /// The string on top was followed, and is passed again.
    pub(super) fn end_following(&mut self, rest: usize) {
        if let Some(Frame::Reference { state: state @ FrameState::Following, .. }) = self.frames.last_mut() {
            *state = FrameState::Passed { rest };
            self.in_progress -= 1;
        }
    }

    fn push(&mut self, frame: Frame) -> Result<(), StackError> {
        let in_progress = frame.state().is_some_and(FrameState::in_progress);
        if self.frames.len() >= MAX_FRAMES || in_progress && self.in_progress >= MAX_REFERENCES {
            return Err(StackError::TooDeep);
        }
        self.in_progress += usize::from(in_progress);
        self.frames.push(frame);
        Ok(())
    }

    /// Takes frames off until `depth` are left.
    pub(super) fn truncate(&mut self, depth: usize) {
        for frame in self.frames.drain(depth.min(self.frames.len())..) {
            self.in_progress -= usize::from(frame.state().is_some_and(FrameState::in_progress));
        }
    }
}

impl Frame {
    fn is(&self, other: &TreeNodeId) -> bool {
        matches!(self, Self::Reference { id, .. } if id == other)
    }

    fn state(&self) -> Option<FrameState> {
        match self {
            Self::Collection => None,
            Self::Reference { state, .. } => Some(*state),
        }
    }
}

fn names<'f>(frames: impl IntoIterator<Item = &'f Frame>) -> Vec<String> {
    let name = |frame: &Frame| match frame {
        Frame::Collection => None,
        Frame::Reference { name, .. } => Some(name.clone()),
    };
    frames.into_iter().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Value, tree_path::TreeKind},
        diagnostic::{SourceId, Span},
    };

    fn node(value: Value) -> Node {
        Node::new(value, Span { source: SourceId(0), start: 0, end: 0 })
    }

    fn item(list: &Node, index: usize) -> TreePath<'_> {
        let mut path = TreePath::root(TreeKind::Parameters, list);
        path.enter_item(index, &list.as_list().expect("a list")[index]);
        path
    }

    #[test]
    fn a_string_is_pending_then_in_progress_then_done() {
        let list = node(Value::List(vec![node(Value::Null); 2]));
        let (first, second) = (item(&list, 0), item(&list, 1));
        let mut stack = EvaluationStack::default();
        assert!(matches!(stack.evaluation(&first.id()), Evaluation::Pending));
        stack.push_evaluating(first.id(), first.name()).expect("below the limit");
        stack.push_collection().expect("below the limit");
        stack.push_evaluating(second.id(), second.name()).expect("below the limit");
        assert!(!stack.is_outside_references());
        match stack.evaluation(&first.id()) {
            Evaluation::InProgress(names) => assert_eq!(names, ["params:0", "params:1"]),
            other => panic!("{other:?}"),
        }
        stack.truncate(0);
        stack.finish(first.id(), None);
        assert!(stack.is_outside_references());
        assert!(matches!(stack.evaluation(&first.id()), Evaluation::Done(None)));
        assert!(matches!(stack.evaluation(&second.id()), Evaluation::Pending));
    }

    #[test]
    fn a_path_may_pass_a_string_again_with_another_rest_only() {
        let list = node(Value::List(vec![node(Value::Null)]));
        let path = item(&list, 0);
        let mut stack = EvaluationStack::default();
        stack.push_passed(0, &path, 3).expect("first");
        stack.push_passed(0, &path, 2).expect("another rest");
        assert!(matches!(stack.push_passed(0, &path, 3), Err(StackError::Cycle(names)) if names.len() == 2));
        let base = stack.depth();
        stack.push_passed(base, &path, 3).expect("another path");
    }

    #[test]
    fn limits_hold_for_references_and_for_frames() {
        let list = node(Value::List(vec![node(Value::Null); MAX_REFERENCES + 1]));
        let mut stack = EvaluationStack::default();
        let pushed = |stack: &mut EvaluationStack, index| {
            let path = item(&list, index);
            stack.push_evaluating(path.id(), path.name()).is_ok()
        };
        assert!((0..MAX_REFERENCES).all(|index| pushed(&mut stack, index)));
        assert!(!pushed(&mut stack, MAX_REFERENCES));
        assert!((MAX_REFERENCES..MAX_FRAMES).all(|_| stack.push_collection().is_ok()));
        assert!(stack.push_collection().is_err());
    }
}
