//! `flow report` and the page: what it says, that its bundle is what the script makes, and how it behaves in a browser.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use crate::support::{Project, root, small, stores};

/// A ledger of a run with names and errors that are markup, in which a partition failed.
pub(crate) const HOSTILE: &str = r#"{"v":1,"kind":"run.started","run":"20990101-000000000-0001","elapsed":0.0,"pipeline":null,"env":null,"nodes":1,"seconds":0.0}
{"v":1,"kind":"node.started","run":"20990101-000000000-0001","elapsed":0.1,"node":"embed","function":"compute_embeddings","reason":"<b>why</b>","partitions":3,"skipped":1,"seconds":0.1}
{"v":1,"kind":"partition.finished","run":"20990101-000000000-0001","elapsed":1.0,"node":"embed","partition":"bucket=</script><script>alert(1)</script>","rows":5,"seconds":0.5,"done":2,"total":3}
{"v":1,"kind":"partition.failed","run":"20990101-000000000-0001","elapsed":1.5,"node":"embed","partition":"bucket=<img src=x onerror=alert(1)>","error":"<!-- <script>alert(2)","attempt_seconds":0.5,"seconds":1.5}
{"v":1,"kind":"node.failed","run":"20990101-000000000-0001","elapsed":1.6,"node":"embed","error":"1 of 3 partitions failed","seconds":1.6}
"#;

fn project() -> Project {
    small::project("data", "").file("data/nodes.csv", &small::csv(0..40, "plain", 1))
}

#[test]
fn a_report_says_what_the_run_said() {
    let project = project();
    let summary = project.flow("run --output json").exits(0).summary();
    let report = project.flow("report --output json").exits(0).json();
    for key in ["nodes", "partitions", "rows", "requests", "cost_usd"] {
        assert_eq!(report["run"]["summary"][key], summary[key], "{key}");
    }
    assert_eq!((&report["run"]["status"], &report["compare"]), (&"ok".into(), &serde_json::Value::Null));
    let nodes: Vec<_> = report["nodes"]
        .as_array()
        .expect("nodes")
        .iter()
        .map(|node| (&node["name"], &node["state"], &node["rows_out"]))
        .collect();
    assert_eq!(nodes, [(&"cut".into(), &"done".into(), &40.into()), (&"embed".into(), &"done".into(), &40.into())]);
    let embed = &report["partitions"]["embed"];
    assert_eq!(
        (&embed["states"], &embed["prefix"], &embed["unnamed_missing"]),
        (&"dddd".into(), &"bucket=".into(), &0.into())
    );
    assert!(embed["location"].as_str().expect("a location").ends_with("data/vectors"), "{embed}");
    let told = project.flow("report last -o report.html --output json").exits(0).json();
    assert_eq!((&told["run"], &told["file"]), (&report["run"]["id"], &"report.html".into()));
    assert_eq!(project.read("report.html"), project.flow("report").exits(0).stdout);
}

#[test]
fn lost_rows_are_seen_against_the_run_before() {
    let project = project();
    project.flow("run -q").exits(0);
    let first = project.flow("report --output json").exits(0).json()["run"]["id"].clone();
    project.write("data/nodes.csv", &small::csv(0..20, "plain", 1));
    project.flow("run -q --force --yes").exits(0);
    let report = project.flow("report --output json").exits(0).json();
    assert_eq!((&report["compare"]["run"], &report["compare"]["nodes"]["cut"]["rows_out"]), (&first, &40.into()));
    assert_eq!(report["nodes"][0]["rows_out"], 20);
    let other = format!("report {} --compare last --output json", first.as_str().expect("an id"));
    assert_eq!(project.flow(&other).exits(0).json()["compare"]["nodes"]["cut"]["rows_out"], 20);
}

#[test]
fn a_report_of_no_run_is_refused() {
    let project = project();
    assert!(project.flow("report").exits(2).stderr.contains("no run was recorded yet"));
    project.flow("run -q").exits(0);
    assert!(project.flow("report never").exits(2).stderr.contains("there is no run `never`"));
    assert!(project.flow("report --compare never").exits(2).stderr.contains("there is no run `never`"));
}

