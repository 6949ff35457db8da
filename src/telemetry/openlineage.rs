//! OpenLineage: the events of a run as run events of its specification 2-0-2.
//!
//! The run and each node that starts are jobs, with one START and exactly one COMPLETE, FAIL or ABORT. Nodes that are up to date
//! are no runs.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value as Json, json};

use super::jobs::{DatasetName, Job, Jobs};
use crate::{
    function::OriginKind,
    model::Fingerprint,
    run::event::{Event, EventKind, NodeFigures, Status},
};

/// Who makes the events: a name of this program and its version.
const PRODUCER: &str = concat!("urn:flow:", env!("CARGO_PKG_VERSION"));
const SPEC: &str = "https://openlineage.io/spec";

/// Makes run events of the events of a run.
#[derive(Debug)]
pub(super) struct LineageEvents {
    jobs: Jobs,
    run: String,
    begin: DateTime<Utc>,
    /// The time of the last event.
    last: Duration,
    started: bool,
    open: BTreeSet<String>,
    ended: BTreeSet<String>,
    /// Why the run failed, by node.
    errors: BTreeMap<String, String>,
}

impl LineageEvents {
    /// `begin` is when the run `run` began.
    pub(super) fn new(jobs: Jobs, run: &str, begin: DateTime<Utc>) -> Self {
        Self {
            jobs,
            run: run.to_owned(),
            begin,
            last: Duration::ZERO,
            started: false,
            open: BTreeSet::new(),
            ended: BTreeSet::new(),
            errors: BTreeMap::new(),
        }
    }

    /// The run events that follow from an event.
    pub(super) fn take(&mut self, event: &Event) -> Vec<Json> {
        self.last = event.elapsed;
        match &event.kind {
            EventKind::RunStarted { .. } => {
                self.started = true;
                vec![self.of_run("START", None)]
            }
            EventKind::NodeStarted { node, .. } if self.open.insert(node.clone()) => {
                vec![self.of_node("START", node, &Outcome::default())]
            }
            EventKind::NodeFinished { node, rows, partitions, figures, version, .. } if self.end(node) => {
                let files = (partitions.done + partitions.skipped).max(1);
                let outcome = Outcome {
                    rows: Some(*rows),
                    files: Some(files),
                    figures: Some(*figures),
                    version: version.clone(),
                    error: None,
                };
                vec![self.of_node("COMPLETE", node, &outcome)]
            }
            EventKind::NodeFailed { node, error, figures, .. } => {
                self.errors.entry(node.clone()).or_insert_with(|| error.clone());
                let mut events = Vec::new();
                // It may fail before it starts; a lost lease may be of no node.
                if !node.is_empty() && !self.ended.contains(node) {
                    if self.open.insert(node.clone()) {
                        events.push(self.of_node("START", node, &Outcome::default()));
                    }
                    self.end(node);
                    let outcome = Outcome { figures: Some(*figures), error: Some(error.clone()), ..Outcome::default() };
                    events.push(self.of_node("FAIL", node, &outcome));
                }
                events
            }
            EventKind::RunFinished { summary } if self.started => {
                let mut events = self.abort_nodes();
                self.started = false;
                let error = self.errors.values().next().cloned();
                events.push(match summary.status {
                    Status::Ok => self.of_run("COMPLETE", None),
                    Status::Failed => self.of_run("FAIL", Some(error.unwrap_or_else(|| "the run failed".to_owned()))),
                    Status::Interrupted => self.of_run("ABORT", None),
                });
                events
            }
            _ => Vec::new(),
        }
    }

    /// The ends of everything that has none yet, for a run whose events end early.
    pub(super) fn abort(&mut self) -> Vec<Json> {
        let mut events = self.abort_nodes();
        if std::mem::take(&mut self.started) {
            events.push(self.of_run("ABORT", None));
        }
        events
    }

    fn abort_nodes(&mut self) -> Vec<Json> {
        let open: Vec<String> = self.open.iter().cloned().collect();
        open.iter()
            .map(|node| {
                self.end(node);
                self.of_node("ABORT", node, &Outcome::default())
            })
            .collect()
    }

