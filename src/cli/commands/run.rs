//! `flow run`: runs nodes and prints a summary.

use std::{
    io::{self, IsTerminal},
    path::Path,
    sync::Arc,
    time::Duration,
};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::{
    cli::{
        Exit,
        app::{App, DEFAULT_MEMORY, Limits, Outcome, Stop, cores, environment},
        arguments::{PlanArgs, Progress, RunArgs},
        resources, shard, signals, telemetry,
    },
    data::TemporaryFolder,
    diagnostic::mask_assignment,
    model::{SecretMask, Shard, url_secrets},
    net::EndpointRegistry,
    report::{self, Display},
    run::{self, Events, Finished, Refusal, Request, RunOptions, RunVerdict, Workspace, event::EventKind},
    telemetry::{Jobs, Telemetry},
};

pub(in crate::cli) fn run(app: &App, arguments: &RunArgs) -> Outcome {
    let workspace = Arc::new(app.workspace_of(&arguments.plan.selection.pipeline)?);
    let selected = app.select(&workspace, &arguments.plan.selection)?;
    let shard = app.shard(&workspace, &arguments.plan)?;
    let jobs = arguments.plan.jobs.map_or_else(cores, usize::from);
    let limits = Limits {
        memory: arguments.plan.memory_limit.unwrap_or(DEFAULT_MEMORY),
        python_memory: arguments.plan.memory_limit,
        jobs,
        max_cost: arguments.max_cost,
        max_requests: arguments.max_requests,
    };
    if let Some(message) = resources::too_few_files(selected.len()) {
        return Err(app.fail(Exit::Environment, message));
    }
    // Until the end of the run.
    let _temporary = temporary_folder(app, &workspace, arguments.plan.temp_dir.as_deref())?;
    if let Some(share) = arguments.rate_share {
        EndpointRegistry::process().set_share(share);
    }
    let (stores, context) = app.context(&workspace.project, limits)?;
    let id = run_id();
    let (events, receiver) = Events::new(&id);
    let events = events.masking(app.secrets.clone());
    let usage = context.service.usage.clone();
    let rows = events.row_counter();
    let ledger = app.ledger_of_run(&workspace.project, &stores, arguments.ledger.as_deref())?;
    let (ledger_folder, prune) = (ledger.folder.clone(), ledger.prune);
    let telemetry = telemetry::start(app, arguments.openlineage.as_deref(), &id)?;
    let mut sink = event_sink(app, &command_line(&app.secrets), &telemetry);
    let (shown, mut all_shown) = oneshot::channel();
    let showing = std::thread::Builder::new()
        .name("events".to_owned())
        .spawn(move || {
            run::run_event_loop(&receiver, (&ledger_folder, prune), &usage, &rows, &mut *sink);
            // The receiver is gone only when the process is ending.
            let _ = shown.send(());
        })
        .map_err(|error| app.fail(Exit::Environment, format!("cannot start a thread: {error}")))?;
    let pipeline = (!arguments.plan.selection.pipeline.is_empty()).then(|| arguments.plan.selection.pipeline.join(","));
    let options =
        RunOptions { force: arguments.plan.force, keep_going: arguments.keep_going, yes: arguments.yes, jobs, shard };
    let described = (stores.clone(), context.clone(), pipeline.clone(), selected.clone());
    let work = async {
        if telemetry.wants_jobs() {
            let (stores, context, pipeline, selected) = &described;
            let namespace = environment(telemetry::NAMESPACE);
            let jobs = Jobs::new(&workspace, (stores, context), selected, pipeline.as_deref(), namespace).await;
            telemetry.describe(jobs);
        }
        let sink = events.clone();
        // Dropped with this future, since it has a sender.
        let (shutdown, signal, _listener) =
            signals::listen(move |name| sink.send(EventKind::Interrupted { signal: name.to_owned() }));
        let leave = shutdown.leave.clone();
        let group = arguments.run_group.clone().or_else(|| shard::group(&environment));
        let mut request = Request { selected, options, pipeline, group, shutdown };
        let copy = ledger.copy(&id);
        let start = async |request: &Request| {
            let span =
                tracing::info_span!("run", run = %id, status = tracing::field::Empty, error = tracing::field::Empty);
            let (stores, context) = (stores.clone(), context.clone());
            run::start(workspace.clone(), stores, context, request.clone(), events.clone()).instrument(span).await
        };
        let mut finished = start(&request).await;
        if let Err(Refusal::NeedsConsent(questions)) = &finished {
            let stopped = &request.shutdown.drain;
            request.options.yes = consents(app, questions, stopped).await;
            // A run that was stopped meanwhile reports that itself.
            if request.options.yes || stopped.is_cancelled() {
                finished = start(&request).await;
            }
        }
        // Dropping these drops the senders.
        drop(events);
        // A terminal or pipe that is blocked must not keep a finished run forever.
        let shown = match finished {
            Ok(_) => tokio::select! {
                shown = &mut all_shown => Shown::from(shown),
                () = leave.cancelled() => Shown::NotWaitedFor,
            },
            Err(_) => Shown::Later,
        };
        if let Some(copy) = copy.filter(|_| matches!(shown, Shown::Whole))
            && let Err(error) = copy.finish().await
        {
            app.say(&format!("warning: the ledger of this run was not copied to its end: {error}"));
        }
        Ended { finished, signal: signal.get().copied(), shown, leave: leave.is_cancelled() }
    };
    let settle = |ended: &Ended| if ended.leave { Duration::ZERO } else { signals::LAST_GRACE };
    let Ended { finished, signal, shown, leave } = app.block_on_and_settle(jobs, work, settle)?;
    let panicked = match shown {
        // The senders are dropped with the runtime; the thread ends after the last event.
        Shown::Later => showing.join().is_err(),
        Shown::Panicked => true,
        Shown::Whole | Shown::NotWaitedFor => false,
    };
    if !leave {
        telemetry.finish();
    }
    if panicked {
        return Ok(Exit::Bug);
    }
    match finished {
        Ok(finished) => match exit(&finished, signal) {
            Exit::RowErrors if arguments.allow_row_errors => Ok(Exit::Done),
            exit => Ok(exit),
        },
        Err(refusal) => Err(app.refuse(&refusal, &workspace)),
    }
}

