//! Which steps a run is going to need: what is kept in memory only is computed where something that reads it is.
//!
//! Owns the prediction of what runs and the judgements that rest on it. An output in memory is known by the work that would compute
//! it, so that everything behind a chain of such outputs can be judged before one of them is there.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use indexmap::IndexMap;

use super::{
    assess::{AssessError, Judgement, MemoryDigests, Scope},
    finished,
    missing_input::MissingInput,
    workspace::{Input, Step},
};
use crate::{function::Job, graph::NodeId, model::Fingerprint};

/// What is predicted for a step. In the order of how much its inputs are needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    /// Neither the step runs nor anything that reads its outputs in memory.
    Idle,
    /// That depends on what steps before it write.
    Open,
    /// It runs.
    Runs,
}

/// The steps that the rest of a run needs, predicted when it is first asked for and again when more is known.
#[derive(Debug, Default)]
pub(crate) struct Needs {
    /// Steps that have ended or are known not to run.
    settled: Mutex<HashSet<NodeId>>,
    prediction: tokio::sync::Mutex<Option<Prediction>>,
}

#[derive(Debug, Default)]
struct Prediction {
    /// What the steps that keep an output in memory only were predicted by: their work.
    receipts: HashMap<NodeId, Fingerprint>,
    fates: HashMap<NodeId, Fate>,
    /// How many steps were settled.
    settled: usize,
}

impl Needs {
    /// A step has ended, or is known not to run.
    pub(crate) fn settle(&self, step: NodeId) {
        self.settled.lock().unwrap_or_else(PoisonError::into_inner).insert(step);
    }

    /// True if nothing needs the outputs in memory of a step. `receipt` would identify them.
    async fn is_idle(&self, scope: Scope<'_>, step: &Step, receipt: Fingerprint, memory: &MemoryDigests) -> bool {
        let settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut kept = self.prediction.lock().await;
        if let Some(known) = kept.as_ref().filter(|known| known.receipts.get(&step.id) == Some(&receipt)) {
            match known.fate(step.id) {
                Fate::Idle => return true,
                Fate::Runs => return false,
                Fate::Open if known.settled == settled.len() => return false,
                Fate::Open => {}
            }
        }
        kept.insert(Prediction::of(scope, memory, &settled).await).fate(step.id) == Fate::Idle
    }
}

impl Prediction {
    fn fate(&self, step: NodeId) -> Fate {
        self.fates.get(&step).copied().unwrap_or(Fate::Idle)
    }

    /// Predicts all steps that have to do with outputs in memory.
    async fn of(scope: Scope<'_>, memory: &MemoryDigests, settled: &HashSet<NodeId>) -> Self {
        let steps = relevant(scope, settled);
        let mut found = Self { settled: settled.len(), ..Self::default() };
        loop {
            // Data that is not there yet, or will be written again.
            let mut pending: HashSet<&str> = HashSet::new();
            let mut digests = memory.clone();
            for step in &steps {
                let waits =
                    |input: &Input| pending.contains(input.base.as_str()) && !is_known(step, &input.base, &digests);
                let own = if step.inputs.iter().any(waits) {
                    Fate::Open
                } else {
                    match scope.judge_alone(step, &digests).await {
                        Ok(Judgement::Table { receipt, memory_only, .. }) => {
                            digests.extend(step.memory_outputs().map(|base| (base.to_owned(), receipt)));
                            found.receipts.insert(step.id, receipt);
                            if memory_only && !is_end(scope, step, receipt) { Fate::Idle } else { Fate::Runs }
                        }
                        Ok(Judgement::Partitions(_)) => Fate::Runs,
                        Ok(_) => Fate::Idle,
                        // Reported where the step itself is judged.
                        Err(_) => Fate::Open,
                    }
                };
                let fate = found.fate(step.id).max(own);
                found.fates.insert(step.id, fate);
                let unwritten =
                    step.outputs.iter().filter(|(_, output)| fate != Fate::Idle || !output.info().persistent);
                pending.extend(unwritten.map(|(name, _)| name.base()));
            }
            // Who needs an output in memory needs the step that computes it; one that writes a file besides writes it again.
            let mut writes = false;
            for step in steps.iter().rev() {
                let fate = found.fate(step.id);
                for input in step.inputs.iter().filter(|input| !input.dataset.info().persistent) {
                    let producer = scope.workspace.graph.dataset(&input.base).and_then(|dataset| dataset.producer);
                    let producer = producer.filter(|id| scope.selected.contains(id) && !settled.contains(id));
                    if let Some(id) = producer.filter(|id| found.fate(*id) < fate) {
                        found.fates.insert(id, fate);
                        writes |= scope.workspace.step(id).outputs.iter().any(|(_, output)| output.info().persistent);
                    }
                }
            }
            if !writes {
                return found;
            }
        }
    }
}

