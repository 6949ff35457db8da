//! The contract of an engine that tasks are written for.

use super::{plan::TaskPlan, settings::Settings};
use crate::diagnostic::Diagnostics;

/// An engine that exists, and for which a selection is written.
pub trait Target: Sync {
    /// Its name after `flow compile`.
    fn name(&self) -> &'static str;
    /// One line for help texts.
    fn doc(&self) -> &'static str;
    /// The options that it takes besides those of every target, without `--`.
    fn takes(&self) -> &'static [&'static str];
    /// Of these, the ones that it needs.
    fn needs(&self) -> &'static [&'static str];
    /// True for a location that every task reaches.
    fn is_shared(&self, location: &str, settings: &Settings) -> bool;
    /// Where data lies that only one task reaches, and what to do about it.
    fn not_shared(&self) -> (&'static str, &'static str);
    /// How a folder of the project, such as that of a cache, outlives a task.
    fn keep_folder(&self, folder: &str) -> String;
    /// True if data that is not shared is lost with the task that wrote it.
    fn outputs_are_lost(&self) -> bool;
    /// True if the files of a folder are one submission: what an earlier call wrote there, and this one does not, is of no use.
    fn files_belong_together(&self) -> bool;
    /// Writes the tasks. What does not fit is added to `problems`; with errors, the files must not be used.
    fn render(&self, plan: &TaskPlan, settings: &Settings, problems: &mut Diagnostics) -> Vec<TargetFile>;
}

/// A file to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetFile {
    /// Its name, without folders.
    pub name: String,
    /// What is in it.
    pub text: String,
    /// True for a program.
    pub executable: bool,
}
