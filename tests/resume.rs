//! Crashes, changed inputs, two runs at once: the next `flow run` completes the dataset.

use std::{collections::BTreeMap, process::Child, thread};

use arrow::array::RecordBatch;

use crate::support::{Project, small};

const VECTORS: &str = "data/vectors";

/// `rows` rows in buckets of ten, embedded with the `hash` provider.
fn project(rows: usize) -> Project {
    small::project("data", "").file("data/nodes.csv", &small::csv(0..rows, "any", 2))
}

/// Waits until a condition on the folder holds or the process is over.
fn until(child: &mut Child, mut condition: impl FnMut() -> bool) {
    while child.try_wait().expect("a child").is_none() && !condition() {
        thread::yield_now();
    }
}

fn undisturbed(rows: usize) -> BTreeMap<String, RecordBatch> {
    let project = project(rows);
    project.flow("run").exits(0);
    project.table(VECTORS)
}

#[test]
fn killed_at_any_moment_the_next_run_computes_what_is_missing_and_nothing_else() {
    let rows = 3000;
    let expected = undisturbed(rows);
    let project = project(rows);
    let mut killed = 0;
    for goal in [1, 40, 80, 120, 160, 200] {
        let mut child = project.spawn("run -q");
        until(&mut child, || project.files(VECTORS).len() >= goal);
        child.kill().expect("killed");
        killed += usize::from(!child.wait().expect("over").success());
        // Whatever is visible is whole.
        for (key, batch) in project.table(VECTORS) {
            assert_eq!(&batch, &expected[&key], "{key}");
        }
    }
    assert!(killed >= 3, "most runs were killed before their end, not only {killed}");
    let there = project.files(VECTORS).len() as u64;
    let summary = project.flow("run --output json").exits(0).summary();
    assert_eq!(project.table(VECTORS), expected);
    assert!(summary["partitions"]["skipped"].as_u64().expect("a count") >= there, "{summary}");
    let again = project.flow("run --output json").exits(0).summary();
    assert_eq!((&again["nodes"]["skipped"], &again["partitions"]["done"]), (&2.into(), &0.into()));
}

#[test]
fn partitions_that_the_input_lost_go_at_the_end() {
    let project = project(100);
    project.flow("run").exits(0);
    assert_eq!(project.table(VECTORS).len(), 10);
    let text = project.read("data/nodes.csv");
    let shorter: String = text.lines().take(51).map(|line| line.to_owned() + "\n").collect();
    project.write("data/nodes.csv", &shorter);
    let summary = project.flow("run --output json").exits(0).summary();
    assert_eq!(project.table(VECTORS).len(), 5);
    assert_eq!(summary["rows"]["ok"], 0, "nothing was computed again: {summary}");
}

#[test]
fn deleted_and_damaged_partitions_are_computed_again() {
    let project = project(100);
    project.flow("run").exits(0);
    let before = project.table(VECTORS);
    let files = project.files(VECTORS);
    std::fs::remove_file(project.path(VECTORS).join(&files[3])).expect("removed");
    let summary = project.flow("run --output json").exits(0).summary();
    assert_eq!(summary["partitions"]["done"], 1);
    assert_eq!(project.table(VECTORS), before);
    let bucket = project.files("data/buckets").remove(2);
    std::fs::remove_file(project.path("data/buckets").join(bucket)).expect("removed");
    project.flow("run").exits(0);
    assert_eq!(project.table(VECTORS), before);
    assert_eq!(project.table("data/buckets").len(), 10);
}

#[test]
fn force_computes_everything_again_to_the_same_result() {
    let project = project(100);
    project.flow("run").exits(0);
    let before = project.table(VECTORS);
    let summary = project.flow("run --force --output json").exits(0).summary();
    assert_eq!(summary["rows"]["ok"], 100);
    assert_eq!(project.table(VECTORS), before);
}

#[test]
fn two_runs_at_once_leave_one_right_dataset() {
    let expected = undisturbed(1000);
    let project = project(1000);
    let children: Vec<_> = (0..2).map(|_| project.spawn("run -q")).collect();
    let codes: Vec<_> = children
        .into_iter()
        .map(|child| child.wait_with_output().expect("over").status.code().expect("no signal"))
        .collect();
    assert!(codes.contains(&0), "{codes:?}");
    assert!(codes.iter().all(|code| matches!(code, 0 | 3)), "done, or refused before the start: {codes:?}");
    assert_eq!(project.table(VECTORS), expected);
}

#[cfg(unix)]
#[test]
fn a_request_to_stop_keeps_what_is_finished_and_says_how_to_go_on() {
    let rows = 20_000;
    let project = project(rows);
    let mut child = project.spawn("run");
    until(&mut child, || project.files(VECTORS).len() >= 20);
    let sent = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill");
    assert!(sent.success());
    let output = child.wait_with_output().expect("over");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert!(stderr.contains("flow run"), "says how to go on: {stderr}");
    let kept = project.files(VECTORS).len();
    assert!(kept >= 20 && kept < rows / 10, "{kept}");
    let summary = project.flow("run --output json").exits(0).summary();
    assert_eq!(summary["partitions"]["failed"], 0);
    assert_eq!(project.table(VECTORS).len(), rows / 10);
}

#[test]
fn the_history_of_a_killed_run_is_kept_as_far_as_it_went() {
    let project = project(100);
    let mut command = project.command(["run", "-q"]);
    // After the table and a few partitions: every commit passes three of these points.
    let status = command.env("FLOW_UNSTABLE_KILL_AT", "60").status().expect("the binary starts");
    assert!(!status.success());
    let events = project.flow("runs show last --output json").exits(0).json();
    let committed = project.files(VECTORS).len();
    let reported =
        events.as_array().expect("events").iter().filter(|event| event["kind"] == "partition.finished").count();
    assert!(reported <= committed, "{reported} reported, {committed} committed: no more than exist");
    project.flow("run -q").exits(0);
    let runs = project.flow("runs --output json").exits(0).json();
    let status: Vec<_> = runs.as_array().expect("runs").iter().map(|run| &run["status"]).collect();
    assert_eq!(status, ["ok", "killed"], "newest first");
}