/// True for a dataset in memory whose digest is known before it is there. A step over partitions has to see them.
fn is_known(step: &Step, base: &str, memory: &MemoryDigests) -> bool {
    memory.contains_key(base) && !matches!(step.job, Job::Partitions(_))
}

/// The steps that keep outputs in memory, those that read them, and all steps before these, in execution order.
fn relevant(scope: Scope<'_>, settled: &HashSet<NodeId>) -> Vec<Arc<Step>> {
    let mut wanted: HashSet<NodeId> = HashSet::new();
    let mut found = Vec::new();
    for step in scope.workspace.steps().iter().rev().filter(|step| scope.selected.contains(&step.id)) {
        let in_memory =
            step.memory_outputs().next().is_some() || step.inputs.iter().any(|input| !input.dataset.info().persistent);
        if in_memory || wanted.contains(&step.id) {
            wanted.extend(scope.workspace.graph.dependencies(step.id));
            found.extend((!settled.contains(&step.id)).then(|| step.clone()));
        }
    }
    found.reverse();
    found
}

/// True for a step that runs for its own sake: nothing reads what it leaves in memory, and it leaves nothing else.
fn is_end(scope: Scope<'_>, step: &Step, receipt: Fingerprint) -> bool {
    let is_read = |base: &str| {
        let dataset = scope.workspace.graph.dataset(base);
        dataset.is_some_and(|dataset| dataset.consumers.iter().any(|id| scope.selected.contains(id)))
    };
    let leaves_nothing = step.outputs.iter().all(|(name, output)| !output.info().persistent && !is_read(name.base()));
    leaves_nothing && !finished::has_ended(&scope.context.service.root, step, receipt)
}

/// The judgements of all selected steps before a run.
#[derive(Debug, Default)]
pub(crate) struct Judgements {
    /// The judged steps, in execution order. Steps that cannot be judged are omitted.
    pub steps: Vec<(Arc<Step>, Judgement)>,
    /// Missing inputs that no selected step writes, in the order of the steps.
    pub missing: Vec<MissingInput>,
    /// Digests of datasets in memory, of those that need not be computed too.
    pub memory: MemoryDigests,
    /// All other errors in judging steps, by the name of the step.
    pub problems: Vec<(String, AssessError)>,
}

impl Judgements {
    /// Messages of all errors in judging steps. An error that several steps share is reported once.
    pub(crate) fn errors(&self) -> Vec<String> {
        let mut nodes: IndexMap<String, Vec<String>> = IndexMap::new();
        for (node, error) in &self.problems {
            nodes.entry(error.to_string()).or_default().push(format!("`{node}`"));
        }
        let others = nodes.into_iter().map(|(error, nodes)| {
            format!("{} {}: {error}", if nodes.len() == 1 { "node" } else { "nodes" }, nodes.join(", "))
        });
        self.missing.iter().map(MissingInput::to_string).chain(others).collect()
    }
}

