//! One partition at a time.

use super::{integers, partitioned, processes};

#[test]
fn a_function_gets_one_partition_at_a_time_and_each_is_committed_and_resumed() {
    let functions = "
        def work(rows: list[dict]):
            if any(row['n'] == 55 for row in rows):
                raise ValueError('no 55')
            return [{'n': row['n'] + 1, 'part': row['part']} for row in rows]
        ";
    let project = partitioned(functions, 12, ", workers: 2");
    let output = project.flow("run --keep-going --output json").exits(1);
    let summary = output.summary();
    assert_eq!(summary["partitions"]["done"], 11, "{summary}");
    let failed: Vec<_> = output.lines().into_iter().filter(|line| line["kind"] == "partition.failed").collect();
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0]["partition"], "part=5");
    let error = failed[0]["error"].as_str().expect("a message");
    assert_eq!(
        error,
        "ValueError: no 55\n  File \"src/work/nodes.py\", line 3, in work\n    raise ValueError('no 55')\n  input 1: 10 rows × 2 columns (n, part)"
    );
    project
        .write("src/work/nodes.py", "def work(rows: list[dict]):\n    return [{'n': row['n'] + 1} for row in rows]\n");
    let summary = project.flow("run --output json").exits(0).summary();
    assert_eq!((&summary["partitions"]["done"], &summary["rows"]["ok"]), (&12.into(), &120.into()), "the code changed");
    let files = project.files("data/done");
    let name = files.iter().find(|name| name.starts_with("part=5/")).expect("the partition");
    assert_eq!(integers(&project, &format!("data/done/{name}"), "n"), (51..=60).map(Some).collect::<Vec<_>>());
    project.write("data/parts/part=3/rows.csv", "n\n7\n");
    let summary = project.flow("run --output json").exits(0).summary();
    assert_eq!((&summary["partitions"]["done"], &summary["partitions"]["skipped"]), (&1.into(), &11.into()));
}

#[test]
fn columns_of_all_partitions_are_those_of_the_first() {
    let functions = "
        def work(rows: list[dict]):
            part = rows[0]['part']
            value = {0: 1, 1: None, 2: 2.0, 3: 'text'}[part]
            return [{'n': row['n'], 'value': value} for row in rows]
        ";
    let project = partitioned(functions, 4, ", workers: 1");
    let output = project.flow("run --output json").exits(1);
    let failed: Vec<_> = output.lines().into_iter().filter(|line| line["kind"] == "partition.failed").collect();
    assert_eq!((failed.len(), &failed[0]["partition"]), (1, &"part=3".into()), "{failed:?}");
    let error = failed[0]["error"].as_str().expect("a message");
    assert!(error.starts_with("column `value` of its result is Utf8, and Int64 in partition part=0"), "{error}");
    for part in 0..3 {
        let files = project.files(&format!("data/done/part={part}"));
        let values = integers(&project, &format!("data/done/part={part}/{}", files[0]), "value");
        assert_eq!(values, vec![[Some(1), None, Some(2)][part]; 10]);
    }
}

#[test]
fn rows_that_change_the_key_of_their_partition_are_refused() {
    let functions = "
        def work(rows: list[dict]):
            return [{**row, 'part': 7} for row in rows]
        ";
    let project = partitioned(functions, 1, "");
    let output = project.flow("run").exits(1);
    assert!(output.stderr.contains("its result has `part` = 7, and the partition is part=0"), "{}", output.stderr);
}

#[test]
fn what_does_not_fit_one_partition_at_a_time_is_refused_before_the_run() {
    let project = partitioned("def work(a, b): pass\n", 1, ", partitions: each").edit(
        "pipelines/main.yml",
        "inputs: parts",
        "inputs: [parts, numbers]",
    );
    let output = project.flow("check").exits(2);
    assert!(
        output.stderr.contains("error[python::partitions]: node `work` cannot get its partitions one at a time"),
        "{}",
        output.stderr
    );
    assert!(
        output.stderr.contains("`partitions: each` takes one dataset with partitions and any parameters"),
        "{}",
        output.stderr
    );
}

#[test]
fn killed_at_any_moment_no_worker_is_left_and_the_next_run_completes_the_rest() {
    let functions = "
        import subprocess, sys, threading, time
        marker = 'flow-test-MARKER'
        def work(rows: list[dict]):
            child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)', marker])
            threading.Thread(target=time.sleep, args=(600,)).start()
            if rows[0]['part'] >= 3:
                time.sleep(600)
            return rows
        ";
    let marker = format!("flow-test-{}", std::process::id());
    let project = partitioned(&functions.replace("flow-test-MARKER", &marker), 6, ", workers: 2");
    let mut child = project.spawn("run --output json");
    // The run is in the fourth partition when three are there.
    while project
        .files("data/done")
        .iter()
        .filter(|name| name.ends_with(".parquet") && name.starts_with("part="))
        .count()
        < 3
        || processes(&marker).len() < 4
    {
        std::thread::yield_now();
        assert_eq!(child.try_wait().expect("a status"), None, "the run ended");
    }
    child.kill().expect("killed");
    child.wait().expect("reaped");
    let limit = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !processes(&marker).is_empty() {
        assert!(std::time::Instant::now() < limit, "left behind: {:?}", processes(&marker));
        std::thread::yield_now();
    }
    project.write("src/work/nodes.py", "def work(rows: list[dict]):\n    return rows\n");
    let project = project.edit("pipelines/main.yml", "workers: 2", "workers: 2, code: none");
    project.flow("run").exits(0);
    assert_eq!(project.files("data/done").iter().filter(|name| name.ends_with(".parquet")).count(), 6);
}
