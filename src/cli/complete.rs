//! Shell completions, which know node and dataset names, and the manual page.

use std::io::{self, Write as _};

use clap::{Arg, Command, CommandFactory};
use clap_complete::{
    engine::ArgValueCompleter,
    env::{CompleteEnv, Shells},
};
use clap_mangen::Man;

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
fn with_names(command: Command) -> Command {
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
    let page = manual_page().map_err(|error| app.fail(Exit::Environment, error.to_string()))?;
    Ok(print_raw(&String::from_utf8_lossy(&page)))
}

/// One page, with a section for each command.
fn manual_page() -> io::Result<Vec<u8>> {
    let command = Cli::command();
    let mut page = Vec::new();
    let whole = Man::new(command.clone());
    whole.render_title(&mut page)?;
    whole.render_name_section(&mut page)?;
    whole.render_synopsis_section(&mut page)?;
    whole.render_description_section(&mut page)?;
    whole.render_options_section(&mut page)?;
    for command in commands_below(&command, "flow") {
        writeln!(page, ".SH {}", command.get_bin_name().unwrap_or_default().to_uppercase())?;
        let has_options = command.get_arguments().next().is_some();
        let one = Man::new(command);
        let mut section = Vec::new();
        one.render_synopsis_section(&mut section)?;
        one.render_description_section(&mut section)?;
        if has_options {
            one.render_options_section(&mut section)?;
        }
        page.extend(String::from_utf8_lossy(&section).replace(".SH ", ".SS ").into_bytes());
    }
    whole.render_version_section(&mut page)?;
    Ok(page)
}

/// The commands below one, each with its whole name; of those that only group others, the others.
fn commands_below(command: &Command, name: &str) -> Vec<Command> {
    let mut all = Vec::new();
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        let name = format!("{name} {}", sub.get_name());
        let below = commands_below(sub, &name);
        if below.is_empty() || !sub.is_subcommand_required_set() {
            all.push(sub.clone().bin_name(name));
        }
        all.extend(below);
    }
    all
}
