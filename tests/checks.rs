//! What `flow check` finds before anything runs, and where it says so.

use std::{os::unix::fs::symlink, process::Command};

use serde_json::Value as Json;

use crate::support::{Output, Project, small};

/// A project with a warning and every kind of dataset.
fn warned() -> Project {
    small::project("data", "").file("data/nodes.csv", "id,name\na,one\n").more("parameters.yml", "old: yes\n")
}

/// A project whose one node copies `t` to `o`.
fn copying(catalog: &str) -> Project {
    Project::empty()
        .file("catalog.yml", catalog)
        .file("parameters.yml", "q: SELECT * FROM t\n")
        .file("pipelines/p.yml", "nodes:\n  - {name: n, function: sql, inputs: {t: t, query: params:q}, outputs: o}\n")
        .file("t.csv", "x\n1\n")
}

/// Asserts that stderr contains only diagnostics as JSON lines, and returns them.
#[track_caller]
fn diagnostics(output: &Output) -> Vec<Json> {
    output
        .stderr
        .lines()
        .map(|line| {
            let line: Json = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            assert_eq!(line["kind"], "diagnostic", "{line}");
            line
        })
        .collect()
}

#[test]
fn a_warning_does_not_break_the_one_document_on_stdout() {
    let project = warned();
    let commands = [
        "ls pipelines",
        "ls nodes",
        "ls datasets",
        "ls functions",
        "ls types",
        "ls providers",
        "show nodes",
        "show nodes --schema",
        "plan",
        "check",
        "config show catalog",
        "config show parameters",
        "config show globals",
        "config show credentials",
        "config resolve nodes",
        "graph",
        "graph --format json",
        "graph -o graph.dot",
        "runs",
        "cache stats",
        "cache verify",
        "cache gc",
        "schema catalog",
    ];
    for command in commands {
        let output = project.flow(&format!("{command} --output json")).exits(0);
        output.json();
        diagnostics(&output);
    }
    let nodes = project.flow("ls nodes --output json").exits(0);
    assert_eq!(diagnostics(&nodes)[0]["code"], "yaml::ambiguous-scalar");
    assert!(project.flow("ls nodes --output json -q").exits(0).stderr.is_empty());
    let graph = project.flow("graph --output json").exits(0);
    assert!(graph.json()["nodes"].is_array(), "{}", graph.stdout);
    assert!(project.read("graph.dot").starts_with("digraph"));
    let refused = project.flow("graph --format dot --output json").exits(2);
    assert!(refused.stdout.is_empty() && diagnostics(&refused).len() == 1);
}

#[test]
fn what_stops_a_command_is_a_json_line_on_stderr_and_nothing_on_stdout() {
    let project = warned();
    for (command, code, word) in [
        ("show nodez", 2, "nodez"),
        ("config resolve nodez", 2, "nodez"),
        ("runs show last", 2, "last"),
        ("ls nodes --nodes emebd", 2, "emebd"),
        ("ls nodes --nodes cut --nodes embed --tags none", 2, "none"),
        ("show vectors@partitioned", 3, "vectors@partitioned"),
    ] {
        let output = project.flow(&format!("{command} --output json")).exits(code);
        assert!(output.stdout.is_empty(), "{command}: {}", output.stdout);
        let printed = diagnostics(&output);
        let last = printed.last().expect("a line")["message"].as_str().expect("a message").to_owned();
        assert!(last.contains(word), "{command}: {last}");
    }
}

