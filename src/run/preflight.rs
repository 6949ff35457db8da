//! Checks before a run starts: code for every node, secrets, inputs, and exclusive access to the outputs.
//!
//! Functions are loaded first, which may take a while. Then leases are acquired, so that no other run changes the outputs after
//! the other checks. All problems of either part are reported together. Nothing but leases is written.

use std::{collections::HashSet, sync::Arc};

use super::{
    assess::{Judgement, Scope},
    columns,
    context::RunOptions,
    divide,
    load::{self, LoadProblems},
    occupants,
    outcome::StepError,
    workspace::{Step, Workspace},
};
use crate::{
    data::{DataError, KeepListings, Lease, Stores, unsupported_scheme},
    diagnostic::Diagnostic,
    function::{Context, FunctionError, Job},
    graph::NodeId,
    model::Shard,
};

/// Why a run did not start.
#[derive(Debug)]
pub enum Refusal {
    /// The project or the command is invalid. Exit code 2.
    Invalid(Vec<Diagnostic>),
    /// The environment prevents the run: a missing key or input, an unreachable store, another run. Exit code 3.
    Environment(Vec<String>),
    /// The run would remove most of a dataset, which requires `--yes`. Exit code 3.
    NeedsConsent(Vec<String>),
}

/// The result of successful checks.
pub(super) struct Checked {
    /// The leases on all outputs.
    pub(super) leases: Vec<Lease>,
    /// Keeps the listings that the checks made, for reuse by the run.
    pub(super) listings: KeepListings,
    /// Messages about what the run will remove or replace, as displayed to the user.
    pub(super) notices: Vec<String>,
}

/// The messages of the checks.
#[derive(Default)]
struct Findings {
    /// Columns that the nodes that are to run do not find.
    invalid: Vec<Diagnostic>,
    errors: Vec<String>,
    /// Removals that require `--yes`.
    consent: Vec<String>,
    notices: Vec<String>,
}

impl From<StepError> for Refusal {
    fn from(error: StepError) -> Self {
        Self::Environment(vec![error.to_string()])
    }
}

/// Loads the functions of the nodes.
pub(super) async fn load_functions(
    workspace: &Workspace,
    context: &Context,
    selected: &[NodeId],
) -> Result<(), Refusal> {
    let LoadProblems { wrong, environment } = load::load(selected.iter().map(|id| workspace.step(*id)), context).await;
    if !wrong.is_empty() {
        return Err(Refusal::Invalid(wrong));
    }
    if environment.is_empty() { Ok(()) } else { Err(Refusal::Environment(environment)) }
}

/// Rejects nodes without code, datasets of unsupported types, and nodes that cannot be divided into shards.
pub(super) fn runnable(
    workspace: &Workspace,
    selected: &[NodeId],
    shard: Option<Shard>,
    placeholders: bool,
) -> Result<(), Refusal> {
    let mut problems = shard.map(|shard| divide::problems(workspace, selected, shard)).unwrap_or_default();
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
        let datasets = datasets.filter(|dataset| !(step.job.opens_external() && dataset.as_external().is_some()));
        for info in datasets.map(|dataset| dataset.info()).filter(|info| !info.supported) {
            let name = &info.name;
            let message = match info.location.as_deref().and_then(|path| Some((unsupported_scheme(path)?, path))) {
                Some((scheme, path)) => {
                    format!("dataset `{name}` is at `{path}`, and `{scheme}:` is not supported in runs")
                }
                None => format!("dataset `{name}` has type `{}`, which is not supported in runs", info.type_name),
            };
            problems.push(
                Diagnostic::error("dataset::unsupported-type", message)
                    .at(step.span, "used by this node")
                    .help("`flow ls types` lists the supported types"),
            );
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(Refusal::Invalid(problems)) }
}

/// Acquires the leases on all outputs, then runs all checks. Since no other run can write to the outputs, the run
/// reuses the listings until it writes for the first time.
pub(super) async fn check(
    workspace: &Workspace,
    (stores, context): (&Arc<Stores>, &Context),
    selected: &[NodeId],
    options: &RunOptions,
) -> Result<Checked, Refusal> {
    runnable(workspace, selected, options.shard, true)?;
    load_functions(workspace, context, selected).await?;
    let steps: Vec<Arc<Step>> = selected.iter().map(|id| workspace.step(*id)).collect();
    let leases = acquire_leases(&steps, stores, options.shard).await?;
    let listings = stores.keep_listings();
    let selected_set: HashSet<NodeId> = selected.iter().copied().collect();
    let scope =
        Scope { workspace, stores, context, selected: &selected_set, force: options.force, shard: options.shard };
    let Findings { invalid, errors, consent, notices } = findings(scope, selected).await;
    let refusal = if !invalid.is_empty() {
        Refusal::Invalid(invalid)
    } else if !errors.is_empty() {
        Refusal::Environment(errors)
    } else if !consent.is_empty() && !options.yes {
        Refusal::NeedsConsent(consent)
    } else {
        return Ok(Checked { leases, listings, notices });
    };
    release_all(leases).await;
    Err(refusal)
}

