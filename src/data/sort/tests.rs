//! Tests of the sort against arrow's own, with budgets from nothing to plenty.

use arrow::{
    array::{ArrayRef, Int64Array, StringArray},
    compute::{SortColumn, concat_batches, lexsort_to_indices, take_record_batch},
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use proptest::prelude::*;

use arrow::datatypes::SchemaRef;

use super::{chunk::NULLS_LAST, *};

fn batch(keys: ArrayRef, rest: &[Option<i64>]) -> RecordBatch {
    let rest: ArrayRef = Arc::new(Int64Array::from(rest.to_vec()));
    RecordBatch::try_from_iter_with_nullable([("key", keys, true), ("rest", rest, true)]).expect("two columns")
}

fn sorted(parts: &[Vec<RecordBatch>], schema: &SchemaRef, budget: usize, size: usize) -> RecordBatch {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let chunks: Vec<SortedChunk> = runtime.block_on(async {
        let streams = parts.iter().map(|part| {
            let part: Vec<_> = part.iter().cloned().map(Ok).collect();
            Box::pin(RecordBatchStreamAdapter::new(Arc::clone(schema), futures::stream::iter(part)))
                as SendableRecordBatchStream
        });
        sort(streams.collect(), budget, size, Arc::new(|_| {})).try_collect().await.expect("sorts")
    });
    let mut next = 0;
    let batches: Vec<RecordBatch> = chunks
        .iter()
        .map(|chunk| {
            assert_eq!(chunk.first_row, next);
            let batch = chunk.gather(schema).expect("gathers");
            next += batch.num_rows() as u64;
            batch
        })
        .collect();
    assert!(batches.iter().rev().skip(1).all(|batch| batch.num_rows() == size), "all full but the last");
    concat_batches(schema, &batches).expect("one schema")
}

fn expected(all: &RecordBatch) -> RecordBatch {
    let columns: Vec<SortColumn> =
        all.columns().iter().map(|c| SortColumn { values: Arc::clone(c), options: Some(NULLS_LAST) }).collect();
    let order = lexsort_to_indices(&columns, None).expect("sortable");
    take_record_batch(all, &order).expect("in range")
}

fn check(all: &RecordBatch, cuts: &[usize], budget: usize, size: usize) {
    let mut parts = vec![Vec::new(), Vec::new(), Vec::new()];
    let mut start = 0;
    for (i, cut) in cuts.iter().copied().chain([all.num_rows()]).enumerate() {
        let end = cut.clamp(start, all.num_rows());
        parts[i % 3].push(all.slice(start, end - start));
        start = end;
    }
    assert_eq!(sorted(&parts, &all.schema(), budget, size), expected(all));
}

fn key() -> impl Strategy<Value = Option<String>> {
    proptest::option::weighted(
        0.9,
        prop_oneof![
            "[ab]{0,3}",
            "(CHEBI|MONDO):[0-9]{1,3}",
            "a{14,18}b{0,2}",
            "[a\u{0}]{0,20}",
            "x{30,34}[yz]?",
            "\\PC{0,6}",
        ],
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn rows_come_in_the_order_of_all_columns(
        rows in proptest::collection::vec((key(), proptest::option::of(-2..3_i64)), 0..120),
        mut cuts in proptest::collection::vec(0..120_usize, 0..9),
        budget in prop_oneof![Just(0_usize), Just(1500), Just(1 << 30)],
        size in 1..40_usize,
    ) {
        cuts.sort_unstable();
        let rest: Vec<_> = rows.iter().map(|row| row.1).collect();
        let texts: ArrayRef = Arc::new(rows.iter().map(|row| row.0.as_deref()).collect::<StringArray>());
        check(&batch(texts, &rest), &cuts, budget, size);
        let numbers: ArrayRef = Arc::new(rows.iter().map(|row| row.0.as_ref().map(|k| k.len() as i64 - 5)).collect::<Int64Array>());
        check(&batch(numbers, &rest), &cuts, budget, size);
    }
}

#[test]
fn more_runs_than_are_merged_at_once_are_sorted_too() {
    let keys: ArrayRef = Arc::new((0..600).map(|i| Some(format!("{:03}", i * 7 % 600))).collect::<StringArray>());
    let rest: Vec<Option<i64>> = (0..600).map(|i| Some(i % 5)).collect();
    let all = batch(keys, &rest);
    let cuts: Vec<usize> = (1..600).collect();
    check(&all, &cuts, 0, 64);
}

#[test]
fn one_column_is_enough() {
    let keys: ArrayRef = Arc::new(StringArray::from(vec![Some("b"), None, Some("a"), Some("b")]));
    let all = RecordBatch::try_from_iter_with_nullable([("key", keys, true)]).expect("one column");
    check(&all, &[1, 2], 0, 2);
}

#[test]
fn runs_that_merging_has_no_room_for_go_to_disk_and_no_more_of_them() {
    const ROWS: i64 = 10_000;
    let part = |first: i64| {
        let rest: Vec<Option<i64>> = (first..first + ROWS).map(Some).collect();
        let texts = StringArray::from_iter_values((first..first + ROWS).map(|n| format!("{n:0100}")));
        part::sort(&[batch(Arc::new(texts), &rest)]).expect("sorts")
    };
    let runs = || [0, ROWS, 2 * ROWS].map(|first| Run::in_memory(part(first)).expect("a run"));
    let (all, one) = (runs().iter().map(Run::merge_bytes).sum::<usize>(), runs()[0].merge_bytes());
    for (most, in_memory) in [(all, 3), (all - 1, 2), (all - one, 1), (0, 0)] {
        let mut runs = runs();
        make_room(&mut runs, most).expect("room on disk");
        assert_eq!(runs.iter().filter(|run| run.merge_bytes() == one).count(), in_memory, "in {most} bytes");
        let taken = runs.iter().map(Run::merge_bytes).sum::<usize>();
        assert!(taken <= most || in_memory == 0, "{taken} of {most} bytes");
        for (run, first) in runs.into_iter().zip([0, ROWS, 2 * ROWS]) {
            let rows: Vec<RecordBatch> = run.batches().expect("opens").collect::<Result<_, _>>().expect("reads");
            assert_eq!(rows, part(first));
        }
    }
}
