//! How a Kedro project is loaded.

use serde_json::{Value as Json, json};

/// How a project is loaded, the same in every process of a run.
#[derive(Debug, Clone)]
pub struct ProjectStart {
    /// The environment, where one was asked for.
    pub env: Option<String>,
    /// Parameters that were given to the run.
    pub params: Json,
    /// The version under which datasets are saved that have versions, as Kedro writes it.
    pub save_version: String,
}

impl ProjectStart {
    /// As a message has it.
    pub(super) fn json(&self) -> Json {
        json!({"env": self.env, "params": self.params, "save_version": self.save_version})
    }
}