#[test]
fn a_wrong_command_line_is_a_json_line_where_json_is_asked_for() {
    let project = warned();
    for words in ["run --nodez x --output json", "--output=json rum", "show --output json"] {
        let output = project.flow(words).exits(2);
        assert!(output.stdout.is_empty(), "{words}: {}", output.stdout);
        let [problem] = diagnostics(&output).try_into().expect("one line");
        assert_eq!((&problem["severity"], &problem["code"]), (&"error".into(), &Json::Null), "{problem}");
        assert!(!problem["message"].as_str().expect("a message").starts_with("error"), "{problem}");
    }
    assert!(project.flow("run --nodez x").exits(2).stderr.starts_with("error: unexpected argument"));
    // By the variable, too, unless the flag says otherwise.
    let project = project.env("FLOW_OUTPUT", "json");
    assert_eq!(diagnostics(&project.flow("run --nodez x").exits(2)).len(), 1);
    assert!(project.flow("run --nodez x --output text").exits(2).stderr.starts_with("error: unexpected argument"));
}

#[test]
fn the_help_of_an_error_without_a_place_is_under_help_in_json() {
    let output = warned().flow("run --shard auto --output json").exits(2);
    let printed = diagnostics(&output);
    let last = printed.last().expect("a line");
    assert_eq!(last["help"], serde_json::json!(["give the shard, as in `--shard 3/8`"]), "{last}");
    assert!(!last["message"].as_str().expect("a message").contains("help"), "{last}");
}

#[test]
fn the_values_of_variables_that_may_hold_secrets_are_not_in_the_help() {
    let project = warned()
        .env("FLOW_PARAMS", "model.api_key=canary-1")
        .env("FLOW_OPENLINEAGE", "https://user:canary-2@host")
        .env("FLOW_LEDGER", "s3://bucket/canary-3");
    for command in ["run", "plan", "compile", "runs"] {
        let text = project.flow(&format!("{command} --help")).exits(0).stdout;
        assert!(text.contains("[env: FLOW_PARAMS]") && !text.contains("canary"), "{command}: {text}");
    }
}

#[test]
fn check_online_reads_the_beginning_of_every_input_and_names_each_once() {
    let project = Project::empty()
        .file("catalog.yml", "ragged: {type: csv, path: ragged.csv}\nbinary: {type: csv, path: binary.csv}\nfine: {type: csv, path: fine.csv}\nbroken: {type: parquet, path: broken.parquet}\nx: {type: memory}\ny: {type: memory}\n")
        .file("parameters.yml", "q: select 1 as x\n")
        .file("pipelines/p.yml", "nodes:\n  - {name: one, function: sql, inputs: {a: ragged, b: binary, c: fine, query: params:q}, outputs: x}\n  - {name: two, function: sql, inputs: {a: ragged, b: broken, query: params:q}, outputs: y}\n")
        .file("ragged.csv", "a,b\n1,2\n3,4,5\n")
        .file("binary.csv", &"\0".repeat(100))
        .file("fine.csv", "a,b\n1,2\n")
        .file("broken.parquet", "not parquet at all");
    let list = project.flow("check --online --output json").exits(3).json();
    let found: Vec<(&Json, &str)> = list
        .as_array()
        .expect("a list")
        .iter()
        .map(|problem| (&problem["labels"][0]["line"], problem["message"].as_str().expect("a message")))
        .collect();
    let expected = [
        (1, "dataset `ragged` cannot be read: ragged.csv"),
        (2, "holds NUL bytes or is not UTF-8; expected text in UTF-8"),
        (4, "broken.parquet"),
    ];
    assert_eq!(found.len(), expected.len(), "{list}");
    for ((line, message), (expected_line, words)) in found.iter().zip(expected) {
        assert!(**line == expected_line && message.contains(words), "{line}: {message}");
    }
}

#[test]
fn a_key_in_the_query_of_an_address_is_not_shown() {
    let project = Project::empty()
        .file("catalog.yml", "a: {type: csv, path: 'https://ada:hunter2pw@host.invalid/a.csv?sig=hunter3sig&page=2'}\n")
        .file(
            "parameters.yml",
            "model:\n  base_url: https://host.invalid/v1?api-key=hunter4key\n  note: of hunter4key\n",
        )
        .file("pipelines/p.yml", "nodes: []\n");
    for command in
        ["config show catalog", "config show parameters", "config resolve a", "config show parameters --output json"]
    {
        let output = project.flow(command).exits(0);
        assert!(output.stdout.contains("host.invalid") && output.stdout.contains("***"), "{}", output.stdout);
        for secret in ["hunter2pw", "hunter3sig", "hunter4key"] {
            assert!(!output.stdout.contains(secret) && !output.stderr.contains(secret), "{}", output.stdout);
        }
    }
}

