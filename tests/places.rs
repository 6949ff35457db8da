//! Where data lies: credentials that are not defined, and paths as people write them.

use crate::support::Project;

fn fresh_clone() -> Project {
    Project::empty()
        .file(
            "conf/base/catalog.yml",
            "
            far: {type: pandas.CSVDataset, filepath: 's3://bucket/far.csv', credentials: dev}
            parts: {type: partitions.PartitionedDataset, path: 's3://bucket/parts', dataset: pandas.CSVDataset, credentials: dev}
            near: {type: pandas.CSVDataset, filepath: data/near.csv}
            out: {type: pandas.CSVDataset, filepath: data/out.csv}
            far_out: {type: pandas.CSVDataset, filepath: data/far_out.csv}
            ",
        )
        .file("conf/base/parameters.yml", "query: select * from t\n")
        .file(
            "pipelines/main.yml",
            "
            nodes:
              - {name: near, function: sql, inputs: {t: near, query: params:query}, outputs: out}
              - {name: far, function: sql, inputs: {t: far, query: params:query}, outputs: far_out}
            ",
        )
        .file("data/near.csv", "id\n1\n")
}

#[test]
fn without_a_file_of_credentials_only_a_run_that_needs_them_is_refused() {
    let project = fresh_clone();
    for command in [
        "check",
        "graph",
        "ls datasets",
        "ls nodes",
        "config show catalog",
        "config show parameters",
        "config resolve far",
        "plan --nodes near",
        "run -q --nodes near",
    ] {
        let output = project.flow(command).exits(0);
        assert!(!output.stderr.contains("dev"), "{command}: {}", output.stderr);
    }
    assert_eq!(project.read("data/out.csv"), "id\n1\n");
    let output = project.flow("run").exits(3);
    assert!(
        output.stderr.contains("credentials `dev`") && output.stderr.contains("credentials.yml"),
        "{}",
        output.stderr
    );
    let plan = project.flow("plan --output json").exits(0).json();
    let nodes = plan["nodes"].as_array().expect("nodes");
    assert_eq!(nodes.iter().map(|node| &node["name"]).collect::<Vec<_>>(), ["far", "near"]);
    assert!(nodes[0]["refused"][0].as_str().is_some_and(|why| why.contains("credentials `dev`")), "{plan}");
    assert_eq!(nodes[1].get("refused"), None, "{plan}");
    // With such a file a name that it lacks is a mistake.
    let project = project.file("conf/local/credentials.yml", "other: {key: a, secret: b}\n");
    let output = project.flow("check").exits(2);
    assert!(output.stderr.contains("catalog::unknown-credentials"), "{}", output.stderr);
}

#[test]
fn keys_of_credentials_that_have_no_meaning_are_named() {
    let project = fresh_clone().file(
        "conf/local/credentials.yml",
        "dev: {key: a, secret: b, verify: false, client_kwargs: {endpoint_url: 'http://127.0.0.1:1'}, \
         config_kwargs: {retries: {max_attempts: 1, mode: standard}}, s3_additional_kwargs: {ACL: private}}\n",
    );
    let output = project.flow("check").exits(0);
    for key in ["config_kwargs.retries.mode", "s3_additional_kwargs.ACL"] {
        assert!(output.stderr.contains(&format!("credentials: `{key}` has no meaning")), "{}", output.stderr);
    }
    assert!(!output.stderr.contains("verify") && !output.stderr.contains("max_attempts"), "{}", output.stderr);
}