impl Scope<'_> {
    /// Judges one step. All upstream steps must have finished.
    pub(crate) async fn judge(
        &self,
        step: &Step,
        memory: &MemoryDigests,
        needs: &Needs,
    ) -> Result<Judgement, AssessError> {
        let judgement = self.judge_alone(step, memory).await?;
        match judgement {
            Judgement::Table { receipt, memory_only: true, .. }
                if !self.force && needs.is_idle(*self, step, receipt, memory).await =>
            {
                Ok(Judgement::NotNeeded { receipt })
            }
            other => Ok(other),
        }
    }

    /// Judges all selected steps by the state before the run.
    pub(crate) async fn judge_all(&self, selected: &[NodeId]) -> Judgements {
        let (mut judgements, needs) = (Judgements::default(), Needs::default());
        let mut pending: HashSet<String> = HashSet::new();
        let mut failing: HashMap<NodeId, String> = HashMap::new();
        for step in selected.iter().map(|id| self.workspace.step(*id)) {
            let judged = match self.missing_inputs(&step, &mut judgements).await {
                Ok(0) => {
                    let upstream = self.workspace.graph.dependencies(step.id);
                    let fails = upstream.into_iter().find_map(|id| failing.get(&id).cloned());
                    let waits = step.inputs.iter().find(|input| {
                        pending.contains(&input.base) && !is_known(&step, &input.base, &judgements.memory)
                    });
                    match (fails, waits) {
                        (Some(because), _) => Ok(Some(Judgement::Blocked { because })),
                        (None, Some(input)) => Ok(Some(Judgement::Waits { dataset: input.base.clone() })),
                        (None, None) => self.judge(&step, &judgements.memory, &needs).await.map(Some),
                    }
                }
                Ok(_) => Ok(None),
                Err(error) => Err(error),
            };
            match &judged {
                Ok(Some(Judgement::UpToDate { .. })) => {}
                Ok(Some(Judgement::TooManyErrors { .. })) => drop(failing.insert(step.id, step.name.clone())),
                Ok(Some(Judgement::Blocked { because })) => drop(failing.insert(step.id, because.clone())),
                Ok(Some(Judgement::NotNeeded { receipt })) => {
                    judgements.memory.extend(step.memory_outputs().map(|base| (base.to_owned(), *receipt)));
                }
                other => {
                    pending.extend(step.outputs.iter().map(|(name, _)| name.base().to_owned()));
                    if let Ok(Some(Judgement::Table { receipt, .. })) = other
                        && !matches!(step.job, Job::Placeholder)
                    {
                        judgements.memory.extend(step.memory_outputs().map(|base| (base.to_owned(), *receipt)));
                    }
                }
            }
            match judged {
                Ok(Some(judgement)) => judgements.steps.push((step, judgement)),
                Ok(None) => {}
                Err(error) => judgements.problems.push((step.name.clone(), error)),
            }
        }
        judgements
    }

    /// Records the missing inputs of a step that no selected step writes. Returns their number.
    async fn missing_inputs(&self, step: &Step, judgements: &mut Judgements) -> Result<usize, AssessError> {
        let mut missing = 0;
        // A placeholder reads no inputs.
        let reads = !matches!(step.job, Job::Placeholder);
        for input in step.inputs.iter().filter(|_| reads) {
            let producer = self.workspace.graph.dataset(&input.base).and_then(|dataset| dataset.producer);
            if producer.is_some_and(|id| self.selected.contains(&id)) {
                continue;
            }
            if input.dataset.state(self.stores).await?.digest.is_some() {
                continue;
            }
            missing += 1;
            let info = input.dataset.info();
            match judgements.missing.iter_mut().find(|found| found.dataset == info.name) {
                Some(found) => found.nodes.push(step.name.clone()),
                None => judgements.missing.push(MissingInput {
                    dataset: info.name.clone(),
                    location: info.location.clone(),
                    nodes: vec![step.name.clone()],
                    producer: producer.map(|id| self.workspace.graph[id].name.clone()),
                }),
            }
        }
        Ok(missing)
    }
}
