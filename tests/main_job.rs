//! The shipped project, end to end.

use std::collections::BTreeSet;

use arrow::{
    array::{Array, AsArray},
    datatypes::DataType,
};

use crate::support::Project;

const EMBEDDINGS: &str = "data/work/feat/node_embeddings";
const BUCKETS: &str = "data/work/feat/bucketized_nodes";

#[test]
fn every_row_gets_a_vector_once_and_a_second_run_does_nothing() {
    let project = Project::shipped();
    let rows = csv_rows(&project);
    let summary = project.flow("run --pipeline embeddings --output json").exits(0).summary();
    assert_eq!(summary["status"], "ok");
    assert_eq!(summary["nodes"]["done"], 3);
    assert_eq!(
        summary["rows"]["ok"].as_u64().expect("a count") + summary["rows"]["cached"].as_u64().expect("a count"),
        rows as u64
    );

    let mut ids = BTreeSet::new();
    let mut count = 0;
    let table = project.table(EMBEDDINGS);
    assert!(!table.is_empty());
    for (key, batch) in &table {
        assert!(key.strip_prefix("bucket=").is_some_and(|n| n.parse::<u32>().is_ok()), "{key}");
        assert!(batch.column_by_name("text_to_embed").is_none());
        let vectors = batch.column_by_name("embedding").expect("vectors");
        // Other readers are told of lists, since a row may lack its vector; each has the size that flow knows.
        assert!(matches!(vectors.data_type(), DataType::List(item) if item.data_type() == &DataType::Float32));
        assert!(vectors.as_list::<i32>().iter().flatten().all(|vector| vector.len() == 128));
        assert_eq!(vectors.null_count(), 0);
        let errors = batch.column_by_name("embedding_error").expect("errors");
        assert_eq!(errors.null_count(), batch.num_rows());
        let column = batch.column_by_name("id").expect("ids");
        let column = arrow::compute::cast(column, &DataType::Utf8).expect("text");
        ids.extend(column.as_string::<i32>().iter().map(|id| id.expect("an id").to_owned()));
        count += batch.num_rows();
    }
    assert_eq!(count, rows);
    assert_eq!(ids.len(), rows, "every id once");
    // Every bucket is full but the last.
    let full: BTreeSet<usize> = table.values().map(|batch| batch.num_rows()).collect();
    assert!(full.len() <= 2, "{full:?}");

    let before = project.files("data/work");
    let again = project.flow("run --pipeline embeddings --output json").exits(0).summary();
    assert_eq!(again["nodes"]["skipped"], 3);
    assert_eq!(again["partitions"]["done"], 0);
    assert_eq!(project.files("data/work"), before);
}

#[test]
fn one_changed_row_recomputes_the_partitions_it_touches_and_a_changed_parameter_all() {
    let project = Project::shipped();
    project.flow("run --pipeline embeddings").exits(0);
    let buckets: BTreeSet<_> = project.files(BUCKETS).into_iter().collect();

    let text = project.read("data/nodes.csv");
    let line = text.lines().nth(1).expect("a row");
    let (id, rest) = line.split_once(',').expect("columns");
    let (_, rest) = rest.split_once(',').expect("columns");
    std::fs::write(
        project.path("data/nodes.csv"),
        text.replacen(line, &format!("{id},Another name altogether,{rest}"), 1),
    )
    .expect("written");
    let summary = project.flow("run --pipeline embeddings --output json").exits(0).summary();
    let changed: BTreeSet<_> = project.files(BUCKETS).into_iter().collect();
    assert_eq!(changed.difference(&buckets).count(), 1, "one bucket changed");
    let embedded: u64 =
        summary["rows"]["ok"].as_u64().expect("a count") + summary["rows"]["cached"].as_u64().expect("a count");
    assert!(embedded < 1000, "only the touched partition was embedded again: {summary}");

    let total = project.table(EMBEDDINGS).len();
    let summary = project
        .flow("run --pipeline embeddings --params embeddings.node.max_input_len=20 --output json")
        .exits(0)
        .summary();
    assert!(summary["partitions"]["done"].as_u64().expect("a count") >= total as u64, "{summary}");
}

fn csv_rows(project: &Project) -> usize {
    let file = std::fs::File::open(project.path("data/nodes.csv")).expect("the table");
    let reader = arrow::csv::ReaderBuilder::new(std::sync::Arc::new(
        arrow::csv::reader::Format::default().with_header(true).infer_schema(file, None).expect("a schema").0,
    ))
    .with_header(true)
    .build(std::fs::File::open(project.path("data/nodes.csv")).expect("the table"))
    .expect("a reader");
    reader.map(|batch| batch.expect("rows").num_rows()).sum()
}
