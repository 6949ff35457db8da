//! Tables computed by a real Spark: the same rows in the same buckets, whatever dies. Needs Java and 500 MB of packages, so it runs where
//! `FLOW_TEST_SPARK` is set.

use std::{
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use arrow::{
    array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema},
};
use parquet::arrow::ArrowWriter;

use crate::support::{Project, read_parquet, stores};

const PACKAGES: &str = "pyspark[connect]==4.3.0 pandas<3";

/// A project whose interpreter has PySpark. `None` where that cannot be.
fn with_spark(project: Project) -> Option<Project> {
    let python = python_with_spark()?;
    Some(project.env("FLOW_PYTHON", &python.display().to_string()).env("SPARK_LOCAL_IP", "127.0.0.1"))
}

#[expect(clippy::disallowed_methods, reason = "a switch for running the tests")]
fn python_with_spark() -> Option<PathBuf> {
    if std::env::var_os("FLOW_TEST_SPARK").is_none() {
        eprintln!("skipped: FLOW_TEST_SPARK is not set");
        return None;
    }
    let Ok(java) = Command::new("java").arg("-version").output() else {
        eprintln!("skipped: Java is not installed");
        return None;
    };
    assert!(java.status.success(), "{}", String::from_utf8_lossy(&java.stderr));
    Some(stores::python_tool("spark", PACKAGES, "python"))
}

/// A Spark Connect server of PySpark's own; killed in the end.
struct ConnectServer {
    process: std::process::Child,
    port: u16,
}

impl Drop for ConnectServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl ConnectServer {
    fn start(python: &Path, folder: &Path) -> Self {
        let place = "import pathlib, pyspark; print(pathlib.Path(pyspark.__file__).parent)";
        let home = Command::new(python).args(["-c", place]).output().expect("Python runs").stdout;
        let home = PathBuf::from(String::from_utf8(home).expect("UTF-8").trim());
        let port = unused_port();
        let log = File::create(folder.join("server.log")).expect("a file");
        let mut process = Command::new(home.join("bin/spark-class"))
            .args([
                "org.apache.spark.deploy.SparkSubmit",
                "--class",
                "org.apache.spark.sql.connect.service.SparkConnectServer",
            ])
            .args(["--master", "local[2]", "--conf", &format!("spark.connect.grpc.binding.port={port}")])
            .args(["--conf", "spark.ui.enabled=false", "spark-internal"])
            .env("SPARK_HOME", &home)
            .env("SPARK_LOCAL_IP", "127.0.0.1")
            .current_dir(folder)
            .stdout(log.try_clone().expect("a file"))
            .stderr(Stdio::from(log))
            .spawn()
            .expect("a server");
        let begin = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = process.try_wait().expect("a child");
            let log = || fs::read_to_string(folder.join("server.log")).unwrap_or_default();
            assert!(ended.is_none() && begin.elapsed() < Duration::from_secs(120), "no server: {ended:?}\n{}", log());
            std::thread::park_timeout(Duration::from_millis(50));
        }
        Self { process, port }
    }
}

fn unused_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port()
}

/// A table of rows in no order, with ids that are missing, that repeat, and that sort differently as text and as numbers.
fn nodes(rows: usize) -> RecordBatch {
    let order = |row: usize| (row * 7_919) % rows;
    let id = |row: usize| match order(row) {
        n if n % 997 == 0 => None,
        n if n % 101 == 0 => Some("dup:é".to_owned()),
        n => Some(format!("{}:{n}", ["é", "z", "A", "zz", "𝄞", "～"][n % 6])),
    };
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new((0..rows).map(id).collect::<StringArray>())),
        (
            "name",
            Arc::new(
                (0..rows)
                    .map(|row| (row % 13 != 0).then(|| format!("name {}", row % 100_003)))
                    .collect::<StringArray>(),
            ),
        ),
        ("rank", Arc::new((0..rows).map(|row| (row % 17 != 0).then_some(row as i64 - 1000)).collect::<Int64Array>())),
        ("weight", Arc::new((0..rows).map(|row| Some(row as f64 / 7.0)).collect::<Float64Array>())),
        ("other", Arc::new((0..rows).map(|_| Some("not a feature")).collect::<StringArray>())),
    ];
    let fields: Vec<Field> =
        columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.into_iter().map(|(_, column)| column).collect())
        .expect("columns")
}

