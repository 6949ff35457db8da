//! Requests to stop: the first finishes and commits what is in flight, the second stops now.

use std::{
    process::{Child, Command, Output},
    thread,
};

use crate::support::{Project, place::Place, small};

fn send(child: &Child, signal: &str) {
    let status = Command::new("kill").args([signal, &child.id().to_string()]).status().expect("kill");
    assert!(status.success());
}

fn started(rows: usize) -> (Project, Place) {
    let project = small::project("data/out", "").file("data/nodes.csv", &small::csv(0..rows, "any", 2));
    project.flow("run -q --nodes cut").exits(0);
    let place = Place::Local(project.path("data/out/vectors"));
    (project, place)
}

/// Sends a signal once a few partitions are there.
fn interrupted(project: &Project, place: &Place, signals: &[&str]) -> Output {
    let mut child = project.spawn("run");
    while place.files().len() < 20 {
        assert!(child.try_wait().expect("a child").is_none(), "it was over too soon");
        thread::yield_now();
    }
    for signal in signals {
        send(&child, signal);
    }
    child.wait_with_output().expect("over")
}

#[test]
fn the_first_signal_keeps_what_is_in_flight_and_its_number_is_the_exit_code() {
    for (signal, code, name) in [("-INT", 130, "SIGINT"), ("-TERM", 143, "SIGTERM")] {
        let (project, place) = started(20_000);
        let output = interrupted(&project, &place, &[signal]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        assert!(stderr.contains(name) && stderr.contains("flow run"), "what happened, and how to go on: {stderr}");
        assert!(!stderr.contains('\u{1b}') && !output.stdout.contains(&0x1b), "no escape codes without a terminal");
        let kept = place.files();
        assert!(kept.iter().all(|name| name.ends_with(".parquet")), "{kept:?}");
        assert!(kept.len() < 2000, "it stopped before its end");
        assert!(Place::Local(project.path("data/out")).files().iter().all(|name| !name.contains("flow-")));
        let summary = project.flow("run --output json").exits(0).summary();
        assert_eq!(summary["partitions"]["skipped"], kept.len(), "what was kept is not computed again");
        assert_eq!(place.files().len(), 2000);
    }
}

#[test]
fn the_second_signal_stops_now() {
    let (project, place) = started(20_000);
    let output = interrupted(&project, &place, &["-INT", "-INT", "-TERM"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "the first one counts: {stderr}");
    assert_eq!(Place::Local(project.path("data/out")).tables().len(), 2000 + place.files().len(), "all are whole");
    project.flow("run -q").exits(0);
    assert_eq!(place.files().len(), 2000);
}

/// A provider that never answers: only the second signal ends the wait.
#[test]
fn work_that_does_not_end_is_dropped_by_the_second_signal() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let (project, place) = started(50);
    let model = format!(
        "size: 10\nlength: 60\nfeatures: [name]\nmodel: {{provider: openai, model: m, base_url: 'http://{address}/v1', api_key: '${{oc.env:KEY}}'}}\n"
    );
    project.write("parameters.yml", &model);
    let project = project.env("KEY", "k");
    let child = project.spawn("run");
    // The first request has arrived, so work is in flight.
    let held = listener.accept().expect("a request");
    send(&child, "-TERM");
    let mut waits = child;
    thread::park_timeout(std::time::Duration::from_millis(300));
    assert!(waits.try_wait().expect("a child").is_none(), "the first signal waits for what is in flight");
    send(&waits, "-TERM");
    let output = waits.wait_with_output().expect("over");
    assert_eq!(output.status.code(), Some(143), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(place.files().is_empty());
    drop(held);
}
