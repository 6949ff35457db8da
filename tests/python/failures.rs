//! What a user sees when a function fails, and functions that disturb their process.

use super::{integers, partitioned, processes, project};

const NODE: &str = "
    nodes:
      - {name: work, function: 'python:work.nodes.work', inputs: numbers, outputs: out}
    ";

/// The message of a node that fails.
#[track_caller]
fn failure(functions: &str) -> String {
    let project = project(functions, NODE);
    let output = project.flow("run --output json").exits(1);
    let failed = output.lines().into_iter().find(|line| line["kind"] == "node.failed").expect("a failure");
    assert!(!project.path("data/out.parquet").exists(), "nothing is written");
    failed["error"].as_str().expect("a message").to_owned()
}

#[test]
fn an_exception_is_told_with_the_users_frames_and_the_shapes_of_the_inputs() {
    let functions = "
        def helper(row):
            return row['missing']

        def work(rows: list[dict]):
            try:
                return [helper(row) for row in rows]
            except KeyError as error:
                raise RuntimeError('a row is wrong') from error
        ";
    let message = failure(functions);
    assert!(
        message.starts_with("RuntimeError: a row is wrong\nTraceback")
            || message.starts_with("RuntimeError: a row is wrong\n  File \"src/work/nodes.py\", line 6, in work"),
        "{message}"
    );
    for expected in [
        "  File \"src/work/nodes.py\", line 2, in helper\n    return row['missing']",
        "KeyError: 'missing'",
        "The above exception was the direct cause of the following exception:",
        "\n  input 1: 10 rows × 2 columns (n, name)",
    ] {
        assert!(message.contains(expected), "{expected:?} in\n{message}");
    }
    assert!(!message.contains("<flow worker>") && !message.contains("importlib"), "{message}");
}

#[test]
fn what_is_no_table_or_no_plain_row_is_an_error_with_its_column() {
    for (result, expected) in [
        ("None", "`work.nodes.work`: it returned None, expected a table\nhelp: return a pandas or Polars DataFrame"),
        ("7", "it returned an object of type int, expected a table"),
        ("[{'x': 1}, {'x': 'a'}]", "column `x` holds values of type str in row 2 and int before"),
        ("[{'x': {1, 2}}]", "column `x` holds values of type set in row 1; rows hold booleans"),
        ("[{'x': [object()]}]", "column `x`[] holds values of type object in row 1"),
        ("[{'x': 2 ** 63}]", "column `x` holds 9223372036854775808, which does not fit into 64 bits"),
        ("[{'x': 0.5}, {'x': 10 ** 400}]", "column `x` holds fractions and 1000"),
        (r"[{'x': '\ud800'}]", r"column `x` holds '\ud800', which has no form in UTF-8"),
        ("[{1: 2}]", "a row has the key 1, and names of columns are strings"),
        ("iter([])", "cannot hold a table without columns; a list without rows has none\nhelp: give an empty table"),
        ("iter([{'x': 1}, 2])", "a row is of type int, expected a dictionary"),
    ] {
        let message = failure(&format!("def work(rows: list[dict]):\n    return {result}\n"));
        assert!(message.contains(expected), "{result}: {expected:?} in\n{message}");
    }
}

#[test]
fn outputs_that_do_not_fit_the_node_are_errors() {
    for (result, outputs, expected) in [
        ("1", "[out, more]", "it returned an object of type int, expected a tuple of 2"),
        ("[], [], []", "[out, more]", "it returned 3 values, and the node has 2 outputs"),
        ("{'a': []}", "{a: out, b: more}", "the dictionary that it returned lacks `b`; it has `a`"),
        ("object()", "report", "the value is of type object; a document holds strings"),
        ("float('nan')", "report", "the value is nan, which a document cannot hold"),
    ] {
        let project = project(
            &format!("def work(rows: list[dict]):\n    return {result}\n"),
            &NODE.replace("outputs: out", &format!("outputs: {outputs}")),
        );
        let output = project.flow("run").exits(1);
        assert!(output.stderr.contains(expected), "{result}: {expected:?} in\n{}", output.stderr);
    }
}

