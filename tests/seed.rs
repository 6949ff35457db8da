//! The YAML of the blog post, as it was printed there: checked, drawn, and run.

use std::{fs, sync::Arc};

use arrow::{
    array::{RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema},
};
use parquet::arrow::ArrowWriter;

use crate::support::{Project, root};

pub fn seed() -> Project {
    let project = Project::empty();
    for name in ["catalog.yml", "globals.yml", "parameters.yml", "pipelines/embeddings.yml"] {
        project.write(name, &fs::read_to_string(root().join("tests/fixtures/seed").join(name)).expect("the fixture"));
    }
    project
}

#[test]
fn it_passes_the_check_without_a_key() {
    seed().flow("check").exits(0);
}

#[test]
fn its_graph_is_connected() {
    let project = seed();
    let dot = project.flow("graph").exits(0).stdout;
    assert!(dot.starts_with("digraph"), "{dot}");
    let json = project.flow("graph --format json").exits(0).json();
    let bases: Vec<_> =
        json["datasets"].as_array().expect("datasets").iter().map(|d| d["name"].as_str().expect("a name")).collect();
    assert_eq!(
        bases,
        [
            "embeddings.feat.bucketized_nodes",
            "embeddings.feat.graph.node_embeddings",
            "filtering.prm.filtered_nodes",
            "reporting.embedded_count"
        ],
        "views are one vertex"
    );
    let upstream = project.flow("ls nodes --to-nodes count_embeddings --output json").exits(0).json();
    assert_eq!(upstream.as_array().expect("nodes").len(), 3, "connected from end to end");
}

#[test]
fn a_run_without_the_key_stops_before_it_starts() {
    let project = seed();
    write_nodes(&project);
    let output = project.flow("run --pipeline embeddings").exits(3);
    assert!(output.stderr.contains("OPENAI_API_KEY"), "{}", output.stderr);
    assert!(project.files("data/tmp/feat").is_empty(), "nothing was started");
}

#[test]
fn its_first_node_runs_as_printed() {
    let project = seed();
    write_nodes(&project);
    project.flow("run --nodes bucketize_nodes").exits(0);
    let table = project.table("data/tmp/feat/bucketized_nodes");
    assert_eq!(table.values().map(RecordBatch::num_rows).collect::<Vec<_>>(), [500, 200]);
    assert_eq!(table.keys().collect::<Vec<_>>(), ["bucket=0", "bucket=1"]);
}

pub fn write_nodes(project: &Project) {
    let schema =
        Arc::new(Schema::new(["id", "category", "name"].map(|name| Field::new(name, DataType::Utf8, true)).to_vec()));
    let column = |prefix: &str| Arc::new(StringArray::from_iter_values((0..700).map(|i| format!("{prefix}{i}"))));
    let batch =
        RecordBatch::try_new(schema.clone(), vec![column("n"), column("category "), column("name ")]).expect("a batch");
    let folder = project.path("data/tmp/prm/filtered_nodes");
    fs::create_dir_all(&folder).expect("folders");
    let file = fs::File::create(folder.join("part-0.parquet")).expect("a file");
    let mut writer = ArrowWriter::try_new(file, schema, None).expect("a writer");
    writer.write(&batch).expect("rows");
    writer.close().expect("closed");
}
