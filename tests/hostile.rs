//! Few resources, endless and deep inputs, and what a run leaves behind.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use crate::support::{
    Project,
    api_server::{ApiServer, Behaviour, Fault, When},
    small,
};

/// Runs `flow` by a line of the shell, `$0` in it, within a minute. The exit code and what it printed.
fn shell(project: &Project, line: &str) -> (i32, String) {
    let mut command = Command::new("timeout");
    command.args(["-s", "KILL", "60", "sh", "-c", line, env!("CARGO_BIN_EXE_flow")]);
    command.current_dir(project.path("")).env_clear().env("PATH", "/usr/bin:/bin").stdin(Stdio::null());
    let output = command.output().expect("a shell");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).into_owned())
}

fn project() -> Project {
    small::project("data/out", "").file("data/nodes.csv", &small::csv(0..40, "any", 2))
}

/// The query of a node that reads the CSV.
fn queried(query: &str) -> Project {
    Project::empty()
        .file("catalog.yml", "src: {type: csv, path: data/src.csv}\nout: {type: csv, path: data/out.csv}\n")
        .file("data/src.csv", "id\n1\n")
        .file("parameters.yml", &format!("q: {query}\n"))
        .file(
            "pipelines/main.yml",
            "nodes:\n  - {name: a, function: sql, inputs: {src: src, query: params:q}, outputs: out}\n",
        )
}

#[test]
fn a_limit_on_processes_is_a_message_and_neither_a_panic_nor_a_hang() {
    let group = Path::new("/sys/fs/cgroup/pids").join(format!("flow-test-{}", std::process::id()));
    if fs::create_dir(&group).is_err() || !group.join("pids.max").exists() {
        let _ = fs::remove_dir(&group);
        eprintln!("skipped: no writable cgroup of processes");
        return;
    }
    for limit in [2, 3, 4, 8, 12, 30] {
        fs::write(group.join("pids.max"), limit.to_string()).expect("a limit");
        let project = project();
        let enter = format!("echo $$ > {}/cgroup.procs; exec \"$0\" run -q", group.display());
        let (code, text) = shell(&project, &enter);
        assert!(!text.contains("panicked"), "{limit}: {text}");
        match code {
            0 => assert!(limit > 12, "{limit} processes are too few"),
            3 => assert!(text.contains("pids.max"), "{limit}: {text}"),
            other => panic!("{limit}: exit {other}: {text}"),
        }
    }
    fs::remove_dir(&group).expect("empty");
}

#[test]
fn memory_that_the_system_does_not_grant_is_a_message_and_neither_an_abort_nor_a_hang() {
    let mut refused = 0;
    // In kB, from what is too little to start to what is enough for a part of the run.
    for limit in [400_000, 500_000, 700_000, 900_000, 1_000_000, 1_200_000] {
        let project = small::project("data/out", "").file("data/nodes.csv", &small::csv(0..20_000, "any", 2));
        let (code, text) = shell(&project, &format!("ulimit -v {limit}; exec \"$0\" run -q"));
        assert!(!text.contains("panicked"), "{limit}: {text}");
        match code {
            0 => {}
            3 => {
                refused += 1;
                assert!(text.contains("ulimit -v"), "{limit}: {text}");
            }
            // The system's own refusal, of a file's pages or of a buffer of the kernel.
            1 => assert!(text.contains("Cannot allocate memory"), "{limit}: {text}"),
            other => panic!("{limit}: exit {other}: {text}"),
        }
        // Whatever was committed is whole: the next run goes on from there.
        project.flow("run -q").exits(0);
    }
    assert!(refused > 0, "what the binary leaves of 400 MB is too little for the threads");
}

#[test]
fn a_low_soft_limit_on_open_files_is_raised() {
    let (code, text) = shell(&project(), "ulimit -S -n 12; exec \"$0\" run -q");
    assert_eq!(code, 0, "{text}");
}

#[test]
fn output_that_cannot_be_written_says_why() {
    let project = project();
    for line in [
        "ls datasets",
        "ls datasets --output json",
        "--help",
        "check",
        "check --output json",
        "cache stats",
        "cache verify --output json",
        "schema catalog",
    ] {
        let (code, text) = shell(&project, &format!("exec \"$0\" {line} > /dev/full"));
        if line == "check" {
            continue;
        }
        assert_eq!(code, 3, "{line}: {text}");
        assert!(text.contains("cannot write to stdout: No space left on device"), "{line}: {text}");
    }
}