#[test]
fn a_process_that_dies_is_tried_once_more_and_then_fails_with_its_last_lines() {
    for (death, expected) in [
        ("os._exit(0)", "the Python process ended with exit code 0 in the middle of the call, as by `os._exit`"),
        (
            "os.kill(os.getpid(), 9)",
            "the Python process was killed by SIGKILL, which the system does when memory runs out",
        ),
        ("os.kill(os.getpid(), 11)", "the Python process crashed with SIGSEGV, a fault in compiled code"),
        ("os.close(3), os.close(4), os.close(5), os.close(6), __import__('time').sleep(600)", "the Python process"),
    ] {
        let functions = format!(
            "
            import os, sys
            def work(rows: list[dict]):
                open('tries', 'a').write('x')
                print('about to die', file=sys.stderr)
                {death}
            "
        );
        let project = project(&functions, NODE);
        let output = project.flow("run --output json").exits(1);
        let failed = output.lines().into_iter().find(|line| line["kind"] == "node.failed").expect("a failure");
        let message = failed["error"].as_str().expect("a message");
        assert!(
            message.contains(expected) && message.contains("its last lines:\n  about to die"),
            "{death}:\n{message}"
        );
        assert!(message.ends_with("help: it died the second time as well, in a fresh process"), "{message}");
        assert_eq!(project.read("tries"), "xx", "{death}");
    }
}

#[test]
fn a_process_that_dies_once_costs_nothing_but_a_second_try() {
    let functions = "
        import os
        def work(rows: list[dict]):
            if rows[0]['n'] == 10 and not os.path.exists('died'):
                open('died', 'w').close()
                os._exit(1)
            return rows
        ";
    let project = partitioned(functions, 4, "");
    assert_eq!(project.flow("run --output json").exits(0).summary()["partitions"]["done"], 4);
    // In the middle of what a generator gives, too.
    let functions = "
        import os
        def work(rows: list[dict]):
            yield {'n': 1}
            if not os.path.exists('died'):
                open('died', 'w').close()
                os._exit(0)
            yield {'n': 2}
        ";
    let project = self::project(functions, NODE);
    project.flow("run").exits(0);
    assert_eq!(integers(&project, "data/out.parquet", "n"), [1, 2].map(Some));
}

#[test]
fn a_partition_that_takes_too_long_fails_and_its_processes_are_killed() {
    let marker = format!("flow-late-{}", std::process::id());
    let functions = format!(
        "
        import subprocess, sys, time
        def work(rows: list[dict]):
            subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)', '{marker}'])
        "
    );
    let project = partitioned(&functions, 1, "").edit(
        "catalog.yml",
        "data/done, dataset: parquet, filename_suffix: .parquet",
        "data/done, dataset: parquet, filename_suffix: .parquet, timeout: 1s",
    );
    let output = project.flow("run").exits(1);
    assert!(output.stderr.contains("took longer than 1s of work"), "{}", output.stderr);
    assert_eq!(processes(&marker), Vec::<i32>::new());
}

#[test]
fn an_interrupted_run_ends_its_processes() {
    let marker = format!("flow-stop-{}", std::process::id());
    let functions = format!(
        "
        import subprocess, sys, time
        def work(rows: list[dict]):
            subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)', '{marker}'])
        "
    );
    let project = project(&functions, NODE);
    let mut child = project.spawn("run");
    while processes(&marker).is_empty() {
        assert_eq!(child.try_wait().expect("a status"), None, "the run ended");
        std::thread::yield_now();
    }
    let pid = rustix::process::Pid::from_child(&child);
    // The first waits for the function, the second does not.
    for _ in 0..2 {
        rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("sent");
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    assert_eq!(child.wait().expect("a status").code(), Some(130));
    assert_eq!(processes(&marker), Vec::<i32>::new());
}

#[test]
fn functions_that_disturb_their_process_do_not_disturb_the_protocol() {
    let functions = "
        import logging, os, subprocess, sys, threading

        def work(rows: list[dict]):
            print('printed', flush=True)
            os.write(1, b'written to the first descriptor\\n')
            sys.__stdout__.write('without a line break')
            logging.warning('logged')
            subprocess.run(['echo', 'from a child'])
            assert sys.stdin.read() == '' and os.read(0, 10) == b''
            threads = [threading.Thread(target=print, args=('from a thread',)) for _ in range(20)]
            [thread.start() for thread in threads]
            os.chdir('/')
            sys.stdout = None
            if os.fork() == 0:
                # The child returns from the function as if it were the parent.
                return rows
            os.wait()
            return rows
        ";
    let nodes = "
        nodes:
          - {name: work, function: 'python:work.nodes.work', inputs: numbers, outputs: held}
          - {name: again, function: 'python:work.nodes.work', inputs: held, outputs: out}
        ";
    let project = project(functions, nodes);
    let output = project.flow("run --output json -j 1").exits(0);
    assert_eq!(integers(&project, "data/out.parquet", "n").len(), 10);
    let of_node: Vec<String> = output
        .lines()
        .into_iter()
        .filter(|line| line["kind"] == "node.output" && line["node"] == "work")
        .map(|line| line["line"].as_str().expect("a line").to_owned())
        .collect();
    for expected in
        ["printed", "written to the first descriptor", "WARNING:root:logged", "from a child", "from a thread"]
    {
        assert!(of_node.iter().any(|line| line.contains(expected)), "{expected}: {of_node:?}");
    }
}
