//! The same pipeline on S3 and Azure Blob: the same results, credentials from both places, and how many requests.

use std::{collections::BTreeMap, time::Instant};

use bytes::Bytes;

use crate::support::{
    Project,
    place::Place,
    proxy::Proxy,
    small,
    stores::{self, Store},
};

/// The shipped project, its work on a store.
fn shipped_on(store: &Store, prefix: &str) -> (Project, Place) {
    let project = Project::shipped();
    let globals = project.read("globals.yml");
    let moved = globals.replace("data/work", &format!("{}/{prefix}", store.url));
    assert_ne!(globals, moved, "the work has a place of its own: {globals}");
    project.write("globals.yml", &moved);
    (project, store.place(prefix))
}

/// Adds `credentials: store` to every entry whose path is under `work`.
fn with_credentials(project: &Project, store: &Store, port: u16) {
    project.write("credentials.yml", &store.credentials(port));
    let path = "path: ${globals:paths.work}";
    let catalog: String = project
        .read("catalog.yml")
        .lines()
        .map(|line| if line.contains(path) { format!("{line}\n  credentials: store\n") } else { format!("{line}\n") })
        .collect();
    project.write("catalog.yml", &catalog);
}

#[test]
fn the_shipped_project_gives_the_same_on_every_store() {
    let local = Project::shipped();
    local.flow("run -q").exits(0);
    let expected = Place::Local(local.path("data/work")).contents();
    let data = |contents: &BTreeMap<String, Bytes>| -> BTreeMap<String, Bytes> {
        contents.clone().into_iter().filter(|(name, _)| !name.contains("/.")).collect()
    };
    for store in [stores::s3(), stores::azure()] {
        let (project, place) = shipped_on(&store, "shipped");
        with_credentials(&project, &store, store.port);
        project.flow("run -q").exits(0);
        let found = place.contents();
        assert!(data(&found).keys().eq(data(&expected).keys()), "{}: {:?}", store.url, found.keys());
        assert!(data(&found) == data(&expected), "{}: the same names, the same bytes", store.url);
        let again = project.flow("run --output json").exits(0).summary();
        assert_eq!((&again["nodes"]["skipped"], &again["partitions"]["done"]), (&3.into(), &0.into()), "{}", store.url);
    }
}

#[test]
fn credentials_may_come_from_the_environment() {
    for store in [stores::s3(), stores::azure()] {
        let mut project = small::project(&format!("{}/environment", store.url), "");
        project.write("data/nodes.csv", &small::csv(0..30, "any", 2));
        let refused = project.flow("run");
        assert_ne!(refused.code, 0, "without credentials nothing works: {}", refused.stderr);
        for (name, value) in store.environment() {
            project = project.env(name, &value);
        }
        project.flow("run -q").exits(0);
        assert_eq!(store.place("environment").tables().len(), 6, "{}", store.url);
    }
}

#[test]
fn a_wrong_key_is_refused_before_the_start_and_never_shown() {
    let store = stores::s3();
    let project = small::project("s3://bucket/wrong", "credentials: store")
        .file("credentials.yml", &store.credentials(store.port).replace("testsecret", "hunter2-is-wrong"));
    project.write("data/nodes.csv", &small::csv(0..30, "any", 2));
    let refused = project.flow("run").exits(3);
    assert!(refused.stderr.contains("s3://bucket/wrong/"), "{}", refused.stderr);
    assert!(!refused.stderr.contains("hunter2") && !refused.stdout.contains("hunter2"));
}

#[test]
fn a_store_that_cannot_be_reached_is_named_before_the_start() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let credentials = format!("store: {{key: k, secret: s, client_kwargs: {{endpoint_url: 'http://{closed}'}}}}\n");
    let project = small::project("s3://bucket/closed", "credentials: store")
        .file("credentials.yml", &credentials)
        .file("data/nodes.csv", &small::csv(0..30, "any", 2));
    let refused = project.flow("run").exits(3);
    assert!(refused.stderr.contains("`buckets@table`: s3://bucket/closed/.buckets"), "{}", refused.stderr);
}

