//! What is wrong with a reference.

use super::{
    super::{
        grammar::SyntaxError,
        tree::{Node, Value},
        tree_path::TreeKind,
    },
    budget::{Exhausted, MAX_COPIED},
    origin::Origin,
    stack::StackError,
};
use crate::diagnostic::{Diagnostic, Diagnostics, Sources, Span, did_you_mean};

/// Errors that get a suggestion; looking for one costs a walk over all names.
const MAX_SUGGESTIONS: usize = 50;

/// There is no value; the reason is among the problems.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reported;

/// Adds to the problems of a project.
pub(super) struct Reporter<'a> {
    sources: &'a Sources,
    problems: &'a mut Diagnostics,
    /// Trees of which a file could not be read: what is missing there may be in it.
    pub(super) unread: &'a [TreeKind],
    suggestions_left: usize,
}

impl<'a> Reporter<'a> {
    pub(super) fn new(sources: &'a Sources, problems: &'a mut Diagnostics) -> Self {
        Self { sources, problems, unread: &[], suggestions_left: MAX_SUGGESTIONS }
    }

    /// Reports a problem.
    pub(super) fn push(&mut self, problem: Diagnostic) -> Reported {
        self.problems.push(problem);
        Reported
    }

    /// Reports a problem at a reference; `refine` adds to it.
    pub(super) fn refuse_with(
        &mut self,
        origin: Origin<'_, '_>,
        code: &'static str,
        message: impl Into<String>,
        label: &str,
        refine: impl FnOnce(Diagnostic) -> Diagnostic,
    ) -> Reported {
        let problem = Diagnostic::error(code, message).at(origin.span(self.sources), label);
        self.push(refine(problem))
    }

    /// Reports a problem at a reference.
    pub(super) fn refuse(
        &mut self,
        origin: Origin<'_, '_>,
        code: &'static str,
        message: impl Into<String>,
    ) -> Reported {
        self.refuse_with(origin, code, message, "", |problem| problem)
    }

    /// A string that is not in the grammar.
    pub(super) fn syntax(&mut self, origin: Origin<'_, '_>, error: SyntaxError) -> Reported {
        let span = origin.string_span();
        let after = self.sources.get(span.source).text.get(span.end..).unwrap_or_default();
        let cut = after.starts_with(" #").then_some("put the whole value in quotes: ` #` begins a comment");
        let at = origin.part(error.at, error.at + 1);
        let help = |problem: Diagnostic| problem.help_opt(error.help).help_opt(cut);
        self.refuse_with(at, "interpolation::syntax", error.message, "", help)
    }

    /// A cycle, or a limit of the stack.
    pub(super) fn stack(&mut self, error: StackError, span: Span) -> Reported {
        match error {
            StackError::Cycle(names) => self.cycle(&names, span),
            StackError::TooDeep => {
                self.push(Diagnostic::error("interpolation::too-deep", "references are nested too deep").at(span, ""))
            }
        }
    }

    /// References that lead back to where they began.
    pub(super) fn cycle(&mut self, names: &[String], span: Span) -> Reported {
        let way = names.iter().chain(names.first()).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" → ");
        self.push(Diagnostic::error("interpolation::cycle", format!("references form a cycle: {way}")).at(span, ""))
    }

    /// References that copy too much.
    pub(super) fn too_large(&mut self, exhausted: &Exhausted, span: Span) -> Reported {
        // Once is enough: everything after is beyond the limit as well.
        if !exhausted.first {
            return Reported;
        }
        self.push(
            Diagnostic::error(
                "interpolation::too-large",
                format!("references expand to more than {MAX_COPIED} values"),
            )
            .at(span, "the limit is reached here")
            .help("reduce the repetition: references to references multiply"),
        )
    }

    /// A path of the same file that leads nowhere.
    pub(super) fn missing_in_file(&mut self, origin: Origin<'_, '_>, path: &str) -> Reported {
        let rest = path.trim_start_matches('.');
        let kind = origin.path.kind();
        match origin.path.ancestor(path.len() - rest.len()) {
            Some(base) => self.missing(origin, base.node(), rest, kind),
            None => {
                let message = format!("`${{{path}}}` has too many dots: it leads outside of {}", kind.description());
                self.refuse(origin, "interpolation::missing-key", message)
            }
        }
    }

    /// A path that leads nowhere from `base`.
    pub(super) fn missing(&mut self, origin: Origin<'_, '_>, base: &Node, path: &str, kind: TreeKind) -> Reported {
        if self.unread.contains(&kind) {
            return Reported;
        }
        let suggested = self.suggestions_left > 0;
        self.suggestions_left = self.suggestions_left.saturating_sub(1);
        let help = suggested.then(|| suggestion(base, path)).flatten();
        let message = format!("there is no `{path}` in {}", kind.description());
        self.refuse_with(origin, "interpolation::missing-key", message, "needed here", |problem| problem.help_opt(help))
    }
}

/// The nearest name at the level where a path leaves the tree.
fn suggestion(base: &Node, path: &str) -> Option<String> {
    let Value::Map(map) = &base.value else { return None };
    let keys = || map.entries.keys();
    if let Some(found) = did_you_mean(path, keys()) {
        return Some(found);
    }
    let cuts = path.rmatch_indices('.').map(|(dot, _)| dot);
    for cut in cuts {
        if let Some(node) = map.get(&path[..cut]) {
            return suggestion(node, &path[cut + 1..]);
        }
    }
    did_you_mean(path.split('.').next().unwrap_or(path), keys())
}
