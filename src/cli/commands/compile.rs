//! `flow compile`: a selection as tasks of a scheduler.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::Path,
};

use serde_json::json;

use crate::{
    cli::{
        Exit,
        app::{App, Outcome, Stop, environment, print_raw},
        arguments::CompileArgs,
    },
    compile::{PlanRequest, Settings, TARGETS, Target, TargetFile, TaskKind, TaskPlan, Variable},
    data::check_folder,
    diagnostic::{Diagnostics, mask_assignment},
    function::Job,
    model::{connection_secrets, is_secret_name},
    run::Workspace,
};

/// What is in the first lines of a file that this command wrote.
const MADE_BY: &str = "# Made by `flow compile ";

pub(in crate::cli) fn compile(app: &App, arguments: &CompileArgs) -> Outcome {
    let target = *TARGETS.iter().find(|target| target.name() == arguments.target).expect("clap knows the targets");
    check_options(app, target, arguments)?;
    let workspace = app.workspace_of(&arguments.selection.pipeline)?;
    let selected = app.select(&workspace, &arguments.selection)?;
    let settings = settings(app, arguments, &workspace)?;
    let (not_shared, way_out) = target.not_shared();
    let request = PlanRequest {
        selected: &selected,
        partitioned: &|id| matches!(workspace.step(id).job, Job::Partitions(_)),
        shared: &|location| target.is_shared(location, &settings),
        answers: &|id| workspace.step(id).job.answers_folder().map(|folder| folder.display().to_string()),
        keep_folder: &|folder| target.keep_folder(folder),
        not_shared,
        way_out,
        outputs_are_lost: target.outputs_are_lost(),
        shards: arguments.shards,
        parallel: arguments.parallel,
    };
    if let Some(ledger) = arguments.ledger.as_deref().filter(|ledger| !target.is_shared(ledger, &settings)) {
        let message = format!("`--ledger {ledger}` is {not_shared}, where nobody reads it\nhelp: {way_out}");
        return Err(app.fail(Exit::Wrong, message));
    }
    let mut problems = Diagnostics::default();
    let plan = TaskPlan::new(&workspace.graph, &request, &mut problems);
    let files = if problems.has_errors() { Vec::new() } else { target.render(&plan, &settings, &mut problems) };
    let wrong = problems.has_errors();
    app.report(&problems.into_sorted(), &workspace.project.sources);
    if wrong {
        return Err(Exit::Wrong.into());
    }
    let mut removed = Vec::new();
    if let Some(folder) = &arguments.o {
        write(app, folder, &files)?;
        if target.files_belong_together() {
            removed = remove_stale(target, folder, &files)
                .map_err(|error| app.fail(Exit::Environment, format!("{}: {error}", folder.display())))?;
        }
    }
    if app.json() {
        return Ok(app.document(&document(arguments, &settings, &plan, &files, &removed)));
    }
    let Some(folder) = &arguments.o else { return Ok(print_raw(&printed(&files))) };
    let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
    let removed: Vec<&str> = removed.iter().map(String::as_str).collect();
    let also =
        if removed.is_empty() { String::new() } else { format!("; removed {} of an earlier call", some(&removed)) };
    app.say(&format!("wrote {} to {}{also}", some(&names), folder.display()));
    Ok(Exit::Done)
}

/// `a, b, c and 7 more`.
fn some(names: &[&str]) -> String {
    const SHOWN: usize = 4;
    let list = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN { format!("{list} and {} more", names.len() - SHOWN) } else { list }
}

/// An option that a target does not take is a mistake, and so is one that is missing.
fn check_options(app: &App, target: &dyn Target, arguments: &CompileArgs) -> Result<(), Stop> {
    let given = [
        ("image", arguments.image.is_some()),
        ("secret", arguments.secret.is_some()),
        ("service-account", arguments.service_account.is_some()),
        ("volume", !arguments.volume.is_empty()),
        ("schedule", arguments.schedule.is_some()),
    ];
    let odd = given.iter().find(|(name, given)| *given && !target.takes().contains(name));
    let missing = given.iter().find(|(name, given)| !*given && target.needs().contains(name));
    let message = match (odd, missing) {
        (Some((name, _)), _) => format!("`flow compile {}` takes no `--{name}`\nhelp: remove it", target.name()),
        (None, Some((name, _))) => format!(
            "`flow compile {}` needs `--{name}`\nhelp: docs/containers.md shows how to make an image of a project",
            target.name()
        ),
        (None, None) => return Ok(()),
    };
    Err(app.fail(Exit::Wrong, message))
}

