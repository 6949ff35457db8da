//! Partitions are committed, listed, replaced and removed one by one.

use std::collections::BTreeMap;

use super::*;

#[tokio::test]
async fn partitions_are_committed_found_replaced_and_let_go() {
    let memory = "{type: memory, shape: partitions, overwrite: true}".to_owned();
    let on_disk = entries(Shape::Partitions).into_iter().map(|entry| entry.replace("}", ", overwrite: true}"));
    for entry in on_disk.chain([memory]) {
        if entry.contains("memory,") && !entry.contains("shape") {
            continue;
        }
        let (project, dataset) = (Project::new(), dataset(&entry));
        assert_eq!(
            dataset.partition_source().expect("partitions").partitions(&project.stores).await.expect("a listing"),
            [],
            "{entry}"
        );
        assert_eq!(dataset.state(&project.stores).await.expect("a state"), DatasetState::default(), "{entry}");
        for bucket in [10, 9, 1] {
            assert_eq!(commit(&project, &*dataset, &key(bucket), &payload(&[bucket]), "old").await.rows, 1, "{entry}");
        }
        let listed =
            dataset.partition_source().expect("partitions").partitions(&project.stores).await.expect("a listing");
        assert_eq!(listed.iter().map(|p| p.key.clone()).collect::<Vec<_>>(), [key(1), key(9), key(10)], "{entry}");
        let receipt = listed[0].receipt.unwrap_or_else(|| panic!("{entry}: {listed:?}"));
        assert_eq!((receipt.fingerprint, receipt.rows), (Fingerprint::of("old"), Some(1)), "{entry}");
        assert_eq!(receipt.outcomes, RowOutcomes::default(), "{entry}");

        commit(&project, &*dataset, &key(9), &payload(&[90, 91]), "new").await;
        let listed_again =
            dataset.partition_source().expect("partitions").partitions(&project.stores).await.expect("a listing");
        assert_eq!(listed_again[1].files.len(), 1, "{entry}: the old file is gone");
        assert_ne!(listed_again[1].digest, listed[1].digest, "{entry}");
        assert_eq!((&listed_again[0], &listed_again[2]), (&listed[0], &listed[2]), "{entry}");
        let loaded = collect(
            dataset
                .partition_source()
                .expect("partitions")
                .load_partition(&project.stores, &listed_again[1])
                .await
                .expect("loads"),
        )
        .await
        .expect("rows");
        assert_eq!((column(&loaded, "id"), column(&loaded, "bucket")), (vec![90, 91], vec![9, 9]), "{entry}");

        let removed = dataset
            .partition_sink()
            .expect("partitions")
            .retain_partitions(&project.stores, &BTreeMap::from([(key(9), Fingerprint::of("new"))]))
            .await
            .expect("removes");
        assert_eq!(removed, 2, "{entry}");
        let left =
            dataset.partition_source().expect("partitions").partitions(&project.stores).await.expect("a listing");
        assert_eq!(left.iter().map(|p| &p.key).collect::<Vec<_>>(), [&key(9)], "{entry}");
        assert!(!project.path("data/some.table/bucket=10").exists(), "{entry}: no empty folder is left");
    }
}

