//! The command line: arguments, environment, colours and exit codes.
//!
//! Owns everything that touches the process: arguments, environment variables, standard streams, signals. Must not
//! hold algorithms: a command is a thin call into the modules below.

mod app;
mod arguments;
mod commands;
mod complete;
mod completers;
mod dispatch;
mod exit;
mod ledgers;
mod links;
mod logging;
mod new_folder;
mod output_file;
mod resources;
mod shard;
mod signals;
mod telemetry;
mod topics;

pub use dispatch::main;
pub use exit::Exit;
