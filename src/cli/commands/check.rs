//! `flow check`: all problems of the project at once.

use std::collections::HashSet;

use crate::{
    cli::{
        Exit,
        app::{App, Limits, Outcome},
    },
    config::KedroProject,
    data::{DataError, Dataset, Stores, explain},
    diagnostic::{self, Diagnostic, Diagnostics, Severity},
    function::Context,
    model::Shape,
    report::plural,
    run::{self, Workspace},
};

pub(in crate::cli) fn check(app: &App, online: bool, no_python: bool) -> Outcome {
    let mut problems = Diagnostics::default();
    let (sources, project) = app.load(&[], &mut problems);
    problems.extend(project.iter().filter_map(|project| project.kedro.as_ref()).flat_map(of_kedro));
    let workspace = project.and_then(|project| app.assemble(project, &mut problems));
    let workspace = workspace.filter(|_| !problems.has_errors());
    let mut exit = if workspace.is_some() { Exit::Done } else { Exit::Wrong };
    if let (false, Some(workspace)) = (no_python, &workspace)
        && workspace.steps().iter().any(|step| step.job.needs_python())
    {
        let found = check_python(app, workspace)?;
        if found.iter().any(|problem| problem.severity == Severity::Error) {
            exit = Exit::Wrong;
        }
        problems.extend(found);
    }
    if let Some(workspace) = &workspace {
        let limits = Limits::default();
        let (stores, context) = app.context(&workspace.project, limits)?;
        let found = app.block_on(limits.jobs, run::check_columns(workspace, &stores, &context.session))?;
        if !found.is_empty() {
            exit = Exit::Wrong;
        }
        problems.extend(found);
    }
    if let (true, Some(workspace), Exit::Done) = (online, &workspace, exit) {
        let failures = check_online(app, workspace)?;
        if !failures.is_empty() {
            exit = Exit::Environment;
        }
        problems.extend(failures);
    }
    let problems = problems.into_sorted();
    if app.json() {
        let list: Vec<_> = problems.iter().map(|problem| diagnostic::json(problem, &sources)).collect();
        let printed = app.document(&list);
        return Ok(if exit == Exit::Done { printed } else { exit });
    }
    app.report(&problems, &sources);
    if let (Exit::Done, Some(workspace), false) = (exit, &workspace, app.global.quiet) {
        let (nodes, datasets) = (workspace.graph.nodes().len(), workspace.datasets.len());
        let tail = match problems.len() {
            0 => String::new(),
            1 => ", 1 warning".to_owned(),
            warnings => format!(", {warnings} warnings"),
        };
        let (nodes, datasets) = (plural(nodes as u64, "node"), plural(datasets as u64, "dataset"));
        app.say(&format!("ok: {nodes}, {datasets}{tail}"));
        if let Some(opened) = opened_by_python(workspace) {
            app.say(&opened);
        }
    }
    Ok(exit)
}

/// Which datasets need Python. In a Kedro project all of them are opened by Kedro.
fn opened_by_python(workspace: &Workspace) -> Option<String> {
    const SHOWN: usize = 10;
    if workspace.project.kedro.is_some() {
        return None;
    }
    let external = workspace.datasets.values().filter(|dataset| dataset.as_external().is_some());
    let external = external.map(|dataset| dataset.info()).filter(|info| !info.supported);
    let mut names: Vec<String> = external.map(|info| format!("`{}` ({})", info.name, info.type_name)).collect();
    if names.len() > SHOWN {
        let more = names.len() - SHOWN;
        names.truncate(SHOWN);
        names.push(format!("{more} more"));
    }
    (!names.is_empty()).then(|| format!("Python opens with Kedro's own classes: {}", names.join(", ")))
}

/// What is not run of a Kedro project.
fn of_kedro(kedro: &KedroProject) -> Vec<Diagnostic> {
    let hooks = (!kedro.hooks.is_empty()).then(|| {
        let message = format!("the hooks of the Kedro project are not run: {}", kedro.hooks.join(", "));
        Diagnostic::warning("kedro::hooks", message)
            .help("what a node needs of them must be in its function; see docs/kedro.md")
    });
    let left_out = kedro.left_out.iter().map(|name| {
        let message = format!("pipeline `{name}` was not checked: it writes what another pipeline writes too");
        Diagnostic::warning("kedro::pipeline", message).help(format!("`--pipeline {name}` loads it instead"))
    });
    hooks.into_iter().chain(left_out).collect()
}

