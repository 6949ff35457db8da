//! `call_api`, `generate` and `compute_embeddings` over a table: rows in order, answers that are kept, plans, and what is refused.

use std::{
    collections::HashMap,
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arrow::{
    array::{Array, AsArray, RecordBatch},
    compute::cast,
    datatypes::DataType,
};
use serde_json::{Value as Json, json};

use crate::support::{
    Project,
    model_server::{ModelServer, Say},
    read_parquet,
    rest_server::{Asked, Reply, RestServer},
};

/// A project whose node `ask` reads the table `nodes` and writes the table `answers`; `settings` are the keys of its mapping.
fn project(names: impl Iterator<Item = String>, function: &str, port: &str, settings: &str) -> Project {
    let mut csv = "id,name\n".to_owned();
    for (row, name) in names.enumerate() {
        writeln!(csv, "{row},{name}").expect("a string takes all");
    }
    let settings: String = settings.lines().map(|line| format!("  {line}\n")).collect();
    Project::empty()
        .file(
            "catalog.yml",
            "
            nodes: {type: csv, path: data/nodes.csv}
            answers: {type: parquet, path: data/answers.parquet}
            ",
        )
        .file("parameters.yml", &format!("{port}:\n{settings}"))
        .file(
            "pipelines/main.yml",
            &format!(
                "
                nodes:
                  - name: ask
                    function: {function}
                    inputs: {{dfs: nodes, {port}: params:{port}}}
                    outputs: answers
                "
            ),
        )
        .file("data/nodes.csv", &csv)
}

fn api(server: &RestServer, more: &str) -> String {
    format!(
        "key: name
batch_size: 50
request: {{url: '{}', json: {{names: '{{{{ batch.name }}}}'}}, headers: {{User-Agent: 'tests (me@example.org)'}}}}
response: {{match: key, columns: {{upper: $.upper, size: {{path: $.size, type: int64}}}}}}
{more}",
        server.url("/look-up")
    )
}

fn names(asked: &Asked) -> Vec<String> {
    let list = asked.body["names"].as_array().expect("a list").iter();
    list.map(|name| name.as_str().expect("a string").to_owned()).collect()
}

/// A service that knows all names but malformed ones.
fn service(delay: Duration) -> RestServer {
    RestServer::start(move |asked| {
        let names = names(asked);
        if let Some(bad) = names.iter().find(|name| name.starts_with("malformed")) {
            return Reply::status(422, &json!({"detail": format!("not a name: {bad}")}).to_string());
        }
        let one = |name: String| {
            let answer = json!({"upper": name.to_uppercase(), "size": name.len()});
            (name, answer)
        };
        Reply::json(&Json::Object(names.into_iter().map(one).collect())).after(delay)
    })
}

/// How often each name had an answer.
fn answered(server: &RestServer) -> HashMap<String, u32> {
    let mut times = HashMap::new();
    for asked in server.journal().iter().filter(|asked| asked.status == 200) {
        names(asked).into_iter().for_each(|name| *times.entry(name).or_default() += 1);
    }
    times
}

fn texts(batch: &RecordBatch, name: &str) -> Vec<Option<String>> {
    let column = cast(batch.column_by_name(name).unwrap_or_else(|| panic!("no column {name}")), &DataType::Utf8);
    column.expect("text").as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect()
}

#[track_caller]
fn assert_in_order_and_right(batch: &RecordBatch, rows: usize) {
    assert_eq!(batch.num_rows(), rows);
    let (ids, all, errors) = (texts(batch, "id"), texts(batch, "name"), texts(batch, "api_error"));
    let (uppers, sizes) = (texts(batch, "upper"), texts(batch, "size"));
    for row in 0..rows {
        assert_eq!(ids[row].as_deref(), Some(row.to_string().as_str()), "the order");
        let name = all[row].as_deref().expect("a name");
        if name.starts_with("malformed") {
            assert!(errors[row].as_deref().is_some_and(|why| why.starts_with("rejected: 422")), "{name}: {errors:?}");
            assert_eq!((&uppers[row], &sizes[row]), (&None, &None));
        } else {
            let expected = (Some(name.to_uppercase()), Some(name.len().to_string()), None);
            assert_eq!((uppers[row].clone(), sizes[row].clone(), errors[row].clone()), expected);
        }
    }
}

#[test]
fn the_rows_of_a_table_keep_their_order_and_a_plan_says_what_is_sent() {
    let server = service(Duration::ZERO);
    // Every name twice, far from each other.
    let all = (0..6000).map(|n| format!("Name {}", n % 3000));
    let project = project(all, "call_api", "api", &api(&server, ""));
    let plan = project.flow("plan --output json").exits(0).json();
    assert_eq!(server.requests(), 0, "a plan asks for nothing");
    let node = &plan["nodes"][0];
    assert_eq!(
        (&node["rows"], &node["unique_rows"], &node["requests"], &node["partitions"]),
        (&json!(6000), &json!(3000), &json!(60), &Json::Null)
    );
    assert!(project.flow("plan").exits(0).stdout.contains("6,000 rows, 3,000 different texts, 60 requests"));
    let summary = project.flow("run --output json").exits(0).summary();
    assert_eq!(server.requests(), 60, "distinct values are sent once");
    assert!(server.journal().iter().all(|asked| asked.headers["user-agent"] == "tests (me@example.org)"));
    assert_eq!(summary["rows"], json!({"ok": 3000, "cached": 3000, "empty": 0, "error": 0}));
    assert_in_order_and_right(&read_parquet(&project.path("data/answers.parquet")), 6000);
    let again = project.flow("run --output json").exits(0);
    assert!(again.stdout.contains("up to date"), "{}", again.stdout);
    // Another column of the same answers, and rows that were added: only what is new is asked for.
    let more = project
        .edit("parameters.yml", "upper: $.upper", "upper: $.upper, all: {path: $, type: json}")
        .more("data/nodes.csv", "6000,Name 1\n6001,New\n");
    let plan = more.flow("plan --output json").exits(0).json();
    assert_eq!((&plan["nodes"][0]["cached_rows"], &plan["nodes"][0]["requests"]), (&json!(6001), &json!(1)));
    more.flow("run").exits(0);
    assert_eq!(server.requests(), 61);
    assert_in_order_and_right(&read_parquet(&more.path("data/answers.parquet")), 6002);
}

#[test]
fn errors_of_rows_are_known_to_later_runs_and_too_many_fail_the_node() {
    let server = service(Duration::ZERO);
    let all = || (0..1000).map(|n| if n % 250 == 3 { format!("malformed {n}") } else { format!("Name {n}") });
    let project = project(all(), "call_api", "api", &api(&server, ""));
    let summary = project.flow("run --output json").exits(5).summary();
    assert_eq!(summary["rows"], json!({"ok": 996, "cached": 0, "empty": 0, "error": 4}));
    let asked = server.requests();
    project.flow("run").exits(5);
    project.flow("plan").exits(0);
    assert_eq!(server.requests(), asked, "everything is up to date");
    let table = read_parquet(&project.path("data/answers.parquet"));
    assert_in_order_and_right(&table, 1000);

    let strict =
        project.edit("parameters.yml", "batch_size: 50", "batch_size: 50\n  errors: {max_row_error_rate: 0.001}");
    let asked = server.requests();
    let output = strict.flow("run").exits(1);
    assert!(output.stderr.contains("4 of 1000 rows failed (0.40 %), above `max_row_error_rate`"), "{}", output.stderr);
    assert_eq!(server.requests(), asked, "the rate is no part of what answers depend on");
    let output = strict.flow("plan").exits(0);
    assert!(output.stdout.contains("fails with the current data: 4 of 1000 rows"), "{}", output.stdout);
}

#[test]
fn a_killed_run_over_a_table_keeps_the_old_one_and_pays_for_nothing_twice() {
    for kill in [true, false] {
        let server = service(Duration::from_millis(20));
        let all = (0..4000).map(|n| format!("Name {n}"));
        let project = project(all, "call_api", "api", &api(&server, "limits: {concurrency: 2}\n"));
        let mut child = project.spawn("run");
        while server.requests() < 20 {
            assert!(child.try_wait().expect("a child").is_none(), "the run ended before it could be killed");
            std::thread::yield_now();
        }
        if kill {
            child.kill().expect("killed");
            child.wait().expect("ended");
        } else {
            let sent = std::process::Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
            assert!(sent.expect("`kill` starts").success());
            assert_eq!(child.wait().expect("ended").code(), Some(143));
        }
        assert!(!project.path("data/answers.parquet").exists(), "a table is complete or missing");
        project.flow("run").exits(0);
        assert_in_order_and_right(&read_parquet(&project.path("data/answers.parquet")), 4000);
        let times = answered(&server);
        let twice = times.values().filter(|times| **times > 1).count();
        // What was sent before a request to stop is answered and kept.
        assert!(twice <= if kill { 100 } else { 0 }, "{twice} names were asked for twice, kill: {kill}");
        assert_eq!(times.len(), 4000);
    }
}

#[test]
fn a_run_that_fails_over_a_table_leaves_the_old_one() {
    let down = Arc::new(AtomicBool::new(false));
    let fails = Arc::clone(&down);
    let server = RestServer::start(move |asked| {
        if fails.load(Ordering::Relaxed) && names(asked).iter().any(|name| name.ends_with("900")) {
            return Reply::status(403, r#"{"error": {"message": "not allowed"}}"#);
        }
        let one = |name: String| (name.clone(), json!({"upper": name.to_uppercase(), "size": name.len()}));
        Reply::json(&Json::Object(names(asked).into_iter().map(one).collect()))
    });
    let project = project((0..500).map(|n| format!("Name {n}")), "call_api", "api", &api(&server, ""));
    project.flow("run").exits(0);
    let before = std::fs::read(project.path("data/answers.parquet")).expect("the table");
    down.store(true, Ordering::Relaxed);
    let more = (500..1000).fold(String::new(), |mut all, n| {
        writeln!(all, "{n},Name {n}").expect("a string takes all");
        all
    });
    let project = project.more("data/nodes.csv", &more);
    let output = project.flow("run").exits(3);
    assert!(output.stderr.contains("403"), "{}", output.stderr);
    assert_eq!(std::fs::read(project.path("data/answers.parquet")).expect("the table"), before);
    assert_eq!(
        project.files("data"),
        [".answers.parquet.flow", "answers.parquet", "nodes.csv"].map(str::to_owned),
        "nothing is left behind but the receipt of the old one"
    );
    down.store(false, Ordering::Relaxed);
    project.flow("run").exits(0);
    assert_in_order_and_right(&read_parquet(&project.path("data/answers.parquet")), 1000);
}

#[test]
fn a_table_in_folders_gives_folders_again_and_a_table_that_is_written_first_is_planned() {
    let server = service(Duration::ZERO);
    let all = (0..1000).map(|n| format!("Name {n}"));
    let project = project(all, "call_api", "api", &api(&server, ""))
        .more(
            "catalog.yml",
            "
buckets@table: {type: parquet, path: data/buckets, save_args: {partition_by: [bucket]}}
asked@table: {type: parquet, path: data/asked, save_args: {partition_by: [bucket]}}
asked@partitioned: {type: partitioned, path: data/asked, dataset: {type: parquet}, filename_suffix: .parquet}
",
        )
        .more("parameters.yml", "size: 100\nlength: 60\nfeatures: [name]\n")
        .file(
            "pipelines/main.yml",
            "
            nodes:
              - name: cut
                function: bucketize
                inputs: {df: nodes, input_features: params:features, bucket_size: params:size, max_input_len: params:length}
                outputs: buckets@table
              - name: ask
                function: call_api
                inputs: {dfs: buckets@table, api: params:api}
                outputs: asked@table
            ",
        );
    let plan = project.flow("plan --output json").exits(0).json();
    let node = &plan["nodes"][1];
    assert_eq!((&node["rows"], &node["requests"], &node["estimate"]), (&json!(1000), &json!(20), &json!(true)));
    project.flow("run").exits(0);
    assert_eq!(server.requests(), 20);
    let asked = project.table("data/asked");
    assert_eq!(asked.len(), 10);
    assert_eq!(asked.values().map(RecordBatch::num_rows).sum::<usize>(), 1000);
    assert!(asked.values().all(|part| part.column_by_name("bucket").is_none()), "it is in the path");

    let wrong = project.copy().edit("pipelines/main.yml", "outputs: asked@table", "outputs: asked@partitioned");
    let output = wrong.flow("check").exits(2);
    for part in [
        "`asked@partitioned` is partitions, and output `result` of `call_api` gives a table, since its input `buckets@table` is a table",
        "`asked@table` is a view of it as a table",
    ] {
        assert!(output.stderr.contains(part), "{part}: {}", output.stderr);
    }
    let wrong = project.edit("pipelines/main.yml", "dfs: buckets@table", "dfs: params:size");
    let output = wrong.flow("check").exits(2);
    assert!(output.stderr.contains("takes partitions or a table"), "{}", output.stderr);
}

#[test]
fn a_table_without_kept_answers_is_a_warning() {
    let server = service(Duration::ZERO);
    let all = (0..100).map(|n| format!("Name {n}"));
    let project = project(all, "call_api", "api", &api(&server, "cache: {mode: off}\n"));
    let output = project.flow("check").exits(0);
    assert!(output.stderr.contains("warning[node::answers-not-kept]"), "{}", output.stderr);
    assert!(output.stderr.contains("pays, for all rows again"), "{}", output.stderr);
    project.flow("run").exits(0);
    assert_in_order_and_right(&read_parquet(&project.path("data/answers.parquet")), 100);
}

#[test]
fn a_language_model_and_an_embedding_model_take_tables_too() {
    let server = ModelServer::sound();
    let model = format!(
        "model: gpt-4o-mini\nbase_url: {}\nprompt: 'Classify: {{{{ name }}}}'\nmax_tokens: 60\nresponse_format: {{type: object, \
         required: [label], additionalProperties: false, properties: {{label: {{type: string}}, size: {{type: integer}}}}}}\n",
        server.base_url()
    );
    let all = || (0..3000).map(|n| format!("Name {}", n % 1500));
    let project_of = project(all(), "generate", "model", &model);
    let plan = project_of.flow("plan --output json").exits(0).json();
    project_of.flow("run").exits(0);
    assert_eq!(server.requests(), 1500);
    let node = &plan["nodes"][0];
    assert_eq!((&node["requests"], node["tokens"].as_u64()), (&json!(1500), Some(server.billed().input)));
    let answers = read_parquet(&project_of.path("data/answers.parquet"));
    assert_eq!(answers.num_rows(), 3000);
    for (row, label) in texts(&answers, "label").iter().enumerate() {
        assert_eq!(label.as_deref(), Some(format!("Classify: Name {}", row % 1500).as_str()));
    }

    let project = project(all(), "compute_embeddings", "model", "provider: hash\ndimensions: 8\n").edit(
        "data/nodes.csv",
        "id,name\n",
        "id,text_to_embed\n",
    );
    project.flow("run").exits(0);
    let vectors = read_parquet(&project.path("data/answers.parquet"));
    assert_eq!(vectors.num_rows(), 3000);
    let all = vectors.column_by_name("embedding").expect("vectors");
    for row in 0..1500 {
        assert_eq!(all.slice(row, 1).to_data(), all.slice(row + 1500, 1).to_data(), "the same text");
    }
    assert!(all.slice(0, 1).to_data() != all.slice(1, 1).to_data(), "other texts");
}

/// Floats of all sizes, whose texts have up to seventeen digits.
fn floats() -> Vec<f64> {
    let mut bits = 88_172_645_463_325_252_u64;
    let mut all: Vec<f64> = std::iter::repeat_with(|| {
        bits ^= bits << 13;
        bits ^= bits >> 7;
        bits ^= bits << 17;
        f64::from_bits(bits)
    })
    .filter(|float| float.is_normal())
    .take(400)
    .collect();
    all.extend(all.clone().iter().map(|float| float % 1000.0));
    all.extend([5e-324, f64::MIN_POSITIVE, f64::MAX, -0.0, 0.1 + 0.2, 9_007_199_254_740_993.0]);
    all
}

#[test]
fn a_number_keeps_its_last_digit_through_apis_models_caches_and_json() {
    let text = |float: f64| format!("{float:?}");
    let float = |name: &str| floats()[name.rsplit(' ').next().and_then(|n| n.parse::<usize>().ok()).expect("a number")];
    let names_of = || (0..floats().len()).map(|n| format!("Name {n}"));
    let checked = |project: &Project, kind: &str| {
        let table = read_parquet(&project.path("data/answers.parquet"));
        let found = table.column_by_name("x").expect("x").as_primitive::<arrow::datatypes::Float64Type>().clone();
        assert_eq!(found.null_count(), 0, "{kind}");
        for (row, expected) in floats().iter().enumerate() {
            assert_eq!(found.value(row).to_bits(), expected.to_bits(), "{kind}: {expected:?}");
        }
        table
    };

    let server = RestServer::start(move |asked| {
        let one = |name: String| format!("{}:{{\"x\":{}}}", json!(name), text(float(&name)));
        Reply::status(200, &format!("{{{}}}", names(asked).into_iter().map(one).collect::<Vec<_>>().join(",")))
    });
    let api = format!(
        "key: name\nbatch_size: 50\nrequest: {{url: '{}', json: {{names: '{{{{ batch.name }}}}'}}}}\nresponse: {{match: key, columns: \
         {{x: {{path: $.x, type: float64}}, text: {{path: $.x, type: json}}}}}}\n",
        server.url("/x")
    );
    let asked = project(names_of(), "call_api", "api", &api);
    asked.flow("run").exits(0);
    let requests = server.requests();
    let table = checked(&asked, "call_api");
    for (row, found) in texts(&table, "text").iter().enumerate() {
        let parsed: f64 = found.as_deref().and_then(|text| text.parse().ok()).expect("a number");
        assert_eq!(parsed.to_bits(), floats()[row].to_bits());
    }
    // From the cache.
    let asked = asked.edit("parameters.yml", "text: {path: $.x, type: json}", "other: {path: $.x, type: string}");
    asked.flow("run").exits(0);
    checked(&asked, "call_api, from the cache");
    assert_eq!(server.requests(), requests);

    let model =
        ModelServer::start(move |prompted, _, _| Say::Text(format!("{{\"x\": {}}}", text(float(&prompted.text)))));
    let settings = format!(
        "model: m\nbase_url: {}\nprompt: '{{{{ name }}}}'\nresponse_format: {{type: object, required: [x], properties: {{x: {{type: \
         number}}}}}}\n",
        model.base_url()
    );
    let asked = project(names_of(), "generate", "model", &settings);
    asked.flow("run").exits(0);
    checked(&asked, "generate");
    let asked = asked.more("parameters.yml", "  columns: {raw: raw}\n");
    asked.flow("run").exits(0);
    checked(&asked, "generate, from the cache");
    assert_eq!(model.requests(), floats().len() as u64);

    let lines: String = floats().iter().map(|float| format!("{{\"x\": {float:?}}}\n")).collect();
    let list =
        format!("[{}]", floats().iter().map(|float| format!("{{\"x\": {float:?}}}")).collect::<Vec<_>>().join(","));
    for (options, data) in [("lines: true", &lines), ("lines: false, orient: records", &list)] {
        let read = Project::empty()
            .file(
                "catalog.yml",
                &format!(
                    "numbers: {{type: json, path: data/numbers.json, load_args: {{{options}}}}}\nanswers: {{type: parquet, path: \
                     data/answers.parquet}}\n"
                ),
            )
            .file("parameters.yml", "query: SELECT x FROM numbers\n")
            .file(
                "pipelines/main.yml",
                "nodes: [{name: copy, function: sql, inputs: {query: params:query, numbers: numbers}, outputs: answers}]\n",
            )
            .file("data/numbers.json", data);
        read.flow("run").exits(0);
        checked(&read, options);
    }
}

#[test]
fn processes_that_share_a_cache_ask_a_service_or_a_model_once() {
    let run_at_once = |projects: &[Project]| {
        let children: Vec<_> = projects.iter().map(|project| project.spawn("run -q")).collect();
        for child in children {
            let output = child.wait_with_output().expect("it ends");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
    };
    let all = || (0..1000).map(|n| format!("Name {n}"));

    let server = service(Duration::from_millis(30));
    let cache = tempfile::tempdir().expect("a folder");
    let shared = format!("cache: {{path: '{}'}}\n", cache.path().display());
    let projects: Vec<Project> = (0..3).map(|_| project(all(), "call_api", "api", &api(&server, &shared))).collect();
    run_at_once(&projects);
    projects.iter().for_each(|one| assert_in_order_and_right(&read_parquet(&one.path("data/answers.parquet")), 1000));
    let times = answered(&server);
    assert_eq!((times.len(), times.values().filter(|times| **times > 1).count()), (1000, 0));

    let model = ModelServer::start(|prompted, _, _| {
        std::thread::sleep(Duration::from_millis(5));
        Say::Text(prompted.text.to_uppercase())
    });
    let settings = format!(
        "model: m\nbase_url: {}\nprompt: 'Say {{{{ name }}}}'\ncache: {{path: '{}'}}\n",
        model.base_url(),
        cache.path().display()
    );
    let projects: Vec<Project> = (0..3).map(|_| project(all(), "generate", "model", &settings)).collect();
    run_at_once(&projects);
    for one in &projects {
        let answers = read_parquet(&one.path("data/answers.parquet"));
        for (row, output) in texts(&answers, "output").into_iter().enumerate() {
            assert_eq!(output, Some(format!("SAY NAME {row}")));
        }
    }
    let times = model.times();
    assert_eq!((times.len(), times.values().filter(|times| **times > 1).count()), (1000, 0));
}