#[test]
fn markup_in_names_and_errors_stays_data() {
    let project = project().file(".flow/runs/20990101-000000000-0001.jsonl", HOSTILE);
    let page = project.flow("report").exits(0).stdout;
    assert_eq!(page.matches("<script").count(), 2, "the data and the page's own code");
    assert!(page.contains("\\u003cscript>alert(1)\\u003c/script>") && !page.contains("<img"));
    let report = project.flow("report --output json").exits(0).json();
    assert_eq!((&report["run"]["status"], &report["nodes"][0]["state"]), (&"killed".into(), &"failed".into()));
    let embed = &report["partitions"]["embed"];
    assert_eq!((&embed["states"], &embed["unnamed_skipped"]), (&"df".into(), &1.into()));
    assert_eq!(embed["failures"]["1"]["error"], "<!-- <script>alert(2)");
}

#[test]
fn reports_are_valid_by_their_schema() {
    let project = project().file(".flow/runs/20990101-000000000-0001.jsonl", HOSTILE);
    let hostile = project.flow("report --output json").exits(0).stdout;
    fs::remove_file(project.path(".flow/runs/20990101-000000000-0001.jsonl")).expect("removed");
    project.flow("run -q").exits(0);
    project.flow("run -q --force").exits(0);
    let compared = project.flow("report --output json").exits(0).stdout;
    assert!(compared.contains("\"compare\": {"), "{compared}");
    let python = stores::python_tool("jsonschema", "jsonschema==4.25.1", "python");
    for (name, document) in [("hostile.json", hostile), ("compared.json", compared)] {
        fs::write(project.path(name), document).expect("written");
        let check = "import json, sys, jsonschema\nschema = json.load(open(sys.argv[1]))\njsonschema.Draft202012Validator.check_schema(schema)\njsonschema.Draft202012Validator(schema).validate(json.load(open(sys.argv[2])))";
        let output = Command::new(&python)
            .args(["-c", check])
            .arg(root().join("schemas/page.schema.json"))
            .arg(project.path(name))
            .output()
            .expect("Python runs");
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// True when Node is there and `npm ci` has run in `web/`; says so otherwise.
pub(crate) fn has_node() -> bool {
    let node = Command::new("node").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let there = node.is_ok_and(|status| status.success()) && root().join("web/node_modules/esbuild").exists();
    if !there {
        eprintln!("skipped: needs Node, and `npm ci` in web/");
    }
    there
}

/// True when Chromium is there; says so otherwise.
pub(crate) fn has_chromium() -> bool {
    let browsers = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
    let there = browsers.iter().any(|path| Path::new(path).exists());
    if !there {
        eprintln!("skipped: needs Chromium");
    }
    there
}

#[test]
fn the_checked_in_bundle_is_what_the_script_makes() {
    if !has_node() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let output = Command::new("node").arg(root().join("web/build.mjs")).arg(folder.path()).output().expect("Node runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for name in ["page.html", "live.html"] {
        let checked_in = fs::read(root().join("templates").join(name)).expect("checked in");
        let same = fs::read(folder.path().join(name)).expect("made") == checked_in;
        assert!(same, "templates/{name} is out of date: run `node web/build.mjs`");
    }
}

#[test]
fn the_page_works_in_a_browser() {
    if !has_node() || !has_chromium() {
        return;
    }
    let pages = tempfile::tempdir().expect("a folder");
    let at = |name: &str| pages.path().join(name).display().to_string();
    let shipped = Project::shipped();
    shipped.flow("run -q").exits(0);
    shipped.run(["report", "-o", &at("shipped.html")]).exits(0);
    shipped.run(["graph", "--format", "html", "-o", &at("shipped-graph.html")]).exits(0);
    let hostile = project().file(".flow/runs/20990101-000000000-0001.jsonl", HOSTILE);
    hostile.run(["report", "-o", &at("hostile.html")]).exits(0);
    let output = Command::new("node")
        .args(["--test", "--test-reporter=spec"])
        .arg(root().join("web/test/page.test.mjs"))
        .env("FLOW_PAGES", pages.path())
        .env("FLOW_SCREENSHOTS", root().join("target/screenshots"))
        .output()
        .expect("Node runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    for page in ["shipped", "shipped-graph", "hostile"] {
        assert!(said.contains(&format!("the page {page}.html opens without errors")), "{said}");
    }
}
