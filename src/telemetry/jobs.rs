//! What a run's nodes read and write, in OpenLineage's terms: datasets by their places, with columns where they are known.

use std::{collections::BTreeMap, path::Path};

use url::Url;

use crate::{
    data::Stores,
    function::{ColumnOrigin, Context},
    graph::NodeId,
    run::{Workspace, known_columns},
};

/// What a run is about to do.
#[derive(Debug, Clone, Default)]
pub struct Jobs {
    /// OpenLineage's namespace of jobs.
    pub namespace: String,
    /// The name of the run as a job.
    pub root: String,
    /// The nodes by their names.
    pub nodes: BTreeMap<String, Job>,
}

/// A node.
#[derive(Debug, Clone, Default)]
pub struct Job {
    pub(super) function: String,
    pub(super) inputs: Vec<DatasetName>,
    pub(super) outputs: Vec<DatasetName>,
    pub(super) sql: Option<String>,
    /// The file of the pipeline: its address, and its path in the project.
    pub(super) source: Option<(String, String)>,
    pub(super) origins: Vec<ColumnOrigin>,
}

/// A dataset as OpenLineage names it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DatasetName {
    pub(super) namespace: String,
    pub(super) name: String,
    /// The port of the node.
    pub(super) port: String,
    /// Names and types of its columns; `None` where they are not known.
    pub(super) columns: Option<Vec<(String, String)>>,
}

impl Jobs {
    /// What the selected nodes read and write. `pipeline` is what was selected; `namespace` replaces the name of the project's
    /// folder.
    pub async fn new(
        workspace: &Workspace,
        (stores, context): (&Stores, &Context),
        selected: &[NodeId],
        pipeline: Option<&str>,
        namespace: Option<String>,
    ) -> Self {
        let root = std::path::absolute(&workspace.project.root).unwrap_or_else(|_| workspace.project.root.clone());
        let folder = root.file_name().map_or_else(|| "flow".to_owned(), |name| name.to_string_lossy().into_owned());
        let namespace = namespace.unwrap_or(folder);
        let known = known_columns(workspace, stores, &context.session).await;
        let mut nodes = BTreeMap::new();
        for id in selected {
            let step = workspace.step(*id);
            let named = |port: &str, full: &str, base: &str, location: Option<&str>| {
                let (namespace, name) = place(location, &root).unwrap_or_else(|| (namespace.clone(), base.to_owned()));
                let schema = known.of(full, base);
                let columns = schema.map(|schema| {
                    let fields = schema.fields().iter();
                    fields.map(|field| (field.name().clone(), field.data_type().to_string())).collect()
                });
                DatasetName { namespace, name, port: port.to_owned(), columns }
            };
            let inputs = step.inputs.iter().map(|input| {
                let info = input.dataset.info();
                named(&input.port, &info.name, &input.base, info.location.as_deref())
            });
            let outputs = step.outputs.iter().map(|(name, dataset)| {
                let info = dataset.info();
                named("", &info.name, name.base(), info.location.as_deref())
            });
            let file = workspace.project.sources.get(step.span.source).name.to_string();
            let source = Url::from_file_path(root.join(&file)).ok().map(|url| (url.to_string(), file));
            let job = Job {
                function: step.function.clone(),
                inputs: inputs.collect(),
                outputs: outputs.collect(),
                sql: step.job.query().map(str::to_owned),
                source,
                origins: known.origins(&step.name),
            };
            nodes.insert(step.name.clone(), job);
        }
        Self { namespace, root: format!("pipelines.{}", pipeline.unwrap_or("all")), nodes }
    }
}

/// The namespace and the name of a place, by OpenLineage's rules: those of its store, and the path in it. `None` for memory.
fn place(location: Option<&str>, root: &Path) -> Option<(String, String)> {
    let location = location?;
    let Some((scheme, rest)) = location.split_once("://") else {
        let path = root.join(location.trim_start_matches("./"));
        return Some(("file".to_owned(), path.to_string_lossy().trim_end_matches('/').to_owned()));
    };
    match scheme {
        "memory" => None,
        "file" => Some(("file".to_owned(), rest.trim_end_matches('/').to_owned())),
        _ => {
            let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
            let path = path.split(['?', '#']).next().unwrap_or_default().trim_end_matches('/');
            let host = host.rsplit('@').next().unwrap_or(host);
            // Azure's containers are written before the account.
            let host =
                if matches!(scheme, "abfs" | "abfss" | "wasb" | "wasbs") { rest.split('/').next()? } else { host };
            Some((format!("{scheme}://{host}"), if path.is_empty() { "/".to_owned() } else { path.to_owned() }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_named_by_their_stores() {
        let root = Path::new("/project");
        for (location, namespace, name) in [
            ("data/nodes.csv", "file", "/project/data/nodes.csv"),
            ("./data/x/", "file", "/project/data/x"),
            ("/abs/x", "file", "/abs/x"),
            ("s3://bucket/a/b/", "s3://bucket", "a/b"),
            ("gs://bucket", "gs://bucket", "/"),
            ("abfss://box@account.dfs.core.windows.net/a", "abfss://box@account.dfs.core.windows.net", "a"),
            ("https://user@host/a?key=1", "https://host", "a"),
        ] {
            let expected = Some((namespace.to_owned(), name.to_owned()));
            assert_eq!(place(Some(location), root), expected, "{location}");
        }
        assert_eq!((place(None, root), place(Some("memory://x"), root)), (None, None));
    }
}
