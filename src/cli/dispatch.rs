//! The entry point: parses the arguments and calls the command.

use std::{
    io::{self, Write},
    process::ExitCode,
    time::SystemTime,
};

use clap::{
    CommandFactory, FromArgMatches,
    error::{ContextKind, ContextValue, ErrorKind},
};

use super::{
    Exit,
    app::{self, App},
    arguments::{Cli, Command, EngineFlag, ExportCommand, PlanArgs, RunArgs},
    commands, complete, resources, topics,
};
use crate::{
    function::Engine,
    model::{visible, visible_json_text},
};

/// Runs the command line of this process. `give_back` makes the allocator return freed memory to the system.
pub fn main(give_back: fn()) -> ExitCode {
    crate::data::print_only_uncaught_panics();
    complete::complete();
    let words: Vec<String> = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    // `flow help exit-codes` is a topic, not a command: clap's own `help` knows commands only.
    if let [help, topic] = words.as_slice()
        && help == "help"
        && let Some(text) = topics::text(topic)
    {
        return ExitCode::from(app::print(&text).code());
    }
    let cli = match Cli::command().try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(mut error) if error.use_stderr() && wants_json(&words, app::environment("FLOW_OUTPUT").as_deref()) => {
            explain(&mut error);
            let _ = writeln!(io::stderr().lock(), "{}", visible_json_text(&usage_diagnostic(&error).to_string()));
            return ExitCode::from(Exit::Wrong.code());
        }
        Err(mut error) => {
            explain(&mut error);
            let exit = if error.use_stderr() { Exit::Wrong } else { Exit::Done };
            let text = error.render().to_string();
            // It quotes arguments. Colours are escape sequences too, and are left out where others are written out.
            let shown = visible(&text);
            let printed = if shown == text { error.print() } else { io::stderr().lock().write_all(shown.as_bytes()) };
            let exit = match (exit, printed) {
                (Exit::Done, Err(error)) => app::unprinted(&error),
                (exit, _) => exit,
            };
            return ExitCode::from(exit.code());
        }
    };
    let Cli { global, command } = cli;
    let mut app = App::new(global, give_back);
    if let Command::Run(RunArgs { plan: PlanArgs { engine: EngineFlag::Spark, .. }, .. })
    | Command::Plan(PlanArgs { engine: EngineFlag::Spark, .. }) = &command
    {
        app.registry.engine = Engine::Spark;
    }
    // For the tests of this repository: the process is killed at the n-th fault point.
    if let Some(n) = app::environment("FLOW_UNSTABLE_KILL_AT").and_then(|n| n.parse().ok()) {
        crate::data::kill_at(n);
    }
    ExitCode::from(dispatch(&app, command).code())
}

/// True if arguments that cannot be parsed ask for JSON, or, where they do not say it, the variable of `--output` does.
fn wants_json(words: &[String], variable: Option<&str>) -> bool {
    let words = words.iter().take_while(|word| *word != "--").collect::<Vec<_>>();
    if !words.iter().any(|word| *word == "--output" || word.starts_with("--output=")) {
        return variable == Some("json");
    }
    words.iter().any(|word| *word == "--output=json")
        || words.windows(2).any(|pair| pair[0] == "--output" && pair[1] == "json")
}

/// Says which commands take an option that this one does not.
fn explain(error: &mut clap::Error) {
    let unknown = match (error.kind(), error.get(ContextKind::InvalidArg)) {
        (ErrorKind::UnknownArgument, Some(ContextValue::String(argument))) => argument.strip_prefix("--"),
        _ => None,
    };
    let Some(name) = unknown.and_then(|argument| argument.split('=').next()) else { return };
    let command = Cli::command();
    let takes = |command: &&clap::Command| command.get_arguments().any(|known| known.get_long() == Some(name));
    let others: Vec<String> =
        command.get_subcommands().filter(takes).map(|command| format!("`flow {}`", command.get_name())).collect();
    if !others.is_empty() {
        let tip = format!("`--{name}` is an option of {}", others.join(", "));
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
}

/// A usage error as a diagnostic without a location.
fn usage_diagnostic(error: &clap::Error) -> serde_json::Value {
    let text = error.render().to_string();
    let mut paragraphs = text.trim().split("\n\n");
    let message = paragraphs.next().unwrap_or_default();
    let help: Vec<&str> = paragraphs.map(str::trim).filter(|paragraph| !paragraph.is_empty()).collect();
    app::diagnostic_without_position(message.strip_prefix("error: ").unwrap_or(message), &help)
}

fn dispatch(app: &App, command: Command) -> Exit {
    if let Some(message) = resources::wrong_clock(SystemTime::now()) {
        return app.fail(Exit::Environment, message).exit;
    }
    let result = match command {
        Command::Run(arguments) => commands::run::run(app, &arguments),
        Command::Plan(arguments) => commands::plan::plan(app, &arguments),
        Command::Check { online, no_python } => commands::check::check(app, online, no_python),
        Command::Accept { nodes } => commands::accept::accept(app, &nodes),
        Command::Graph { selection, format, o } => {
            commands::graph::graph(app, &selection, format.as_deref(), o.as_deref())
        }
        Command::Ls { what } => commands::ls::ls(app, &what),
        Command::Show { dataset, head, schema, partitions } => {
            commands::show::show(app, &dataset, head, schema, partitions)
        }
        Command::Config { command } => commands::config::config(app, &command),
        Command::Compile(arguments) => commands::compile::compile(app, &arguments),
        Command::Runs { ledger, command } => commands::runs::runs(app, ledger.as_deref(), command.as_ref()),
        Command::Report { run, ledger, o, compare } => {
            commands::report::report(app, &run, o.as_deref(), compare.as_deref(), ledger.as_deref())
        }
        Command::Export { command: ExportCommand::KedroViz { dir } } => commands::export::export_kedro_viz(app, &dir),
        Command::Serve { port, bind, ledger } => commands::serve::serve(app, bind, port, ledger.as_deref()),
        Command::Cache { command } => commands::cache::cache(app, &command),
        Command::New { dir } => commands::new::new(app, &dir),
        Command::Schema { what } => commands::schema::schema(app, what),
        Command::Completions { shell } => complete::script(app, &shell),
        Command::Man => complete::manual(app),
    };
    result.unwrap_or_else(|stop| stop.exit)
}
