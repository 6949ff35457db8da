//! Shards as processes at once on one output, killed at random, two attempts of one shard at a time.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::{Api, WORKERS};
use crate::support::{Project, place::Place, stores};

const ROWS: usize = 640;
/// Rows of a partition.
const SIZE: usize = 10;

/// A sequence of numbers that looks random and is the same each time.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// One process.
struct Attempt {
    shard: usize,
    child: Child,
}

impl Attempt {
    fn start(project: &Project, shard: usize, count: usize) -> Self {
        let shard_of = format!("{shard}/{count}");
        let mut command = project.command(["run", "-q", "--nodes", "embed", "--shard", &shard_of]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary starts");
        Self { shard, child }
    }

    /// Whether it has ended well. Any other end is a failure of the test.
    fn ended(&mut self) -> bool {
        match self.child.try_wait().expect("a child") {
            None => false,
            Some(status) => {
                let mut said = String::new();
                let _ = std::io::Read::read_to_string(&mut self.child.stderr.take().expect("piped"), &mut said);
                assert!(status.success(), "shard {}: {status}: {said}", self.shard);
                assert_eq!(said, "", "shard {}", self.shard);
                true
            }
        }
    }
}

/// Runs all shards, two attempts of every third one, and kills `kills` of the processes at random. Gives the shards that were
/// killed, and when, by the clock of the server.
fn storm(api: &Api, project: &Project, count: usize, kills: usize, begun: Instant) -> Vec<(usize, Duration)> {
    let mut chance = Chance(count as u64);
    let start = |shard| Attempt::start(project, shard, count);
    let mut alive: Vec<Attempt> = (0..count).map(start).chain((0..count).step_by(3).map(start)).collect();
    let mut killed = Vec::new();
    let mut next_kill = 3;
    let limit = Instant::now();
    while !alive.is_empty() {
        assert!(limit.elapsed() < Duration::from_secs(400), "{count} shards hang");
        let mut left = Vec::new();
        for mut attempt in alive {
            if !attempt.ended() {
                left.push(attempt);
            }
        }
        alive = left;
        if killed.len() < kills && api.server.requests() >= next_kill && !alive.is_empty() {
            let mut victim = alive.swap_remove(chance.below(alive.len() as u64) as usize);
            victim.child.kill().expect("killed");
            // It sends nothing any more.
            victim.child.wait().expect("over");
            killed.push((victim.shard, begun.elapsed()));
            alive.push(start(victim.shard));
            next_kill = api.server.requests() + 1 + chance.below(5);
        }
        thread::park_timeout(Duration::from_millis(2));
    }
    killed
}

/// Every text was asked once; again only where a process was killed: at most the partitions that each killed process had in hand.
fn nothing_is_asked_twice(api: &Api, count: usize, killed: &[(usize, Duration)]) {
    let counts = api.asked();
    assert_eq!(counts.len(), ROWS, "every text was asked");
    let journal = api.server.journal();
    // Of each shard, the partitions that were asked about before they were asked about again, and when.
    let mut lost: BTreeMap<usize, BTreeSet<(usize, Duration)>> = BTreeMap::new();
    for (text, _) in counts.iter().filter(|(_, times)| **times > 1) {
        let row: usize = text.rsplit(' ').next().expect("a word").parse().expect("the number of the row");
        let (partition, shard) = (row / SIZE, row / SIZE % count);
        let mut asked: Vec<_> = journal.iter().filter(|seen| seen.status == 200 && seen.texts.contains(text)).collect();
        asked.sort_by_key(|seen| seen.at);
        asked.pop();
        for earlier in asked {
            let before_a_kill =
                killed.iter().any(|(of, at)| *of == shard && earlier.at <= *at + Duration::from_millis(100));
            assert!(
                before_a_kill,
                "{text:?} of shard {shard}/{count} was asked again, though no process was killed since: {earlier:?}, killed: {killed:?}"
            );
            lost.entry(shard).or_default().insert((partition, earlier.at));
        }
    }
    for (shard, partitions) in lost {
        let kills = killed.iter().filter(|(of, _)| *of == shard).count();
        assert!(
            partitions.len() <= WORKERS * kills,
            "shard {shard}/{count} was killed {kills} times and lost more than {WORKERS} partitions each time: {partitions:?}, killed: {killed:?}"
        );
    }
}

fn shards_are_equal_to_one_run(place: impl Fn(&Api, &str) -> (Project, Place), kills: impl Fn(usize) -> usize) {
    for count in [1, 3, 8, 16] {
        let api = Api::start((30, 90));
        let begun = Instant::now();
        let (project, at) = place(&api, &format!("shards-{count}"));
        project.flow("run -q --nodes cut").exits(0);
        let killed = storm(&api, &project, count, kills(count), begun);
        nothing_is_asked_twice(&api, count, &killed);
        let before = api.server.requests();
        let gather = project.flow("run --nodes embed --output json").exits(0).summary();
        assert_eq!(api.server.requests(), before, "{count}: the gather asks nothing");
        assert_eq!((&gather["nodes"]["skipped"], &gather["partitions"]["skipped"]), (&1.into(), &(ROWS / SIZE).into()));
        let left: Vec<_> = at.files().into_iter().filter(|name| name.starts_with('.') || name.contains("/.")).collect();
        assert_eq!(left, [".buckets.flow"], "{count}: nothing is left beside the data");
        let undisturbed = Api::start((0, 0));
        let one = undisturbed.project("data/out", "", ROWS);
        one.flow("run -q").exits(0);
        assert_eq!(at.tables(), Place::Local(one.path("data/out")).tables(), "{count} shards");
        eprintln!("{count} shards: {} killed, {before} requests", killed.len());
    }
}

#[test]
fn shards_killed_at_random_on_a_shared_folder_give_what_one_run_gives_and_ask_nothing_twice() {
    shards_are_equal_to_one_run(|api, _| on_a_folder(api), |count| 2 + count / 2);
}

#[test]
fn shards_killed_at_random_on_s3_give_what_one_run_gives_and_ask_nothing_twice() {
    let store = stores::s3();
    shards_are_equal_to_one_run(|api, prefix| on_s3(&store, api, prefix), |count| 1 + count / 4);
}

/// A project on a shared folder.
fn on_a_folder(api: &Api) -> (Project, Place) {
    let project = api.project("data/out", "", ROWS);
    let at = Place::Local(project.path("data/out"));
    (project, at)
}

/// A project in a bucket, under a prefix.
fn on_s3(store: &stores::Store, api: &Api, prefix: &str) -> (Project, Place) {
    let project = api
        .project(&format!("{}/{prefix}", store.url), "credentials: store", ROWS)
        .file("credentials.yml", &store.credentials(store.port));
    (project, store.place(prefix))
}

fn another_number_computes_what_is_missing(api: &Api, project: &Project) {
    project.flow("run -q --nodes cut").exits(0);
    let partitions = |line: &str| {
        let summary = project.flow(&format!("run --nodes embed --output json {line}")).exits(0).summary();
        let of = |name: &str| summary["partitions"][name].as_u64().expect("a number") as usize;
        (of("done"), of("skipped"))
    };
    assert_eq!(partitions("--shard 0/8"), (8, 0));
    assert_eq!(partitions("--shard 3/8"), (8, 0));
    assert_eq!(partitions("--shard 0/8"), (0, 8), "an attempt more");
    // Of 22 partitions at 0, 3, 6, …, those at 0 or 3 modulo 8 are there.
    let there = (0..64).step_by(3).filter(|at| at % 8 == 0 || at % 8 == 3).count();
    assert_eq!(partitions("--shard 0/3"), (22 - there, there));
    assert_eq!(partitions("--shard 99/100"), (0, 0), "an empty shard succeeds");
    assert_eq!(partitions(""), (64 - 16 - (22 - there), 16 + 22 - there), "the run without shards does the rest");
    assert_eq!(api.asked().values().filter(|times| **times > 1).count(), 0);
    assert_eq!(api.asked().len(), ROWS);
}

#[test]
fn another_number_of_shards_computes_what_is_missing_on_a_shared_folder() {
    let api = Api::start((0, 0));
    another_number_computes_what_is_missing(&api, &on_a_folder(&api).0);
}

#[test]
fn another_number_of_shards_computes_what_is_missing_on_s3() {
    let (api, store) = (Api::start((0, 0)), stores::s3());
    another_number_computes_what_is_missing(&api, &on_s3(&store, &api, "number").0);
}

/// Eight shards are killed one after the other, and what they left is computed by three, of which some are killed too.
fn killed_shards_are_continued_by_another_number(api: &Api, project: &Project, at: &Place) {
    let begun = Instant::now();
    project.flow("run -q --nodes cut").exits(0);
    let mut killed: Vec<(usize, Duration)> = Vec::new();
    for shard in [5, 2, 7] {
        let mut attempt = Attempt::start(project, shard, 8);
        let before = api.server.requests();
        while api.server.requests() < before + 3 {
            assert!(!attempt.ended(), "shard {shard} was killed too late");
            thread::park_timeout(Duration::from_millis(2));
        }
        attempt.child.kill().expect("killed");
        attempt.child.wait().expect("over");
        // By the clock of the server.
        killed.push((shard, api.started.elapsed().expect("time goes on")));
    }
    let of_eight = api.asked();
    let mut three: Vec<Attempt> = [0, 1, 2, 1].map(|shard| Attempt::start(project, shard, 3)).into();
    while !three.is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(300), "three shards hang");
        three.retain_mut(|attempt| !attempt.ended());
        thread::park_timeout(Duration::from_millis(5));
    }
    let twice: Vec<String> = api.asked().into_iter().filter(|(_, times)| *times > 1).map(|(text, _)| text).collect();
    assert!(twice.iter().all(|text| of_eight.contains_key(text)), "only a killed one's are asked again: {twice:?}");
    nothing_is_asked_twice(api, 8, &killed);
    let before = api.server.requests();
    let gather = project.flow("run --nodes embed --output json").exits(0).summary();
    assert_eq!((api.server.requests(), &gather["partitions"]["skipped"]), (before, &(ROWS / SIZE).into()));
    let undisturbed = Api::start((0, 0));
    let (one, expected) = on_a_folder(&undisturbed);
    one.flow("run -q").exits(0);
    assert_eq!(at.tables(), expected.tables());
}

#[test]
fn killed_shards_are_continued_by_another_number_of_shards_on_a_shared_folder() {
    let api = Api::start((30, 90));
    let (project, at) = on_a_folder(&api);
    killed_shards_are_continued_by_another_number(&api, &project, &at);
}

#[test]
fn killed_shards_are_continued_by_another_number_of_shards_on_s3() {
    let (api, store) = (Api::start((30, 90)), stores::s3());
    let (project, at) = on_s3(&store, &api, "continued");
    killed_shards_are_continued_by_another_number(&api, &project, &at);
}
