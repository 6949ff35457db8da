//! What real data holds: odd names, empty parts, broken files, what other tools leave behind.

use std::{fs, path::Path, sync::Arc};

use arrow::array::{ArrayRef, AsArray, BinaryArray, Int64Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;

use crate::support::{Project, place::Place, small, stores};

const VALUES: [&str; 10] = ["7", "a/b", "100%", "two words", "größe", "日本", "a=b", "..", "it's: {odd}?", "%2F"];

/// A project that partitions a table by the text column `kind` and embeds each partition.
fn by_kind(base: &str, options: &str, rows: &[(&str, &str)]) -> Project {
    let project = small::project(base, options).edit("catalog.yml", "partition_by: [bucket]", "partition_by: [kind]");
    let mut csv = "id,kind,text\n".to_owned();
    for (id, (kind, text)) in rows.iter().enumerate() {
        csv += &format!("{id},{},{text}\n", if kind.is_empty() { String::new() } else { format!("\"{kind}\"") });
    }
    project.write("data/nodes.csv", &csv);
    project.write(
        "parameters.yml",
        "query: SELECT id, kind, text AS text_to_embed FROM nodes ORDER BY kind\nmodel: {provider: hash, dimensions: 4}\n",
    );
    project.write(
        "pipelines/main.yml",
        "
        nodes:
          - name: cut
            function: sql
            inputs: {nodes: nodes, query: params:query}
            outputs: buckets@table
          - name: embed
            function: compute_embeddings
            inputs: {dfs: buckets@partitioned, model: params:model}
            outputs: vectors@partitioned
        ",
    );
    project
}

/// A project with the node `embed` alone, over buckets that the test writes.
fn embed_only() -> Project {
    let project = small::project("data/out", "");
    project.write(
        "pipelines/main.yml",
        "
        nodes:
          - name: embed
            function: compute_embeddings
            inputs: {dfs: buckets@partitioned, model: params:model}
            outputs: vectors@partitioned
        ",
    );
    project
}

fn texts(texts: &[&str]) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..texts.len() as i64));
    let texts: ArrayRef = Arc::new(StringArray::from(texts.to_vec()));
    RecordBatch::try_from_iter([("id", ids), ("text_to_embed", texts)]).expect("two columns")
}

fn write(path: &Path, batch: &RecordBatch) {
    fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
    let mut writer =
        ArrowWriter::try_new(fs::File::create(path).expect("a file"), batch.schema(), None).expect("a writer");
    writer.write(batch).expect("written");
    writer.close().expect("closed");
}

fn bucket(project: &Project, number: usize, batch: &RecordBatch) {
    write(&project.path(&format!("data/out/buckets/bucket={number}/part-0.parquet")), batch);
}

#[test]
fn partition_values_of_any_kind_come_back_as_they_were_on_every_store() {
    let rows: Vec<_> = VALUES.iter().map(|value| (*value, "some text")).collect();
    let local = by_kind("data/out", "", &rows);
    local.flow("run -q").exits(0);
    let expected = Place::Local(local.path("data/out")).tables();
    assert_eq!(expected.len(), 2 * VALUES.len(), "{:?}", expected.keys());
    let mut projects = vec![local];
    let stores = [stores::s3(), stores::azure()];
    for store in &stores {
        let project = by_kind(&format!("{}/odd", store.url), "credentials: store", &rows);
        project.write("credentials.yml", &store.credentials(store.port));
        project.flow("run -q").exits(0);
        assert!(store.place("odd").tables() == expected, "{}: {:?}", store.url, store.place("odd").files());
        projects.push(project);
    }
    for project in projects {
        let shown = project.flow("show vectors@partitioned --partitions --output json").exits(0).json();
        let mut shown: Vec<_> = shown
            .as_array()
            .expect("partitions")
            .iter()
            .map(|p| p["partition"].as_str().expect("a string").to_owned())
            .collect();
        let mut values: Vec<_> = VALUES.iter().map(|value| format!("kind={value}")).collect();
        shown.sort();
        values.sort();
        assert_eq!(shown, values);
        let plan = project.flow("plan --output json").exits(0).json();
        assert_eq!(plan["nodes"][1]["action"], "skip");
    }
}