#[test]
fn check_online_puts_what_it_found_into_its_document() {
    let project = warned();
    std::fs::remove_file(project.path("data/nodes.csv")).expect("removed");
    let output = project.flow("check --online --output json").exits(3);
    let list = output.json();
    let errors: Vec<&Json> =
        list.as_array().expect("a list").iter().filter(|problem| problem["severity"] == "error").collect();
    assert_eq!(errors.len(), 1, "{list}");
    assert_eq!(errors[0]["code"], "online::dataset");
    assert_eq!((&errors[0]["labels"][0]["file"], &errors[0]["labels"][0]["line"]), (&"catalog.yml".into(), &1.into()));
    let text = project.flow("check --online").exits(3).stderr;
    assert!(text.contains("`nodes` is missing: nothing at data/nodes.csv") && text.contains("catalog.yml:1"), "{text}");
}

#[test]
fn a_link_from_a_folder_to_itself_does_not_hang_check() {
    for base in ["", "conf/base/"] {
        let project = Project::empty()
            .file(&format!("{base}catalog.yml"), "a: {type: csv, path: a.csv}\n")
            .file("pipelines/p.yml", "nodes:\n  - {name: n, function: placeholder, inputs: a}\n")
            .file("pipelines/sub/q.yml", "");
        for link in ["one", "two", "sub/up"] {
            let target = if link.starts_with("sub") { ".." } else { "." };
            symlink(target, project.path(&format!("pipelines/{link}"))).expect("a link");
        }
        if !base.is_empty() {
            symlink("..", project.path("conf/base/loop")).expect("a link");
        }
        let text = project.flow("check").exits(0).stderr;
        assert!(text.contains("`pipelines/one` is a link to one of its parent folders and is not followed"), "{text}");
        assert!(text.contains("`pipelines/sub/up`"), "{text}");
        let names = project.flow("ls pipelines --output json").exits(0).json();
        assert_eq!(names.as_array().expect("a list").len(), 2, "{names}");
    }
}

#[test]
fn configuration_that_is_no_regular_file_is_refused_and_not_waited_for() {
    for (name, what) in [
        ("catalog.yml", "a named pipe"),
        ("parameters.yml", "a device"),
        ("credentials.yml", "a named pipe"),
        ("pipelines/x.yml", "a named pipe"),
        ("conf/local/parameters.yml", "a device"),
        ("query.sql", "a named pipe"),
    ] {
        let project = copying("t: {type: csv, path: t.csv}\no: {type: csv, path: o.csv}\n");
        let path = project.path(name);
        std::fs::create_dir_all(path.parent().expect("below")).expect("folders");
        let _ = std::fs::remove_file(&path);
        if what == "a device" {
            symlink("/dev/zero", &path).expect("a link");
        } else {
            assert!(Command::new("mkfifo").arg(&path).status().expect("mkfifo").success());
        }
        let project = project.file(
            "pipelines/p.yml",
            "nodes:\n  - {name: n, function: sql, inputs: {t: t, file: params:f}, outputs: o}\n",
        );
        if name != "parameters.yml" {
            project.write("parameters.yml", "f: query.sql\n");
        }
        let text = project.flow("check").exits(2).stderr;
        assert!(text.contains(&format!("`{name}` is {what}, not a regular file")), "{name}: {text}");
    }
}

