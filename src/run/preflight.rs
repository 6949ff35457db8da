//! What must hold before a run starts: code for every node, secrets, inputs, and nobody else at work on the outputs.
//!
//! Leases come first, so that what is checked is what the run will find. Then all that is wrong is said at once. Nothing
//! is written but leases.

use std::{collections::HashSet, sync::Arc};

use super::{
    assess::{AssessError, Assessment, MemoryDigests, assess, nobody_needs},
    execute::StepError,
    workspace::{Step, Workspace},
};
use crate::{
    data::{DataError, Lease, Stores, Survey},
    diagnostic::Diagnostic,
    function::{FunctionError, Job},
    graph::NodeId,
};

/// Why a run did not start.
#[derive(Debug)]
pub enum Refusal {
    /// The project or the command is wrong. Exit 2.
    Wrong(Vec<Diagnostic>),
    /// The environment is wrong: a missing key, an input that is not there, an unreachable store, another run. Exit 3.
    Environment(Vec<String>),
}

impl From<StepError> for Refusal {
    fn from(error: StepError) -> Self {
        Self::Environment(vec![error.to_string()])
    }
}

/// Refuses nodes without code and datasets that cannot be run.
pub(super) fn runnable(workspace: &Workspace, selected: &[NodeId], placeholders: bool) -> Result<(), Refusal> {
    let mut problems = Vec::new();
    for step in selected.iter().map(|id| workspace.step(*id)) {
        if placeholders && matches!(step.job, Job::Placeholder) {
            problems.push(
                Diagnostic::error("node::placeholder", format!("node `{}` has no code yet", step.name))
                    .at(step.span, "uses `placeholder`")
                    .help(format!("give it a function, or leave it out with `--exclude {}`", step.name)),
            );
        }
        if !placeholders {
            continue;
        }
        let datasets =
            step.inputs.iter().map(|input| &input.dataset).chain(step.outputs.iter().map(|(_, dataset)| dataset));
        for info in datasets.map(|dataset| dataset.info()).filter(|info| !info.supported) {
            let message =
                format!("dataset `{}` has type `{}`, which cannot be loaded or saved here", info.name, info.type_name);
            problems.push(
                Diagnostic::error("dataset::unsupported-type", message)
                    .at(step.span, "used by this node")
                    .help("`flow ls types` lists the types there are"),
            );
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(Refusal::Wrong(problems)) }
}

/// Takes the leases on all outputs, then checks everything. What was listed for that is in the survey: nobody else
/// writes to the outputs now, so the run need not look again before it writes itself.
pub(super) async fn check(
    workspace: &Workspace,
    stores: &Arc<Stores>,
    selected: &[NodeId],
    force: bool,
) -> Result<(Vec<Lease>, Survey), Refusal> {
    runnable(workspace, selected, true)?;
    let steps: Vec<Arc<Step>> = selected.iter().map(|id| workspace.step(*id)).collect();
    let leases = take_leases(&steps, stores).await?;
    let survey = stores.survey();
    let wrong = problems(workspace, stores, &steps, force).await;
    if wrong.is_empty() {
        return Ok((leases, survey));
    }
    give_back(leases).await;
    Err(Refusal::Environment(wrong))
}

/// The leases on all outputs, or none. All runs take theirs in one order and stop at the first that is held: of two
/// that begin together, one goes on.
async fn take_leases(steps: &[Arc<Step>], stores: &Stores) -> Result<Vec<Lease>, Refusal> {
    let mut leases = Vec::new();
    let mut taken = HashSet::new();
    for (name, dataset) in steps.iter().flat_map(|step| &step.outputs) {
        if !taken.insert(name.base()) || !dataset.info().persistent {
            continue;
        }
        match stores.lease(&**dataset).await {
            Ok(lease) => leases.push(lease),
            Err(error) => {
                give_back(leases).await;
                return Err(Refusal::Environment(vec![match error {
                    held @ DataError::Held { .. } => held.to_string(),
                    other => format!("`{name}`: {other}"),
                }]));
            }
        }
    }
    Ok(leases)
}

async fn give_back(leases: Vec<Lease>) {
    for lease in leases {
        lease.release().await;
    }
}

/// Everything that is wrong with inputs and secrets.
async fn problems(workspace: &Workspace, stores: &Stores, steps: &[Arc<Step>], force: bool) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut memory = MemoryDigests::new();
    let chosen: HashSet<NodeId> = steps.iter().map(|step| step.id).collect();
    let mut will_write: HashSet<&str> = HashSet::new();
    let mut needs: Vec<&Arc<Step>> = Vec::new();
    let produced: HashSet<&str> =
        steps.iter().flat_map(|step| step.outputs.iter().map(|(name, _)| name.base())).collect();
    for step in steps {
        let waits = step.inputs.iter().any(|input| will_write.contains(input.base.as_str()));
        for input in &step.inputs {
            if !input.dataset.info().persistent && !produced.contains(input.base.as_str()) {
                wrong.push(format!(
                    "node `{}` reads `{}`, which is kept in memory only and written by no selected node; add `--from-inputs` or `--to-nodes {}`",
                    step.name, input.base, step.name
                ));
            }
        }
        let runs = waits || {
            match assess(step, stores, &memory, force).await {
                Ok(Assessment::Done { .. }) => false,
                Ok(Assessment::Table { receipt, .. })
                    if !step.output().info().persistent
                        && !force
                        && nobody_needs(workspace, &chosen, stores, step, receipt, &memory).await =>
                {
                    memory.insert(step.output_base().to_owned(), receipt);
                    false
                }
                Ok(_) => true,
                // Memory is filled while the run goes on.
                Err(AssessError::MissingInput { dataset, .. }) if produced.contains(base(&dataset)) => true,
                Err(error) => {
                    wrong.push(format!("node `{}`: {error}", step.name));
                    true
                }
            }
        };
        if runs {
            will_write.extend(step.outputs.iter().map(|(name, _)| name.base()));
            needs.push(step);
        }
    }
    for (variable, node) in super::workspace::missing_secrets(needs) {
        wrong.push(format!(
            "node `{node}` needs the environment variable `{variable}`, which is not set; export it and run again"
        ));
    }
    wrong
}

fn base(name: &str) -> &str {
    name.split_once('@').map_or(name, |(base, _)| base)
}

impl From<FunctionError> for Refusal {
    fn from(error: FunctionError) -> Self {
        Self::Environment(vec![error.to_string()])
    }
}