#[tokio::test]
async fn a_partition_written_in_parts_is_the_one_written_at_once_and_nobody_sees_it_before_its_commit() {
    // Numbers that nothing compresses: more than a spool holds in memory.
    let number = |i: i64| i.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64.cast_signed());
    let all = payload(&(0..1_200_000).map(number).collect::<Vec<_>>());
    for path in ["p", "memory://p"] {
        let entry = format!("{{type: partitioned, path: '{path}', dataset: parquet, filename_suffix: .parquet}}");
        let (project, dataset) = (Project::new(), dataset(&entry));
        commit(&project, &*dataset, &key(1), &payload(&[7]), "old").await;
        commit(&project, &*dataset, &key(2), &all, "whole").await;
        let before =
            dataset.partition_source().expect("partitions").partitions(&project.stores).await.expect("a listing");
        let work = Fingerprint::of("parts");
        let mut part = dataset
            .partition_sink()
            .expect("partitions")
            .write_partition(&project.stores, &key(1), work, all.schema())
            .expect("begins");
        for start in (0..all.num_rows()).step_by(100_000) {
            part = part.write(all.slice(start, 100_000)).await.expect("takes rows");
        }
        assert_eq!(
            dataset.partition_source().expect("partitions").partitions(&project.stores).await.expect("a listing"),
            before,
            "{path}"
        );
        assert_eq!(part.commit(RowOutcomes { errors: 3, empty: 0 }).await.expect("commits").rows, 1_200_000, "{path}");
        let listed =
            dataset.partition_source().expect("partitions").partitions(&project.stores).await.expect("a listing");
        let outcomes = listed[0].receipt.map(|receipt| receipt.outcomes);
        assert_eq!((listed[0].files.len(), outcomes), (1, Some(RowOutcomes { errors: 3, empty: 0 })), "{path}");
        let mut rows = Vec::new();
        for partition in &listed {
            let loaded = dataset
                .partition_source()
                .expect("partitions")
                .load_partition(&project.stores, partition)
                .await
                .expect("loads");
            rows.push(column(&collect(loaded).await.expect("rows"), "id"));
        }
        assert!(rows[0] == rows[1], "{path}: the same rows in the same order");
        // One that is given up leaves nothing.
        let before = project.files();
        let part = dataset.partition_sink().expect("partitions").write_partition(
            &project.stores,
            &key(3),
            Fingerprint::of("given up"),
            all.schema(),
        );
        drop(part.expect("begins").write(all.clone()).await.expect("takes rows"));
        assert_eq!(project.files(), before, "{path}");
    }
}

#[tokio::test]
async fn without_overwrite_other_partitions_stay() {
    let (project, dataset) =
        (Project::new(), dataset("{type: partitioned, path: p, dataset: parquet, filename_suffix: parquet}"));
    for bucket in [1, 2] {
        commit(&project, &*dataset, &key(bucket), &payload(&[bucket]), "w").await;
    }
    assert_eq!(
        dataset
            .partition_sink()
            .expect("partitions")
            .retain_partitions(&project.stores, &BTreeMap::from([(key(1), Fingerprint::of("w"))]))
            .await
            .expect("nothing to do"),
        0
    );
    let listed = dataset.partition_source().expect("partitions").partitions(&project.stores).await.expect("a listing");
    assert_eq!(listed.len(), 2);
    let fingerprint = listed[0].receipt.map(|receipt| receipt.fingerprint);
    assert_eq!(fingerprint, Some(Fingerprint::of("w")), "a suffix without a dot gets one");
}

#[tokio::test]
async fn errors_in_rows_are_told_by_the_name() {
    let (project, dataset) =
        (Project::new(), dataset("{type: partitioned, path: p, dataset: parquet, filename_suffix: .parquet}"));
    let rows = payload(&[1, 2, 3]);
    let part = dataset
        .partition_sink()
        .expect("partitions")
        .write_partition(&project.stores, &key(1), Fingerprint::of("w"), rows.schema())
        .expect("begins");
    part.write(rows).await.expect("takes rows").commit(RowOutcomes { errors: 2, empty: 1 }).await.expect("commits");
    let listed = dataset.partition_source().expect("partitions").partitions(&project.stores).await.expect("a listing");
    let receipt = listed[0].receipt.expect("one file that flow wrote");
    assert_eq!((receipt.rows, receipt.outcomes), (Some(3), RowOutcomes { errors: 2, empty: 1 }));
    let name = format!("bucket=1/{}-r3-e2-n1-b{}.parquet", Fingerprint::of("w"), listed[0].files[0].size);
    assert_eq!(listed[0].files[0].path, name.into());
}