/// Acquires the leases on all outputs, or none. All runs acquire them in the same order and stop at the first that is
/// held, so that of two runs that start together one continues.
pub(super) async fn acquire_leases(
    steps: &[Arc<Step>],
    stores: &Stores,
    shard: Option<Shard>,
) -> Result<Vec<Lease>, Refusal> {
    let mut leases = Vec::new();
    let mut taken = HashSet::new();
    for (name, dataset) in steps.iter().flat_map(|step| &step.outputs) {
        if !taken.insert(name.base()) || !dataset.info().persistent {
            continue;
        }
        match stores.lease_for(&**dataset, shard).await {
            Ok(lease) => leases.push(lease),
            Err(error) => {
                release_all(leases).await;
                return Err(Refusal::Environment(vec![match error {
                    held @ DataError::Held { .. } => held.to_string(),
                    other => format!("`{name}`: {other}"),
                }]));
            }
        }
    }
    Ok(leases)
}

pub(super) async fn release_all(leases: Vec<Lease>) {
    for lease in leases {
        lease.release().await;
    }
}

/// Checks inputs, the locations of outputs and secrets, and collects what the run will remove.
async fn findings(scope: Scope<'_>, selected: &[NodeId]) -> Findings {
    let mut judgements = scope.judge_all(selected).await;
    let (mut errors, mut consent, mut notices) = (Vec::new(), Vec::new(), Vec::new());
    for step in selected.iter().map(|id| scope.workspace.step(*id)) {
        let judgement =
            judgements.steps.iter().find(|(judged, _)| judged.id == step.id).map(|(_, judgement)| judgement);
        errors.extend(occupants::of_inputs(scope.workspace, scope.stores, &step).await);
        if judgement.is_some_and(|judgement| !judgement.computes()) {
            continue;
        }
        if let Some(Judgement::Partitions(work)) = judgement {
            notices.extend(work.removal(&step));
            consent.extend(work.needs_consent(&step));
        }
        for (_, output) in &step.outputs {
            let name = &output.info().name;
            match occupants::of_output(scope.workspace, scope.stores, &step, &**output).await {
                Ok(found) => {
                    notices.extend(found.replacement(name));
                    if let Some(refusal) = found.refusal(name) {
                        errors.push(refusal);
                        // Likely the cause of the error in judging the step, and more specific.
                        judgements.problems.retain(|(node, _)| *node != step.name);
                    }
                }
                Err(error) if judgements.problems.iter().all(|(node, _)| *node != step.name) => {
                    errors.push(format!("node `{}`: {error}", step.name));
                }
                Err(_) => {}
            }
        }
    }
    let mut errors = [judgements.errors(), errors].concat();
    let idle: HashSet<NodeId> =
        judgements.steps.iter().filter(|(_, judgement)| !judgement.computes()).map(|(step, _)| step.id).collect();
    let needs: Vec<Arc<Step>> =
        selected.iter().filter(|id| !idle.contains(*id)).map(|id| scope.workspace.step(*id)).collect();
    for step in &needs {
        let Err(error) = check_writable(step, scope).await else { continue };
        // The error of a directory that several nodes share is reported once.
        if !errors.iter().any(|other| other.ends_with(&error)) {
            errors.push(format!("node `{}`: {error}", step.name));
        }
    }
    for (variable, node) in super::workspace::missing_secrets(&needs) {
        errors.push(format!(
            "node `{node}` needs the environment variable `{variable}`, which is not set; export it and run again"
        ));
    }
    let to_run: HashSet<NodeId> = needs.iter().map(|step| step.id).collect();
    let invalid = columns::check_nodes(scope.workspace, scope.stores, &scope.context.session, &to_run).await;
    Findings { invalid, errors, consent, notices }
}

/// Checks that the results of a step, which may cost money, can be written to its output and its cache.
async fn check_writable(step: &Step, scope: Scope<'_>) -> Result<(), String> {
    let Some(job) = step.job.rows() else { return Ok(()) };
    let (job, context) = (Arc::clone(job), scope.context.clone());
    let checked = tokio::task::spawn_blocking(move || job.check(&context)).await.expect("`check` does not panic");
    checked.map_err(|error| error.to_string())?;
    scope.stores.takes_a_write(step.output()).await.map_err(|error| error.to_string())
}

impl From<FunctionError> for Refusal {
    fn from(error: FunctionError) -> Self {
        Self::Environment(vec![error.to_string()])
    }
}
