//! The one integration binary: each further one would link the table engine again.
//!
//! - `architecture`: rooms use only rooms below them
//! - `main_job`: the shipped project, end to end
//! - `resume`: crashes, changed inputs, changed parameters, two runs at once
//! - `api`: the same pipeline against a scripted server
//! - `commands`: every command's words, exit codes and JSON
//! - `config`: wrong projects, Kedro's projects, documents and schemas made from tables
//! - `seed`: the YAML of the blog post

mod api;
mod architecture;
mod commands;
mod config;
mod main_job;
mod readme;
mod resume;
mod seed;
mod support;
