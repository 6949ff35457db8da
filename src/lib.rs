//! `flow` runs declared pipelines.
//!
//! The library behind the binary: `ARCHITECTURE.md` has the picture and the straight line through the rooms.

pub mod config;
pub mod data;
pub mod diagnostic;
pub mod graph;
pub mod model;
