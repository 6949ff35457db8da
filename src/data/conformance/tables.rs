//! Tables come back as they were written, and a write that fails changes nothing.

use super::*;

#[tokio::test]
async fn tables_come_back_as_they_were_written() {
    for entry in entries(Shape::Table) {
        let (project, dataset) = (Project::new(), dataset(&entry));
        assert_eq!(dataset.state(&project.stores).await.expect("a state"), DatasetState::default(), "{entry}");
        let Err(missing) = dataset.table_source().expect("a table").table(&project.stores).await else {
            panic!("{entry}: nothing is there")
        };
        assert!(matches!(missing, DataError::Missing { .. }), "{entry}: {missing}");

        let rows = table(&[1, 1, 2, 3]);
        let written = write(&project, &*dataset, &[rows.slice(0, 1), rows.slice(1, 3)], "one").await.expect("writes");
        assert_eq!((written.rows, written.partitions), (4, 1), "{entry}");
        let back = read(&project, &*dataset).await.expect("reads");
        assert_eq!(back.columns(), rows.columns(), "{entry}");
        let state = dataset.state(&project.stores).await.expect("a state");
        assert_eq!(state.receipt, Some(Fingerprint::of("one")), "{entry}");

        // The same rows from other work: readers see no change.
        write(&project, &*dataset, &[rows], "two").await.expect("writes");
        let again = dataset.state(&project.stores).await.expect("a state");
        assert_eq!(again, DatasetState { receipt: Some(Fingerprint::of("two")), ..state }, "{entry}");
        write(&project, &*dataset, &[table(&[7])], "two").await.expect("writes");
        assert_ne!(dataset.state(&project.stores).await.expect("a state").digest, state.digest, "{entry}");
    }
}

#[tokio::test]
async fn a_table_without_rows_keeps_its_columns() {
    for entry in entries(Shape::Table).iter().filter(|entry| !entry.contains("json")) {
        let (project, dataset) = (Project::new(), dataset(entry));
        write(&project, &*dataset, &[table(&[])], "empty").await.expect("writes");
        let back = read(&project, &*dataset).await.expect("reads");
        let names: Vec<String> = back.schema().fields().iter().map(|field| field.name().clone()).collect();
        assert_eq!((back.num_rows(), names.join(" ").as_str()), (0, "id text bucket"), "{entry}");
        assert!(dataset.state(&project.stores).await.expect("a state").receipt.is_some(), "{entry}");
    }
}

#[tokio::test]
async fn a_failing_stream_leaves_the_old_table() {
    let partitioned =
        PLACES.iter().map(|place| format!("{{type: parquet, path: '{place}', save_args: {{partition_by: [bucket]}}}}"));
    for entry in entries(Shape::Table).into_iter().chain(partitioned) {
        let (project, dataset) = (Project::new(), dataset(&entry));
        write(&project, &*dataset, &[table(&[1, 2])], "good").await.expect("writes");
        let (state, before) = (dataset.state(&project.stores).await.expect("a state"), project.files());
        let new = table(&[5, 6, 7]);
        let failure = DataFusionError::Execution("upstream broke".to_owned());
        let table = stream(&new.schema(), vec![Ok(new.slice(0, 2)), Ok(new.slice(2, 1)), Err(failure)]);
        let request = WriteRequest { table, receipt: Fingerprint::of("bad"), progress: &|_| (), computed: &|| None };
        let error = dataset
            .table_sink()
            .expect("a table")
            .write_table(&project.stores, request)
            .await
            .expect_err("upstream broke");
        assert!(error.to_string().contains("upstream broke"), "{entry}: {error}");
        assert_eq!(dataset.state(&project.stores).await.expect("a state"), state, "{entry}");
        assert_eq!(project.files(), before, "{entry}");
        assert_eq!(sorted(column(&read(&project, &*dataset).await.expect("reads"), "bucket")), [1, 2], "{entry}");
    }
}