#[test]
fn a_path_in_the_users_folder_is_expanded_and_other_systems_schemes_are_known() {
    let home = tempfile::tempdir().expect("a folder");
    let project = Project::empty()
        .file(
            "catalog.yml",
            "
            t: {type: csv, path: t.csv}
            o: {type: csv, path: ~/deep/o.csv}
            o2: {type: csv, path: 'dbfs:/mnt/o2.csv'}
            o3: {type: partitioned, path: 'hdfs://host/o3', dataset: csv}
            o4: {type: csv, path: 'file:out/o4.csv'}
            ",
        )
        .file("parameters.yml", "q: select * from t\n")
        .file(
            "pipelines/main.yml",
            "
            nodes:
              - {name: n1, function: sql, inputs: {t: t, query: params:q}, outputs: o}
              - {name: n2, function: sql, inputs: {t: t, query: params:q}, outputs: o2}
              - {name: n3, function: sql, inputs: {t: o, query: params:q}, outputs: o4}
            ",
        )
        .file("t.csv", "id\n1\n")
        .env("HOME", &home.path().display().to_string());
    for command in ["check", "graph", "ls datasets", "run -q --nodes n1,n3", "plan --nodes n1,n3"] {
        project.flow(command).exits(0);
    }
    assert_eq!(std::fs::read_to_string(home.path().join("deep/o.csv")).expect("written there"), "id\n1\n");
    assert_eq!(project.read("out/o4.csv"), "id\n1\n");
    let output = project.flow("run").exits(2);
    assert!(output.stderr.contains("`o2` is at `dbfs:/mnt/o2.csv`, and `dbfs:` is not supported"), "{}", output.stderr);
    for name in ["~", "dbfs:", "file:", "hdfs:"] {
        assert!(!project.path(name).exists(), "{name}");
    }
    // One file under two spellings is one location.
    let spelled = home.path().join("deep/o.csv").display().to_string();
    let project = project
        .more("catalog.yml", &format!("same: {{type: csv, path: '{spelled}'}}\n"))
        .more("pipelines/main.yml", "  - {name: n5, function: sql, inputs: {t: t, query: params:q}, outputs: same}\n");
    let output = project.flow("check").exits(2);
    assert!(output.stderr.contains("catalog::overlapping-locations"), "{}", output.stderr);
}

fn copies(more: &str) -> Project {
    Project::empty()
        .file("catalog.yml", &format!("t: {{type: csv, path: t.csv}}\no: {{type: csv, path: out/o.csv{more}}}\n"))
        .file("parameters.yml", "q: select * from t\n")
        .file(
            "pipelines/main.yml",
            "nodes:\n  - {name: n, function: sql, inputs: {t: t, query: params:q}, outputs: o}\n",
        )
        .file("t.csv", "id\n1\n")
}

#[cfg(unix)]
#[test]
fn an_output_file_that_is_a_link_is_refused_and_neither_it_nor_its_target_is_replaced() {
    for more in ["", ", overwrite: true"] {
        for target in [Some("theirs\n"), None] {
            let project = copies(more).file("out/.keep", "");
            if let Some(text) = target {
                project.write("far.csv", text);
            }
            std::os::unix::fs::symlink(project.path("far.csv"), project.path("out/o.csv")).expect("a link");
            let output = project.flow("run").exits(3);
            assert!(output.stderr.contains("out/o.csv is a link"), "{}", output.stderr);
            assert!(project.path("out/o.csv").is_symlink());
            assert_eq!(std::fs::read_to_string(project.path("far.csv")).ok().as_deref(), target);
        }
    }
}

#[test]
fn a_partition_column_that_begins_with_a_dot_is_refused_by_check() {
    let project = copies(", save_args: {partition_by: [.k]}");
    let output = project.flow("check").exits(2);
    assert!(
        output.stderr.contains("`partition_by: .k`") && output.stderr.contains("catalog.yml:2"),
        "{}",
        output.stderr
    );
}

#[test]
fn a_hive_folder_with_a_broken_percent_sign_is_read_as_text() {
    let project = copies("").file("d/discount=100%/a.csv", "id\n1\n").file("d/discount=50%off/a.csv", "id\n2\n");
    let project = project.edit("catalog.yml", "path: t.csv", "path: d");
    project.flow("run").exits(0);
    let mut lines: Vec<String> = project.read("out/o.csv").lines().map(str::to_owned).collect();
    lines[1..].sort();
    assert_eq!(lines, ["id,discount", "1,100%", "2,50%off"]);
}

