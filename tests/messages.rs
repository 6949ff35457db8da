//! What messages, the ledger and the log contain, and what none of them may: secrets and data.

use std::fs;

use crate::support::{
    Output, Project,
    small::{self, Asks},
};

/// Everything that a command wrote: both streams, and the ledger.
fn said(project: &Project, output: &Output) -> String {
    let ledger: String = project
        .files(".flow/runs")
        .iter()
        .map(|name| fs::read_to_string(project.path(".flow/runs").join(name)).expect("the ledger"))
        .collect();
    format!("{}{}{ledger}", output.stdout, output.stderr)
}

/// A project whose provider's address refuses connections, and which does not retry.
fn unreachable(key: &str) -> Project {
    let model = format!(
        "model: {{provider: openai, base_url: 'http://127.0.0.1:9/v1', {key}dimensions: 8, timeout: 1, retry: {{max_attempts: 2, deadline: 5s}}, max_outage: 1s}}"
    );
    small::project("data", "")
        .edit("parameters.yml", "model: {provider: hash, dimensions: 8}", &model)
        .file("data/nodes.csv", &small::csv(0..20, "word", 3))
}

#[test]
fn a_secret_of_the_command_line_is_not_repeated_by_the_line_that_says_how_to_go_on() {
    for (project, flags, canary) in [
        (unreachable(""), "--params +model.api_key=sk-CANARYcanary0123456789abcdef", "CANARY"),
        (unreachable(""), "--params=size=10,+model.api_key=hunter2hunter2", "hunter2"),
        (unreachable("api_key: '${runtime_params:plain}', "), "--params plain=hunter2hunter2", "hunter2"),
        (
            unreachable("api_key: '${oc.env:SOME_API_KEY}', ").env("SOME_API_KEY", "hunter2hunter2"),
            "--params note.hunter2hunter2=1,+x=hunter2hunter2",
            "hunter2",
        ),
        (unreachable(""), "--openlineage http://user:hunter2hunter2@127.0.0.1:9/lineage", "hunter2"),
    ] {
        for more in ["", " -vv", " --output json"] {
            let output = project.flow(&format!("run {flags}{more}"));
            assert_ne!(output.code, 0);
            let text = said(&project, &output);
            assert!(!text.contains(canary), "{flags}{more}: {text}");
        }
        let output = project.flow(&format!("run {flags} --progress none"));
        assert!(output.code == 2 || output.stderr.contains("***"), "{}", output.stderr);
    }
}

#[test]
fn the_value_of_a_header_is_in_no_output_whatever_its_name_and_check_needs_none() {
    let api = "
        key: name
        request:
          url: http://127.0.0.1:9/x
          json: {names: '{{ batch.name }}'}
          headers: {X-Corp-Auth: 'Corp ${oc.env:CORP}', X-Tenant: tenant-CANARY}
          timeout: 1
        response: {columns: {n: $.n}}
        retry: {max_attempts: 2, deadline: 5s}
        max_outage: 1s
        ";
    let asks = Asks { node: "ask", function: "call_api", port: "api", output: "answers" };
    let headed = || small::asking((0..20).map(|row| format!("row {row}")), 10, &asks, api);
    let unset = headed();
    unset.flow("check").exits(0);
    let output = unset.flow("run").exits(3);
    assert!(output.stderr.contains("`CORP`"), "{}", output.stderr);
    let project = headed().env("CORP", "corp-CANARY");
    let shown = project.flow("config show parameters").exits(0).stdout;
    assert!(shown.contains("X-Corp-Auth: \"***\"") && shown.contains("X-Tenant: \"***\""), "{shown}");
    for line in [
        "config show parameters --output json",
        "check -vv",
        "plan",
        "run -vv",
        "run --output json",
        "export kedro-viz viz",
        "config show parameters --params api.request.headers.X-Tenant=given-CANARY",
        "run --params api.request.headers.X-Tenant=given-CANARY",
        "check --params api.request.headers.X-Other=given-CANARY",
    ] {
        let output = project.flow(line);
        let text = said(&project, &output);
        assert!(!text.contains("CANARY"), "{line}: {text}");
    }
    let exported: String = project.files("viz").iter().map(|name| project.read(&format!("viz/{name}"))).collect();
    assert!(exported.contains("X-Tenant") && !exported.contains("CANARY"), "{exported}");
}

