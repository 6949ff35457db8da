//! Requests to stop: the first finishes and commits what is in flight, the second stops now.

use std::{
    os::unix::fs::OpenOptionsExt as _,
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use tokio::runtime::Runtime;

use crate::support::{
    Project,
    api_server::{ApiServer, Behaviour, Fault, When},
    place::Place,
    small,
};

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

/// A provider that never responds: only the second signal ends the wait.
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
    thread::park_timeout(Duration::from_millis(300));
    assert!(waits.try_wait().expect("a child").is_none(), "the first signal waits for what is in flight");
    send(&waits, "-TERM");
    let output = waits.wait_with_output().expect("over");
    assert_eq!(output.status.code(), Some(143), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(place.files().is_empty());
    drop(held);
}

/// Nothing is in flight that could be finished.
#[test]
fn a_signal_in_an_outage_ends_the_run_and_not_after_what_the_outage_may_last() {
    let runtime = Runtime::new().expect("threads");
    let server = runtime.block_on(ApiServer::start(Behaviour::default()));
    let body = r#"{"error":{"message":"Loading model"}}"#;
    server.fault(When::Always, Fault::Status(503, Vec::new(), body.to_owned()));
    let (project, place) = started(50);
    let address = server.base_url();
    let model = format!(
        "size: 10\nlength: 60\nfeatures: [name]\nmodel: {{provider: openai, model: m, base_url: '{address}', api_key: '${{oc.env:KEY}}'}}\n"
    );
    project.write("parameters.yml", &model);
    let project = project.env("KEY", "k");
    let child = project.spawn("run");
    while server.requests() < 6 {
        thread::yield_now();
    }
    let begin = Instant::now();
    send(&child, "-TERM");
    let output = ends(child);
    let (took, stderr) = (begin.elapsed(), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(143), "{stderr}");
    assert!(took < Duration::from_secs(12), "{took:?}: {stderr}");
    assert!(stderr.contains("stopped by SIGTERM") && !stderr.contains("failed"), "{stderr}");
    assert!(place.files().is_empty());
}

/// Waits for the end of a process, up to a limit.
fn ends(mut child: Child) -> Output {
    for _ in 0..600 {
        if child.try_wait().expect("a child").is_some() {
            return child.wait_with_output().expect("over");
        }
        thread::park_timeout(Duration::from_millis(50));
    }
    child.kill().expect("killed");
    let output = child.wait_with_output().expect("over");
    panic!("it did not end: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_read_that_hangs_is_left_behind_by_the_second_signal_and_at_once_by_the_third() {
    for signals in [2, 3] {
        let runtime = Runtime::new().expect("threads");
        let server = runtime.block_on(ApiServer::start(Behaviour::default()));
        server.fault(When::Nth(1), Fault::Delay(Duration::from_millis(1500)));
        let (project, place) = started(50);
        let model = format!(
            "size: 10\nlength: 60\nfeatures: [name]\nmodel: {{provider: openai, model: m, base_url: '{}', api_key: '${{oc.env:KEY}}', dimensions: 8}}\n",
            server.base_url()
        );
        project.write("parameters.yml", &model);
        let project = project.env("KEY", "k").edit(
            "catalog.yml",
            "overwrite: true",
            "overwrite: true, save_args: {max_workers: 1}",
        );
        let mut child = project.spawn("run");
        let mut until = |done: &dyn Fn() -> bool| {
            while !done() {
                assert!(child.try_wait().expect("a child").is_none(), "it was over too soon");
                thread::yield_now();
            }
        };
        until(&|| server.requests() > 0);
        // The first partition is at work: the second one becomes a file that never ends.
        let buckets = project.path("data/out/buckets");
        let name =
            project.files("data/out/buckets").into_iter().find(|name| name.starts_with("bucket=1/")).expect("there");
        std::fs::remove_file(buckets.join(&name)).expect("removed");
        assert!(Command::new("mkfifo").arg(buckets.join(&name)).status().expect("mkfifo").success());
        until(&|| !place.files().is_empty());
        // Opens once there is a reader, and keeps it waiting for bytes that never come.
        let pipe = buckets.join(&name);
        let write = || {
            let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
            std::fs::OpenOptions::new().write(true).custom_flags(flags).open(&pipe)
        };
        let writer = std::cell::OnceCell::new();
        until(&|| write().is_ok_and(|file| writer.set(file).is_ok()));
        send(&child, "-INT");
        thread::park_timeout(Duration::from_millis(300));
        assert!(child.try_wait().expect("a child").is_none(), "the first signal waits for what is in flight");
        for _ in 1..signals {
            send(&child, "-INT");
            thread::park_timeout(Duration::from_millis(100));
        }
        let output = ends(child);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(130), "{stderr}");
        assert!(stderr.contains("stopped by SIGINT") && stderr.contains("flow run"), "{stderr}");
        assert_eq!(place.files().len(), 1, "what finished is kept");
    }
}

#[test]
fn a_named_pipe_as_data_is_refused_by_name_and_never_waited_for() {
    let project = small::project("data/out", "").file("data/keep.txt", "");
    assert!(Command::new("mkfifo").arg(project.path("data/nodes.csv")).status().expect("mkfifo").success());
    for command in ["run", "plan"] {
        let output = ends(project.spawn(command));
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{stderr}");
        assert!(stderr.contains("data/nodes.csv: it is a named pipe"), "{stderr}");
    }
}

#[test]
fn a_closed_terminal_ends_a_run_as_a_request_to_stop_unless_it_is_to_outlive_it() {
    // A process that ignores SIGHUP passes that on to its children.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).map(str::trim).unwrap_or("0");
    if u64::from_str_radix(ignored, 16).unwrap_or_default() & 1 == 1 {
        eprintln!("skipped: SIGHUP is ignored here");
        return;
    }
    let (project, place) = started(20_000);
    let output = interrupted(&project, &place, &["-HUP"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(143), "{stderr}");
    assert!(stderr.contains("SIGHUP") && stderr.contains("flow run"), "{stderr}");
    assert!(place.files().len() < 2000);
    // As `nohup` does.
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' HUP; exec \"$0\" run", env!("CARGO_BIN_EXE_flow")]).current_dir(project.path(""));
    let mut child = command.env_clear().stderr(Stdio::piped()).spawn().expect("a shell");
    let kept = place.files().len();
    while place.files().len() == kept {
        assert!(child.try_wait().expect("a child").is_none(), "it was over too soon");
    }
    send(&child, "-HUP");
    let output = ends(child);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(place.files().len(), 2000);
}

#[test]
fn closed_and_full_output_streams_do_not_fail_a_run() {
    let full = || std::fs::File::options().write(true).open("/dev/full").expect("the device");
    for progress in ["bar", "lines", "none"] {
        let (project, place) = started(500);
        let mut command = project.command(["run", "-vv", "--output", "json", "--progress", progress]);
        let status = command.stdout(full()).stderr(full()).status().expect("the binary starts");
        assert_eq!(status.code(), Some(0), "full: {progress}");
        assert_eq!(place.files().len(), 50, "full: {progress}");

        let (project, place) = started(500);
        let mut child = project.spawn(&format!("run -vv --output json --progress {progress}"));
        drop((child.stdout.take(), child.stderr.take()));
        assert_eq!(ends(child).status.code(), Some(0), "closed: {progress}");
        assert_eq!(place.files().len(), 50, "closed: {progress}");
    }
}