#[test]
fn a_row_without_a_key_is_refused_with_its_number_and_the_old_table_stays() {
    let project = by_kind("data/out", "", &[("a", "x"), ("b", "y")]);
    project.flow("run -q").exits(0);
    let before = Place::Local(project.path("data/out")).contents();
    let project = project.file("data/nodes.csv", "id,kind,text\n1,a,x\n2,,y\n");
    let failed = project.flow("run").exits(1);
    assert!(
        failed.stderr.contains(
            "partition column `kind` is null in row 2 of what is written to `buckets@table`: fill it or filter it out"
        ),
        "{}",
        failed.stderr
    );
    assert!(Place::Local(project.path("data/out")).contents() == before, "nothing was touched");
}

#[test]
fn bytes_as_a_feature_are_text_or_an_error_and_never_empty() {
    let project = small::project("data/out", "").edit(
        "catalog.yml",
        "{type: csv, path: data/nodes.csv}",
        "{type: parquet, path: data/nodes.parquet}",
    );
    let table = |name: &[u8]| {
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..2));
        let names: ArrayRef = Arc::new(BinaryArray::from_vec(vec![b"plain", name]));
        RecordBatch::try_from_iter([("id", ids), ("name", names)]).expect("two columns")
    };
    write(&project.path("data/nodes.parquet"), &table(b"\xff\xfe\x00\x01hello"));
    let failed = project.flow("run").exits(1);
    let message = "column `name` is Binary, and its value 0xfffe000168656c6c6f is not text in UTF-8";
    assert!(failed.stderr.contains(message), "{}", failed.stderr);
    write(&project.path("data/nodes.parquet"), &table("größe".as_bytes()));
    project.flow("run -q").exits(0);
    let rows = project.flow("show buckets@table --output json").exits(0);
    assert!(rows.stdout.contains("größe") && rows.stdout.contains("plain"), "{}", rows.stdout);
}

#[test]
fn a_folder_of_rows_without_a_key_is_named() {
    let project = embed_only();
    bucket(&project, 0, &texts(&["one"]));
    write(
        &project.path("data/out/buckets/bucket=__HIVE_DEFAULT_PARTITION__/part-0.parquet"),
        &texts(&["of an unknown bucket"]),
    );
    let refused = project.flow("run").exits(3);
    for words in
        ["data/out/buckets/bucket=__HIVE_DEFAULT_PARTITION__/part-0.parquet", "partition column `bucket` is null there"]
    {
        assert!(refused.stderr.contains(words), "{words}: {}", refused.stderr);
    }
}

#[test]
fn a_table_without_rows_makes_no_partitions_and_no_trouble() {
    let project = small::project("data/out", "").file("data/nodes.csv", "id,name\n");
    project.flow("run -q").exits(0);
    assert!(Place::Local(project.path("data/out")).tables().is_empty());
    let again = project.flow("run --output json").exits(0).summary();
    assert_eq!(again["nodes"]["skipped"], 2);
    project.write("data/nodes.csv", &small::csv(0..20, "any", 2));
    project.flow("run -q").exits(0);
    assert_eq!(Place::Local(project.path("data/out")).tables().len(), 4);
    project.write("data/nodes.csv", "id,name\n");
    project.flow("run -q").exits(0);
    assert!(
        Place::Local(project.path("data/out")).tables().is_empty(),
        "what was there goes, since nothing is left of it"
    );
}

#[test]
fn a_partition_without_rows_gives_one_without_rows() {
    let project = embed_only();
    bucket(&project, 0, &texts(&["one", "two"]));
    bucket(&project, 1, &texts(&[]));
    fs::create_dir_all(project.path("data/out/buckets/bucket=2")).expect("an empty folder");
    project.flow("run -q").exits(0);
    let tables = Place::Local(project.path("data/out/vectors")).tables();
    assert_eq!(tables.keys().collect::<Vec<_>>(), ["bucket=0", "bucket=1"]);
    assert_eq!(tables["bucket=1"][0].num_rows(), 0);
    assert_eq!(tables["bucket=1"][0].schema(), tables["bucket=0"][0].schema());
    let again = project.flow("run --output json").exits(0).summary();
    assert_eq!(again["partitions"]["skipped"], 2);
}

