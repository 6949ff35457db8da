//! The blog post's own functions in a project whose catalog is the post's: Spark writes the buckets, coroutines embed them.

use std::collections::BTreeMap;

use arrow::array::{AsArray, RecordBatch};

use crate::{
    seed::{seed, write_nodes},
    support::{
        Project,
        api_server::{ApiServer, Behaviour, vectors::vector},
        root, stores,
    },
};

/// A Python with Spark; `None`, said aloud, where the tests do without.
fn spark() -> Option<std::path::PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "a switch for running the tests")]
    if std::env::var("FLOW_TEST_SPARK").is_err() {
        eprintln!(
            "skipped: the functions of the blog post need Spark (300 MB) and Java, which FLOW_TEST_SPARK installs and uses"
        );
        return None;
    }
    let packages = "kedro-datasets==9.6.0 kedro==1.7.0 pandas==2.3.3 pyarrow==22.0.0 pyspark==3.5.3 hdfs s3fs tenacity";
    Some(stores::python_tool("kedro-spark", packages, "python"))
}

fn with_functions(server: &ApiServer, python: &std::path::Path, nodes: &str) -> Project {
    let project = seed();
    for name in ["src/seed/__init__.py", "src/seed/nodes.py", "src/seed/inject.py", "src/langchain_openai.py"] {
        let text = std::fs::read_to_string(root().join("tests/fixtures/seed").join(name)).expect("the fixture");
        project.write(name, &text);
    }
    project.write("pipelines/embeddings.yml", nodes);
    write_nodes(&project);
    project
        .env("FLOW_PYTHON", &python.display().to_string())
        .env("OPENAI_API_KEY", "sk-test")
        .env("OPENAI_BASE_URL", &server.base_url())
}

const NODES: &str = "
    nodes:
      - name: bucketize_nodes
        function: python:seed.nodes.bucketize_df
        inputs:
          df: filtering.prm.filtered_nodes
          input_features: params:embeddings.node.input_features
          bucket_size: params:embeddings.node.batch_size
          max_input_len: params:embeddings.node.max_input_len
        outputs: embeddings.feat.bucketized_nodes@spark
      - name: add_node_embeddings
        function: python:seed.nodes.compute_embeddings
        partitions: all
        inputs:
          dfs: embeddings.feat.bucketized_nodes@partitioned
          model: params:embeddings.node.model
        outputs: embeddings.feat.graph.node_embeddings@partitioned
    ";

/// The vector of each id, of the files that were written.
fn vectors(project: &Project) -> BTreeMap<String, Vec<f32>> {
    let mut found = BTreeMap::new();
    for (_, batch) in project.table("data/tmp/feat/tmp_nodes_with_embeddings") {
        let column = |name: &str| batch.column_by_name(name).expect("a column").clone();
        let (ids, lists) = (column("id"), column("embedding"));
        for row in 0..batch.num_rows() {
            let list = lists.as_list::<i32>().value(row);
            let list = arrow::compute::cast(&list, &arrow::datatypes::DataType::Float32).expect("numbers");
            let list = list.as_primitive::<arrow::datatypes::Float32Type>().values().to_vec();
            found.insert(ids.as_string::<i32>().value(row).to_owned(), list);
        }
    }
    found
}

fn is_right(project: &Project) {
    let found = vectors(project);
    assert_eq!(found.len(), 700);
    for (id, found) in found {
        let n = &id[1..];
        let expected = vector(&format!("category {n}name {n}"), 100);
        let near = expected.iter().zip(&found).all(|(one, other)| (one - other).abs() < 1e-6);
        assert!(near && found.len() == 100, "{id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_functions_of_the_blog_post_run_unchanged_and_mixed_with_ours() {
    let Some(python) = spark() else { return };
    let server = ApiServer::start(Behaviour::default()).await;
    let project = with_functions(&server, &python, NODES);
    project.flow("check").exits(0);
    project.flow("run").exits(0);
    is_right(&project);
    assert_eq!(project.flow("run --output json").exits(0).summary()["nodes"]["skipped"], 2);
    let requests = server.requests();
    assert_eq!(requests, 2, "one for each bucket");
    // Theirs, then ours.
    let ours = NODES
        .replace("python:seed.nodes.compute_embeddings", "compute_embeddings")
        .replace("        partitions: all\n", "");
    let project = with_functions(&server, &python, &ours);
    project.flow("run").exits(0);
    is_right(&project);
    let rows: usize = project.table("data/tmp/feat/bucketized_nodes").values().map(RecordBatch::num_rows).sum();
    assert_eq!(rows, 700);
}