fn bucketizing(rows: usize, node: &str) -> Project {
    let project = Project::empty()
        .file(
            "catalog.yml",
            "
            nodes: {type: parquet, path: data/nodes}
            buckets: {type: parquet, path: data/buckets, save_args: {partition_by: [bucket]}}
            ",
        )
        .file(
            "parameters.yml",
            "
            size: 5000
            length: 40
            features: [name, rank, weight]
            template: '{{ name|upper }} {{ rank }}/{{ weight }}'
            ",
        )
        .file(
            "pipelines/main.yml",
            &format!(
                "nodes:\n  - name: cut\n    function: bucketize\n    inputs: {{df: nodes, bucket_size: 'params:size', max_input_len: 'params:length', \
                 input_features: 'params:features', text_template: 'params:template'}}\n    outputs: buckets\n{node}"
            ),
        );
    fs::create_dir_all(project.path("data/nodes")).expect("a folder");
    let all = nodes(rows);
    // Several files, as a table of this size has them.
    let each = rows.div_ceil(8);
    for (number, start) in (0..rows).step_by(each).enumerate() {
        let part = all.slice(start, each.min(rows - start));
        let file = File::create(project.path(&format!("data/nodes/part-{number}.parquet"))).expect("a file");
        let mut writer = ArrowWriter::try_new(file, part.schema(), None).expect("a writer");
        writer.write(&part).expect("written");
        writer.close().expect("closed");
    }
    project
}

const CLUSTER: &str = "    engine: spark\n    spark: {master: 'local-cluster[2,1,1024]', config: {spark.executor.memory: 1g, spark.sql.shuffle.partitions: 16}}\n";

/// The processes below this one that are executors.
fn executors(of: u32) -> Vec<u32> {
    let parent = |pid: u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse::<u32>().ok()
    };
    let below =
        |pid: u32| std::iter::successors(Some(pid), |pid| parent(*pid).filter(|pid| *pid > 1)).any(|pid| pid == of);
    let all =
        fs::read_dir("/proc").expect("processes").filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    all.filter(|pid| {
        fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).contains("CoarseGrainedExecutorBackend"))
            && below(*pid)
    })
    .collect()
}

/// True once Spark writes its result.
fn is_writing(project: &Project) -> bool {
    project.files(".flow/tmp").iter().any(|name| name.contains("/out/_temporary/")) || {
        let folder = project.path(".flow/tmp");
        let runs = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
        let works = runs.flat_map(|run| fs::read_dir(run.path()).into_iter().flatten().filter_map(Result::ok));
        works.into_iter().any(|work| work.path().join("out/_temporary").is_dir())
    }
}

/// Asserts that two hive folders hold the same rows in the same order in the same directories.
fn same(found: &Project, wanted: &Project) {
    let (found_table, wanted_table) = (found.table("data/buckets"), wanted.table("data/buckets"));
    assert_eq!(found_table.keys().collect::<Vec<_>>(), wanted_table.keys().collect::<Vec<_>>());
    for (key, batch) in &wanted_table {
        assert!(batch == &found_table[key], "{key}");
    }
    assert_eq!(found.files("data/buckets"), wanted.files("data/buckets"), "a file's name says what is in it");
}