    /// True when this is the first end of a node that has started.
    fn end(&mut self, node: &str) -> bool {
        self.open.remove(node) && self.ended.insert(node.to_owned())
    }

    fn of_run(&self, kind: &str, error: Option<String>) -> Json {
        let mut facets = json!({"processing_engine": engine()});
        if let Some(error) = error {
            facets["errorMessage"] = error_message(&error);
        }
        let job = json!({
            "namespace": self.jobs.namespace, "name": self.jobs.root, "facets": {"jobType": job_type("PIPELINE")},
        });
        self.event(kind, json!({"runId": self.run_id(""), "facets": facets}), job, Vec::new(), Vec::new())
    }

    fn of_node(&self, kind: &str, node: &str, outcome: &Outcome) -> Json {
        let nothing = Job::default();
        let known = self.jobs.nodes.get(node).unwrap_or(&nothing);
        let parent = json!({"run": {"runId": self.run_id("")}, "job": {"namespace": self.jobs.namespace, "name": self.jobs.root}});
        let mut with_root = parent.clone();
        with_root["root"] = parent;
        let mut facets = json!({"parent": facet("facets/1-2-0/ParentRunFacet.json", "ParentRunFacet", with_root), "processing_engine": engine()});
        if let Some(error) = &outcome.error {
            facets["errorMessage"] = error_message(error);
        }
        let mut of_job = json!({"jobType": job_type("NODE")});
        if let Some(query) = &known.sql {
            of_job["sql"] =
                facet("facets/1-1-0/SQLJobFacet.json", "SQLJobFacet", json!({"query": query, "dialect": "datafusion"}));
        }
        if let Some((url, path)) = &known.source {
            let place = json!({"type": "file", "url": url, "path": path});
            of_job["sourceCodeLocation"] =
                facet("facets/1-1-0/SourceCodeLocationJobFacet.json", "SourceCodeLocationJobFacet", place);
        }
        if !known.function.is_empty() {
            let text = json!({"description": format!("function {}", known.function)});
            of_job["documentation"] = facet("facets/1-1-0/DocumentationJobFacet.json", "DocumentationJobFacet", text);
        }
        let job = json!({"namespace": self.jobs.namespace, "name": node, "facets": of_job});
        let rows_in = outcome.figures.and_then(|figures| figures.rows_in);
        let inputs = known.inputs.iter().map(|input| {
            let mut dataset = dataset(input);
            // Only one input is counted.
            if let (Some(rows), [_]) = (rows_in, known.inputs.as_slice()) {
                let counted = json!({"rowCount": rows});
                dataset["inputFacets"] = json!({"inputStatistics": facet("facets/1-0-0/InputStatisticsInputDatasetFacet.json", "InputStatisticsInputDatasetFacet", counted)});
            }
            dataset
        });
        let outputs = known.outputs.iter().map(|output| {
            let mut dataset = dataset(output);
            if let Some(lineage) = lineage(known, output) {
                dataset["facets"]["columnLineage"] = facet("facets/1-2-0/ColumnLineageDatasetFacet.json", "ColumnLineageDatasetFacet", lineage);
            }
            if let Some(version) = &outcome.version {
                dataset["facets"]["version"] = facet("facets/1-0-1/DatasetVersionDatasetFacet.json", "DatasetVersionDatasetFacet", json!({"datasetVersion": version}));
            }
            // Figures of a node with several outputs are those of all of them.
            if let (Some(rows), [_]) = (outcome.rows, known.outputs.as_slice()) {
                let mut counted = json!({"rowCount": rows});
                if let Some(bytes) = outcome.figures.and_then(|figures| figures.bytes) {
                    counted["size"] = json!(bytes);
                }
                if let Some(files) = outcome.files {
                    counted["fileCount"] = json!(files);
                }
                dataset["outputFacets"] = json!({"outputStatistics": facet("facets/1-0-2/OutputStatisticsOutputDatasetFacet.json", "OutputStatisticsOutputDatasetFacet", counted)});
            }
            dataset
        });
        self.event(
            kind,
            json!({"runId": self.run_id(node), "facets": facets}),
            job,
            inputs.collect(),
            outputs.collect(),
        )
    }