#[tokio::test]
async fn any_text_is_a_key() {
    for place in PLACES {
        let project = Project::new();
        let dataset = dataset(&format!("{{type: partitioned, path: '{place}', dataset: parquet}}"));
        let table = dataset_of_table(place, "city");
        let cities = ["", " ", "%", "%2F", "..", "007", "=", "a b", "a/b", "c?d#e", "\u{7f}\n", "été", "日本"];
        for city in cities {
            let key = PartitionKey::new([(Arc::from("city"), PartitionValue::from_text(city))]);
            commit(&project, &*dataset, &key, &payload(&[1]), "w").await;
        }
        let listed =
            dataset.partition_source().expect("partitions").partitions(&project.stores).await.expect("a listing");
        let mut found: Vec<String> = listed.iter().map(|p| p.key.get("city").expect("a city").to_string()).collect();
        found.sort();
        assert_eq!(found, cities, "{place}");
        for partition in &listed {
            let rows = collect(
                dataset
                    .partition_source()
                    .expect("partitions")
                    .load_partition(&project.stores, partition)
                    .await
                    .expect("loads"),
            )
            .await
            .expect("rows");
            let city = rows.column_by_name("city").expect("promoted").as_string::<i32>().value(0).to_owned();
            assert_eq!(city, partition.key.get("city").expect("a city").to_string());
        }
        let rows = read(&project, &*table).await.expect("one table");
        assert_eq!(rows.num_rows(), cities.len(), "{place}");
    }
}

fn listed_keys(partitions: &[Partition]) -> Vec<String> {
    partitions.iter().map(|partition| partition.key.to_string()).collect()
}

#[tokio::test]
async fn partitions_that_are_files_keep_their_ids_and_have_receipts_beside_the_dataset() {
    let ids = ["2024/jan", "bucket=3/shard", "north", "ünï cödé/x y"];
    for (place, kind, suffix) in [
        ("data/p", "partitioned", ".parquet"),
        ("data/p", "partitions.PartitionedDataset", ".parquet"),
        ("data/p", "partitions.PartitionedDataset", ""),
        ("memory://store/p", "partitions.PartitionedDataset", ".parquet"),
        ("memory://store/p", "partitioned", ""),
    ] {
        let entry = |more: &str| {
            format!("{{type: {kind}, path: '{place}', dataset: parquet, filename_suffix: '{suffix}'{more}}}")
        };
        let (project, plain) = (Project::new(), dataset(&entry("")));
        let list = async || {
            plain.partition_source().expect("partitions").partitions(&project.stores).await.expect("a listing")
        };
        for id in ids {
            commit(&project, &*plain, &PartitionKey::of_file(id), &payload(&[1]), "old").await;
        }
        let first = list().await;
        assert_eq!(listed_keys(&first), ids, "{place} {kind}");
        for (partition, id) in first.iter().zip(ids) {
            assert_eq!(partition.files[0].path, format!("{id}{suffix}").into());
            let receipt = partition.receipt.unwrap_or_else(|| panic!("{place} {kind}: {partition:?}"));
            assert_eq!((receipt.fingerprint, receipt.rows), (Fingerprint::of("old"), Some(1)));
        }
        let written = plain.occupants(&project.stores, None).await.expect("a listing");
        assert_eq!(written.refusal("d"), None, "{place} {kind}: all of it is ours");

        commit(&project, &*plain, &PartitionKey::of_file("north"), &payload(&[2, 3]), "new").await;
        let again = list().await;
        assert_eq!(again[2].receipt.map(|receipt| receipt.fingerprint), Some(Fingerprint::of("new")));
        assert_ne!(again[2].digest, first[2].digest);
        assert_eq!(again[0], first[0]);
        let rows = plain
            .partition_source()
            .expect("partitions")
            .load_partition(&project.stores, &again[2])
            .await
            .expect("loads");
        assert_eq!(column(&collect(rows).await.expect("rows"), "id"), [2, 3]);

        // As an overwriting dataset it lets go of what the input no longer has.
        let overwriting = dataset(&entry(", overwrite: true"));
        let keep = ["2024/jan", "north"].map(|id| (PartitionKey::of_file(id), Fingerprint::of("w")));
        let keep = BTreeMap::from(keep);
        let sink = overwriting.partition_sink().expect("partitions");
        assert_eq!(sink.retain_partitions(&project.stores, &keep).await.expect("removes"), 2, "{place} {kind}");
        assert_eq!(listed_keys(&list().await), ["2024/jan", "north"]);
        if place.starts_with("data") {
            let receipts = project.files().into_iter().filter(|path| path.contains(".p.flow-partitions/")).count();
            assert_eq!(receipts, 2, "one for each: {:?}", project.files());
        }
    }
}

