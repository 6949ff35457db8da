//! Tests of bucketize over real tables.

use arrow::{
    array::{Array, AsArray, StringArray},
    compute::concat_batches,
    datatypes::Int64Type,
};
use datafusion::datasource::MemTable;
use futures::TryStreamExt as _;
use proptest::prelude::*;

use super::*;
use crate::data::session;

fn spec(features: &[&str], bucket_size: u64, max_input_len: usize) -> BucketizeSpec {
    let input_features = features.iter().map(|feature| (*feature).to_owned()).collect();
    BucketizeSpec { input_features, bucket_size, max_input_len, id: "id".to_owned(), text_template: None }
}

type Row = (Option<String>, Option<String>, Option<i64>);

fn table(rows: &[Row]) -> RecordBatch {
    let ids: ArrayRef = Arc::new(rows.iter().map(|row| row.0.as_deref()).collect::<StringArray>());
    let names: ArrayRef = Arc::new(rows.iter().map(|row| row.1.as_deref()).collect::<StringArray>());
    let numbers: ArrayRef = Arc::new(rows.iter().map(|row| row.2).collect::<Int64Array>());
    RecordBatch::try_from_iter_with_nullable([("id", ids, true), ("name", names, true), ("n", numbers, true)])
        .expect("three columns")
}

fn run(rows: &RecordBatch, cuts: &[usize], spec: &BucketizeSpec) -> Result<RecordBatch, FunctionError> {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let mut batches = Vec::new();
        let mut start = 0;
        for cut in cuts.iter().copied().chain([rows.num_rows()]) {
            let end = cut.clamp(start, rows.num_rows());
            batches.push(rows.slice(start, end - start));
            start = end;
        }
        let half = batches.split_off(batches.len() / 2);
        let table = MemTable::try_new(rows.schema(), vec![batches, half]).expect("one schema");
        let session = session(512 << 20, 2).expect("a session");
        let stream = bucketize(Arc::new(table), spec, &session, Arc::new(|_| {})).await?;
        let schema = stream.schema();
        let batches: Vec<RecordBatch> = stream.try_collect().await?;
        Ok(concat_batches(&schema, &batches).expect("one schema"))
    })
}

fn texts<'a>(batch: &'a RecordBatch, name: &str) -> Vec<Option<&'a str>> {
    batch.column_by_name(name).expect(name).as_string::<i32>().iter().collect()
}

fn row(id: &str, name: Option<&str>, n: i64) -> Row {
    (Some(id.to_owned()), name.map(str::to_owned), Some(n))
}

#[test]
fn rows_are_ordered_concatenated_truncated_and_bucketed() {
    let rows = table(&[
        row("b", Some("été"), 2),
        (None, Some("last".to_owned()), Some(9)),
        row("a", None, 1),
        row("b", Some("eta"), 10),
    ]);
    let out = run(&rows, &[2], &spec(&["name", "n"], 2, 4)).expect("runs");
    let names: Vec<String> = out.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["id", "name", "n", "text_to_embed", "bucket"]);
    assert_eq!(texts(&out, "id"), [Some("a"), Some("b"), Some("b"), None]);
    assert_eq!(texts(&out, "text_to_embed"), [Some("1"), Some("eta1"), Some("été2"), Some("last")]);
    assert_eq!(out.column_by_name("bucket").expect("a bucket").as_primitive::<Int64Type>().values(), &[0, 0, 1, 1]);
}

#[test]
fn a_template_reads_any_column() {
    let rows = table(&[row("a", Some("x"), 1), row("b", None, 2)]);
    let template = Some("{{ name }}-{{ n + 1 }}".to_owned());
    let out = run(&rows, &[], &BucketizeSpec { text_template: template, ..spec(&["name"], 10, 100) }).expect("runs");
    assert_eq!(texts(&out, "text_to_embed"), [Some("x-2"), Some("-3")]);
    assert!(out.column_by_name("n").is_none(), "only features are kept");
}

#[test]
fn a_missing_column_is_reported_with_the_existing_ones() {
    let rows = table(&[]);
    for (spec, word) in [
        (spec(&["nmae"], 1, 1), "did you mean `name`"),
        (BucketizeSpec { id: "key".to_owned(), ..spec(&["name"], 1, 1) }, "its columns are id, name, n"),
        (BucketizeSpec { text_template: Some("{{ nam }}".to_owned()), ..spec(&["name"], 1, 1) }, "did you mean `name`"),
    ] {
        let error = run(&rows, &[], &spec).expect_err("a column is missing").to_string();
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn a_table_without_rows_has_no_buckets() {
    assert_eq!(run(&table(&[]), &[], &spec(&["name"], 3, 5)).expect("runs").num_rows(), 0);
}

fn any_row() -> impl Strategy<Value = Row> {
    (
        proptest::option::of(prop_oneof!["[ab]{0,2}", "\\PC{0,20}"]),
        proptest::option::of(prop_oneof!["[xyé]{0,3}", "\\PC{0,30}"]),
        proptest::option::of(-3..3_i64),
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_result_does_not_depend_on_the_order_of_the_input(
        mut rows in proptest::collection::vec(any_row(), 0..60),
        seed in any::<u64>(),
        cuts in proptest::collection::vec(0..60_usize, 0..4),
        size in 1..9_u64,
    ) {
        let spec = spec(&["name", "n"], size, 7);
        let mut sorted_cuts = cuts;
        sorted_cuts.sort_unstable();
        let one = run(&table(&rows), &sorted_cuts, &spec).expect("runs");
        let mut state = seed | 1;
        for i in (1..rows.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            rows.swap(i, usize::try_from(state >> 33).expect("31 bits") % (i + 1));
        }
        let two = run(&table(&rows), &[], &spec).expect("runs");
        prop_assert_eq!(&one, &two);
        // Null ids last, the rest by bytes; every bucket full but the last.
        let ids = texts(&one, "id");
        let ordered = ids.windows(2).all(|pair| match (pair[0], pair[1]) {
            (Some(a), Some(b)) => a <= b,
            (None, Some(_)) => false,
            (_, None) => true,
        });
        prop_assert!(ordered);
        let buckets = one.column_by_name("bucket").expect("a bucket").as_primitive::<Int64Type>().values().to_vec();
        for (i, bucket) in buckets.iter().enumerate() {
            prop_assert_eq!(*bucket, i64::try_from(i as u64 / size).expect("small"));
        }
        let text = one.column_by_name("text_to_embed").expect("a text");
        prop_assert_eq!(text.null_count(), 0);
        for (row, text) in text.as_string::<i32>().iter().enumerate() {
            let name = texts(&one, "name")[row].unwrap_or_default().to_owned();
            let n = one.column_by_name("n").expect("n").as_primitive::<Int64Type>();
            let whole = name + &if n.is_null(row) { String::new() } else { n.value(row).to_string() };
            let expected: String = whole.chars().take(7).collect();
            prop_assert_eq!(text, Some(expected.as_str()));
        }
    }
}