#[test]
fn a_signature_in_the_address_of_ledgers_is_refused_by_every_command() {
    let project = small::project("data", "").file("data/nodes.csv", &small::csv(0..20, "word", 3));
    for command in ["run", "runs", "report", "serve --port 0", "compile slurm"] {
        let output = project.flow(&format!("{command} --ledger az://c/x?sv=2022&sig=CANARY0123")).exits(2);
        assert!(output.stderr.contains("credentials come from the environment"), "{command}: {}", output.stderr);
        assert!(!said(&project, &output).contains("CANARY"), "{command}: {}", output.stderr);
    }
}

#[test]
fn data_that_cannot_be_read_is_not_quoted() {
    let rows = |from: &str| (0..2000).map(|i| from.replace('N', &i.to_string())).collect::<Vec<_>>().join(",");
    let record = "{\"id\":N,\"patient\":\"CANARY-N\"}";
    let long = "CANARY".repeat(200);
    for (entry, text) in [
        ("type: json, path: data/in.json", format!("[{}]", rows(record))),
        ("type: json, path: data/in.json", format!("{{\"a\": 1}}\n{{\"a\": {{\"b\": [{}]}}}}\n", rows(record))),
        ("type: json, path: data/in.json", format!("{{\"a\": 1}}\n{{\"a\": \"{long}\n")),
        ("type: csv, path: data/in.csv, load_args: {dtype: {a: int64}}", format!("a,b\n1,{long}\nx{long},{long}\n")),
        ("type: csv, path: data/in.csv", format!("a,b\n1,{long}\n1,2,{long}\n")),
        ("type: csv, path: data/in.csv, load_args: {dtype: {a: date}}", format!("a,b\n{long},{long}\n")),
        ("type: parquet, path: data/in.parquet", long.clone()),
        ("type: arrow, path: data/in.arrow", long.clone()),
    ] {
        let project = Project::empty()
            .file("catalog.yml", &format!("src: {{{entry}}}\nout: {{type: csv, path: data/out.csv}}\n"))
            .file("parameters.yml", "q: SELECT * FROM src\n")
            .file(
                "pipelines/p.yml",
                "nodes:\n  - {name: n, function: sql, inputs: {src: src, query: params:q}, outputs: out}\n",
            );
        let name = entry.split("path: ").nth(1).expect("a path").split(',').next().expect("a path");
        fs::create_dir_all(project.path("data")).expect("a folder");
        fs::write(project.path(name), &text).expect("written");
        for command in ["run -vv", "run --output json", "show src", "plan"] {
            let output = project.flow(command);
            let printed = said(&project, &output);
            // A plan does not read rows.
            assert!(output.code != 0 || command == "plan", "{entry}: {command}: {printed}");
            let quoted = printed.lines().map(|line| line.matches("CANARY").count()).max().unwrap_or_default();
            assert!(quoted <= 2 && printed.len() < 16_000, "{entry}: {command}: {printed}");
        }
    }
}

#[test]
fn verbose_runs_report_retries_leases_and_each_partition() {
    let output = unreachable("").flow("run -v --progress none");
    for part in [
        "lease taken",
        "run{run=",
        "node{node=embed}",
        "partition{partition=bucket=",
        "cache looked up",
        "request failed; it is retried",
    ] {
        assert!(output.stderr.contains(part), "{part}: {}", output.stderr);
    }
    assert!(!output.stderr.contains("response received"), "single requests are reported with -vv only");
    let all = unreachable("").flow("run -vv --progress none").stderr;
    assert!(all.contains("response received") && all.contains("attempt=1"), "{all}");
    let filtered = unreachable("").env("FLOW_LOG", "flow::data=debug").flow("run --progress none").stderr;
    assert!(filtered.contains("lease taken") && !filtered.contains("it is retried"), "{filtered}");
    let quiet = unreachable("").flow("run --progress none").stderr;
    assert!(!quiet.contains("lease taken"), "{quiet}");
}
