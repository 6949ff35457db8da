//! The problems of a mapping that describes a service.

use crate::diagnostic::{Diagnostic, Diagnostics, Span};

/// Collects the problems of a mapping.
pub struct Problems<'p> {
    /// Their code.
    pub code: &'static str,
    /// Where they go.
    pub diagnostics: &'p mut Diagnostics,
    /// False once there was one.
    pub sound: bool,
}

impl Problems<'_> {
    /// Reports what is no error.
    pub fn warn(&mut self, code: &'static str, message: impl Into<String>, span: Span, help: &str) {
        self.diagnostics.push(Diagnostic::warning(code, message.into()).at(span, "here").help(help));
    }

    /// Reports one.
    pub fn wrong(&mut self, message: impl Into<String>, span: Span, help: &str) {
        self.sound = false;
        self.diagnostics.push(Diagnostic::error(self.code, message.into()).at(span, "here").help(help));
    }
}
