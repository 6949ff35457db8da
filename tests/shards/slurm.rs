//! The shipped project on a real SLURM with eight shards: one asks for another attempt, one is killed.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    process::Command,
    time::{Duration, SystemTime},
};

use serde_json::Value as Json;

use super::{Api, WORKERS};
use crate::support::{Project, place::Place, slurm::Slurm, stores};

/// Texts of the shipped table, and rows in a bucket: 89 partitions.
const TEXTS: usize = 1766;
const BUCKET: usize = 20;

/// The tasks, in order.
const TASKS: [&str; 4] =
    ["node-embeddings", "add-node-embeddings-shards", "add-node-embeddings-gather", "find-nearest-nodes"];

/// Stands for `flow` on the cluster. The first attempt of shard 3 is stopped after one request, with exit 75; that of shard 5 is
/// killed in the middle of its writes.
const PROGRAM: &str = r#"#!/bin/bash
shard=''
for word in "$@"; do
  [[ $word =~ ^[0-9]+/8$ ]] && shard=${word%/8}
done
more=()
if [[ $shard == 3 && ! -e FOLDER/stopped ]]; then
  touch FOLDER/stopped
  more=(--max-requests 1)
elif [[ $shard == 5 && ! -e FOLDER/killed ]]; then
  touch FOLDER/killed
  export FLOW_UNSTABLE_KILL_AT=14
fi
"FLOW" "$@" "${more[@]}"
code=$?
echo "${SLURM_JOB_NAME} ${shard:--} $code $(date +%s%N)" >> FOLDER/ended
exit $code
"#;

/// What is submitted: the scripts that `flow compile slurm` writes.
fn compile(project: &Project, ledger: &str) {
    let line = format!("compile slurm --shards 8 --parallel 4 --ledger {ledger} -o cluster --output json");
    let compiled = project.flow(&line).exits(0).json();
    let tasks = compiled["tasks"].as_array().expect("tasks").iter().map(|task| task["name"].as_str().expect("a name"));
    assert_eq!(tasks.collect::<Vec<_>>(), TASKS);
}

/// The shipped project with its texts sent to a scripted server.
fn project(api: &Api, work: &str) -> Project {
    Project::shipped()
        .edit("globals.yml", "work: data/work", &format!("work: {work}"))
        .edit("catalog.yml", "max_workers: 10", &format!("max_workers: {WORKERS}"))
        .edit("parameters.yml", "batch_size: 500", &format!("batch_size: {BUCKET}"))
        .edit(
            "parameters.yml",
            "    provider: static",
            &format!(
                "    provider: openai\n    model: m\n    base_url: {}\n    api_key: ${{oc.env:OPENAI_API_KEY}}\n    dimensions: 8",
                api.server.base_url()
            ),
        )
        .env("OPENAI_API_KEY", "sk-canary-0123456789abcdefghij")
}

/// Submits all tasks, and waits until all have ended.
fn submit(slurm: &Slurm, project: &Project) {
    let mut command = Command::new(project.path("cluster/submit.sh"));
    command.env_clear().envs(project.environment()).envs(slurm.environment());
    command.env("FLOW_BIN", project.path("program")).env("FLOW_RETRY_DELAY", "0").env("TMPDIR", std::env::temp_dir());
    let output = command.output().expect("bash starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    slurm.wait(Duration::from_secs(300));
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let jobs: Vec<(&str, &str)> = lines.lines().filter_map(|line| line.split_once('\t')).collect();
    assert_eq!(jobs.iter().map(|(_, task)| *task).collect::<Vec<_>>(), TASKS, "{lines}");
    assert!(jobs.iter().all(|(job, _)| job.parse::<u64>().is_ok()), "{lines}");
}

/// How one process of a task ended.
#[derive(Debug)]
struct End {
    task: String,
    /// `-` for none.
    shard: String,
    code: i32,
    /// Since 1970.
    at: Duration,
}

/// The ends of all processes, in order.
fn ends(project: &Project) -> Vec<End> {
    let text = fs::read_to_string(project.path("ended")).unwrap_or_default();
    let parse = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let [task, shard, code, at] = words.as_slice() else { panic!("{line}") };
        let at = Duration::from_nanos(at.parse().expect("a time"));
        End { task: (*task).to_owned(), shard: (*shard).to_owned(), code: code.parse().expect("a code"), at }
    };
    text.lines().map(parse).collect()
}

