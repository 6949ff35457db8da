//! `flow check`: every problem of the project at once.

use crate::{
    cli::{
        Exit,
        app::{App, Limits, Outcome},
    },
    diagnostic::{self, Diagnostics, Severity},
    function::Job,
    run::Workspace,
};

pub(in crate::cli) fn check(app: &App, online: bool) -> Outcome {
    let mut problems = Diagnostics::default();
    let (sources, project) = app.load(&mut problems);
    let workspace = project.and_then(|project| Workspace::assemble(project, &app.registry, &mut problems));
    let problems = problems.into_sorted();
    let errors = problems.iter().filter(|problem| problem.severity == Severity::Error).count();
    if app.json() {
        let list: Vec<_> = problems.iter().map(|problem| diagnostic::json(problem, &sources)).collect();
        app.document(&list);
    } else {
        app.report(&problems, &sources);
    }
    let Some(workspace) = workspace.filter(|_| errors == 0) else { return Ok(Exit::Wrong) };
    if online {
        let failures = ask_everybody(app, &workspace)?;
        if !failures.is_empty() {
            failures.iter().for_each(|failure| {
                app.fail(Exit::Environment, failure);
            });
            return Ok(Exit::Environment);
        }
    }
    if !app.json() && !app.global.quiet {
        let (nodes, datasets) = (workspace.graph.nodes().len(), workspace.datasets.len());
        let warnings = problems.len() - errors;
        let tail = if warnings > 0 {
            format!(", {warnings} warning{}", if warnings == 1 { "" } else { "s" })
        } else {
            String::new()
        };
        app.say(&format!("ok: {nodes} nodes, {datasets} datasets{tail}"));
    }
    Ok(Exit::Done)
}

/// Opens every free input and every provider, and gives what went wrong.
fn ask_everybody(app: &App, workspace: &Workspace) -> Result<Vec<String>, crate::cli::app::Stop> {
    let limits = Limits::default();
    let (stores, context) = app.context(&workspace.project, limits)?;
    app.block_on(limits.jobs, async {
        let mut failures = Vec::new();
        for step in workspace.steps() {
            for input in step.inputs.iter().filter(|_| !step.has_upstream) {
                match input.dataset.state(&stores).await {
                    Ok(state) if state.digest.is_none() => {
                        let info = input.dataset.info();
                        let place = info.location.as_deref().unwrap_or("memory");
                        failures.push(format!("`{}` is not there: nothing at {place}", info.name));
                    }
                    Ok(_) => {}
                    Err(error) => failures.push(error.to_string()),
                }
            }
            if let Job::Partitions(job) = &step.job {
                let missing = job.missing_secrets();
                if !missing.is_empty() {
                    failures.push(format!("node `{}` needs `{}`, which is not set", step.name, missing.join("`, `")));
                    continue;
                }
                let answer = match job.open(&context) {
                    Ok(task) => task.ping().await,
                    Err(error) => Err(error),
                };
                if let Err(error) = answer {
                    failures.push(format!("node `{}`: {error}", step.name));
                }
            }
        }
        failures
    })
}
