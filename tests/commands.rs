//! Every command's output, exit codes and JSON.

use crate::support::{Project, small};

/// A project with one catalog entry of every kind a test here needs, and no data.
fn small() -> Project {
    small::project("data", "")
        .more("catalog.yml", "vectors@table: {type: parquet, path: data/vectors}\ncount: {type: json, path: data/count.json}\n")
        .file("parameters.yml", "size: 2\nlength: 10\nfeatures: [name]\nmodel: {provider: hash, dimensions: 4}\ncount: SELECT count(*) AS n FROM vectors\n")
        .edit("pipelines/main.yml", "outputs: buckets@table\n", "outputs: buckets@table\n    tags: [cheap]\n")
        .more(
            "pipelines/main.yml",
            "  - name: count\n    function: sql\n    inputs: {vectors: vectors@table, query: params:count}\n    outputs: count\n    tags: [cheap]\n",
        )
        .file("data/nodes.csv", "id,name\nc,three\na,one\nb,two\nd,\ne,five\n")
}

#[test]
fn five_mistakes_are_reported_at_once_each_with_its_line() {
    let project = Project::empty()
        .file(
            "catalog.yml",
            "
            a: {type: parqet, path: data/a}
            b: {type: csv}
            c: {type: csv, path: data/c.csv, save_arg: {}}
            d: {type: csv, path: \"${globals:nowhere}\"}
            ",
        )
        .file("parameters.yml", "x: 1\n")
        .file("pipelines/p.yml", "nodes:\n  - {name: n, function: bucketise, inputs: {df: c}, outputs: d}\n");
    let problems = project.flow("check --output json").exits(2).json();
    let found: Vec<_> = problems
        .as_array()
        .expect("a list")
        .iter()
        .filter(|problem| problem["severity"] == "error")
        .map(|problem| {
            (
                problem["labels"][0]["file"].as_str().expect("a file"),
                problem["labels"][0]["line"].as_u64().expect("a line"),
            )
        })
        .collect();
    for place in
        [("catalog.yml", 1), ("catalog.yml", 2), ("catalog.yml", 3), ("catalog.yml", 4), ("pipelines/p.yml", 2)]
    {
        assert!(found.contains(&place), "{place:?} in {found:?}");
    }
    let text = project.flow("check").exits(2).stderr;
    assert!(text.contains("did you mean `parquet`?") && text.contains("did you mean `bucketize`?"), "{text}");
}

#[test]
fn a_typo_in_a_dataset_is_an_error_with_a_suggestion() {
    let project = small().edit("pipelines/main.yml", "outputs: count", "outputs: coutn");
    let output = project.flow("run").exits(2);
    assert!(output.stderr.contains("did you mean `count`?"), "{}", output.stderr);
    assert!(project.files("data").iter().all(|name| name == "nodes.csv"), "nothing was started");
}

#[test]
fn listings_are_sorted_json() {
    let project = small();
    let nodes = project.flow("ls nodes --output json").exits(0).json();
    assert_eq!(
        nodes[0],
        serde_json::json!({
            "name": "cut", "function": "bucketize", "pipeline": "main",
            "inputs": ["nodes", "params:features", "params:size", "params:length"],
            "outputs": ["buckets@table"], "tags": ["cheap"],
        })
    );
    let names: Vec<_> = nodes.as_array().expect("nodes").iter().map(|n| n["name"].as_str().expect("a name")).collect();
    assert_eq!(names, ["cut", "embed", "count"]);
    for what in ["pipelines", "datasets", "functions", "types", "providers"] {
        let list = project.flow(&format!("ls {what} --output json")).exits(0).json();
        assert!(!list.as_array().expect("a list").is_empty(), "{what}");
        assert!(!project.flow(&format!("ls {what}")).exits(0).stdout.is_empty());
    }
}

#[test]
fn selection_is_intersected_and_an_empty_one_has_its_own_code() {
    let project = small();
    let names = |flags: &str| {
        let list = project.flow(&format!("ls nodes --output json {flags}")).exits(0).json();
        list.as_array()
            .expect("nodes")
            .iter()
            .map(|n| n["name"].as_str().expect("a name").to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names("--tags cheap"), ["cut", "count"]);
    assert_eq!(names("--from-nodes embed"), ["embed", "count"]);
    assert_eq!(names("--from-nodes embed --tags cheap"), ["count"]);
    assert_eq!(names("--to-outputs vectors@partitioned"), ["cut", "embed"]);
    assert_eq!(names("-x tag:cheap"), ["embed"]);
    project.flow("run --nodes embed --tags cheap").exits(4);
    let output = project.flow("run --nodes emebd").exits(2);
    assert!(output.stderr.contains("did you mean `embed`?"), "{}", output.stderr);
}

#[test]
fn a_plan_counts_and_writes_nothing() {
    let project = small();
    let plan = project.flow("plan --output json").exits(0).json();
    assert_eq!(plan["nodes"][0]["action"], "run");
    assert_eq!(plan["nodes"][1]["estimate"], true);
    assert_eq!(plan["nodes"][1]["partitions"], serde_json::json!({"total": 3, "run": 3, "skip": 0}));
    assert_eq!(plan["nodes"][1]["rows"], 5);
    assert_eq!(plan["nodes"][1]["unique_rows"], 4, "one row has no text");
    assert_eq!(project.files("data"), ["nodes.csv"]);
    assert!(project.files(".flow").is_empty());
    project.flow("run").exits(0);
    let plan = project.flow("plan --output json").exits(0).json();
    for node in plan["nodes"].as_array().expect("nodes") {
        assert_eq!((&node["action"], &node["reason"]), (&"skip".into(), &"up to date".into()));
    }
}

#[test]
fn rows_without_text_are_not_errors() {
    let project = small();
    let summary = project.flow("run --output json").exits(0).summary();
    assert_eq!(summary["rows"], serde_json::json!({"ok": 4, "cached": 0, "empty": 1, "error": 0}));
    let head = project.flow("show vectors@table --head 5 --output json").exits(0).json();
    let empty: Vec<_> =
        head.as_array().expect("rows").iter().filter(|row| row["embedding_error"] == "empty_text").collect();
    assert_eq!(empty.len(), 1);
    assert_eq!(empty[0]["id"], "d");
}

#[test]
fn show_looks_into_data() {
    let project = small();
    project.flow("run").exits(0);
    let schema = project.flow("show vectors@table --schema --output json").exits(0).json();
    let columns: Vec<_> =
        schema.as_array().expect("columns").iter().map(|c| c["name"].as_str().expect("a name")).collect();
    assert_eq!(columns, ["id", "name", "embedding", "embedding_error", "bucket"]);
    let partitions = project.flow("show vectors@partitioned --partitions --output json").exits(0).json();
    assert_eq!(partitions.as_array().expect("partitions").len(), 3);
    assert_eq!(partitions[0]["partition"], "bucket=0");
    let output = project.flow("show vectorz").exits(2);
    assert!(output.stderr.contains("did you mean"), "{}", output.stderr);
    assert!(project.flow("show count --head 1").exits(0).stdout.contains('5'));
}

#[test]
fn runs_are_remembered() {
    let project = small();
    project.flow("run").exits(0);
    let runs = project.flow("runs --output json").exits(0).json();
    assert_eq!(runs.as_array().expect("runs").len(), 1);
    assert_eq!(runs[0]["status"], "ok");
    let events = project.flow("runs show last --output json").exits(0).json();
    let kinds: Vec<_> =
        events.as_array().expect("events").iter().map(|e| e["kind"].as_str().expect("a kind")).collect();
    assert_eq!((kinds[0], kinds[kinds.len() - 1]), ("run.started", "run.finished"));
    std::fs::remove_dir_all(project.path(".flow")).expect("removed");
    let again = project.flow("run --output json").exits(0).summary();
    assert_eq!(again["nodes"]["skipped"], 3, "history is not truth");
}

#[test]
fn a_shell_completes_the_names_and_keys_of_the_project() {
    let project = Project::shipped().more(
        "parameters.yml",
        "\nsecond:\n  key: id\n  request: {url: 'http://127.0.0.1:9/x', json: {ids: '{{ batch.id }}'}}\n  response: {columns: {a: $.a}}\n",
    );
    project.write(
        "pipelines/second.yml",
        "
        nodes:
          - name: look_up
            function: call_api
            tags: [paid]
            inputs: {dfs: filtering.prm.filtered_nodes, api: params:second}
            outputs: looked_up
        ",
    );
    let project = project.more("catalog.yml", "\nlooked_up: {type: parquet, path: data/work/looked_up.parquet}\n");
    let complete = |words: &[&str]| -> Vec<String> {
        let mut command = project.command(["--", "flow"].iter().chain(words));
        let output = command.env("COMPLETE", "fish").output().expect("the binary starts");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        text.lines().map(|line| line.split('\t').next().unwrap_or_default().to_owned()).collect()
    };
    for (words, expected) in [
        (&["run", "--nodes", "look"][..], &["look_up"][..]),
        (&["run", "--nodes", "bucketize_nodes,l"], &["bucketize_nodes,look_up"]),
        (&["plan", "--exclude", "tag:p"], &["tag:paid"]),
        (&["accept", "bucket"], &["bucketize_nodes"]),
        (&["show", "looked"], &["looked_up"]),
        (&["run", "-p", "sec"], &["second"]),
        (&["run", "--params", "second.key"], &["second.key="]),
        (
            &["run", "--params", "+second.limits.r"],
            &["+second.limits.remaining_header=", "+second.limits.reset_header=", "+second.limits.rpm="],
        ),
        (&["run", "--params", "+second.response.on"], &["+second.response.on_missing="]),
        (&["run", "--params", "a=1,+second.batch"], &["a=1,+second.batch_size="]),
    ] {
        assert_eq!(complete(words), expected, "{words:?}");
    }
    // Nothing is said about a folder without a project.
    assert_eq!(complete(&["-C", "/", "run", "--nodes", ""]), [""; 0]);
}

#[test]
fn help_topics_schemas_and_completions_are_printed() {
    let project = Project::empty();
    assert!(project.flow("help exit-codes").exits(0).stdout.contains("75  stopped"));
    assert!(project.flow("help diagnostics").exits(0).stdout.contains("graph::cycle"));
    for what in ["catalog", "parameters", "pipeline", "event"] {
        assert!(project.flow(&format!("schema {what}")).exits(0).json().is_object());
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(project.flow(&format!("completions {shell}")).exits(0).stdout.contains("flow"), "{shell}");
    }
    let page = project.flow("man").exits(0).stdout;
    for part in [".TH flow", ".SH FLOW RUN", ".SH FLOW RUNS SHOW", "max\\-cost", ".SH VERSION"] {
        assert!(page.contains(part), "{part} in\n{page}");
    }
    project.flow("completions tcsh").exits(2);
    project.flow("walk").exits(2);
    let output = project.flow("run").exits(2);
    assert!(output.stderr.contains("catalog.yml"), "says what makes a project: {}", output.stderr);
}

#[test]
fn a_placeholder_is_drawn_and_not_run() {
    let project = Project::empty()
        .file("catalog.yml", "a: {type: csv, path: a.csv}\nb: {type: csv, path: b.csv}\n")
        .file("a.csv", "x\n1\n")
        .file("pipelines/p.yml", "nodes:\n  - {name: later, function: placeholder, inputs: a, outputs: b}\n");
    project.flow("check").exits(0);
    assert!(project.flow("graph").exits(0).stdout.contains("later"));
    let output = project.flow("run").exits(2);
    assert!(output.stderr.contains("later") && output.stderr.contains("pipelines/p.yml:2"), "{}", output.stderr);
}

#[test]
fn escape_sequences_of_a_hostile_project_reach_no_output() {
    let entry = "\"\\e[31mds\": {type: csv, path: \"data/\\e[32mx.csv\"}\n";
    let ledger = concat!(
        "{\"kind\":\"run.started\",\"pipeline\":\"\\u001b[31mEVIL\"}\n",
        "{\"kind\":\"run.finished\",\"status\":\"ok\",\"seconds\":1.0}\n"
    );
    let project = small().file("data/odd.csv", "id,na\u{1b}[1mme\n1,\"\u{1b}]0;PWN\u{7}\u{1b}[31mred\u{202e}\"\n");
    let project = project
        .more("catalog.yml", &format!("{entry}odd: {{type: csv, path: data/odd.csv}}\n"))
        .file(".flow/runs/z.jsonl", ledger);
    project.flow("run").exits(0);
    std::fs::create_dir_all(project.path("data/buckets/bucket=\u{1b}[31mx")).expect("a folder");
    let project = project.file("data/buckets/bucket=\u{1b}[31mx/\u{1b}[33mz.parquet", "garbage");
    let mut seen = String::new();
    for command in [
        "show odd",
        "show odd --schema",
        "ls datasets",
        "runs",
        "runs show z",
        "run -n embed",
        "run -n embed -vv",
        "plan",
        "graph",
        "graph --format mermaid",
        "graph --format html",
        "show \u{1b}[31mnothing",
        "check",
    ] {
        let output = project.flow(command);
        let text = format!("{}{}", output.stdout, output.stderr);
        let raw = |c: char| (c.is_control() && c != '\n' && c != '\t') || c == '\u{202e}';
        assert!(!text.contains(raw), "{command}: {text:?}");
        seen.push_str(&text);
    }
    let project = project.file("pipelines/e\u{1b}[31mvil.yml", "nodes: [");
    let output = project.flow("check");
    assert!(!output.stderr.contains('\u{1b}') && output.stderr.contains("e\\x1b[31mvil.yml"), "{}", output.stderr);
    for part in ["\\x1b]0;PWN\\x07\\x1b[31mred", "na\\x1b[1mme", "\\x1b[31mds", "\\x1b[31mEVIL", "\\x1b[31mnothing"] {
        assert!(seen.contains(part), "{part}: {seen}");
    }
}

#[test]
fn rows_as_json_hold_no_character_that_a_terminal_obeys() {
    let name = "\u{202e}one\u{9b}31m";
    let project = small().file("data/nodes.csv", &format!("id,name\na,{name}\n"));
    let output = project.flow("show nodes --output json").exits(0);
    assert!(!output.stdout.contains(['\u{202e}', '\u{9b}']), "{:?}", output.stdout);
    assert_eq!(output.json()[0]["name"], name);
}

#[test]
fn the_command_that_follows_new_can_be_pasted_though_the_folder_has_a_blank() {
    let output = Project::empty().run(["new", "my project"]);
    assert_eq!(output.code, 0, "{}", output.stderr);
    let said = output.stdout + &output.stderr;
    assert!(said.contains("my project' && flow run") && said.contains("cd '"), "{said}");
}

#[test]
fn new_replaces_no_file_though_its_folder_is_written_by_way_of_one_that_does_not_exist() {
    let project = Project::empty().file("catalog.yml", "mine: {type: csv, path: a.csv}\n");
    let output = project.run(["new", "zz/.."]).exits(2);
    assert!(output.stderr.contains("`zz/..` is not empty; choose a new folder"), "{}", output.stderr);
    assert_eq!(project.read("catalog.yml"), "mine: {type: csv, path: a.csv}\n");
}

#[test]
fn a_file_that_flow_did_not_write_is_not_replaced() {
    let project = small();
    project.flow("run -q").exits(0);
    let catalog = project.read("catalog.yml");
    for line in [
        "graph -o catalog.yml",
        "graph --format html -o catalog.yml",
        "graph -o catalog.yml --output json",
        "report -o catalog.yml",
    ] {
        let output = project.flow(line).exits(3);
        assert!(output.stderr.contains("catalog.yml was not made by `flow "), "{line}: {}", output.stderr);
        assert!(output.stderr.contains("write to another file, or remove it"), "{line}: {}", output.stderr);
        assert_eq!(project.read("catalog.yml"), catalog, "{line}");
    }
    let output = project.flow("run --openlineage catalog.yml").exits(3);
    assert!(output.stderr.contains("the file holds no OpenLineage events"), "{}", output.stderr);
    assert_eq!(project.read("catalog.yml"), catalog);
    // An empty file, those that it wrote, and what is no file.
    project.write("graph", "");
    for format in ["dot", "mermaid", "json", "dot", "html"] {
        project.flow(&format!("graph --format {format} -o graph")).exits(0);
    }
    project.flow("report -o graph").exits(0);
    project.flow("report -o graph").exits(0);
    assert!(project.read("graph").starts_with("<!doctype html>"));
    project.flow("graph -o /dev/null").exits(0);
    for _ in 0..2 {
        project.flow("run -q --openlineage events.jsonl").exits(0);
    }
}

#[test]
fn ledgers_in_a_folder_that_does_not_exist_are_an_error_and_no_empty_list() {
    let project = small();
    for command in ["runs", "runs show last", "report"] {
        let output = project.flow(&format!("{command} --ledger mistyped/runs")).exits(3);
        assert!(output.stderr.contains("mistyped/runs: "), "{command}: {}", output.stderr);
        assert_eq!(output.stdout, "", "{command}");
    }
    std::fs::create_dir(project.path("empty")).expect("a folder");
    assert_eq!(project.flow("runs --ledger empty").exits(0).stdout, "");
    assert_eq!(project.flow("runs").exits(0).stdout, "", "nothing ran yet");
}

#[test]
fn a_group_has_a_name_that_stays_in_its_line() {
    let project = small();
    for name in ["", " ", "a\nb", "a\u{1b}[31mb", "a\u{202e}b"] {
        let output = project.run(["run", "--run-group", name]).exits(2);
        assert!(output.stderr.contains("expected a name without control characters"), "{name:?}: {}", output.stderr);
    }
    let output = project.flow("run --shard 5/4").exits(2);
    assert!(output.stderr.contains("`5/4` is no shard: the index goes from 0 to 3"), "{}", output.stderr);
    project.flow("run -q --run-group -nightly").exits(0);
    assert!(project.flow("runs").exits(0).stdout.starts_with("-nightly: 0 shards, 1 ok\n"));
}

#[test]
fn an_age_without_a_unit_does_not_empty_the_cache() {
    let project = Project::shipped();
    for age in ["30", "0.5", "month"] {
        let output = project.flow(&format!("cache gc --older-than {age}")).exits(2);
        let expected = format!("--older-than: invalid age `{age}`: expected a number with its unit");
        assert!(output.stderr.contains(&expected) && output.stderr.contains("`30d`"), "{}", output.stderr);
    }
    project.flow("cache gc --older-than 30d").exits(0);
}

#[test]
fn rows_as_json_have_every_column() {
    let project = small().file("data/nodes.csv", "id,name\na,one\nb,\n");
    let rows = project.flow("show nodes --output json").exits(0).json();
    assert_eq!(rows, serde_json::json!([{"id": "a", "name": "one"}, {"id": "b", "name": null}]));
}

#[test]
fn a_damaged_ledger_hides_no_other_run() {
    let project = small();
    project.flow("run").exits(0);
    let runs = project.path(".flow/runs");
    std::fs::write(
        runs.join("a.jsonl"),
        b"{\"kind\":\xff\n{\"kind\":\"run.finished\",\"status\":\"ok\",\"seconds\":1.0}\n",
    )
    .expect("written");
    std::fs::create_dir(runs.join("b.jsonl")).expect("a folder");
    let output = project.flow("runs --output json").exits(0);
    let listed = output.json();
    let listed: Vec<_> = listed.as_array().expect("runs").iter().map(|run| run["status"].clone()).collect();
    assert_eq!(listed, ["ok", "ok"]);
    assert!(output.stderr.contains("b.jsonl"), "{}", output.stderr);
    let shown = project.flow("runs show a --output json").exits(0).json();
    assert_eq!(shown[0]["kind"], "run.finished", "what follows a damaged line is read");
}

#[cfg(target_os = "linux")]
#[test]
fn a_pipeline_whose_file_name_is_not_utf8_is_refused_by_name() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

    let project = small();
    let name = OsStr::from_bytes(b"odd-\xff.yml");
    std::fs::write(project.path("pipelines").join(name), "nodes: []\n").expect("written");
    let output = project.flow("check").exits(2);
    assert!(output.stderr.contains("pipelines/odd-") && output.stderr.contains("not UTF-8"), "{}", output.stderr);
}

#[test]
fn options_that_a_command_does_not_obey_are_refused_with_the_command_that_does() {
    let project = small();
    for option in [
        "--keep-going",
        "--yes",
        "--openlineage x.jsonl",
        "--max-cost 1",
        "--max-requests 1",
        "--rate-share 1/2",
        "--ledger x",
        "--run-group x",
        "--allow-row-errors",
    ] {
        let refused = project.flow(&format!("plan {option}")).exits(2);
        let name = option.split(' ').next().unwrap_or_default();
        let expected = format!("`{name}` is an option of `flow run`");
        assert!(refused.stderr.contains(&expected), "{option}: {}", refused.stderr);
        let refused = project.flow(&format!("plan {option} --output json")).exits(2);
        assert!(refused.stderr.starts_with('{') && refused.stderr.contains(&expected), "{}", refused.stderr);
    }
    // Variables are for all commands.
    let project = project.env("FLOW_OPENLINEAGE", "lineage.jsonl").env("FLOW_MAX_COST", "1");
    project.flow("plan").exits(0);
    assert!(!project.path("lineage.jsonl").exists());
    for what in ["pipelines", "datasets", "functions", "types", "providers"] {
        project.flow(&format!("ls {what} --tags x")).exits(2);
        project.flow(&format!("ls {what}")).exits(0);
    }
    assert!(project.flow("show nodes --schema --head 3").exits(2).stderr.contains("cannot be used with"));
    project.flow("show nodes --partitions --head 3").exits(2);
    project.write(
        "catalog.yml",
        &format!("{}value: {{type: json.JSONDataset, filepath: value.json}}\n", project.read("catalog.yml")),
    );
    project.write("value.json", "{\"a\": 1}");
    assert!(project.flow("show value --head 3").exits(2).stderr.contains("`value` is a value and has no rows"));
    assert!(project.flow("show value --schema").exits(2).stderr.contains("`value` is a value and has no rows"));
    project.flow("show value").exits(0);
    // What `--temp-dir` names is used by a plan too, and left empty.
    project.flow("plan --temp-dir tmp").exits(0);
    assert!(project.files("tmp").is_empty());
    assert!(project.path("tmp").is_dir());
    let new = project.flow("new other --output json").exits(0);
    assert_eq!(new.json(), serde_json::json!({"folder": "other"}));
    let exported = project.flow("export kedro-viz viz --output json").exits(0);
    assert_eq!(exported.json(), serde_json::json!({"folder": "viz"}));
}
