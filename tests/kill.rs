//! Runs killed at every step of writing and at random moments: what a reader sees is always whole, and the next run
//! computes exactly what is missing.

use std::{
    collections::BTreeMap,
    process::{ExitStatus, Stdio},
    sync::{
        LazyLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use arrow::array::RecordBatch;
use bytes::Bytes;

use crate::support::{
    Project,
    place::{Place, Tables},
    small,
    stores::{self, Store},
};

/// What the dataset holds before, and what it must hold in the end, by partition.
struct Story {
    before: BTreeMap<String, Bytes>,
    old: Tables,
    new: Tables,
}

fn first() -> String {
    small::csv(0..140, "old", 3)
}

/// Ten partitions change, two do not, one gets shorter, one vanishes.
fn second() -> String {
    let changed = small::csv(0..100, "new", 3);
    let same: String = first().lines().skip(101).take(25).map(|line| line.to_owned() + "\n").collect();
    changed + &same
}

/// Undisturbed, on the local disk: names and rows are the same on every store.
static STORY: LazyLock<Story> = LazyLock::new(|| {
    let project = small::project("data/out", "");
    let place = Place::Local(project.path("data/out"));
    project.write("data/nodes.csv", &first());
    project.flow("run -q").exits(0);
    let (before, old) = (place.contents(), place.tables());
    project.write("data/nodes.csv", &second());
    project.flow("run -q").exits(0);
    Story { before, old, new: place.tables() }
});

/// A project in which `flow run` has to go from one state to the next.
struct Stage {
    project: Project,
    place: Place,
    from_nothing: bool,
}

impl Stage {
    fn local(from_nothing: bool) -> Self {
        let project = small::project("data/out", "");
        let place = Place::Local(project.path("data/out"));
        Self::set(project, place, from_nothing)
    }

    fn on(store: &Store, from_nothing: bool) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let prefix = format!("kill-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let project = small::project(&format!("{}/{prefix}", store.url), "credentials: store");
        project.write("credentials.yml", &store.credentials(store.port));
        Self::set(project, store.place(&prefix), from_nothing)
    }

    fn set(project: Project, place: Place, from_nothing: bool) -> Self {
        project.write("data/nodes.csv", &second());
        if !from_nothing {
            place.put(&STORY.before);
        }
        Self { project, place, from_nothing }
    }

    /// Every visible file is whole, and contains what its partition contained before or will contain at the end.
    fn look(&self) -> usize {
        let mut files = 0;
        for (key, batches) in self.place.tables() {
            for batch in &batches {
                files += 1;
                let is = |tables: &Tables| tables.get(&key).is_some_and(|known| known.contains(batch));
                let old = !self.from_nothing && is(&STORY.old);
                assert!(old || is(&STORY.new), "{key} holds neither its old nor its new rows: {batch:?}");
            }
        }
        files
    }

    /// Runs and reads the dataset repeatedly, until the run ends or `kill` returns true.
    fn run(&self, kill_at: Option<usize>, kill: impl Fn() -> bool) -> ExitStatus {
        let mut command = self.project.command(["run", "-q"]);
        if let Some(step) = kill_at {
            command.env("FLOW_UNSTABLE_KILL_AT", step.to_string());
        }
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary starts");
        loop {
            self.look();
            if let Some(status) = child.try_wait().expect("a child") {
                return status;
            }
            if kill() {
                child.kill().expect("killed");
                return child.wait().expect("over");
            }
            thread::yield_now();
        }
    }

    /// The next run completes the dataset and removes what the killed one left; the run after it finds nothing to do.
    fn repeat(&self, what: &str) {
        self.look();
        let output = self.project.flow("run --output json");
        assert_eq!(output.code, 0, "{what}: {}{}", output.stdout, output.stderr);
        let found = self.place.tables();
        assert!(found.keys().eq(STORY.new.keys()), "{what}: {:?}", found.keys());
        for (key, batches) in &found {
            assert_eq!(batches, &STORY.new[key], "{what}: {key}");
        }
        let left: Vec<_> = self.place.files().into_iter().filter(|name| !name.ends_with(".parquet")).collect();
        assert_eq!(left, [".buckets.flow"], "{what}: only the receipt is beside the data");
        let plan = self.project.flow("plan --output json").exits(0).json();
        let actions: Vec<_> = plan["nodes"].as_array().expect("nodes").iter().map(|node| &node["action"]).collect();
        assert_eq!(actions, ["skip", "skip"], "{what}");
    }
}

fn killed(status: ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt;
    assert!(status.signal() == Some(9) || status.success(), "killed or done, not {status}");
    !status.success()
}

/// Points at which a run is killed, at least.
const GOAL: usize = 200;

/// Kills at every step, from nothing and from an older state, then `random` times at random moments. Returns how often a
/// run was killed.
fn everywhere(stage: &(impl Fn(bool) -> Stage + Sync), random: usize) -> usize {
    let kills = AtomicUsize::new(0);
    for from_nothing in [true, false] {
        let next = AtomicUsize::new(1);
        let last = AtomicUsize::new(usize::MAX);
        let work = || {
            loop {
                let step = next.fetch_add(1, Ordering::Relaxed);
                if step >= last.load(Ordering::Relaxed) {
                    return;
                }
                let stage = stage(from_nothing);
                if !killed(stage.run(Some(step), || false)) {
                    // No run has so many steps.
                    last.fetch_min(step, Ordering::Relaxed);
                    return;
                }
                kills.fetch_add(1, Ordering::Relaxed);
                stage.repeat(&format!("step {step}, from nothing: {from_nothing}"));
            }
        };
        thread::scope(|scope| {
            scope.spawn(work);
            scope.spawn(work);
        });
    }
    let mut whole = {
        let stage = stage(false);
        let begin = Instant::now();
        assert!(!killed(stage.run(None, || false)));
        stage.repeat("not killed");
        begin.elapsed()
    };
    // A busy machine lets some runs end before their moment has come: as many more are tried, up to a bound.
    for n in 0..4 * random {
        if kills.load(Ordering::Relaxed) >= GOAL && n >= random {
            break;
        }
        let stage = stage(n % 2 == 0);
        let moment = whole.mul_f64(((n % random) as f64 + 0.5) / random as f64).max(Duration::from_millis(1));
        let begin = Instant::now();
        if killed(stage.run(None, || begin.elapsed() >= moment)) {
            kills.fetch_add(1, Ordering::Relaxed);
        } else {
            // The run that was timed met a busy moment; this one is a better estimate of how long one takes.
            whole = whole.min(begin.elapsed());
        }
        stage.repeat(&format!("after {moment:?} of {whole:?}"));
    }
    kills.into_inner()
}

#[test]
fn on_the_local_disk_no_kill_at_any_step_leaves_anything_torn() {
    let kills = everywhere(&Stage::local, 30);
    assert!(kills >= GOAL, "{kills} kills");
}

#[test]
fn on_s3_no_kill_at_any_step_leaves_anything_torn() {
    let store = stores::s3();
    let kills = everywhere(&|from_nothing| Stage::on(&store, from_nothing), 110);
    assert!(kills >= GOAL, "{kills} kills");
}

#[test]
fn the_kill_test_sees_a_torn_file() {
    let stage = Stage::local(false);
    assert_eq!(stage.look(), 28);
    let (name, bytes) = STORY.before.iter().find(|(name, _)| name.ends_with(".parquet")).expect("a file");
    let half = BTreeMap::from([(name.clone(), bytes.slice(..bytes.len() / 2))]);
    stage.place.put(&half);
    let looked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| stage.look()));
    assert!(looked.is_err(), "half a file is noticed");
    let other: RecordBatch = STORY.new["buckets/bucket=0"][0].slice(0, 3);
    assert!(!STORY.old["buckets/bucket=0"].contains(&other));
}
