//! What the process provides to the work of a node.

use std::fmt;

use datafusion::prelude::SessionContext;

use super::memory_budget::MemoryBudget;
use crate::{net::ServiceContext, python::Workers};

/// What the process provides to a function.
#[derive(Clone)]
pub struct Context {
    /// The table engine.
    pub session: SessionContext,
    /// What it provides to clients of services.
    pub service: ServiceContext,
    /// Memory for partitions in work.
    pub memory: MemoryBudget,
    /// Processes that call functions in Python.
    pub python: Workers,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("service", &self.service).finish_non_exhaustive()
    }
}
