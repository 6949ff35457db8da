//! `--memory-limit` where Python functions take memory, and processes that are replaced.

use super::{partitioned, project};

const NODE: &str = "
    nodes:
      - {name: work, function: 'python:work.nodes.work', inputs: numbers, outputs: out}
    ";

/// A function that holds more than the limit of the tests until it is ended.
const GREEDY: &str = "
    import time
    def work(rows: list[dict]):
        open('tries', 'a').write('x')
        print('taking it all', flush=True)
        held = b'x' * (600 << 20)
        time.sleep(600)
        return rows
    ";

#[cfg(target_os = "linux")]
#[test]
fn a_process_above_the_memory_limit_is_ended_and_the_error_names_the_limit() {
    let project = project(GREEDY, NODE);
    let output = project.flow("run --memory-limit 400MiB --output json").exits(1);
    let failed = output.lines().into_iter().find(|line| line["kind"] == "node.failed").expect("a failure");
    let message = failed["error"].as_str().expect("a message");
    assert!(message.starts_with("the Python process held "), "{message}");
    for part in [
        "MiB, more than `--memory-limit` allows (400 MiB), and was ended; its last lines:\n  taking it all\n",
        "help: raise `--memory-limit`, give the node fewer `workers:`, or take the rows as an iterator",
        "help: it died the second time as well, in a fresh process",
    ] {
        assert!(message.contains(part), "no {part:?}: {message}");
    }
    assert_eq!(project.read("tries"), "xx");
}

#[cfg(target_os = "linux")]
#[test]
fn what_a_process_started_counts_and_children_share_what_they_inherited() {
    // The parent holds 150 MiB, which its two children see and do not copy.
    let functions = "
        import os, time
        def work(rows: list[dict]):
            held = b'x' * (150 << 20)
            children = []
            for _ in range(2):
                child = os.fork()
                if child == 0:
                    time.sleep(1)
                    os._exit(0)
                children.append(child)
            [os.waitpid(child, 0) for child in children]
            return rows
        ";
    let project = project(functions, NODE);
    project.flow("run --memory-limit 400MiB").exits(0);
    let functions = "
        import subprocess, sys
        def work(rows: list[dict]):
            subprocess.run([sys.executable, '-c', 'import time; held = b\"x\" * (600 << 20); time.sleep(600)'])
            return rows
        ";
    project.write("src/work/nodes.py", &functions.replace("\n        ", "\n"));
    let output = project.flow("run --memory-limit 400MiB").exits(1);
    assert!(output.stderr.contains("more than `--memory-limit` allows (400 MiB)"), "{}", output.stderr);
}

#[cfg(target_os = "linux")]
#[test]
fn partitions_that_do_not_fit_at_once_are_computed_one_after_the_other() {
    // Two meet with 250 MiB each: one of them is ended, and computed again when the other has ended.
    let functions = "
        import os, pathlib, time
        def alive(pid):
            try:
                return open('/proc/%d/stat' % pid).read().rsplit(') ')[1][0] != 'Z'
            except OSError:
                return False
        def work(rows: list[dict]):
            part = rows[0]['n'] // 10
            mine, other = (pathlib.Path('part-%d' % which) for which in (part, 1 - part))
            held = b'x' * (250 << 20)
            mine.write_text(str(os.getpid()))
            begin = time.monotonic()
            while not pathlib.Path('done-%d' % (1 - part)).exists():
                # Only a mistake waits for so long.
                assert time.monotonic() - begin < 300
                time.sleep(0.01)
                if other.exists() and other.read_text() and not alive(int(other.read_text())):
                    break
            pathlib.Path('done-%d' % part).touch()
            return rows
        ";
    let project = partitioned(functions, 2, ", workers: 2");
    let summary = project.flow("run --memory-limit 450MiB --output json").exits(0).summary();
    assert_eq!(summary["partitions"]["done"], 2, "{summary}");
}

#[test]
fn a_process_is_replaced_after_as_many_calls_as_are_said() {
    let functions = "
        import os
        def work(rows: list[dict]):
            open('pids', 'a').write('%d\\n' % os.getpid())
            return rows
        ";
    for (keys, expected) in [
        (", workers: 1, max_calls: 3", vec![3, 3, 1]),
        (", workers: 1", vec![7]),
        (", workers: 1, max_calls: 1", vec![1; 7]),
    ] {
        let project = partitioned(functions, 7, keys);
        project.flow("run").exits(0);
        let pids = project.read("pids");
        let mut calls: Vec<(&str, usize)> = Vec::new();
        for pid in pids.lines() {
            match calls.last_mut().filter(|(last, _)| *last == pid) {
                Some((_, count)) => *count += 1,
                None => calls.push((pid, 1)),
            }
        }
        let counts: Vec<usize> = calls.iter().map(|(_, count)| *count).collect();
        assert_eq!(counts, expected, "{keys}: {pids}");
        let distinct: std::collections::HashSet<_> = calls.iter().map(|(pid, _)| pid).collect();
        assert_eq!(distinct.len(), calls.len(), "{pids}");
    }
}