#[test]
fn two_datasets_at_one_location_are_refused_before_anything_starts() {
    for (catalog, places) in [
        ("t: {type: csv, path: t.csv}\no: {type: csv, path: ./t.csv}\n", ["`t`: t.csv", "`o`: ./t.csv"]),
        ("t: {type: csv, path: in/link/x.csv}\no: {type: parquet, path: real}\n", ["`t`: in/link/x.csv", "`o`: real"]),
        (
            "t: {type: csv, path: t.csv}\n'{any}': {type: csv, path: 'in/../t.csv'}\n",
            ["`t`: t.csv", "`o`: in/../t.csv"],
        ),
    ] {
        let project = copying(catalog);
        std::fs::create_dir_all(project.path("real")).expect("a folder");
        std::fs::create_dir_all(project.path("in")).expect("a folder");
        symlink("../real", project.path("in/link")).expect("a link");
        let before = project.files("");
        for command in ["check", "run"] {
            let text = project.flow(command).exits(2).stderr;
            assert!(text.contains("catalog::overlapping-locations"), "{catalog}: {text}");
            assert!(places.iter().all(|place| text.contains(place)), "{catalog}: {text}");
        }
        assert_eq!(project.files(""), before, "nothing was started");
    }
}

#[test]
fn an_overlap_that_only_an_environment_makes_is_found_in_it() {
    let project = copying("t: {type: csv, path: t.csv}\no: {type: csv, path: out/o.csv}\n")
        .file("conf/prod/catalog.yml", "t: {type: csv, path: out}\n");
    project.flow("check").exits(0);
    let text = project.flow("check --env prod").exits(2).stderr;
    assert!(text.contains("`o` is inside `t`") && text.contains("conf/prod/catalog.yml:1"), "{text}");
}

