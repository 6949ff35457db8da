//! What functions need that the files of the project do not say: code that is imported, before anything is judged.

use std::sync::Arc;

use super::workspace::Step;
use crate::{
    diagnostic::Diagnostic,
    function::{Context, FunctionError},
};

/// What is wrong with the functions of some steps.
#[derive(Debug, Default)]
pub struct LoadProblems {
    /// Mistakes in the project, with their places.
    pub wrong: Vec<Diagnostic>,
    /// What the environment lacks, each once.
    pub environment: Vec<String>,
}

/// Loads the functions of these steps. The same problem of several nodes is told once.
pub async fn load(steps: impl IntoIterator<Item = Arc<Step>>, context: &Context) -> LoadProblems {
    let mut problems = LoadProblems::default();
    for step in steps {
        match step.job.load(context).await {
            Ok(()) => {}
            Err(FunctionError::Failed(text) | FunctionError::Crashed(text)) => {
                let mut lines = text.split("\nhelp: ");
                let message = lines.next().unwrap_or_default().to_owned();
                let at = |problem: Diagnostic| problem.at(step.function_span, format!("in node `{}`", step.name));
                match problems.wrong.iter_mut().find(|known| known.message == message) {
                    Some(known) => *known = at(known.clone()),
                    None => {
                        let problem = at(Diagnostic::error("python::function", message));
                        problems.wrong.push(lines.fold(problem, Diagnostic::help));
                    }
                }
            }
            Err(error) => {
                let text = error.to_string();
                if !problems.environment.contains(&text) {
                    problems.environment.push(text);
                }
            }
        }
    }
    problems
}