fn settings(app: &App, arguments: &CompileArgs, workspace: &Workspace) -> Result<Settings, Stop> {
    let is_secret = |text: &str| app.secrets.mask(text) != text || !connection_secrets(text).is_empty();
    if let Some(item) = app.global.params.iter().find(|item| mask_assignment(item) != **item || is_secret(item)) {
        let message = format!(
            "`--params {}` holds a secret, which is never written into a file\n\
             help: write `${{oc.env:NAME}}` in `parameters.yml` and give the variable to the tasks",
            mask_assignment(item)
        );
        return Err(app.fail(Exit::Wrong, message));
    }
    if let Some(ledger) = arguments.ledger.as_deref() {
        check_folder(ledger).map_err(|error| app.fail(Exit::Wrong, format!("`--ledger`: {error}")))?;
        if is_secret(ledger) {
            return Err(app.fail(Exit::Wrong, "`--ledger` holds a secret, which is never written into a file"));
        }
    }
    let variables = app.variables().into_iter().filter_map(|name| {
        let value = environment(&name);
        let by_key = workspace.project.secret_variables.contains(&name);
        if by_key || is_secret_name(&name) || value.as_deref().is_some_and(is_secret) {
            return Some(Variable { name, value: None });
        }
        // A variable that is not set has no value in a task either.
        value.map(|value| Variable { name, value: Some(value) })
    });
    let root = std::path::absolute(&workspace.project.root).unwrap_or_else(|_| workspace.project.root.clone());
    Ok(Settings {
        project: root.display().to_string(),
        env: workspace.project.env.clone(),
        python: python(app, arguments),
        params: app.global.params.clone(),
        pipelines: arguments.selection.pipeline.clone(),
        plan_digest: workspace.digest().to_string(),
        ledger: arguments.ledger.clone(),
        retries: arguments.retries,
        variables: variables.collect(),
        image: arguments.image.clone(),
        secret: arguments.secret.clone(),
        service_account: arguments.service_account.clone(),
        volumes: arguments.volume.clone(),
        schedule: arguments.schedule.clone(),
    })
}

/// The interpreter for Python functions. On a shared file system it is at the path that it has now; in an image, at the one that is given.
fn python(app: &App, arguments: &CompileArgs) -> Option<String> {
    let python = app.global.python.as_ref()?;
    // Without a folder it is looked up where it runs.
    let here = arguments.target == "slurm" && python.components().count() > 1;
    let path = if here { std::path::absolute(python).ok() } else { None };
    Some(path.as_ref().unwrap_or(python).display().to_string())
}

/// One file as it is; several, each under its name.
fn printed(files: &[TargetFile]) -> String {
    match files {
        [one] => one.text.clone(),
        several => {
            several.iter().map(|file| format!("==> {} <==\n{}", file.name, file.text)).collect::<Vec<_>>().join("\n")
        }
    }
}

/// Writes the files. A file of the same name that something else wrote stays as it is, and then nothing is written.
fn write(app: &App, folder: &Path, files: &[TargetFile]) -> Result<(), Stop> {
    let failed = |path: &Path, error: io::Error| app.fail(Exit::Environment, format!("{}: {error}", path.display()));
    fs::create_dir_all(folder).map_err(|error| failed(folder, error))?;
    for file in files {
        let path = folder.join(&file.name);
        let own = match fs::read(&path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).lines().take(2).any(|line| line.starts_with(MADE_BY)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => return Err(failed(&path, error)),
        };
        if !own {
            let message = format!(
                "{} was not made by `flow compile` and is not replaced\nhelp: write into another folder, or remove it",
                path.display()
            );
            return Err(app.fail(Exit::Environment, message));
        }
    }
    for file in files {
        let path = folder.join(&file.name);
        fs::write(&path, &file.text).map_err(|error| failed(&path, error))?;
        #[cfg(unix)]
        if file.executable {
            use std::os::unix::fs::PermissionsExt as _;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map_err(|error| failed(&path, error))?;
        }
    }
    Ok(())
}

/// Removes files that an earlier call wrote for this target and that are no part of what is written now. Returns their names.
fn remove_stale(target: &dyn Target, folder: &Path, files: &[TargetFile]) -> io::Result<Vec<String>> {
    /// More than the lines that say what made a file.
    const BEGINNING: u64 = 1024;
    let made_by = format!("{MADE_BY}{}`", target.name());
    let mut removed = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if files.iter().any(|file| file.name == name) || !entry.file_type()?.is_file() {
            continue;
        }
        let mut beginning = Vec::new();
        let read = File::open(entry.path()).and_then(|file| file.take(BEGINNING).read_to_end(&mut beginning));
        if read.is_err() {
            // What cannot be read is not removed.
            continue;
        }
        if String::from_utf8_lossy(&beginning).lines().take(2).any(|line| line.starts_with(&made_by)) {
            fs::remove_file(entry.path())?;
            removed.push(name);
        }
    }
    removed.sort();
    Ok(removed)
}

fn document(
    arguments: &CompileArgs,
    settings: &Settings,
    plan: &TaskPlan,
    files: &[TargetFile],
    removed: &[String],
) -> serde_json::Value {
    let task = |task: &crate::compile::Task| {
        let (kind, shards, parallel) = match task.kind {
            TaskKind::Run => ("run", None, None),
            TaskKind::Shards { count, parallel } => ("shards", Some(count), Some(parallel)),
            TaskKind::Gather => ("gather", None, None),
        };
        let after: Vec<&str> = task.after.iter().map(|other| plan.tasks[*other].name.as_str()).collect();
        json!({"name": task.name, "kind": kind, "nodes": task.nodes, "after": after, "shards": shards, "parallel": parallel})
    };
    let file = |file: &TargetFile| match &arguments.o {
        Some(folder) => json!({"name": file.name, "path": folder.join(&file.name).display().to_string()}),
        None => json!({"name": file.name, "text": file.text}),
    };
    json!({
        "target": arguments.target,
        "plan_digest": settings.plan_digest,
        "tasks": plan.tasks.iter().map(task).collect::<Vec<_>>(),
        "files": files.iter().map(file).collect::<Vec<_>>(),
        "removed": removed,
    })
}