/// Imports every function of a Python node, and compares its arguments with the node's inputs.
fn check_python(app: &App, workspace: &Workspace) -> Result<Vec<Diagnostic>, crate::cli::app::Stop> {
    let limits = Limits::default();
    let (_, context) = app.context(&workspace.project, limits)?;
    let loaded = app.block_on(limits.jobs, async {
        let loaded = run::load(workspace.steps().iter().cloned(), &context).await;
        context.python.shut_down().await;
        loaded
    })?;
    let mut found = loaded.wrong;
    // Without Python, the rest of the project is checked.
    found.extend(loaded.environment.into_iter().map(|error| {
        let mut lines = error.split("\nhelp: ");
        let message = format!("Python functions were not checked: {}", lines.next().unwrap_or_default());
        let problem = lines.fold(Diagnostic::warning("python::unavailable", message), Diagnostic::help);
        problem.help("`--no-python` leaves them out")
    }));
    Ok(found)
}

/// Opens every dataset that no node writes and sends a request to every provider; returns the failures.
fn check_online(app: &App, workspace: &Workspace) -> Result<Vec<Diagnostic>, crate::cli::app::Stop> {
    let limits = Limits::default();
    let (stores, context) = app.context(&workspace.project, limits)?;
    app.block_on(limits.jobs, async {
        let mut failures = Vec::new();
        // Two nodes may read one input, which has one problem.
        let mut read = HashSet::new();
        for step in workspace.steps() {
            let unwritten = |base: &str| workspace.graph.dataset(base).is_none_or(|found| found.producer.is_none());
            for input in step.inputs.iter().filter(|input| unwritten(&input.base)) {
                let info = input.dataset.info();
                if !read.insert(info.name.clone()) {
                    continue;
                }
                let Err(message) = try_reading(&*input.dataset, &stores, &context).await else { continue };
                let entry = workspace.project.catalog.resolve(&info.name).map(|resolved| resolved.spec.name_span);
                failures.push(Diagnostic::error("online::dataset", message).at_opt(entry, ""));
            }
            if let Some(job) = step.job.rows() {
                let missing = job.missing_secrets();
                let message = if missing.is_empty() {
                    let result = match job.open(&context) {
                        Ok(task) => task.ping().await,
                        Err(error) => Err(error),
                    };
                    match result {
                        Ok(()) => continue,
                        Err(error) => format!("node `{}`: {error}", step.name),
                    }
                } else {
                    format!("node `{}` needs `{}`, which is not set", step.name, missing.join("`, `"))
                };
                failures.push(Diagnostic::error("online::provider", message).at(step.span, ""));
            }
        }
        failures
    })
}

/// Reads the columns and the first row of a dataset.
async fn try_reading(dataset: &dyn Dataset, stores: &Stores, context: &Context) -> Result<(), String> {
    let info = dataset.info();
    let state = dataset.state(stores).await.map_err(|error| error.to_string())?;
    if state.digest.is_none() {
        let location = info.location.as_deref().unwrap_or("memory");
        return Err(format!("dataset `{}` is missing: nothing at {location}", info.name));
    }
    let wrong = |error: DataError| format!("dataset `{}` cannot be read: {error}", info.name);
    match info.shape {
        Shape::Value => {
            dataset.document().map_err(wrong)?.value(stores).await.map_err(wrong)?;
            return Ok(());
        }
        Shape::Partitions => {
            let source = dataset.partition_source().map_err(wrong)?;
            let partitions = source.partitions(stores).await.map_err(wrong)?;
            partitions.iter().try_for_each(|partition| partition.check_whole(info)).map_err(wrong)?;
        }
        Shape::Table => {}
    }
    let table = dataset.table_source().map_err(wrong)?.table(stores).await.map_err(wrong)?;
    let first = context.session.read_table(table).and_then(|frame| frame.limit(0, Some(1)));
    let first = match first {
        Ok(first) => first.collect().await,
        Err(error) => Err(error),
    };
    first.map(drop).map_err(|error| format!("dataset `{}` cannot be read: {}", info.name, explain(&error)))
}
