//! `function: command`: programs of the machine as nodes.

use crate::support::{Project, read_parquet};

fn project(node: &str) -> Project {
    Project::empty()
        .file(
            "catalog.yml",
            "
            numbers: {type: csv, path: data/numbers.csv}
            sorted: {type: csv, path: data/sorted.csv}
            copied: {type: parquet, path: data/copied.parquet}
            lines: {type: text, path: data/lines.txt}
            ",
        )
        .file("parameters.yml", "column: 2\n")
        .file("data/numbers.csv", "n,name\n1,b\n2,a\n3,c\n")
        .file("pipelines/main.yml", &format!("nodes:\n  - {node}\n"))
}

#[test]
fn a_program_reads_and_writes_files_and_is_skipped_until_something_changes() {
    let node = "{name: sort, function: command, inputs: {rows: numbers, column: 'params:column'}, outputs: {rows: sorted, log: lines}, \
                command: [sh, scripts/sort.sh, '{{ inputs.rows }}', '{{ inputs.column }}', '{{ outputs.rows }}', '{{ outputs.log }}']}";
    let project = project(node).file(
        "scripts/sort.sh",
        "
        echo to stdout; echo to stderr >&2
        (head -1 $1; tail -n +2 $1 | sort -t, -k$2) > $3
        printf 'done' > $4
        ",
    );
    let output = project.flow("run --output json").exits(0);
    assert_eq!(project.read("data/sorted.csv"), "n,name\n2,a\n1,b\n3,c\n");
    assert_eq!(project.read("data/lines.txt"), "done");
    for line in ["to stdout", "to stderr"] {
        assert!(output.lines().iter().any(|event| event["kind"] == "node.output" && event["line"] == line), "{line}");
    }
    assert_eq!(project.flow("run --output json").exits(0).summary()["nodes"]["skipped"], 1);
    project.flow("run --params column=1").exits(0);
    assert_eq!(project.read("data/sorted.csv"), "n,name\n1,b\n2,a\n3,c\n");
    // The script is a part of the work.
    let project = project.edit("scripts/sort.sh", "'done'", "'again'");
    project.flow("run --params column=1").exits(0);
    assert_eq!(project.read("data/lines.txt"), "again");
}

#[test]
fn arrow_goes_through_stdin_and_stdout() {
    let node = "{name: copy, function: command, inputs: numbers, outputs: copied, stdin: arrow, stdout: arrow, command: [cat]}";
    let project = project(node);
    project.flow("run").exits(0);
    let batch = read_parquet(&project.path("data/copied.parquet"));
    assert_eq!((batch.num_rows(), batch.num_columns()), (3, 2));
    // What is whole on stdout is not written if the program fails.
    let project = project.edit("pipelines/main.yml", "[cat]", "[sh, '-c', 'cat; exit 3']");
    let output = project.flow("run").exits(1);
    assert!(output.stderr.contains("`sh` ended with exit code 3"), "{}", output.stderr);
    assert_eq!(project.files("data").iter().filter(|name| name.ends_with(".parquet")).count(), 1);
}

#[test]
fn the_environment_is_the_one_of_the_node_with_secrets_masked() {
    let node = "{name: env, function: command, inputs: {rows: numbers}, outputs: {log: lines}, env: {TOKEN: '${oc.env:TOKEN}', MODE: fast}, \
                command: [sh, '-c', 'echo token $TOKEN; env > {{ outputs.log }}']}";
    let project = project(node).env("TOKEN", "canary-0123456789").env("OTHER", "not passed on");
    let output = project.flow("run").exits(0);
    assert!(output.stderr.contains("env | token ***"), "{}", output.stderr);
    let lines = project.read("data/lines.txt");
    assert!(lines.contains("MODE=fast") && lines.contains("TOKEN=canary") && !lines.contains("OTHER="), "{lines}");
}

