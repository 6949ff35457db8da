//! `flow` runs declared pipelines.
//!
//! The library behind the binary: see `ARCHITECTURE.md` for the data flow and the modules.

pub mod cache;
pub mod cli;
pub mod compile;
pub mod config;
pub mod data;
pub mod diagnostic;
pub mod embed;
pub mod export;
pub mod function;
pub mod graph;
pub mod model;
pub mod net;
pub mod process;
pub mod python;
pub mod report;
pub mod run;
pub mod serve;
pub mod telemetry;