fn runs_on_slurm(api: &Api, project: &Project, work: &Place, ledger: &str) {
    let slurm = match Slurm::start() {
        Ok(slurm) => slurm,
        Err(why) => {
            eprintln!("skipped: SLURM is not available: {why}");
            return;
        }
    };
    let folder = project.path("").display().to_string();
    let program = PROGRAM.replace("FOLDER", folder.trim_end_matches('/')).replace("FLOW", env!("CARGO_BIN_EXE_flow"));
    let program = program.replace(&format!("export {}_UNSTABLE", env!("CARGO_BIN_EXE_flow")), "export FLOW_UNSTABLE");
    fs::write(project.path("program"), program).expect("written");
    fs::set_permissions(project.path("program"), fs::Permissions::from_mode(0o755)).expect("executable");
    compile(project, ledger);

    // The first submission: shard 3 is tried again by its own job, the array fails with shard 5, and nothing after it starts.
    submit(&slurm, project);
    let ended = ends(project);
    let codes = |shard: &str| ended.iter().filter(|end| end.shard == shard).map(|end| end.code).collect::<Vec<_>>();
    assert_eq!(codes("3"), [75, 0], "{ended:?}");
    assert_eq!(codes("5"), [137], "{ended:?}");
    for shard in ["0", "1", "2", "4", "6", "7"] {
        assert_eq!(codes(shard), [0], "shard {shard}: {ended:?}");
    }
    assert_eq!(codes("-"), [0], "only the buckets were cut: {ended:?}");

    // The second one computes what is missing, gathers once, and then runs what is downstream.
    submit(&slurm, project);
    let second = &ends(project)[ended.len()..];
    assert!(second.iter().all(|end| end.code == 0), "{second:?}");
    let tasks: Vec<&str> = second.iter().filter(|end| end.shard == "-").map(|end| end.task.as_str()).collect();
    assert_eq!(
        tasks,
        [TASKS[0], TASKS[2], TASKS[3]],
        "the gather ran once, and after it what is downstream: {second:?}"
    );
    let last = second.iter().rposition(|end| end.shard != "-").expect("shards");
    let gather = second.iter().position(|end| end.task.ends_with("-gather")).expect("the gather");
    assert!(last < gather, "the gather comes after all shards: {second:?}");
    assert_eq!(second.iter().filter(|end| end.shard != "-").count(), 8, "{second:?}");
    let left = slurm.end();
    assert!(left.is_empty(), "nothing of the cluster is left: {left:?}");

    // Every text once; again only those of the partitions that the killed process had in hand.
    let counts = api.asked();
    assert_eq!(counts.len(), TEXTS, "every row once");
    let killed = ended.iter().find(|end| end.code == 137).expect("the killed one").at;
    let begun = api.started.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    let journal = api.server.journal();
    let twice: Vec<_> = counts.iter().filter(|(_, times)| **times > 1).map(|(text, _)| text).collect();
    assert!(twice.len() <= WORKERS * BUCKET, "{} were asked twice, of {WORKERS} partitions at a time", twice.len());
    for text in &twice {
        let mut asked: Vec<_> = journal.iter().filter(|seen| seen.status == 200 && seen.texts.contains(text)).collect();
        asked.sort_by_key(|seen| seen.at);
        assert_eq!(asked.len(), 2, "{text:?}: {asked:?}");
        let [before, after] = [begun + asked[0].at, begun + asked[1].at];
        assert!(before <= killed && after > killed, "{text:?} was asked twice: {asked:?}, killed at {killed:?}");
    }

    // The same as one run on one machine.
    let undisturbed = Api::start((0, 0));
    let one = self::project(&undisturbed, "data/work");
    one.flow("run -q").exits(0);
    let expected = Place::Local(one.path("data/work"));
    assert_eq!(work.tables(), expected.tables());
    let nearest = |place: &Place| place.read("prm/nearest_nodes.csv").expect("the table downstream");
    assert_eq!(nearest(work), nearest(&expected));

    // One table shows all of it: a group for each submission.
    let runs: Json = project.flow(&format!("runs --ledger {ledger} --output json")).exits(0).json();
    let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for run in runs.as_array().expect("a list") {
        let of_group = groups.entry(run["group"].as_str().expect("a group")).or_default();
        of_group.extend(run["shard"].as_str());
    }
    let mut groups: Vec<Vec<&str>> = groups.into_values().collect();
    groups.iter_mut().for_each(|shards| shards.sort_unstable());
    let second = ["0/8", "1/8", "2/8", "3/8", "4/8", "5/8", "6/8", "7/8"];
    let first = ["0/8", "1/8", "2/8", "3/8", "3/8", "4/8", "5/8", "6/8", "7/8"];
    assert_eq!(groups, [first.to_vec(), second.to_vec()], "{runs}");
    eprintln!("SLURM: {} texts, {} asked twice", counts.len(), twice.len());
}

#[test]
fn slurm_runs_the_shipped_project_with_eight_shards_on_a_shared_folder() {
    let api = Api::start((20, 60));
    let project = project(&api, "data/work");
    let work = Place::Local(project.path("data/work"));
    runs_on_slurm(&api, &project, &work, "shared/ledgers");
}

#[test]
fn slurm_runs_the_shipped_project_with_eight_shards_on_s3() {
    let (api, store) = (Api::start((20, 60)), stores::s3());
    let project = project(&api, &format!("{}/slurm", store.url));
    let project = store.environment().fold(project, |project, (name, value)| project.env(name, &value));
    runs_on_slurm(&api, &project, &store.place("slurm"), &format!("{}/ledgers", store.url));
}