#[tokio::test]
async fn written_partitions_keep_what_did_not_change() {
    for place in PLACES {
        let (project, dataset) = (Project::new(), dataset_of_table(place, "bucket"));
        let rows = table(&[1, 1, 2, 9, 10]);
        let first = write(&project, &*dataset, &[rows.slice(0, 1), rows.slice(1, 4)], "one").await.expect("writes");
        assert_eq!((first.rows, first.partitions, first.unchanged), (5, 4, 0), "{place}");
        let state = dataset.state(&project.stores).await.expect("a state");
        assert_eq!(state.receipt, Some(Fingerprint::of("one")));
        assert_eq!(
            sql(&project, &*dataset, "select bucket, count(*) as n from t group by bucket order by bucket")
                .await
                .lines()
                .count(),
            8
        );
        let shown = sql(&project, &*dataset, "select id, bucket from t where bucket = 10").await;
        assert!(shown.contains("| 4  | 10     |"), "{shown}");

        let again = write(&project, &*dataset, &[rows], "two").await.expect("writes");
        assert_eq!((again.partitions, again.unchanged), (4, 4), "{place}: cut otherwise into batches");
        assert_eq!(dataset.state(&project.stores).await.expect("a state").digest, state.digest, "{place}");

        let third = write(&project, &*dataset, &[table(&[1, 1, 3])], "three").await.expect("writes");
        assert_eq!((third.partitions, third.unchanged), (2, 1), "{place}");
        assert_eq!(
            sorted(column(&read(&project, &*dataset).await.expect("reads"), "bucket")),
            [1, 1, 3],
            "{place}: stale ones are gone"
        );
        assert_eq!(
            dataset.partition_source().expect("partitions").partitions(&project.stores).await.expect("a listing").len(),
            2,
            "{place}"
        );
    }
}

#[tokio::test]
async fn a_partitioned_table_may_become_empty() {
    for place in PLACES {
        let (project, dataset) = (Project::new(), dataset_of_table(place, "bucket"));
        write(&project, &*dataset, &[table(&[1])], "one").await.expect("writes");
        let written = write(&project, &*dataset, &[table(&[])], "none").await.expect("writes");
        assert_eq!(written, Written::default(), "{place}");
        let state = dataset.state(&project.stores).await.expect("a state");
        assert!(state.digest.is_some() && state.receipt == Some(Fingerprint::of("none")), "{place}: {state:?}");
        let back = read(&project, &*dataset).await.expect("an empty table");
        assert_eq!((back.num_rows(), back.num_columns()), (0, 3), "{place}");
        assert_eq!(
            dataset.partition_source().expect("partitions").partitions(&project.stores).await.expect("a listing"),
            [],
            "{place}"
        );
    }
}

#[tokio::test]
async fn a_receipt_counts_only_while_nobody_touches_the_data() {
    let (project, dataset) = (Project::new(), dataset_of_table("data/t", "bucket"));
    write(&project, &*dataset, &[table(&[1, 2])], "one").await.expect("writes");
    assert_eq!(dataset.state(&project.stores).await.expect("a state").receipt, Some(Fingerprint::of("one")));
    fs::write(project.path("data/t/_SUCCESS"), "").expect("writes");
    fs::write(project.path("data/t/bucket=1/.part.crc"), "x").expect("writes");
    fs::create_dir(project.path("data/t/bucket=77")).expect("makes a folder");
    assert_eq!(
        dataset.state(&project.stores).await.expect("a state").receipt,
        Some(Fingerprint::of("one")),
        "what readers skip"
    );
    assert_eq!(read(&project, &*dataset).await.expect("reads").num_rows(), 2);
    fs::remove_dir_all(project.path("data/t/bucket=1")).expect("removes");
    assert_eq!(dataset.state(&project.stores).await.expect("a state").receipt, None, "a partition is gone");
}

#[tokio::test]
async fn refused_rows_are_named() {
    let (project, dataset) = (Project::new(), dataset_of_table("data/t", "bucket"));
    let keys: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
    let nulls = RecordBatch::try_from_iter([("id", Arc::clone(&keys)), ("bucket", keys)]).expect("two columns");
    let error = write(&project, &*dataset, &[nulls], "w").await.expect_err("a null key").to_string();
    assert!(error.contains("`bucket`") && error.contains("row 2") && error.contains("`d`"), "{error}");
    let error = write(&project, &*dataset, &[table(&[1, 2, 1])], "w").await.expect_err("unsorted").to_string();
    assert!(error.contains("bucket=1") && error.contains("row 3"), "{error}");
    assert_eq!(project.files(), Vec::<String>::new());
}

/// Nullability does not survive every format, so values are what is compared.
#[tokio::test]
async fn nulls_survive() {
    for entry in entries(Shape::Table) {
        let (project, dataset) = (Project::new(), dataset(&entry));
        write(&project, &*dataset, &[table(&[1, 1, 1, 1])], "w").await.expect("writes");
        let back = read(&project, &*dataset).await.expect("reads");
        assert_eq!(back.column_by_name("text").expect("a text").null_count(), 1, "{entry}");
    }
}