/// A partition that does not fit into memory or a single PUT is spooled to a file and uploaded in parts: readers see all
/// of it or nothing.
#[test]
fn a_large_partition_is_uploaded_in_parts_and_a_kill_between_them_shows_no_half_of_it() {
    let large = |base: &str, options: &str| {
        small::project(base, options)
            .file("data/nodes.csv", &small::csv(0..40_000, "any", 2))
            .edit("parameters.yml", "size: 10", "size: 40000")
            .edit("parameters.yml", "dimensions: 8", "dimensions: 128")
    };
    let undisturbed = large("data/out", "");
    undisturbed.flow("run -q").exits(0);
    let expected = Place::Local(undisturbed.path("data/out")).tables();
    let local = large("data/out", "");
    let place = Place::Local(local.path("data/out"));
    let stores = [stores::s3(), stores::azure()];
    let remote = stores.each_ref().map(|store| {
        let project = large(&format!("{}/large", store.url), "credentials: store");
        (project.file("credentials.yml", &store.credentials(store.port)), store.place("large"))
    });
    for (project, place) in [(local, place)].into_iter().chain(remote) {
        project.flow("run -q --nodes cut").exits(0);
        let mut kills = 0;
        for step in 1.. {
            let mut command = project.command(["run", "-q", "--nodes", "embed"]);
            let status = command.env("FLOW_UNSTABLE_KILL_AT", step.to_string()).status().expect("the binary starts");
            let found = place.tables().remove("vectors/bucket=0");
            assert!(found.is_none_or(|found| found == expected["vectors/bucket=0"]), "{place:?}, step {step}");
            if status.success() {
                break;
            }
            kills += 1;
        }
        // The lease, the beginning and the end of the commit; on stores also two parts of 16 MiB.
        assert!(kills >= 3, "{place:?}: {kills} kills");
        assert!(place.tables() == expected, "{place:?}");
        let left: Vec<_> = place.files().into_iter().filter(|name| !name.ends_with(".parquet")).collect();
        assert_eq!(left, [".buckets.flow"], "{place:?}");
    }
}

/// What is up to date is found by listing: so many requests for so many partitions, and not one per partition.
#[test]
fn partitions_that_are_there_cost_only_listings() {
    // The benchmark has 10,000; the formula is the same for fewer.
    #[expect(clippy::disallowed_methods, reason = "a switch for running the tests")]
    let count: usize = std::env::var("FLOW_TEST_PARTITIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(2500);
    let local = small::project("data/out", "").file("data/nodes.csv", &small::csv(0..count, "any", 2));
    local.write("parameters.yml", "size: 1\nlength: 60\nfeatures: [name]\nmodel: {provider: hash, dimensions: 2}\n");
    local.flow("run -q").exits(0);
    let contents = Place::Local(local.path("data/out")).contents();
    assert_eq!(contents.len(), 2 * count + 1);
    let store = stores::s3();
    let proxy = Proxy::new(store.port);
    // Names do not depend on the store, so the files written locally are those that would have been written there.
    store.place("many").put(&contents);
    let project = local.copy();
    project.write("catalog.yml", &small::project("s3://bucket/many", "credentials: store").read("catalog.yml"));
    project.write("credentials.yml", &store.credentials(proxy.port));
    project.flow("run -q").exits(0);
    let first = proxy.take();
    let begin = Instant::now();
    let summary = project.flow("run --output json").exits(0).summary();
    let seconds = begin.elapsed().as_secs_f64();
    let counts = proxy.take();
    assert_eq!(
        (&summary["nodes"]["skipped"], &summary["partitions"]["skipped"]),
        (&2.into(), &count.into()),
        "{first:?}"
    );
    // A page of a listing holds 1,000 objects. The buckets and the vectors are listed once each.
    let pages = count.div_ceil(1000);
    eprintln!("{count} partitions up to date on S3: {seconds:.2} s, requests: {counts:?}");
    // Two leases taken, looked for shards, looked at and given back, two folders that might be files, and a receipt that is read twice.
    let expected = [("GET", 4), ("HEAD", 2), ("LIST", 2 * pages + 2), ("POST", 2), ("PUT", 2)];
    assert_eq!(counts, expected.map(|(kind, count)| (kind.to_owned(), count)).into());
}
