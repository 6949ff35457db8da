//! A selection for an engine that exists: SLURM, Argo Workflows, Kubernetes.
//!
//! Owns which nodes become one task ([`TaskPlan`]), and the [`TARGETS`] that write the tasks. Output depends on the graph and
//! the [`Settings`] alone and is the same on every call. Nothing is run or submitted here. Must not know how datasets are opened
//! or functions are called; names, locations and resources reach it, and no secret.
//!
//! Adding a target: one file with a type that implements [`Target`], one line in [`TARGETS`].

mod argo;
mod container;
mod fuse;
mod k8s_job;
mod names;
mod plan;
mod settings;
mod slurm;
mod target;
#[cfg(test)]
mod tests;
mod yaml;

pub use plan::{PlanRequest, Task, TaskKind, TaskPlan};
pub use settings::{Settings, Variable, Volume};
pub use target::{Target, TargetFile};

/// Checks the name of an object of Kubernetes.
///
/// # Errors
/// When it is something else.
pub fn parse_object_name(text: &str) -> Result<String, String> {
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    let bytes = text.as_bytes();
    if bytes.len() <= 253 && edge(bytes.first()) && edge(bytes.last()) && text.bytes().all(inner) {
        Ok(text.to_owned())
    } else {
        Err("expected the name of an object of Kubernetes: small letters, digits, `-` and `.`".to_owned())
    }
}

/// Checks `--image`: a word that names something.
///
/// # Errors
/// When it is empty, or holds blanks or control characters.
pub fn parse_image(text: &str) -> Result<String, String> {
    if text.is_empty() || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("expected the name of an image, such as `registry.example/project:1`".to_owned());
    }
    Ok(text.to_owned())
}

/// All targets.
pub static TARGETS: &[&dyn Target] = &[&slurm::Slurm, &argo::Argo, &k8s_job::K8sJob];

/// Checks `--schedule`: five fields of cron, or a word such as `@daily`.
///
/// # Errors
/// When it is something else.
pub fn parse_schedule(text: &str) -> Result<String, String> {
    if argo::schedule::is_schedule(text) {
        Ok(text.to_owned())
    } else {
        Err("expected five fields of cron, such as `0 3 * * *`, or `@daily`".to_owned())
    }
}