#[test]
fn a_mistake_hides_no_other_one() {
    /// Edits of the files of [`small::project`], and the codes of all errors that they make, sorted.
    type Case<'a> = (&'a [(&'a str, &'a str, &'a str)], &'a [&'a str]);
    let typo = ("pipelines/main.yml", "{df: nodes,", "{df: nodez,");
    let value = ("parameters.yml", "size: 10", "size: many");
    let other = ("parameters.yml", "dimensions: 8", "dimensions: 0");
    let port = ("pipelines/main.yml", "bucket_size: params:size, ", "");
    let function = ("pipelines/main.yml", "function: bucketize", "function: bucketise");
    let no_function = ("pipelines/main.yml", "function: compute_embeddings", "tags: [x]");
    let no_name = ("pipelines/main.yml", "name: embed", "tags: [x]");
    let broken = ("parameters.yml", "size: 10", "size: ${nowhere}");
    let broken_beside =
        ("parameters.yml", "provider: hash, dimensions: 8", "provider: hash, dimensions: many, x: '${nowhere}'");
    let broken_provider = ("parameters.yml", "provider: hash", "errors: {max_row_error_rate: 2}, provider: hush");
    let path = ("catalog.yml", "path: data/nodes.csv", "path: '${nowhere}', save_arg: {}");
    let option = ("catalog.yml", "overwrite: true", "overwrite: maybe");
    let syntax = ("parameters.yml", "size: 10", "size: [");
    let no_catalog = ("catalog.yml", "nodes: {", "nodes: [{");
    let not_a_name = ("pipelines/main.yml", "{df: nodes,", "{df: [nodes],");
    let cases: &[Case] = &[
        (&[typo, value], &["config::wrong-type", "graph::unknown-dataset"]),
        (&[typo, other], &["config::out-of-range", "graph::unknown-dataset"]),
        (&[typo, value, other], &["config::out-of-range", "config::wrong-type", "graph::unknown-dataset"]),
        (&[port, other], &["config::out-of-range", "graph::missing-port"]),
        (&[port], &["graph::missing-port"]),
        (&[function, other], &["config::out-of-range", "graph::unknown-function"]),
        (&[no_function, typo, value], &["config::missing-key", "config::wrong-type", "graph::unknown-dataset"]),
        (&[no_name, other, typo], &["config::missing-key", "config::out-of-range", "graph::unknown-dataset"]),
        (&[broken], &["interpolation::missing-key"]),
        (&[broken, other, typo], &["config::out-of-range", "graph::unknown-dataset", "interpolation::missing-key"]),
        (&[broken_beside], &["config::unknown-key", "config::wrong-type", "interpolation::missing-key"]),
        (&[broken_provider, value], &["config::out-of-range", "config::wrong-type", "embed::unknown-provider"]),
        (&[path], &["config::unknown-key", "interpolation::missing-key"]),
        (&[option, typo, value], &["config::wrong-type", "config::wrong-type", "graph::unknown-dataset"]),
        (&[syntax, typo], &["graph::unknown-dataset", "yaml::syntax"]),
        (&[no_catalog, other], &["config::out-of-range", "yaml::syntax"]),
        (&[not_a_name, value], &["config::wrong-type", "config::wrong-type"]),
    ];
    for (edits, wanted) in cases {
        let mut project = small::project("data", "");
        for (file, from, to) in *edits {
            project = project.edit(file, from, to);
        }
        let found = project.flow("check --output json").exits(2).json();
        let errors = found.as_array().expect("a list").iter().filter(|problem| problem["severity"] == "error");
        let mut codes: Vec<&str> = errors.map(|problem| problem["code"].as_str().expect("a code")).collect();
        codes.sort_unstable();
        assert_eq!(codes, *wanted, "{edits:?}: {found:#}");
    }
}

#[test]
fn a_node_without_a_function_is_reported_with_its_place_and_no_panic() {
    for (wrong, message) in [
        ("fucntion: sql", "node `n` has no `function`"),
        ("function: ''", "`function` of node `n` is empty"),
        ("function: [sql]", "`function` of node `n` must be a string, not a list"),
    ] {
        let project = Project::empty()
            .file("catalog.yml", "t: {type: csv, path: t.csv}\no: {type: csv, path: o.csv}\n")
            .file("parameters.yml", "q: SELECT * FROM t\n")
            .file("t.csv", "a\n1\n")
            .file(
                "pipelines/p.yml",
                &format!(
                    "nodes:\n  - name: n\n    {wrong}\n    inputs: {{t: t, query: \"params:q\"}}\n    outputs: o\n"
                ),
            );
        for command in ["check", "plan", "graph", "ls nodes", "run"] {
            let output = project.flow(command).exits(2);
            let place = output.stderr.contains("pipelines/p.yml:2") || output.stderr.contains("pipelines/p.yml:3");
            assert!(place && output.stderr.contains(message), "{command}, {wrong}: {}", output.stderr);
        }
    }
}

#[test]
fn a_wrong_value_of_the_right_type_is_shown_and_a_secret_is_not() {
    for (from, to, message) in [
        ("size: 10", "size: -5", "must be an integer of at least 1, not -5"),
        ("size: 10", "size: 1.5", "must be an integer of at least 1, not 1.5"),
        ("features: [name]", "features: []", "must be a list of columns, not an empty list"),
        ("features: [name]", "features: [name, 7]", "must be a list of columns, not 7"),
        ("dimensions: 8}", "dimensions: 1.5}", "must be an integer, not 1.5"),
        ("size: 10", "size: '${token}'\ntoken: 12345", "must be an integer of at least 1, not a secret"),
    ] {
        let output = small::project("data", "").edit("parameters.yml", from, to).flow("check").exits(2);
        assert!(output.stderr.contains(message), "{to}: {}", output.stderr);
        assert!(!output.stderr.contains("12345"), "{}", output.stderr);
    }
}

#[test]
fn resources_whose_unit_was_forgotten_are_refused_with_what_was_meant() {
    let of = |resources: &str| {
        let node = format!("function: bucketize\n    resources: {{{resources}}}");
        small::project("data", "").edit("pipelines/main.yml", "function: bucketize", &node)
    };
    for (resources, message, help) in [
        ("memory: 16", "is 16 bytes, but must be 64MiB or more", "did you mean `16GiB`?"),
        ("memory: '16'", "is 16 bytes, but must be 64MiB or more", "did you mean `16GiB`?"),
        ("memory: 2048", "is 2048 bytes, but must be 64MiB or more", "did you mean `2048MiB`?"),
        ("memory: 16MB", "is `16MB`, but must be 64MiB or more", ""),
        ("memory: 0", "is 0 bytes, but must be 64MiB or more", ""),
        ("memory: 4GBB", "such as `512MiB` or `2GB`, not `4GBB`", ""),
        ("time: 4", "is 4 seconds, but must be a minute or more", "did you mean `4h` or `4m`?"),
        ("time: '0.5'", "is 0.5 seconds, but must be a minute or more", "did you mean `0.5h` or `0.5m`?"),
        ("time: 0", "is 0 seconds, but must be a minute or more", ""),
        ("time: 0s", "is `0s`, but must be more than 0", ""),
    ] {
        let output = of(resources).flow("check").exits(2);
        let place = output.stderr.contains("pipelines/main.yml:4");
        assert!(place && output.stderr.contains(message), "{resources}: {}", output.stderr);
        assert!(output.stderr.contains(help), "{resources}: {}", output.stderr);
    }
    of("memory: 64Mi, time: 30s").flow("check").exits(0);
    of("memory: 67108864, time: 60").flow("check").exits(0);
}

#[test]
fn datasets_ports_and_columns_may_have_the_name_of_a_secret() {
    let project = Project::empty()
        .file(
            "catalog.yml",
            "token: {type: csv, path: t.csv, schema: {token: BIGINT, password: VARCHAR}}\nout: {type: csv, path: out.csv}\n",
        )
        .file("parameters.yml", "q: SELECT * FROM password\n")
        .file("t.csv", "token,password\n1,plain\n")
        .file(
            "pipelines/p.yml",
            "nodes:\n  - {name: n, function: sql, inputs: {password: token, query: \"params:q\"}, outputs: out}\n",
        );
    let checked = project.flow("check").exits(0);
    assert!(!checked.stderr.contains("secret"), "{}", checked.stderr);
    project.flow("run").exits(0);
    assert_eq!(project.read("out.csv"), "token,password\n1,plain\n");
    // A value under such a name elsewhere is one.
    let shown =
        project.more("parameters.yml", "service: {password: hunter2}\n").flow("config show parameters").exits(0);
    assert!(!shown.stdout.contains("hunter2"), "{}", shown.stdout);
}

#[test]
fn a_selector_that_names_nothing_selects_nothing() {
    let project = Project::shipped();
    for arguments in
        [["run", "--nodes", ""], ["plan", "--tags", ","], ["graph", "--pipeline", " "], ["run", "--exclude", ""]]
    {
        let output = project.run(arguments).exits(2);
        assert!(output.stderr.contains("names nothing; leave it out to select everything"), "{}", output.stderr);
    }
}

#[test]
fn a_key_in_params_is_shown_nowhere_whatever_its_name() {
    const KEY: &str = "sk-proj-0123456789abcdefghijABCDEFGHIJ";
    let project = Project::shipped();
    for value in [KEY.to_owned(), format!("[1, {KEY}]"), format!("{{a: {KEY}}}")] {
        let params = format!("+x={value}");
        let shown = project.run(["config", "show", "parameters", "--params", &params]).exits(0);
        assert!(shown.stdout.contains("***") && !shown.stdout.contains(KEY), "{}", shown.stdout);
        let planned = project.run(["plan", "--params", &params]).exits(0);
        assert!(!(planned.stdout + &planned.stderr).contains(KEY));
    }
}