/// The folder of the run's temporary files. Unless it is the one that is wanted, a project that cannot be written has none: then
/// the system's is used.
pub(super) fn temporary_folder(
    app: &App,
    workspace: &Workspace,
    wanted: Option<&Path>,
) -> Result<Option<TemporaryFolder>, Stop> {
    let parent = wanted.map_or_else(|| App::state_folder(&workspace.project).join("tmp"), Path::to_path_buf);
    match TemporaryFolder::create(&parent, wanted.is_none()) {
        Ok(folder) => {
            folder.use_for_all();
            Ok(Some(folder))
        }
        Err(error) if wanted.is_some() => {
            let message = format!("cannot create a folder for temporary files in {}: {error}", parent.display());
            Err(app.fail(Exit::Environment, message))
        }
        Err(error) => {
            let parent = parent.display();
            app.say(&format!(
                "warning: temporary files are in the system's folder, as {parent} cannot be written: {error}"
            ));
            Ok(None)
        }
    }
}

/// The outcome of a run.
struct Ended {
    finished: Result<Finished, Refusal>,
    /// The exit code of the first signal.
    signal: Option<Exit>,
    shown: Shown,
    /// The process is to exit now.
    leave: bool,
}

/// Whether the last event was shown.
enum Shown {
    Whole,
    Panicked,
    NotWaitedFor,
    /// There was no last event; the stream ends with the runtime.
    Later,
}

impl From<Result<(), oneshot::error::RecvError>> for Shown {
    fn from(shown: Result<(), oneshot::error::RecvError>) -> Self {
        if shown.is_ok() { Self::Whole } else { Self::Panicked }
    }
}

fn exit(finished: &Finished, signal: Option<Exit>) -> Exit {
    match finished.verdict {
        RunVerdict::Done => Exit::Done,
        RunVerdict::RowErrors => Exit::RowErrors,
        RunVerdict::Failed => Exit::Failed,
        RunVerdict::Later => Exit::Later,
        RunVerdict::Environment => Exit::Environment,
        RunVerdict::Interrupted => signal.unwrap_or(Exit::Interrupted),
        RunVerdict::Bug => Exit::Bug,
    }
}

