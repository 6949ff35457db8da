//! Shell completions, which know node and dataset names, and the manual page.

use clap::{Arg, CommandFactory};
use clap_complete::{
    engine::ArgValueCompleter,
    env::{CompleteEnv, Shells},
};

use super::{
    Exit,
    app::{App, Outcome, print_raw},
    arguments::Cli,
    completers::{Names, candidates},
};

/// Prints completions and ends the process if a shell asks for them (it sets `COMPLETE`).
pub(super) fn complete() {
    CompleteEnv::with_factory(|| with_names(Cli::command())).complete();
}

/// The arguments whose values are names of the project.
fn with_names(command: clap::Command) -> clap::Command {
    command.mut_args(with_names_of_project).mut_subcommands(with_names)
}

fn with_names_of_project(argument: Arg) -> Arg {
    let names = match argument.get_id().as_str() {
        "nodes" | "from_nodes" | "to_nodes" => Names::Nodes,
        "exclude" => Names::NodesAndTags,
        "from_inputs" | "to_outputs" | "dataset" | "name" => Names::Datasets,
        "pipeline" => Names::Pipelines,
        "tags" => Names::Tags,
        "namespaces" => Names::Namespaces,
        "env" => Names::Environments,
        "params" => Names::Parameters,
        _ => return argument,
    };
    argument.add(ArgValueCompleter::new(move |current: &std::ffi::OsStr| candidates(names, current)))
}

/// Prints the script that registers completions with a shell.
pub(super) fn script(app: &App, shell: &str) -> Outcome {
    let shells = Shells::builtins();
    let Some(completer) = shells.completer(shell) else {
        let known: Vec<_> = shells.names().collect();
        return Err(
            app.fail(Exit::Wrong, format!("no completions for `{shell}`; supported shells: {}", known.join(", ")))
        );
    };
    let mut script = Vec::new();
    completer
        .write_registration("COMPLETE", "flow", "flow", "flow", &mut script)
        .map_err(|error| app.fail(Exit::Environment, error.to_string()))?;
    Ok(print_raw(&String::from_utf8_lossy(&script)))
}

/// Prints the manual page in roff.
pub(super) fn manual(app: &App) -> Outcome {
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command())
        .render(&mut page)
        .map_err(|error| app.fail(Exit::Environment, error.to_string()))?;
    Ok(print_raw(&String::from_utf8_lossy(&page)))
}