#[test]
fn a_name_of_thirty_thousand_parts_is_refused() {
    let name = vec!["a"; 30_000].join(".");
    let output = project().run(["check", "--params", &format!("+{name}=1")]).exits(2);
    assert!(output.stderr.contains("more than 100 parts"), "{}", output.stderr);
    assert!(output.stderr.len() < 2000, "{} bytes", output.stderr.len());
}

#[test]
fn a_reference_of_a_hundred_thousand_parts_is_refused_at_once() {
    let project = project().more("parameters.yml", &format!("\nz: \"${{{}b}}\"\n", "a.".repeat(100_000)));
    let output = project.flow("check").exits(2);
    assert!(output.stderr.contains("a reference has at most 100 parts"), "{}", &output.stderr[..500]);
}

#[test]
fn a_query_too_deep_for_the_planner_is_refused_and_one_at_the_limit_is_run() {
    let union = |count: usize| vec!["select id from src"; count].join(" union all ");
    for query in [union(3000), format!("select {} as x", vec!["1"; 20_000].join("+"))] {
        let output = queried(&query).flow("run -q").exits(2);
        assert!(output.stderr.contains("sql::bad-query"), "{}", output.stderr);
    }
    queried(&format!("select {} as x from src", vec!["1"; 500].join("+"))).flow("run -q").exits(0);
}

#[test]
fn what_a_killed_run_spilled_goes_with_the_next_run() {
    let project = project();
    let dead = project.path(".flow/tmp/flow-00112233445566ff-7");
    fs::create_dir_all(&dead).expect("a folder");
    fs::write(dead.join("spilled"), "rows").expect("written");
    fs::write(project.path(".flow/tmp/flow-00112233445566ff-7.lock"), "").expect("written");
    project.flow("run -q").exits(0);
    assert!(!project.path(".flow/tmp").exists(), "nothing is left");
    // The same in a folder that is given, where other things stay.
    let other = project.path("scratch");
    fs::create_dir_all(other.join("flow-00112233445566ff-7")).expect("a folder");
    fs::write(other.join("flow-00112233445566ff-7.lock"), "").expect("written");
    fs::write(other.join("notes"), "").expect("written");
    project.flow("run -q --force --temp-dir scratch").exits(0);
    assert_eq!(project.files("scratch"), ["notes"]);
    let output = project.flow("run -q --force --temp-dir scratch/notes").exits(3);
    assert!(output.stderr.contains("scratch/notes"), "{}", output.stderr);
}

/// Every path below a folder, with its permissions.
fn modes(folder: &Path, found: &mut Vec<(String, bool, u32)>) {
    for item in fs::read_dir(folder).expect("a folder") {
        let path = item.expect("an item").path();
        let metadata = fs::metadata(&path).expect("there");
        found.push((path.display().to_string(), metadata.is_dir(), metadata.permissions().mode() & 0o777));
        if metadata.is_dir() {
            modes(&path, found);
        }
    }
}

#[test]
fn an_error_code_with_escape_sequences_arrives_written_out_and_what_is_kept_is_private() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
    let server = runtime.block_on(ApiServer::start(Behaviour::default()));
    let key = "sk-Canary0123456789abcdefghij";
    let basic = base64_simd::STANDARD.encode_to_string(format!("user:{key}"));
    let body = serde_json::json!({"error": {
        "message": format!("row 7 is bad: {}\u{9b}31m, Basic {basic}\u{202e}", key.to_uppercase()),
        "type": "invalid_request_error",
        "code": "\u{1b}]0;title\u{7}\u{1b}[31mred",
        "param": "input",
    }});
    server.fault(When::Text("row 7".to_owned()), Fault::Status(400, vec![], body.to_string()));
    let model = format!(
        "size: 10\nlength: 60\nfeatures: [name]\nmodel: {{provider: openai, model: m, base_url: '{}', api_key: '${{oc.env:KEY}}', dimensions: 8}}\n",
        server.base_url()
    );
    let project = project().file("parameters.yml", &model).env("KEY", key);
    let core = &basic[8..basic.len() - 4];
    for line in [
        "run -vv",
        "run --force --output json",
        "runs show last",
        "runs show last --output json",
        "show vectors@partitioned --head 40",
        "graph --format html",
    ] {
        let output = project.flow(line);
        let text = format!("{}{}", output.stdout, output.stderr);
        let raw = |c: char| (c.is_control() && !matches!(c, '\n' | '\t')) || ('\u{202a}'..='\u{202e}').contains(&c);
        assert!(!text.contains(raw), "{line}: {text:?}");
        assert!(!text.to_lowercase().contains(&key.to_lowercase()) && !text.contains(core), "{line}: {text}");
    }
    let mut found = Vec::new();
    modes(&project.path(".flow"), &mut found);
    assert!(found.iter().any(|(path, ..)| path.ends_with(".jsonl")), "{found:?}");
    let open: Vec<_> = found.iter().filter(|(_, folder, mode)| *mode != if *folder { 0o700 } else { 0o600 }).collect();
    assert!(open.is_empty(), "{open:?}");
    for (path, ..) in found.iter().filter(|(_, folder, _)| !folder) {
        let bytes = fs::read(path).expect("readable");
        let text = String::from_utf8_lossy(&bytes).to_lowercase();
        assert!(!text.contains(&key.to_lowercase()) && !text.contains(&core.to_lowercase()), "{path}");
    }
}