    fn event(&self, kind: &str, run: Json, job: Json, inputs: Vec<Json>, outputs: Vec<Json>) -> Json {
        let time = self.begin + self.last;
        json!({
            "eventType": kind,
            "eventTime": time.to_rfc3339_opts(SecondsFormat::Millis, true),
            "run": run,
            "job": job,
            "inputs": inputs,
            "outputs": outputs,
            "producer": PRODUCER,
            "schemaURL": format!("{SPEC}/2-0-2/OpenLineage.json#/$defs/RunEvent"),
        })
    }

    /// The id of the run of a node, or of the run itself for an empty name: always the same for the same run.
    fn run_id(&self, node: &str) -> String {
        let hex = Fingerprint::builder("openlineage").text(&self.run).text(node).finish().to_string();
        format!("{}-{}-8{}-8{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..32])
    }
}

/// How a node ended, as far as that is known.
#[derive(Debug, Default)]
struct Outcome {
    rows: Option<u64>,
    files: Option<usize>,
    figures: Option<NodeFigures>,
    version: Option<String>,
    error: Option<String>,
}

fn facet(path: &str, name: &str, mut content: Json) -> Json {
    content["_producer"] = json!(PRODUCER);
    content["_schemaURL"] = json!(format!("{SPEC}/{path}#/$defs/{name}"));
    content
}

fn engine() -> Json {
    let version = json!({"version": env!("CARGO_PKG_VERSION"), "name": "flow"});
    facet("facets/1-1-1/ProcessingEngineRunFacet.json", "ProcessingEngineRunFacet", version)
}

fn job_type(kind: &str) -> Json {
    let content = json!({"processingType": "BATCH", "integration": "FLOW", "jobType": kind});
    facet("facets/2-0-4/JobTypeJobFacet.json", "JobTypeJobFacet", content)
}

fn error_message(error: &str) -> Json {
    let content = json!({"message": error, "programmingLanguage": "Rust"});
    facet("facets/1-0-1/ErrorMessageRunFacet.json", "ErrorMessageRunFacet", content)
}

fn dataset(of: &DatasetName) -> Json {
    let mut facets = json!({});
    if let Some(columns) = &of.columns {
        let fields: Vec<Json> = columns.iter().map(|(name, kind)| json!({"name": name, "type": kind})).collect();
        facets["schema"] =
            facet("facets/1-2-0/SchemaDatasetFacet.json", "SchemaDatasetFacet", json!({"fields": fields}));
    }
    json!({"namespace": of.namespace, "name": of.name, "facets": facets})
}

/// Where the columns of an output come from, and what decides which rows it has; `None` where nothing is known.
fn lineage(job: &Job, output: &DatasetName) -> Option<Json> {
    if job.origins.is_empty() || job.outputs.first() != Some(output) {
        return None;
    }
    let mut fields: BTreeMap<&String, Vec<Json>> = BTreeMap::new();
    let mut rows = Vec::new();
    for origin in &job.origins {
        let (kind, subtype) = match origin.kind {
            OriginKind::Same => ("DIRECT", "IDENTITY"),
            OriginKind::Computed => ("DIRECT", "TRANSFORMATION"),
            OriginKind::Aggregated => ("DIRECT", "AGGREGATION"),
            OriginKind::Filtered => ("INDIRECT", "FILTER"),
            OriginKind::Joined => ("INDIRECT", "JOIN"),
            OriginKind::Grouped => ("INDIRECT", "GROUP_BY"),
            OriginKind::Ordered => ("INDIRECT", "SORT"),
        };
        let from = origin.from.iter().filter_map(|(port, column)| {
            let input = job.inputs.iter().find(|input| input.port == *port)?;
            Some(json!({
                "namespace": input.namespace, "name": input.name, "field": column,
                "transformations": [{"type": kind, "subtype": subtype, "masking": false}],
            }))
        });
        match &origin.column {
            Some(column) => fields.entry(column).or_default().extend(from),
            None => rows.extend(from),
        }
    }
    let fields: serde_json::Map<String, Json> =
        fields.into_iter().map(|(column, from)| (column.clone(), json!({"inputFields": from}))).collect();
    Some(if rows.is_empty() { json!({"fields": fields}) } else { json!({"fields": fields, "dataset": rows}) })
}