#[tokio::test]
async fn a_partition_file_that_others_wrote_or_changed_is_neither_up_to_date_nor_replaced() {
    for overwrite in [false, true] {
        let dataset = dataset(&format!(
            "{{type: partitions.PartitionedDataset, path: data/p, dataset: csv, filename_suffix: .csv, overwrite: {overwrite}}}"
        ));
        let project = Project::new();
        for id in ["a", "b/c"] {
            commit(&project, &*dataset, &PartitionKey::of_file(id), &payload(&[1]), "work").await;
        }
        // As long as before, and with other rows.
        fs::write(project.path("data/p/a.csv"), "id\n9\n").expect("written");
        fs::write(project.path("data/p/theirs.csv"), "id\n1\n").expect("written");
        let source = dataset.partition_source().expect("partitions");
        let listed = source.partitions(&project.stores).await.expect("a listing");
        let receipts: Vec<_> = listed.iter().map(|partition| partition.receipt.is_some()).collect();
        assert_eq!(receipts, [false, true, false], "{listed:?}");
        let refusal = dataset.occupants(&project.stores, None).await.expect("a listing").refusal("d");
        let sink = dataset.partition_sink().expect("partitions");
        let schema = payload(&[2]).schema();
        let key = PartitionKey::of_file("a");
        let part = sink.write_partition(&project.stores, &key, Fingerprint::of("new"), schema).expect("begins");
        let committed = part.write(payload(&[2])).await.expect("takes rows").commit(RowOutcomes::default()).await;
        let now = fs::read_to_string(project.path("data/p/a.csv")).expect("text");
        if overwrite {
            assert_eq!((refusal, now.as_str()), (None, "id\n2\n"));
            committed.expect("replaced");
        } else {
            let refusal = refusal.expect("refused");
            assert!(refusal.contains("data/p/a.csv, data/p/theirs.csv") && !refusal.contains("b/c"), "{refusal}");
            assert!(committed.expect_err("refused").to_string().contains("data/p/a.csv"));
            assert_eq!(now, "id\n9\n");
        }
    }
}

#[tokio::test]
async fn a_partition_file_that_a_power_cut_left_empty_is_written_again_and_never_read() {
    let dataset = dataset("{type: partitioned, path: data/p, dataset: csv, filename_suffix: .csv}");
    let project = Project::new();
    commit(&project, &*dataset, &PartitionKey::of_file("a"), &payload(&[1]), "work").await;
    fs::write(project.path("data/p/a.csv"), "").expect("written");
    let listed = dataset.partition_source().expect("partitions").partitions(&project.stores).await.expect("a listing");
    assert_eq!(listed[0].receipt, None);
    let error = listed[0].check_whole(dataset.info()).expect_err("refused").to_string();
    assert!(error.contains("data/p/a.csv") && error.contains("truncated"), "{error}");
    assert_eq!(dataset.occupants(&project.stores, None).await.expect("a listing").refusal("d"), None);
    commit(&project, &*dataset, &PartitionKey::of_file("a"), &payload(&[1]), "work").await;
}