#[test]
fn what_spark_and_hadoop_leave_behind_is_no_data() {
    let project = embed_only();
    bucket(&project, 0, &texts(&["one"]));
    for name in [
        "_SUCCESS",
        ".part-0.parquet.crc",
        "_temporary/0/part-1.parquet",
        "bucket=0/.part-0.parquet.crc",
        "bucket=0/_metadata",
        ".hidden/bucket=9/part-0.parquet",
    ] {
        project.write(&format!("data/out/buckets/{name}"), "no parquet");
    }
    project.flow("run -q").exits(0);
    let tables = Place::Local(project.path("data/out/vectors")).tables();
    assert_eq!(tables.keys().collect::<Vec<_>>(), ["bucket=0"]);
    // They may come and go without anything being computed again.
    fs::remove_file(project.path("data/out/buckets/_SUCCESS")).expect("removed");
    let again = project.flow("run --output json").exits(0).summary();
    assert_eq!(again["partitions"]["skipped"], 1);
    assert!(project.path("data/out/buckets/_temporary/0/part-1.parquet").exists(), "and they are not removed");
}

#[test]
fn a_broken_file_fails_its_partition_and_no_other() {
    let project = embed_only();
    for number in 0..5 {
        bucket(&project, number, &texts(&["one", "two", "three"]));
    }
    let broken = project.path("data/out/buckets/bucket=2/part-0.parquet");
    let whole = fs::read(&broken).expect("a file");
    fs::write(&broken, &whole[..whole.len() / 2]).expect("written");
    let project = project.edit("catalog.yml", "overwrite: true", "overwrite: true, save_args: {on_error: continue}");
    let failed = project.flow("run").exits(1);
    assert!(
        failed.stderr.contains("data/out/buckets/bucket=2/part-0.parquet cannot be read as parquet"),
        "{}",
        failed.stderr
    );
    assert!(failed.stderr.contains("1 of 5 partitions failed; 4 are done"), "{}", failed.stderr);
    let place = Place::Local(project.path("data/out/vectors"));
    assert_eq!(place.tables().keys().collect::<Vec<_>>(), ["bucket=0", "bucket=1", "bucket=3", "bucket=4"]);
    fs::write(&broken, whole).expect("written");
    let summary = project.flow("run --output json").exits(0).summary();
    assert_eq!((&summary["partitions"]["done"], &summary["partitions"]["skipped"]), (&1.into(), &4.into()));
    assert_eq!(place.tables().len(), 5);
}

#[test]
fn a_file_with_other_columns_is_named() {
    let project = embed_only();
    bucket(&project, 0, &texts(&["one"]));
    let ids: ArrayRef = Arc::new(StringArray::from(vec!["zero"]));
    let text: ArrayRef = Arc::new(StringArray::from(vec!["two"]));
    bucket(&project, 1, &RecordBatch::try_from_iter([("id", ids), ("text_to_embed", text)]).expect("two columns"));
    // Within one partition.
    write(
        &project.path("data/out/buckets/bucket=0/part-1.parquet"),
        &RecordBatch::try_from_iter([("id", Arc::new(Int64Array::from(vec![1])) as ArrayRef)]).expect("a column"),
    );
    let failed = project.flow("run").exits(1);
    for words in [
        "data/out/buckets/bucket=0/part-1.parquet does not fit the rest of its dataset: it lacks column `text_to_embed`",
        "compared with",
        "bucket=0/part-0.parquet",
    ] {
        assert!(failed.stderr.contains(words), "{words}: {}", failed.stderr);
    }
    fs::remove_file(project.path("data/out/buckets/bucket=0/part-1.parquet")).expect("removed");
    // Between partitions, where they are computed one by one and where they are read as one table.
    for command in ["run", "show buckets@table --head 5"] {
        let failed = project.flow(command);
        assert_ne!(failed.code, 0, "{command}");
        assert!(failed.stderr.contains("data/out/buckets/bucket=1/part-0.parquet does not fit the rest of its dataset: its column `id` is Utf8, not Int64"), "{command}: {}", failed.stderr);
    }
    assert!(Place::Local(project.path("data/out/vectors")).tables().keys().all(|key| key == "bucket=0"));
}

