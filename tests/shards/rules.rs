//! What a shard computes, leaves alone and refuses.

use std::{
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use super::Api;
use crate::support::{Project, small};

fn cut(rows: usize) -> Project {
    let project = small::project("data/out", "").file("data/nodes.csv", &small::csv(0..rows, "any", 2));
    project.flow("run -q --nodes cut").exits(0);
    project
}

/// The partitions of the output, in order.
fn buckets(project: &Project) -> Vec<usize> {
    let number = |name: &String| name.strip_prefix("bucket=")?.split('/').next()?.parse().ok();
    let mut found: Vec<usize> = project.files("data/out/vectors").iter().filter_map(number).collect();
    found.sort_unstable();
    found
}

#[test]
fn a_shard_computes_every_nth_partition_in_the_order_of_keys_and_removes_nothing() {
    let project = cut(130);
    project.flow("run -q --nodes embed --shard 1/3").exits(0);
    // By number and not by name: 10 comes after 9.
    assert_eq!(buckets(&project), [1, 4, 7, 10]);
    project.flow("run -q --nodes embed").exits(0);
    assert_eq!(buckets(&project), (0..13).collect::<Vec<_>>());
    // The input gets shorter: what it no longer has is removed by the run that sees all of it.
    project.write("data/nodes.csv", &small::csv(0..50, "any", 2));
    project.flow("run -q --nodes cut --yes").exits(0);
    project.flow("run -q --nodes embed --shard 0/1").exits(0);
    assert_eq!(buckets(&project).len(), 13, "a shard removes nothing, all of it neither");
    let refused = project.flow("run --nodes embed").exits(3);
    assert!(refused.stderr.contains("would remove 8 of the 13 partitions"), "{}", refused.stderr);
    project.flow("run -q --nodes embed --yes").exits(0);
    assert_eq!(buckets(&project), [0, 1, 2, 3, 4]);
}

#[test]
fn a_plan_of_a_shard_says_what_the_shard_computes() {
    let project = cut(130);
    let plan = project.flow("plan --nodes embed --shard 1/3 --output json").exits(0).json();
    let node = &plan["nodes"][0];
    assert_eq!(
        (&node["partitions"]["total"], &node["partitions"]["run"], &node["rows"]),
        (&4.into(), &4.into(), &40.into())
    );
}

#[test]
fn the_variables_of_a_job_array_give_the_shard() {
    for (variables, expected) in [
        (
            vec![("SLURM_ARRAY_TASK_ID", "4"), ("SLURM_ARRAY_TASK_COUNT", "4"), ("SLURM_ARRAY_TASK_MIN", "1")],
            vec![3, 7, 11],
        ),
        (vec![("JOB_COMPLETION_INDEX", "5"), ("FLOW_SHARDS", "6")], vec![5, 11]),
        (vec![("AWS_BATCH_JOB_ARRAY_INDEX", "0"), ("AWS_BATCH_JOB_ARRAY_SIZE", "7")], vec![0, 7]),
    ] {
        let project = variables.iter().fold(cut(130), |project, (name, value)| project.env(name, value));
        project.flow("run -q --nodes embed --shard auto").exits(0);
        assert_eq!(buckets(&project), expected, "{variables:?}");
    }
    let refused = cut(10).flow("run --nodes embed --shard auto").exits(2);
    assert!(refused.stderr.contains("`--shard auto` finds no scheduler"), "{}", refused.stderr);
}

#[test]
fn what_cannot_be_divided_is_refused_before_anything_starts() {
    let project = cut(30);
    for (line, words) in [
        (
            "run --shard 0/2",
            &[
                "error[node::not-divisible]: node `cut` has no partitions that `--shard 0/2` could divide",
                "pipelines/main.yml:",
                "help: run it once without `--shard`",
            ][..],
        ),
        ("plan --shard 0/2", &["node `cut` has no partitions that `--shard 0/2` could divide"]),
        ("run --nodes embed --shard 2/2", &["`2/2` is no shard"]),
        ("run --nodes embed --shard 0/2 --force", &["`--force` cannot be combined with `--shard`"]),
        ("run --nodes embed --rate-share 3/2", &["`3/2` is none"]),
    ] {
        let refused = project.flow(line).exits(2);
        for words in words {
            assert!(refused.stderr.contains(words), "{line}: {words}: {}", refused.stderr);
        }
    }
    assert_eq!(buckets(&project), [0; 0]);
    let memory = cut(30).edit(
        "catalog.yml",
        "vectors@partitioned: {type: partitioned, path: 'data/out/vectors', dataset: {type: parquet}, filename_suffix: .parquet, overwrite: true}",
        "vectors@partitioned: {type: memory, shape: partitions}",
    );
    let refused = memory.flow("run --nodes embed --shard 0/2").exits(2);
    assert!(refused.stderr.contains("is kept in memory and ends with the shard"), "{}", refused.stderr);
}

#[test]
fn a_shard_of_another_project_than_the_compiled_one_is_refused() {
    let project = cut(60);
    let digest = |project: &Project, line: &str| {
        let plan = project.flow(&format!("plan --output json {line}")).exits(0).json();
        plan["plan_digest"].as_str().expect("a digest").to_owned()
    };
    let compiled = digest(&project, "");
    assert_eq!(digest(&project, "--nodes embed"), compiled, "it is the project's and not the selection's");
    assert_eq!(digest(&project.copy(), ""), compiled, "it is the same in another folder");
    let line = format!("run -q --nodes embed --shard 1/2 --plan-digest {compiled}");
    project.flow(&line).exits(0);
    let other = project.copy().edit("parameters.yml", "dimensions: 8", "dimensions: 9");
    let refused = other.flow(&line).exits(2);
    for words in ["the project is not the one that was compiled", compiled.as_str(), "help: compile it again"] {
        assert!(refused.stderr.contains(words), "{words}: {}", refused.stderr);
    }
    let refused = project.flow(&format!("{line} --params model.dimensions=4")).exits(2);
    assert!(refused.stderr.contains("is not the one that was compiled"), "{}", refused.stderr);
    let moved = project.copy().edit("catalog.yml", "out/vectors", "out/elsewhere");
    moved.flow(&line).exits(2);
}

#[test]
fn a_run_without_shards_and_a_shard_do_not_write_at_the_same_time() {
    // Nothing is answered before the processes have met.
    let api = Api::start((50_000, 50_000));
    let project = api.project("data/out", "", 400);
    project.flow("run -q --nodes cut").exits(0);
    let wait_for_a_request = |more_than: u64| {
        let begun = Instant::now();
        while api.server.requests() <= more_than {
            assert!(begun.elapsed() < Duration::from_secs(120), "no request was sent");
            thread::park_timeout(Duration::from_millis(2));
        }
    };
    let mut shard = project.command(["run", "-q", "--nodes", "embed", "--shard", "2/4"]);
    let mut shard = shard.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary starts");
    wait_for_a_request(0);
    let refused = project.flow("run --nodes embed").exits(3);
    assert!(refused.stderr.contains("is being written by shard 2/4 of a run: process"), "{}", refused.stderr);
    shard.kill().expect("killed");
    shard.wait().expect("over");
    let before = api.server.requests();
    let mut run = project.command(["run", "-q", "--nodes", "embed"]);
    let mut run = run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary starts");
    wait_for_a_request(before);
    let refused = project.flow("run --nodes embed --shard 0/4").exits(3);
    assert!(refused.stderr.contains("is being written by process"), "{}", refused.stderr);
    run.kill().expect("killed");
    run.wait().expect("over");
    api.server.change(|behaviour| behaviour.latency = (Duration::ZERO, Duration::ZERO));
    let refused = project.flow("run -q --nodes embed").exits(0);
    assert_eq!(refused.stderr, "");
}