#[test]
fn a_block_at_the_end_of_a_file_without_a_newline_ends_without_one() {
    for (text, expected) in
        [("a: |\n  one\n  two", "one\ntwo"), ("a: |\n  one\n  two\n", "one\ntwo\n"), ("a: >\n  one\n  two", "one two")]
    {
        let project = copies("");
        std::fs::write(project.path("parameters.yml"), format!("q: select * from t\n{text}")).expect("written");
        let shown = project.flow("config show parameters --output json").exits(0).json();
        assert_eq!(shown["a"], expected, "{text:?}");
    }
}

#[test]
fn a_star_in_the_path_of_a_table_reads_the_files_that_match() {
    let project = copies("")
        .edit("catalog.yml", "path: t.csv", "path: 'd/2024-*.csv'")
        .edit("parameters.yml", "select * from t", "select * from t order by id")
        .file("d/2024-01.csv", "id\n1\n")
        .file("d/2024-02.csv", "id\n2\n")
        .file("d/2023-12.csv", "other\n9\n")
        .file("d/notes.txt", "x");
    project.flow("check").exits(0);
    project.flow("run").exits(0);
    assert_eq!(project.read("out/o.csv"), "id\n1\n2\n");
    assert_eq!(project.flow("run --output json").exits(0).summary()["nodes"]["skipped"], 1);
    project.write("d/2023-12.csv", "other\n10\n");
    assert_eq!(project.flow("run --output json").exits(0).summary()["nodes"]["skipped"], 1, "not one of them");
    project.write("d/2024-03.csv", "id\n3\n");
    project.flow("run").exits(0);
    assert_eq!(project.read("out/o.csv"), "id\n1\n2\n3\n");
    // A file that differs is named by its own path.
    project.write("d/2024-04.csv", "else\n3\n");
    let output = project.flow("run").exits(1);
    assert!(output.stderr.contains("d/2024-04.csv"), "{}", output.stderr);
    let none = project.edit("catalog.yml", "2024-*", "1999-*");
    let output = none.flow("run").exits(3);
    assert!(output.stderr.contains("d/1999-*.csv"), "{}", output.stderr);
    // Such a path is not written, and not under an output either.
    let written = copies("").edit("catalog.yml", "path: out/o.csv", "path: 'out/*.csv'");
    let output = written.flow("run").exits(3);
    assert!(output.stderr.contains("has a `*` in its path"), "{}", output.stderr);
    assert!(!written.path("out").exists());
    let own = copies("").edit("catalog.yml", "path: t.csv", "path: 'out/*.csv'");
    assert!(own.flow("check").exits(2).stderr.contains("catalog::overlapping-locations"));
}

#[test]
fn parquet_behind_dots_and_double_slashes_is_read_and_written() {
    let project = Project::empty()
        .file("data/t.csv", "id\n1\n2\n")
        .file(
            "catalog.yml",
            "t: {type: csv, path: .//data/../data/t.csv}\no: {type: parquet, path: ./out//o.parquet}\n\
             p@table: {type: parquet, path: out/../out/./p, save_args: {partition_by: [id]}}\nn: {type: csv, path: n.csv}\n",
        )
        .file("parameters.yml", "a: select id, id as k from t\nb: select * from o\nc: select k from p order by k\n")
        .file(
            "pipelines/main.yml",
            "nodes:\n  - {name: a, function: sql, inputs: {t: t, query: params:a}, outputs: o}\n  \
             - {name: b, function: sql, inputs: {o: o, query: params:b}, outputs: p@table}\n  \
             - {name: c, function: sql, inputs: {p: p@table, query: params:c}, outputs: n}\n",
        );
    project.flow("run").exits(0);
    assert_eq!(project.read("n.csv"), "k\n1\n2\n");
    std::fs::create_dir(project.path("sub")).expect("a folder");
    let output = project.command(["-C", "..", "show", "o"]).current_dir(project.path("sub")).output().expect("runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    project.flow("run").exits(0);
}