/// Asks for confirmation on the terminal; without one the reply is no.
async fn consents(app: &App, questions: &[String], stopped: &CancellationToken) -> bool {
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) || app.json() {
        return false;
    }
    questions.iter().for_each(|question| app.say(&format!("warning: {question}")));
    app.say("Type `yes` to continue:");
    let (sender, reply) = oneshot::channel();
    // A detached thread: a read from a terminal cannot be cancelled.
    let reading = std::thread::Builder::new().name("confirm".to_owned()).spawn(move || {
        let mut line = String::new();
        let read = io::stdin().read_line(&mut line).is_ok();
        let _ = sender.send(read && line.trim().eq_ignore_ascii_case("yes"));
    });
    if reading.is_err() {
        return false;
    }
    tokio::select! {
        () = stopped.cancelled() => false,
        reply = reply => reply.unwrap_or(false),
    }
}

/// Sortable by time, and unique among processes of many machines that begin at once.
pub(super) fn run_id() -> String {
    let now = chrono::Utc::now();
    // Not the process's number: in containers every process may be number 1.
    format!("{}-{:08x}", now.format("%Y%m%d-%H%M%S%3f"), rand::random::<u32>())
}

/// The command as typed, for resuming, with secrets of `--params` and of addresses masked.
fn command_line(secrets: &SecretMask) -> String {
    let mut words: Vec<String> = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let mut value = false;
    for word in &mut words {
        if value || word.starts_with("--params=") {
            *word = mask_assignment(word);
        }
        value = word == "--params";
        url_secrets(word).iter().for_each(|secret| secrets.add(secret));
        *word = secrets.mask(word).into_owned();
    }
    let words: Vec<String> = words.iter().map(|word| shell_word(word)).collect();
    format!("flow {}", words.join(" "))
}

/// The word as a shell reads it as one.
pub(in crate::cli) fn shell_word(word: &str) -> String {
    let plain = !word.is_empty() && word.chars().all(|c| c.is_alphanumeric() || "-_=./:@,+%".contains(c));
    if plain { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

fn event_sink(app: &App, command: &str, telemetry: &Telemetry) -> Box<dyn run::EventSink + Send> {
    let flag = match app.progress() {
        Progress::Auto => report::ProgressFlag::Auto,
        Progress::Bar => report::ProgressFlag::Bar,
        Progress::Lines => report::ProgressFlag::Lines,
        Progress::None => report::ProgressFlag::None,
    };
    let display: Display =
        report::resolve(flag, io::stderr().is_terminal(), environment("CI").is_some(), app.global.quiet);
    let others: Vec<Box<dyn run::EventSink + Send>> = vec![Box::new(telemetry.clone())];
    report::event_sink(display, app.json(), app.stderr_color, command, others)
}

impl App {
    /// The shard that is asked for, once the project is known to be the one that was compiled.
    pub(in crate::cli) fn shard(&self, workspace: &Workspace, arguments: &PlanArgs) -> Result<Option<Shard>, Stop> {
        if let Some(expected) = &arguments.plan_digest {
            let found = workspace.digest().to_string();
            if *expected != found {
                return Err(self.fail(
                    Exit::Wrong,
                    format!(
                        "the project is not the one that was compiled: its digest is {found}, and `--plan-digest` expects {expected}\n\
                         help: compile it again, or give every shard the same files, `--env`, `--params` and variables"
                    ),
                ));
            }
        }
        let Some(shard) = arguments.shard else { return Ok(None) };
        let shard = shard.resolve(&environment).map_err(|message| self.fail(Exit::Wrong, message))?;
        if arguments.force {
            let message = "`--force` cannot be combined with `--shard`: a shard that is run again would compute everything \
                           again\nhelp: change the node's parameters, or remove the partitions that are to be computed again";
            return Err(self.fail(Exit::Wrong, message));
        }
        Ok(Some(shard))
    }

    /// Reports why a run did not start.
    pub(in crate::cli) fn refuse(&self, refusal: &Refusal, workspace: &Workspace) -> Stop {
        match refusal {
            Refusal::Invalid(problems) => {
                self.report(problems, &workspace.project.sources);
                Exit::Wrong.into()
            }
            Refusal::Environment(problems) | Refusal::NeedsConsent(problems) => {
                problems.iter().for_each(|problem| {
                    self.fail(Exit::Environment, problem);
                });
                Exit::Environment.into()
            }
        }
    }
}
