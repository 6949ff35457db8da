//! What must hold before a run starts: code for every node, secrets, inputs, and nobody else at work on the outputs.
//!
//! Leases come first, so that what is checked is what the run will find. Then all that is wrong is said at once. Nothing
//! is written but leases.

use std::{collections::HashSet, sync::Arc};

use super::{
    assess::{Judgement, Scope},
    context::RunOptions,
    occupants,
    outcome::StepError,
    workspace::{Step, Workspace},
};
use crate::{
    data::{DataError, KeepListings, Lease, Stores},
    diagnostic::Diagnostic,
    function::{Context, FunctionError, Job},
    graph::NodeId,
};

/// Why a run did not start.
#[derive(Debug)]
pub enum Refusal {
    /// The project or the command is wrong. Exit 2.
    Wrong(Vec<Diagnostic>),
    /// The environment is wrong: a missing key, an input that is not there, an unreachable store, another run. Exit 3.
    Environment(Vec<String>),
    /// It would remove most of a dataset, and somebody has to say yes first. Exit 3.
    NeedsConsent(Vec<String>),
}

/// A run that may start.
pub(super) struct Checked {
    /// On all outputs.
    pub(super) leases: Vec<Lease>,
    /// What was listed.
    pub(super) survey: KeepListings,
    /// What the run will remove or replace, for people.
    pub(super) notices: Vec<String>,
}

/// What was found before a start.
#[derive(Default)]
struct Findings {
    wrong: Vec<String>,
    questions: Vec<String>,
    notices: Vec<String>,
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
    (stores, context): (&Arc<Stores>, &Context),
    selected: &[NodeId],
    options: &RunOptions,
) -> Result<Checked, Refusal> {
    runnable(workspace, selected, true)?;
    let steps: Vec<Arc<Step>> = selected.iter().map(|id| workspace.step(*id)).collect();
    let leases = take_leases(&steps, stores).await?;
    let survey = stores.keep_listings();
    let selected_set: HashSet<NodeId> = selected.iter().copied().collect();
    let scope = Scope { workspace, stores, context, selected: &selected_set, force: options.force };
    let Findings { wrong, questions, notices } = findings(scope, selected).await;
    let refusal = if !wrong.is_empty() {
        Refusal::Environment(wrong)
    } else if !questions.is_empty() && !options.yes {
        Refusal::NeedsConsent(questions)
    } else {
        return Ok(Checked { leases, survey, notices });
    };
    give_back(leases).await;
    Err(refusal)
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

/// Everything that is wrong with inputs, the locations of outputs and secrets, and what will be removed.
async fn findings(scope: Scope<'_>, selected: &[NodeId]) -> Findings {
    let mut foresight = scope.foresee(selected).await;
    let (mut wrong, mut questions, mut notices) = (Vec::new(), Vec::new(), Vec::new());
    for step in selected.iter().map(|id| scope.workspace.step(*id)) {
        let judgement = foresight.steps.iter().find(|(judged, _)| judged.id == step.id).map(|(_, judgement)| judgement);
        wrong.extend(occupants::of_inputs(scope.workspace, scope.stores, &step).await);
        if judgement.is_some_and(|judgement| !judgement.computes()) {
            continue;
        }
        if let Some(Judgement::Partitions(work)) = judgement {
            notices.extend(work.removal(&step));
            questions.extend(work.needs_consent(&step));
        }
        let name = &step.output().info().name;
        match occupants::of_output(scope.workspace, scope.stores, &step).await {
            Ok(found) => {
                notices.extend(found.replacement(name));
                if let Some(refusal) = found.refusal(name) {
                    wrong.push(refusal);
                    // What is in the way may be why the step could not be judged, and says more.
                    foresight.problems.retain(|(node, _)| *node != step.name);
                }
            }
            Err(error) if foresight.problems.iter().all(|(node, _)| *node != step.name) => {
                wrong.push(format!("node `{}`: {error}", step.name));
            }
            Err(_) => {}
        }
    }
    let mut wrong = [foresight.obstacles(), wrong].concat();
    let idle: HashSet<NodeId> =
        foresight.steps.iter().filter(|(_, judgement)| !judgement.computes()).map(|(step, _)| step.id).collect();
    let needs: Vec<Arc<Step>> =
        selected.iter().filter(|id| !idle.contains(*id)).map(|id| scope.workspace.step(*id)).collect();
    for step in &needs {
        let Err(error) = can_be_kept(step, scope).await else { continue };
        // Nodes that share a folder are refused by it once.
        if !wrong.iter().any(|other| other.ends_with(&error)) {
            wrong.push(format!("node `{}`: {error}", step.name));
        }
    }
    for (variable, node) in super::workspace::missing_secrets(&needs) {
        wrong.push(format!(
            "node `{node}` needs the environment variable `{variable}`, which is not set; export it and run again"
        ));
    }
    Findings { wrong, questions, notices }
}

/// Whether what is computed, and may be paid for, can be kept.
async fn can_be_kept(step: &Step, scope: Scope<'_>) -> Result<(), String> {
    let Job::Partitions(job) = &step.job else { return Ok(()) };
    let (job, context) = (Arc::clone(job), scope.context.clone());
    let checked = tokio::task::spawn_blocking(move || job.check(&context)).await.expect("checking does not panic");
    checked.map_err(|error| error.to_string())?;
    scope.stores.takes_a_write(step.output()).await.map_err(|error| error.to_string())
}

impl From<FunctionError> for Refusal {
    fn from(error: FunctionError) -> Self {
        Self::Environment(vec![error.to_string()])
    }
}
