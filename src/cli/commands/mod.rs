//! One file per command; each a thin call into the modules below.

pub(super) mod accept;
pub(super) mod cache;
pub(super) mod check;
pub(super) mod compile;
pub(super) mod config;
pub(super) mod export;
pub(super) mod graph;
pub(super) mod ls;
pub(super) mod new;
pub(super) mod plan;
pub(super) mod report;
pub(super) mod run;
pub(super) mod runs;
pub(super) mod schema;
pub(super) mod serve;
pub(super) mod show;
