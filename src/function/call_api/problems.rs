//! The problems of an `api:` mapping.

use crate::diagnostic::{Diagnostic, Diagnostics, Span};

/// Collects the problems of a mapping.
pub struct Problems<'p> {
    /// Where they go.
    pub diagnostics: &'p mut Diagnostics,
    /// False once there was one.
    pub sound: bool,
}

impl Problems<'_> {
    /// Reports one.
    pub fn wrong(&mut self, message: impl Into<String>, span: Span, help: &str) {
        self.sound = false;
        self.diagnostics.push(Diagnostic::error("api::invalid", message.into()).at(span, "here").help(help));
    }
}