#[test]
fn an_embedding_that_is_there_already_is_not_overwritten_in_silence() {
    let project = embed_only();
    let text: ArrayRef = Arc::new(StringArray::from(vec!["two"]));
    bucket(
        &project,
        0,
        &RecordBatch::try_from_iter([("embedding", Arc::clone(&text)), ("text_to_embed", text)]).expect("two columns"),
    );
    let failed = project.flow("run").exits(2);
    assert!(
        failed
            .stderr
            .contains("the input already has a column `embedding`; rename or drop it before `compute_embeddings`"),
        "{}",
        failed.stderr
    );
    assert!(Place::Local(project.path("data/out/vectors")).files().is_empty());
}

#[test]
fn odd_texts_come_back_byte_for_byte() {
    let odd = ["", " ", "\u{0}", "\"quoted\"", "new\nline", "\u{feff}bom", "e\u{301}", "👩‍👩‍👧", &"long ".repeat(20_000)];
    let project = embed_only();
    let ids: ArrayRef = Arc::new(StringArray::from(odd.to_vec()));
    let batch = RecordBatch::try_from_iter([("id", Arc::clone(&ids)), ("text_to_embed", ids)]).expect("two columns");
    bucket(&project, 0, &batch);
    project.flow("run -q").exits(0);
    let tables = Place::Local(project.path("data/out/vectors")).tables();
    let found = arrow::compute::cast(&tables["bucket=0"][0]["id"], &arrow::datatypes::DataType::Utf8).expect("text");
    assert_eq!(found.as_string::<i32>().iter().flatten().collect::<Vec<_>>(), odd);
}

/// Larger than its share of the memory: computed in chunks, and the same rows in the end as in one piece.
#[test]
fn a_partition_larger_than_its_share_of_the_memory_gives_the_same_rows() {
    let words: Vec<String> = (0..30_000).map(|i| format!("text {}", i % 17_000)).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let vectors = ["64MiB", "64GiB"].map(|limit| {
        let project = embed_only();
        project.write(
            "parameters.yml",
            "size: 10\nlength: 60\nfeatures: [name]\nmodel: {provider: hash, dimensions: 64}\n",
        );
        bucket(&project, 0, &texts(&words));
        let summary = project.flow(&format!("run --output json --memory-limit {limit}")).exits(0).summary();
        assert_eq!(summary["partitions"]["done"], 1);
        let place = Place::Local(project.path("data/out/vectors"));
        let [name] = &*place.files() else { panic!("{:?}", place.files()) };
        assert!(name.contains("-r30000-b") && name.ends_with(".parquet"), "{name}");
        let plan = project.flow(&format!("plan --output json --memory-limit {limit}")).exits(0).json();
        assert_eq!(plan["nodes"][0]["action"], "skip", "how much memory there is changes no vector");
        place.tables()
    });
    assert!(vectors[0] == vectors[1]);
    assert_eq!(vectors[0]["bucket=0"][0].num_rows(), 30_000);
}

/// `FLOW_TEST_MANY_PARTITIONS=100000` is the size at which anything quadratic shows.
#[test]
fn very_many_partitions_are_each_there_once_and_go_when_their_rows_go() {
    #[expect(clippy::disallowed_methods, reason = "a switch for running the tests")]
    let count = std::env::var("FLOW_TEST_MANY_PARTITIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(1500);
    let project = small::project("data/out", "").edit("parameters.yml", "size: 10", "size: 1");
    let vectors = Place::Local(project.path("data/out/vectors"));
    let keys = |rows: usize| {
        let mut keys: Vec<String> = (0..rows).map(|bucket| format!("bucket={bucket}")).collect();
        keys.sort();
        keys
    };
    for rows in [count, count / 2] {
        project.write("data/nodes.csv", &small::csv(0..rows, "odd", 7));
        project.flow("run -q").exits(0);
        let mut found: Vec<String> =
            vectors.files().iter().filter_map(|name| Some(name.split_once('/')?.0.to_owned())).collect();
        found.sort();
        assert_eq!(found, keys(rows));
        let plan = project.flow("plan --output json").exits(0).json();
        assert!(
            plan["nodes"].as_array().is_some_and(|nodes| nodes.iter().all(|node| node["action"] == "skip")),
            "{plan}"
        );
    }
}
