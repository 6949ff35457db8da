//! Problems that show in the columns of tables before anything runs: a query that names one that is not there.
//!
//! Columns are known where a function says which it makes, and where data is on the local disk. Nothing is computed, and
//! nothing is sent.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::prelude::SessionContext;
use indexmap::IndexMap;

use super::workspace::{Input, Step, Workspace};
use crate::{
    config::Node,
    data::Stores,
    diagnostic::Diagnostic,
    function::{ColumnOrigin, Columns, Job},
    graph::NodeId,
};

/// Checks the columns of every node.
pub(super) async fn check(workspace: &Workspace, stores: &Stores, session: &SessionContext) -> Vec<Diagnostic> {
    walk(workspace, stores, session, None, false).await.0.into_iter().map(|(_, problem)| problem).collect()
}

/// Checks the columns of nodes that are to run.
pub(super) async fn check_nodes(
    workspace: &Workspace,
    stores: &Stores,
    session: &SessionContext,
    nodes: &HashSet<NodeId>,
) -> Vec<Diagnostic> {
    if nodes.is_empty() {
        return Vec::new();
    }
    // Nothing else is read: a run of one node of ten thousand looks at that one and what it depends on.
    let all = workspace.graph.upstream(nodes.iter().copied());
    let problems = walk(workspace, stores, session, Some(&all), false).await.0;
    problems.into_iter().filter(|(node, _)| nodes.contains(node)).map(|(_, problem)| problem).collect()
}

/// The columns that are known before a run, and where those of its results come from.
#[derive(Debug, Default)]
pub struct KnownColumns {
    /// Of datasets that nodes write, by their base names.
    written: HashMap<String, Columns>,
    /// Of data on the disk, by the full names of datasets.
    read: HashMap<String, Option<Columns>>,
    /// By the node's name.
    origins: HashMap<String, Vec<ColumnOrigin>>,
}

impl KnownColumns {
    /// The columns of a dataset, by its full name and its name without a view.
    pub fn of(&self, name: &str, base: &str) -> Option<SchemaRef> {
        let written = self.written.get(base);
        let read = self.read.get(name).and_then(Option::as_ref);
        written.or(read).map(|columns| Arc::clone(&columns.schema))
    }

    /// Where the columns of a node's result come from.
    pub fn origins(&self, node: &str) -> Vec<ColumnOrigin> {
        self.origins.get(node).cloned().unwrap_or_default()
    }
}

/// The columns that are known before a run. Reads the heads of local files.
pub async fn known_columns(workspace: &Workspace, stores: &Stores, session: &SessionContext) -> KnownColumns {
    walk(workspace, stores, session, None, true).await.1
}

/// Follows columns through all nodes, or through `only` these, which are all that each of them depends on.
async fn walk(
    workspace: &Workspace,
    stores: &Stores,
    session: &SessionContext,
    only: Option<&BTreeSet<NodeId>>,
    with_origins: bool,
) -> (Vec<(NodeId, Diagnostic)>, KnownColumns) {
    let mut problems = Vec::new();
    let mut origins = HashMap::new();
    let mut known = Known { workspace, stores, written: HashMap::new(), read: HashMap::new() };
    for step in workspace.steps().iter().filter(|step| only.is_none_or(|only| only.contains(&step.id))) {
        let columns = match &step.job {
            Job::Table(job) => {
                let mut inputs = IndexMap::new();
                for input in &step.inputs {
                    inputs.insert(input.port.clone(), known.of(input).await);
                }
                if with_origins {
                    origins.insert(step.name.clone(), job.origins(&inputs, session).await);
                }
                job.columns(&inputs, session).await
            }
            Job::Partitions(job) | Job::Rows(job) => match known.of(step.input_of_rows()).await {
                Some(input) => {
                    let port = &step.input_of_rows().port;
                    origins.insert(step.name.clone(), job.origins(port, &input));
                    job.columns(&input).map_err(|error| {
                        let message = format!("node `{}`: {error}", step.name);
                        Diagnostic::error("node::bad-columns", message).at(step.span, "in this node")
                    })
                }
                None => Ok(None),
            },
            Job::Outputs(_) | Job::Placeholder => Ok(None),
        };
        match columns {
            Ok(Some(columns)) => known.write(step, columns),
            Ok(None) => {}
            Err(problem) => problems.push((step.id, problem)),
        }
    }
    (problems, KnownColumns { written: known.written, read: known.read, origins })
}

/// The columns that are known so far.
struct Known<'a> {
    workspace: &'a Workspace,
    stores: &'a Stores,
    /// Of datasets that nodes write, by their base names.
    written: HashMap<String, Columns>,
    /// Of data on the disk, by the full names of datasets.
    read: HashMap<String, Option<Columns>>,
}

impl Known<'_> {
    async fn of(&mut self, input: &Input) -> Option<Columns> {
        let name = &input.dataset.info().name;
        let producer = self.workspace.graph.dataset(&input.base).and_then(|dataset| dataset.producer);
        if producer.is_some() {
            // Options may leave columns out, or give them other names.
            let options = self.workspace.project.catalog.resolve(name)?.spec.options;
            let plain = options.get("load_args").and_then(Node::as_map).is_none_or(|map| map.entries.is_empty());
            return self.written.get(&input.base).filter(|_| plain && input.dataset.keeps_columns()).cloned();
        }
        if !self.read.contains_key(name) {
            // What cannot be read is reported by `--online`, and by a run.
            let found = input.dataset.local_columns(self.stores).await.ok().flatten();
            let found = found.map(|schema| Columns { schema, exact: true });
            self.read.insert(name.clone(), found);
        }
        self.read.get(name).cloned().flatten()
    }

    /// What a reader finds of the output of a step: its partition columns are the last ones.
    fn write(&mut self, step: &Step, columns: Columns) {
        let Some((name, _)) = step.outputs.first().filter(|(_, output)| output.keeps_columns()) else { return };
        let by = step.partition_columns();
        let names: HashSet<&str> = by.iter().map(String::as_str).collect();
        let (of_path, of_files): (Vec<_>, Vec<_>) =
            columns.schema.fields().iter().cloned().partition(|field| names.contains(field.name().as_str()));
        // Values of a path that look like integers are integers.
        if of_path.iter().any(|field| !field.data_type().is_integer()) {
            return;
        }
        let of_path = of_path.iter().map(|field| Arc::new(Field::new(field.name(), DataType::Int64, false)));
        let fields: Vec<_> = of_files.into_iter().chain(of_path).collect();
        self.written.insert(name.base().to_owned(), Columns { schema: Arc::new(Schema::new(fields)), ..columns });
    }
}
