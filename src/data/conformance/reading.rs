//! Files that others wrote, that are broken, or that do not fit each other.

use super::*;

#[tokio::test]
async fn broken_files_are_named() {
    let (project, dataset) = (Project::new(), dataset("{type: partitioned, path: p, dataset: parquet}"));
    let many: Vec<i64> = (0..5000).map(|i| i * 7919 % 10007).collect();
    for bucket in [1, 2] {
        commit(&project, &*dataset, &key(bucket), &payload(&many), "w").await;
    }
    let listed = dataset.partition_source().expect("partitions").partitions(&project.stores).await.expect("a listing");
    let file = project.path("p").join(&*listed[1].files[0].path);
    let whole = fs::read(&file).expect("reads");
    let mut middle = whole.clone();
    middle[4..60].fill(0xAB);
    for (what, bytes) in [("truncated", &whole[..whole.len() / 2]), ("empty", &[][..]), ("overwritten", &middle)] {
        fs::write(&file, bytes).expect("writes");
        let loaded = async {
            collect(dataset.partition_source().expect("partitions").load_partition(&project.stores, &listed[1]).await?)
                .await
        };
        let error = loaded.await.expect_err(what).to_string();
        assert!(error.contains("p/bucket=2/") && error.contains("parquet"), "{what}: {error}");
    }
    let table = dataset_of_table("p", "bucket");
    fs::write(&file, &whole[..whole.len() / 2]).expect("writes");
    let error = read(&project, &*table).await.expect_err("truncated").to_string();
    assert!(error.contains("p/bucket=2/"), "{error}");
    fs::remove_file(&file).expect("removes");
    let loaded = async {
        collect(dataset.partition_source().expect("partitions").load_partition(&project.stores, &listed[1]).await?)
            .await
    };
    assert!(loaded.await.expect_err("gone").to_string().contains("bucket=2"));
}

#[tokio::test]
async fn files_with_other_columns_are_named() {
    for kind in ["parquet", "csv", "arrow"] {
        let project = Project::new();
        let dataset = dataset(&format!("{{type: partitioned, path: p, dataset: {kind}}}"));
        let table = self::dataset(&format!("{{type: {kind}, path: p}}"));
        commit(&project, &*dataset, &key(1), &payload(&[1]), "w").await;
        // The types of CSV are inferred from both files, so only a column can differ.
        let column = if kind == "csv" { "other" } else { "id" };
        let other = RecordBatch::try_from_iter([(column, Arc::new(StringArray::from(vec!["x"])) as ArrayRef)])
            .expect("one column");
        commit(&project, &*dataset, &key(2), &other, "w").await;
        let error = read(&project, &*table).await.expect_err("text and number").to_string();
        assert!(error.contains("p/bucket=2/"), "{kind}: {error}");
    }
}

#[tokio::test]
async fn tables_of_others_are_read() {
    let project = Project::new();
    let files = [
        ("spark/_SUCCESS", String::new()),
        ("spark/bucket=1/part-0.csv", "id;bucket\n1;99\n".to_owned()),
        ("spark/bucket=10/part-0.csv", "id;bucket\n2;99\n".to_owned()),
        ("plain/a.csv", "id;x\n1;a\n".to_owned()),
        ("plain/sub/b.csv", "id;x\n2;b\n".to_owned()),
        ("nulls/bucket=__HIVE_DEFAULT_PARTITION__/a.csv", "id\n1\n".to_owned()),
    ];
    for (path, text) in files {
        let path = project.path(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("makes folders");
        fs::write(path, text).expect("writes");
    }
    let csv = |path: &str| dataset(&format!("{{type: pandas.CSVDataset, filepath: {path}, load_args: {{sep: ;}}}}"));
    let spark = read(&project, &*csv("spark")).await.expect("reads");
    assert_eq!(
        (sorted(column(&spark, "id")), sorted(column(&spark, "bucket"))),
        (vec![1, 2], vec![1, 10]),
        "the path wins"
    );
    assert_eq!(read(&project, &*csv("plain")).await.expect("reads").num_rows(), 2);
    let error = read(&project, &*csv("nulls")).await.expect_err("a null key").to_string();
    assert!(error.contains("`bucket` is null"), "{error}");
    let table = csv("plain");
    let listed = table.partition_source().expect("partitions").partitions(&project.stores).await;
    let error = listed.expect_err("a table has hive partitions or none").to_string();
    assert!(error.contains("plain/a.csv"), "{error}");
}

#[tokio::test]
async fn types_of_csv_columns_can_be_given() {
    let project = Project::new();
    fs::write(project.path("a.csv"), "zip,n\n01234,1\n99999,2\n").expect("writes");
    let given = dataset("{type: csv, path: a.csv, load_args: {dtype: {zip: str}}}");
    let rows = read(&project, &*given).await.expect("reads");
    assert_eq!(rows.column(0).as_string::<i32>().value(0), "01234");
    let late = dataset("{type: csv, path: b.csv, load_args: {infer_schema_length: 1}}");
    fs::write(project.path("b.csv"), "n\n1\nx\n").expect("writes");
    let error = read(&project, &*late).await.expect_err("x is no number").to_string();
    assert!(error.contains("b.csv") && error.contains("dtype"), "{error}");
}