/// A run in a terminal that is closed under it, with its signal ignored: Python opens the terminal.
#[test]
fn a_terminal_that_is_gone_does_not_end_a_run_that_is_to_outlive_it() {
    const SCRIPT: &str = "
import os, pty, signal, sys
signal.signal(signal.SIGHUP, signal.SIG_IGN)
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], [sys.argv[1], 'run', '--progress', 'bar'])
os.read(terminal, 1)
os.close(terminal)
_, status = os.waitpid(pid, 0)
sys.exit(os.waitstatus_to_exitcode(status))
";
    if Command::new("python3").args(["-c", "import pty"]).output().is_err() {
        eprintln!("skipped: no Python");
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
    let server = runtime.block_on(ApiServer::start(Behaviour::default()));
    server.fault(When::Nth(1), Fault::Delay(Duration::from_millis(1500)));
    let model = format!(
        "size: 10\nlength: 60\nfeatures: [name]\nmodel: {{provider: openai, model: m, base_url: '{}', api_key: k, dimensions: 8}}\n",
        server.base_url()
    );
    let project = project().file("parameters.yml", &model);
    let mut command = Command::new("timeout");
    command.args(["-s", "KILL", "60", "python3", "-c", SCRIPT, env!("CARGO_BIN_EXE_flow")]);
    let output = command.current_dir(project.path("")).env("TERM", "xterm").output().expect("Python");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(project.flow("run --output json").exits(0).summary()["partitions"]["skipped"], 4);
}

/// Names of files, columns, datasets and values of partitions, each with a line break in it.
#[test]
fn a_line_break_in_a_name_forges_no_line_of_output() {
    let project = Project::empty()
        .file(
            "catalog.yml",
            "\"raw\\nFORGED\": {type: csv, path: data/in.csv}\ncut: {type: parquet, path: data/cut, save_args: {partition_by: [k]}}\n\
             parts: {type: partitioned, path: data/parts, dataset: csv, filename_suffix: .csv}\n\
             out: {type: partitioned, path: data/out, dataset: parquet, filename_suffix: .parquet}\n\
             gone: {type: csv, path: \"data/gone\\nFORGED.csv\"}\n",
        )
        .file("data/in.csv", "k,\"text\nFORGED\"\n\"a\nFORGED\",x\nb,y\n")
        .file("data/parts/x\nFORGED.csv", "id\n1\n")
        .file("parameters.yml", "q: select * from t\nm: {provider: hash, dimensions: 4}\n")
        .file(
            "pipelines/main.yml",
            "nodes:\n  - {name: cut, function: sql, inputs: {t: \"raw\\nFORGED\", query: params:q}, outputs: cut}\n  \
             - {name: embed, function: compute_embeddings, inputs: {dfs: parts, model: params:m}, outputs: out}\n",
        );
    let mut seen = 0;
    for line in [
        "check",
        "plan",
        // A partition whose name has two lines lacks a column.
        "run --keep-going",
        "run -q --keep-going",
        "ls datasets",
        "ls nodes",
        "show cut --partitions",
        "show cut --schema",
        "show cut",
        "show gone",
        "show parts --partitions",
        "runs show last",
        "graph",
        "graph --format mermaid",
        "graph --format dot",
    ] {
        let output = project.flow(line);
        let text = format!("{}\n{}", output.stdout, output.stderr);
        assert!(!text.lines().any(|line| line.starts_with("FORGED")), "{line}: {text}");
        seen += text.matches("FORGED").count();
    }
    assert!(seen > 5, "they are shown: {seen}");
}