#[test]
fn two_million_rows_are_in_the_same_buckets_as_without_spark_though_an_executor_is_killed() {
    let Some(project) = with_spark(bucketizing(2_000_000, CLUSTER)) else { return };
    let local = bucketizing(2_000_000, "");
    local.flow("run").exits(0);
    let mut child = project.spawn("run --output json");
    let begin = Instant::now();
    let killed = loop {
        assert!(begin.elapsed() < Duration::from_secs(500), "Spark did not begin to write");
        if let (true, [first, _]) = (is_writing(&project), executors(child.id()).as_slice()) {
            Command::new("kill").args(["-KILL", &first.to_string()]).status().expect("kill");
            break *first;
        }
        if let Some(status) = child.try_wait().expect("a child") {
            let output = child.wait_with_output().expect("its output");
            panic!("it ended before: {status}\n{}", String::from_utf8_lossy(&output.stderr));
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let output = child.wait_with_output().expect("its output");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!Path::new(&format!("/proc/{killed}")).exists());
    same(&project, &local);
    assert_eq!(project.files(".flow/tmp"), [""; 0], "nothing of Spark's is left");
    let again = project.flow("run --output json").exits(0).summary();
    assert_eq!((&again["nodes"]["skipped"], &again["rows"]["ok"]), (&1.into(), &0.into()), "{again}");
    // The result is the same, so it is up to date for the other engine too.
    let other = project.edit("pipelines/main.yml", CLUSTER, "");
    assert_eq!(other.flow("run --output json").exits(0).summary()["nodes"]["skipped"], 1);
}

#[test]
fn a_query_in_the_dialect_of_spark_reads_any_table_and_is_published_as_every_table() {
    let project = Project::empty()
        .file("catalog.yml", "words: {type: csv, path: data/words.csv}\nnumbers: {type: parquet, path: data/numbers, save_args: {partition_by: [part]}}\nout: {type: parquet, path: data/out.parquet}\n")
        .file(
            "parameters.yml",
            "
            cut: SELECT *, id % 2 AS part FROM words ORDER BY part, id
            query: |
              SELECT w.id, w.word, n.part, transform(sequence(1, CAST(w.id AS INT)), x -> x * {{ factor }}) AS multiples
              FROM words w JOIN numbers n ON w.id = n.id WHERE w.word RLIKE '^[a-y]' ORDER BY w.id DESC
            factor: 10
            ",
        )
        .file(
            "pipelines/main.yml",
            "
            nodes:
              - {name: cut, function: sql, inputs: {words: words, query: 'params:cut'}, outputs: numbers}
              - {name: multiply, function: sql, inputs: {words: words, numbers: numbers, query: 'params:query', factor: 'params:factor'}, outputs: out,
                 engine: spark, spark: {master: 'local[2]'}}
            ",
        )
        .file("data/words.csv", "id,word\n1,one\n2,two\n3,three\n4,zero\n");
    let Some(project) = with_spark(project) else { return };
    project.flow("check").exits(0);
    project.flow("run").exits(0);
    let rows = read_parquet(&project.path("data/out.parquet"));
    let ids: Vec<i64> = rows.column(0).as_any().downcast_ref::<Int64Array>().expect("integers").values().to_vec();
    assert_eq!(ids, [3, 2, 1]);
    assert!(format!("{:?}", rows.column_by_name("multiples").expect("a column")).contains("30"));
    assert_eq!(rows.column_by_name("part").expect("a column").data_type(), &DataType::Int64);
    assert_eq!(project.flow("run --output json").exits(0).summary()["nodes"]["skipped"], 2);
    let wrong = project.edit("parameters.yml", "w.word RLIKE", "w.wrod RLIKE");
    let output = wrong.flow("run").exits(1);
    assert!(output.stderr.contains("wrod"), "{}", output.stderr);
    assert!(!output.stderr.contains("py4j"), "{}", output.stderr);
}

#[test]
fn a_spark_connect_server_computes_the_same_buckets_and_its_errors_are_short() {
    let Some(python) = python_with_spark() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let server = ConnectServer::start(&python, folder.path());
    let remote = format!("    engine: spark\n    spark: {{remote: 'sc://127.0.0.1:{}/;user_id=me'}}\n", server.port);
    let project = with_spark(bucketizing(20_000, &remote)).expect("the same Python");
    let local = bucketizing(20_000, "");
    local.flow("run").exits(0);
    project.flow("run").exits(0);
    same(&project, &local);
    assert_eq!(project.flow("run --output json").exits(0).summary()["nodes"]["skipped"], 1);

    let project = project
        .edit("catalog.yml", "nodes:", "out: {type: parquet, path: data/out.parquet}\nnodes:")
        .edit("parameters.yml", "size:", "query: SELECT nope FROM nodes\nsize:")
        .file(
            "pipelines/main.yml",
            &format!("nodes:\n  - name: ask\n    function: sql\n    inputs: {{nodes: nodes, query: 'params:query'}}\n    outputs: out\n{remote}"),
        );
    let output = project.flow("run").exits(1);
    assert!(output.stderr.contains("failed ask: [UNRESOLVED_COLUMN"), "{}", output.stderr);
    assert!(!output.stderr.contains("JVM stacktrace"), "{}", output.stderr);
    assert!(!output.stderr.contains("client/core.py"), "{}", output.stderr);

    let port = server.port;
    drop(server);
    let output = project.flow("run").exits(1);
    let wanted = format!("no Spark Connect server listens at `sc://127.0.0.1:{port}`: ");
    assert!(output.stderr.contains(&wanted), "{}", output.stderr);
    assert!(output.stderr.contains("help: start it there"), "{}", output.stderr);
}

#[test]
fn without_pyspark_nothing_is_started() {
    let project = bucketizing(10, "    engine: spark\n");
    let python = stores::python_tool("plain", "six==1.17.0", "python");
    let project = project.env("FLOW_PYTHON", &python.display().to_string());
    let output = project.flow("run").exits(2);
    assert!(output.stderr.contains("needs the package `pyspark`"), "{}", output.stderr);
    assert!(output.stderr.contains("pipelines/main.yml:"), "{}", output.stderr);
    let output = project.edit("pipelines/main.yml", "    engine: spark\n", "").flow("run --engine spark").exits(2);
    assert!(output.stderr.contains("needs the package `pyspark`"), "{}", output.stderr);
}

#[test]
fn settings_of_spark_are_checked() {
    for (node, message) in [
        ("    engine: sparkle\n", "sparkle"),
        ("    engine: spark\n    spark: {remote: 'sc://x', master: 'local[2]'}\n", "spark::bad-settings"),
        ("    spark: {url: x}\n", "unknown key `url`"),
    ] {
        let output = bucketizing(10, node).flow("check --no-python").exits(2);
        assert!(output.stderr.contains(message), "{node}: {}", output.stderr);
    }
}
