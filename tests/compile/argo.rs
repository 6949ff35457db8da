//! What is written for Argo goes through Hera's models and back without loss; mutations do not.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{IMAGE, every_flag, everything, ten_thousand, write};
use crate::support::{Output, Project, root, stores};

const PACKAGES: &str = "hera==7.1.0 pyyaml==6.0.2";

/// Python with Hera; `None` where it cannot be installed.
fn hera() -> Option<PathBuf> {
    let installed = std::panic::catch_unwind(|| stores::python_tool("hera", PACKAGES, "python"));
    if installed.is_err() {
        eprintln!("skipped: Hera cannot be installed");
    }
    installed.ok()
}

/// What is lost on the way through Hera's models; `ok` for nothing.
fn round_trip(python: &Path, text: &str) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("workflow.yaml");
    fs::write(&file, text).expect("written");
    let output = Command::new(python)
        .arg(root().join("tests/compile/round_trip.py"))
        .arg(&file)
        .output()
        .expect("Python starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned()
}

fn text(output: &Output) -> String {
    output.json()["files"][0]["text"].as_str().expect("a text").to_owned()
}

#[test]
fn workflows_survive_the_models_of_hera() {
    let Some(python) = hera() else { return };
    let shipped = Project::shipped();
    let of_shipped =
        text(&shipped.flow(&format!("compile argo --shards 8 --schedule @daily {IMAGE} --output json")).exits(0));
    assert_eq!(round_trip(&python, &of_shipped), "ok");
    assert_eq!(round_trip(&python, &text(&every_flag(&everything()))), "ok");
    let large = ten_thousand();
    let output = large.flow("compile argo --image registry.example/project:1 --output json").exits(0);
    assert_eq!(output.json()["tasks"].as_array().expect("tasks").len(), 7000);
    let is_large = text(&output).len() > 1_400_000;
    assert_eq!(output.stderr.contains("compile::too-large"), is_large, "{}", output.stderr);
    assert_eq!(round_trip(&python, &text(&output)), "ok");
}

#[test]
fn mutations_do_not_survive() {
    let Some(python) = hera() else { return };
    let project = Project::shipped();
    let valid = text(&project.flow(&format!("compile argo --shards 8 {IMAGE} --output json")).exits(0));
    assert_eq!(round_trip(&python, &valid), "ok");
    for (from, to) in [
        // A wrong type, a misspelt key, keys that version 4 removed.
        ("withSequence:", "withSequense:"),
        ("value: \"8\"", "value: [8]"),
        ("value: \"8\"", "value: 8"),
        ("- flow\n", "- 7\n"),
        (
            "  entrypoint: pipeline\n",
            "  entrypoint: pipeline\n  synchronization:\n    semaphore:\n      configMapKeyRef:\n        name: x\n        key: y\n",
        ),
        ("  entrypoint: pipeline\n", "  entrypoint: pipeline\n  podPriority: 1\n"),
    ] {
        let wrong = valid.replacen(from, to, 1);
        assert_ne!(wrong, valid, "{from} is not in\n{valid}");
        assert_ne!(round_trip(&python, &wrong), "ok", "{to}");
    }
    // One word instead of a list of them.
    let (before, after) = valid.split_once("      args:\n").expect("arguments");
    let rest: Vec<&str> = after.lines().skip_while(|line| line.trim_start().starts_with("- ")).collect();
    let wrong = format!("{before}      args: run\n{}\n", rest.join("\n"));
    assert!(rest.len() + 5 < after.lines().count(), "{after}");
    let found = round_trip(&python, &wrong);
    assert!(found.contains("args") && found.contains("list"), "{found}");
}

#[test]
fn what_is_written_with_every_flag_says_what_it_needs() {
    let project = everything();
    let output = every_flag(&project);
    let text = text(&output);
    assert!(write(&output, &project.path("out"))[0].ends_with("flow.yaml"), "two pipelines have the program's name");
    for part in [
        "# The Secret `other-secrets` holds SOME_API_KEY.",
        "parallelism: 3",
        "activeDeadlineSeconds: 5400",
        "nvidia.com/gpu: \"1\"",
        "cpu: 500m",
        "memory: 1500Mi",
        "- 750MiB",
        "limit: \"9\"",
        "serviceAccountName: runner",
        "claimName: more",
        "name: n-2nd-gr-e",
        "value: 2nd-Größe",
        "- s3://bucket/a ledger",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}