#[test]
fn a_secret_parameter_that_is_not_set_stops_the_run_and_a_new_one_changes_nothing() {
    let node = "{name: ask, function: command, inputs: {rows: numbers, key: 'params:api_key'}, outputs: {log: lines}, \
                command: [sh, '-c', 'echo asked {{ inputs.key }}; echo done > {{ outputs.log }}']}";
    let project = project(node).file("parameters.yml", "column: 2\napi_key: ${oc.env:ASK_KEY}\n");
    let output = project.flow("run").exits(3);
    assert!(output.stderr.contains("ASK_KEY"), "{}", output.stderr);
    let project = project.env("ASK_KEY", "canary-0123456789");
    let output = project.flow("run").exits(0);
    assert!(output.stderr.contains("ask | asked ***") && !output.stderr.contains("canary"), "{}", output.stderr);
    let project = project.env("ASK_KEY", "canary-9876543210");
    assert_eq!(project.flow("run --output json").exits(0).summary()["nodes"]["skipped"], 1);
}

#[test]
fn a_program_that_fails_or_writes_nothing_leaves_the_old_output() {
    let node = |command: &str| {
        format!(
            "{{name: run, function: command, inputs: {{rows: numbers}}, outputs: {{log: lines}}, command: {command}}}"
        )
    };
    let project = project(&node("[sh, '-c', 'printf old > {{ outputs.log }}']"));
    project.flow("run").exits(0);
    for (command, code, expected) in [
        (
            "[sh, '-c', 'printf half > {{ outputs.log }}; echo why >&2; exit 7']",
            1,
            "`sh` ended with exit code 7; its last lines:\n  why",
        ),
        ("['true']", 1, "`true` ended well and wrote no file for `{{ outputs.log }}`"),
        ("[sh, '-c', 'kill -9 $$']", 1, "`sh` was killed by SIGKILL"),
        ("[no-such-program]", 2, "there is no program `no-such-program` in the folders of `PATH`"),
        ("[cp, '{{ inputs.rwos }}', '{{ outputs.log }}']", 2, "help: did you mean `rows`?"),
    ] {
        project.write("pipelines/main.yml", &format!("nodes:\n  - {}\n", node(command)));
        let output = project.flow("run").exits(code);
        assert!(output.stderr.contains(expected), "{command}: {expected:?} in\n{}", output.stderr);
        assert_eq!(project.read("data/lines.txt"), "old");
    }
}

#[test]
fn what_a_command_cannot_have_is_refused_before_the_run() {
    for (node, expected) in [
        ("{name: a, function: command, inputs: numbers, outputs: sorted}", "node `a` lacks `command`"),
        (
            "{name: a, function: command, inputs: [numbers, lines], outputs: sorted, command: [cat], stdin: arrow}",
            "`stdin: arrow` of node `a` is for one table, and it has 2",
        ),
        (
            "{name: a, function: sql, inputs: {t: numbers, query: 'params:column'}, outputs: sorted, command: [cat]}",
            "function `sql` takes no `command`",
        ),
    ] {
        let output = project(node).flow("check").exits(2);
        assert!(output.stderr.contains(expected), "{expected} in\n{}", output.stderr);
    }
}

#[test]
fn numbers_that_programs_write_in_different_ways_are_refused() {
    let node = "{name: a, function: command, inputs: {n: 'params:n', rows: numbers}, outputs: {rows: sorted}, command: [WORD, '{{ inputs.n }}', \
                '{{ inputs.rows }}', '{{ outputs.rows }}'], env: {LIMIT: LEAST}}";
    let project = |n: &str, word: &str, least: &str| {
        project(&node.replace("WORD", word).replace("LEAST", least)).file("parameters.yml", &format!("n: {n}\n"))
    };
    for (n, word, least, expected) in [
        (".nan", "cp", "1", "`n` of node `a` is NaN, which programs write in different ways"),
        ("[1, {x: -.inf}]", "cp", "1", "`n` of node `a` is -inf"),
        ("1", "cp", ".nan", "`LIMIT` of node `a` is NaN"),
    ] {
        let output = project(n, word, least).flow("check").exits(2);
        assert!(output.stderr.contains("error[command::value]"), "{}", output.stderr);
        assert!(output.stderr.contains(expected) && output.stderr.contains("pass it as a string"), "{}", output.stderr);
    }
    project("'nan'", "cp", "1").flow("check").exits(0);
    let output = project("1", ".inf", "1").flow("check").exits(2);
    assert!(
        output.stderr.contains("item 1 of `command` of node `a` must be a string, not a number"),
        "{}",
        output.stderr
    );
}