#[test]
fn a_query_that_computes_is_left_behind_by_the_second_signal() {
    let query = "select count(*) as n from generate_series(1, 3000000) a, generate_series(1, 3000000) b where a.value * b.value % 7 = 3";
    let project = queried(query);
    let mut child = project.spawn("run");
    // A node at work has begun to write its ledger.
    while fs::read_dir(project.path(".flow/runs")).map_or(0, Iterator::count) == 0 {
        assert!(child.try_wait().expect("a child").is_none(), "it was over too soon");
        std::thread::yield_now();
    }
    let begin = std::time::Instant::now();
    for _ in 0..2 {
        let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
        assert!(sent.expect("kill").success());
        std::thread::park_timeout(Duration::from_millis(100));
    }
    let output = child.wait_with_output().expect("over");
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    // It would take days.
    assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", begin.elapsed());
}

#[test]
fn an_output_that_is_a_file_is_noticed_before_the_first_request() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
    let server = runtime.block_on(ApiServer::start(Behaviour::default()));
    let model = format!(
        "size: 10\nlength: 60\nfeatures: [name]\nmodel: {{provider: openai, model: m, base_url: '{}', api_key: '${{oc.env:KEY}}', dimensions: 8}}\n",
        server.base_url()
    );
    let project = project().file("parameters.yml", &model).file("data/out/vectors", "theirs").env("KEY", "k");
    let output = project.flow("run").exits(3);
    assert!(output.stderr.contains("a file lies at data/out/vectors"), "{}", output.stderr);
    assert_eq!(server.requests(), 0);
    assert_eq!(fs::read_to_string(project.path("data/out/vectors")).expect("still there"), "theirs\n");
}

#[test]
fn partitions_that_are_removed_while_a_run_works_fail_it_and_the_next_run_computes_them() {
    let project = small::project("data/out", "").file("data/nodes.csv", &small::csv(0..8000, "any", 2));
    project.flow("run -q --nodes cut").exits(0);
    let mut child = project.spawn("run");
    let vectors = project.path("data/out/vectors");
    let folders = || -> Vec<_> {
        let found = fs::read_dir(&vectors).into_iter().flatten();
        found.map(|entry| entry.expect("readable").path()).filter(|path| path.to_string_lossy().contains('=')).collect()
    };
    while folders().len() < 20 {
        assert!(child.try_wait().expect("a child").is_none(), "it was over too soon");
        std::thread::yield_now();
    }
    let removed = folders().into_iter().take(5).filter(|folder| fs::remove_dir_all(folder).is_ok()).count();
    assert!(child.try_wait().expect("a child").is_none(), "it was over too soon");
    let output = child.wait_with_output().expect("over");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("removed, replaced or truncated by another process") && removed > 0, "{stderr}");
    project.flow("run -q").exits(0);
    assert_eq!(folders().len(), 800);
}

#[test]
fn a_pipe_or_a_device_in_the_place_of_a_receipt_or_a_ledger_is_never_waited_for() {
    for kind in ["mkfifo", "ln -s /dev/zero"] {
        let project = queried("select id from src");
        project.flow("run -q").exits(0);
        let ledger = project.files(".flow/runs").into_iter().find(|name| name.ends_with(".jsonl")).expect("a ledger");
        for (place, line, refused) in [
            ("data/.out.csv.flow", "$0 run", true),
            (&*format!(".flow/runs/{ledger}"), "$0 runs", false),
            // Only remembers what was read before.
            (".flow/contents.json", "$0 run --force -q", false),
        ] {
            let (exit, text) = shell(&project, &format!("cp {place} kept; rm {place}; {kind} {place}; {line}"));
            assert_eq!(exit != 0, refused, "{kind} {place}: {text}");
            assert!(!refused || text.contains("not a regular file"), "{kind} {place}: {text}");
            shell(&project, &format!("rm -f {place}; mv kept {place}"));
        }
    }
}
