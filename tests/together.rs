//! Runs at the same time on one output: never a wrong dataset, never a hang. Leases and their messages.

use std::{
    collections::BTreeMap,
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use serde_json::json;

use crate::support::{
    Project,
    api_server::{ApiServer, Behaviour},
    place::{Place, Tables},
    small,
    stores::{self, Store},
};

/// A project on a store, its output as the test sees it.
fn remote(store: &Store, prefix: &str, rows: usize) -> (Project, Place) {
    let project = small::project(&format!("{}/{prefix}", store.url), "credentials: store")
        .file("credentials.yml", &store.credentials(store.port))
        .file("data/nodes.csv", &small::csv(0..rows, "one", 2));
    (project, store.place(prefix))
}

fn undisturbed(csv: &str) -> Tables {
    let project = small::project("data/out", "").file("data/nodes.csv", csv);
    project.flow("run -q").exits(0);
    Place::Local(project.path("data/out")).tables()
}

/// The exit code and stderr of a child that must end soon.
fn end(mut child: Child) -> (i32, String) {
    let begin = Instant::now();
    while child.try_wait().expect("a child").is_none() {
        if begin.elapsed() > Duration::from_secs(60) {
            child.kill().expect("killed");
            panic!("a run hangs");
        }
        thread::park_timeout(Duration::from_millis(1));
    }
    let output = child.wait_with_output().expect("over");
    (output.status.code().expect("no signal"), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Starts two runs, the second `delay` after the first, and judges how they end.
fn race(project: &Project, delay: Duration) -> [i32; 2] {
    let start = || {
        let mut command = project.command(["run", "-q"]);
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary starts")
    };
    let first = start();
    thread::park_timeout(delay);
    let ends = [first, start()].map(end);
    for (code, said) in &ends {
        match code {
            0 => assert_eq!(said, ""),
            3 => assert!(
                said.contains("is being written by") || said.contains("has ended"),
                "the second names the run that holds the lease: {said}"
            ),
            other => panic!("exit {other}: {said}"),
        }
    }
    ends.map(|(code, _)| code)
}

#[test]
fn two_runs_started_together_fifty_times_never_leave_a_wrong_dataset() {
    let texts = [small::csv(0..140, "one", 2), small::csv(0..90, "two", 3)];
    let expected = texts.each_ref().map(|csv| undisturbed(csv));
    let project = small::project("data/out", "");
    let place = Place::Local(project.path("data/out"));
    let mut refused = 0;
    for round in 0..50 {
        project.write("data/nodes.csv", &texts[round % 2]);
        let codes = race(&project, Duration::from_millis(round as u64 % 10 * 4));
        refused += codes.iter().filter(|code| **code == 3).count();
        assert!(codes.contains(&0), "round {round}: one of them goes through: {codes:?}");
        assert_eq!(place.tables(), expected[round % 2], "round {round}");
        let left: Vec<_> = place.files().into_iter().filter(|name| !name.ends_with(".parquet")).collect();
        assert_eq!(left, [".buckets.flow"], "round {round}");
    }
    assert!(refused > 5, "most rounds really met, not only {refused}");
}

#[test]
fn on_s3_two_runs_started_together_never_leave_a_wrong_dataset() {
    let store = stores::s3();
    let (project, place) = remote(&store, "together", 60);
    let texts = [small::csv(0..60, "one", 2), small::csv(0..40, "two", 3)];
    let expected = texts.each_ref().map(|csv| undisturbed(csv));
    for round in 0..10 {
        project.write("data/nodes.csv", &texts[round % 2]);
        let codes = race(&project, Duration::from_millis(round as u64 * 5));
        assert!(codes.contains(&0), "round {round}: one of them goes through: {codes:?}");
        assert_eq!(place.tables(), expected[round % 2], "round {round}: {codes:?}");
    }
}

/// What the lock of another machine looks like, renewed `seconds` ago.
fn lock_of_another_machine(seconds: i64) -> BTreeMap<String, Bytes> {
    let now = chrono::Utc::now();
    let lock = json!({
        "token": "another", "host": "elsewhere", "pid": 7, "since": now - chrono::TimeDelta::hours(1),
        "renewed": now - chrono::TimeDelta::seconds(seconds), "expires_after_seconds": 90.0,
    });
    BTreeMap::from([(".vectors.flow-lock".to_owned(), Bytes::from(lock.to_string()))])
}

#[test]
fn a_lease_on_a_store_keeps_others_out_until_it_expires_and_says_when_that_is() {
    for store in [stores::s3(), stores::azure()] {
        let (project, place) = remote(&store, "lease", 20);
        place.put(&lock_of_another_machine(30));
        let refused = project.flow("run").exits(3);
        for words in [
            "`vectors@partitioned` is being written by process 7 on elsewhere since",
            "its lease ends at",
            "s from now",
        ] {
            assert!(refused.stderr.contains(words), "{words}: {}", refused.stderr);
        }
        assert_eq!(place.files(), [".vectors.flow-lock"], "nothing was touched, and the other lease is given back");
        place.put(&lock_of_another_machine(91));
        project.flow("run -q").exits(0);
        let left: Vec<_> = place.files().into_iter().filter(|name| name.starts_with('.')).collect();
        assert_eq!(left, [".buckets.flow"], "taken over, and given back at the end");
        project.flow("run -q").exits(0);
    }
}

#[test]
fn a_lease_whose_process_is_dead_is_free_at_once_on_the_same_machine() {
    let store = stores::s3();
    let (project, place) = remote(&store, "dead", 20);
    let mut command = project.command(["run", "-q"]);
    let status = command.env("FLOW_UNSTABLE_KILL_AT", "12").status().expect("the binary starts");
    assert!(!status.success());
    assert!(place.files().contains(&".vectors.flow-lock".to_owned()), "{:?}", place.files());
    project.flow("run -q").exits(0);
    assert_eq!(place.tables(), undisturbed(&small::csv(0..20, "one", 2)));
}

#[test]
fn runs_that_share_a_cache_send_each_text_once() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
    let latency = (Duration::from_millis(20), Duration::from_millis(60));
    for runs in [2, 4] {
        let api = runtime.block_on(ApiServer::start(Behaviour { latency, ..Behaviour::default() }));
        let cache = tempfile::tempdir().expect("a folder");
        let model = format!(
            "{{provider: openai, model: m, base_url: '{}', api_key: test, dimensions: 8, cache: {{path: '{}'}}}}",
            api.base_url(),
            cache.path().display()
        );
        let projects: Vec<Project> = (0..runs)
            .map(|_| {
                small::project("data/out", "").file("data/nodes.csv", &small::csv(0..400, "any", 2)).edit(
                    "parameters.yml",
                    "{provider: hash, dimensions: 8}",
                    &model,
                )
            })
            .collect();
        let children: Vec<Child> = projects
            .iter()
            .map(|project| {
                let mut command = project.command(["run", "-q"]);
                command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary starts")
            })
            .collect();
        for child in children {
            assert_eq!(end(child), (0, String::new()));
        }
        let tables: Vec<Tables> = projects.iter().map(|p| Place::Local(p.path("data/out")).tables()).collect();
        assert!(tables.iter().all(|table| *table == tables[0] && table.len() == 80), "{runs} runs: the same vectors");
        let counts = api.embedded();
        let twice = counts.values().filter(|count| **count > 1).count();
        assert_eq!((counts.len(), twice), (400, 0), "{runs} runs: texts sent, and texts sent again");
    }
}

#[test]
fn claims_of_a_process_that_was_killed_count_for_nothing() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
    let latency = (Duration::from_millis(50), Duration::from_millis(90));
    let api = runtime.block_on(ApiServer::start(Behaviour { latency, ..Behaviour::default() }));
    let cache = tempfile::tempdir().expect("a folder");
    let model = format!(
        "{{provider: openai, model: m, base_url: '{}', api_key: test, dimensions: 8, cache: {{path: '{}'}}}}",
        api.base_url(),
        cache.path().display()
    );
    let project = || {
        small::project("data/out", "").file("data/nodes.csv", &small::csv(0..300, "any", 2)).edit(
            "parameters.yml",
            "{provider: hash, dimensions: 8}",
            &model,
        )
    };
    let (first, second) = (project(), project());
    let start = |project: &Project| {
        let mut command = project.command(["run", "-q"]);
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary starts")
    };
    let mut killed = start(&first);
    while api.requests() < 5 {
        thread::yield_now();
    }
    let other = start(&second);
    killed.kill().expect("killed");
    killed.wait().expect("over");
    assert_eq!(end(other), (0, String::new()));
    let left: Vec<_> = std::fs::read_dir(cache.path().join("claims")).expect("a folder").collect();
    assert_eq!(left.len(), 1, "only the lock is left: {left:?}");
}
