//! The scripts for SLURM: valid for `bash` and ShellCheck, and run with programs that stand for `sbatch` and `flow`.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{everything, ten_thousand};
use crate::support::Project;

/// A program of a few lines.
fn program(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
    fs::write(path, format!("#!/bin/bash\n{text}")).expect("written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a program");
}

/// The scripts of the shipped project, in a folder whose name needs quotes.
fn shipped() -> (Project, PathBuf) {
    let project = Project::shipped();
    project.flow("compile slurm --shards 8 --parallel 2 -o jobs").exits(0);
    let folder = project.path("jobs");
    (project, folder)
}

#[test]
fn scripts_are_valid_for_the_shell() {
    let odd = everything().env("FLOW_PARAMS", "nearest.query='select ''$(touch x)'' as \"`a`\"'");
    let large = ten_thousand();
    let (shipped, _) = shipped();
    for (project, most) in [(&odd, usize::MAX), (&large, 3), (&shipped, usize::MAX)] {
        project.flow("compile slurm -o jobs --shards 8").exits(0);
        let mut files: Vec<PathBuf> =
            project.files("jobs").iter().map(|name| project.path("jobs").join(name)).collect();
        // The largest and a few of the others.
        files.sort_by_key(|file| std::cmp::Reverse(fs::metadata(file).map(|data| data.len()).unwrap_or_default()));
        for file in files.iter().take(most) {
            let checked = Command::new("bash").arg("-n").arg(file).output().expect("bash");
            assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
            // What is in single quotes is meant as it is.
            let Ok(linted) =
                Command::new("shellcheck").args(["--shell", "bash", "--exclude", "SC2016"]).arg(file).output()
            else {
                eprintln!("skipped: ShellCheck is not installed");
                continue;
            };
            assert!(linted.status.success(), "{}", String::from_utf8_lossy(&linted.stdout));
        }
    }
}

#[test]
fn tasks_are_submitted_in_order_with_what_they_wait_for() {
    let (project, jobs) = shipped();
    let (bin, log) = (project.path("bin"), project.path("log"));
    program(&bin.join("sbatch"), &format!("echo \"$@\" >> '{0}'\necho \"$(wc -l < '{0}');cluster\"\n", log.display()));
    program(&bin.join("scancel"), &format!("echo \"scancel $@\" >> '{}'\n", log.display()));
    let submit = |more: &str| {
        let path = format!("{}:/usr/bin:/bin", bin.display());
        let mut command = Command::new(jobs.join("submit.sh"));
        command.env_clear().env("PATH", path).args(more.split_whitespace()).output().expect("it starts")
    };
    let output = submit("--partition=long");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "1\tnode-embeddings\n2\tadd-node-embeddings-shards\n3\tadd-node-embeddings-gather\n4\tfind-nearest-nodes\n"
    );
    let lines = fs::read_to_string(&log).expect("the log");
    let lines: Vec<&str> = lines.lines().collect();
    let (first, group) = lines[0].rsplit_once(' ').expect("a group");
    assert_eq!(first, "--parsable --partition=long node-embeddings.sbatch");
    assert!(group.starts_with("slurm-20") && lines.iter().all(|line| line.ends_with(group)), "{lines:?}");
    assert_eq!(
        lines[2],
        format!(
            "--parsable --dependency=afterok:2 --kill-on-invalid-dep=yes --partition=long add-node-embeddings-gather.sbatch {group}"
        )
    );
    // A third that is refused: what was submitted is cancelled.
    fs::remove_file(&log).expect("removed");
    program(
        &bin.join("sbatch"),
        &format!("echo x >> '{0}'\nn=$(wc -l < '{0}')\n[ \"$n\" -lt 3 ] || exit 1\necho \"$n\"\n", log.display()),
    );
    let output = submit("");
    assert!(!output.status.success());
    let log = fs::read_to_string(&log).expect("the log");
    let mut cancelled: Vec<&str> = log.lines().last().expect("a line").split(' ').collect();
    cancelled.sort_unstable();
    assert_eq!(cancelled, ["1", "2", "scancel"], "{log}");
}

/// Runs the script of the shards as the task 3 of an array, with a `flow` that ends with these codes one after the other.
fn attempts(codes: &str) -> (i32, Vec<String>) {
    let (project, jobs) = shipped();
    let log = project.path("log");
    program(
        &project.path("bin/flow"),
        &format!(
            "echo \"$@\" >> '{0}'\ncodes=({codes})\nn=$(wc -l < '{0}')\nexit \"${{codes[$((n - 1))]}}\"\n",
            log.display()
        ),
    );
    let output = Command::new("bash")
        .arg(jobs.join("add-node-embeddings-shards.sbatch"))
        .arg("a-group")
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("FLOW_BIN", project.path("bin/flow"))
        .env("FLOW_RETRY_DELAY", "0")
        .env("SLURM_ARRAY_TASK_ID", "3")
        .output()
        .expect("bash");
    let log = fs::read_to_string(&log).expect("the log");
    (output.status.code().unwrap_or(-1), log.lines().map(str::to_owned).collect())
}

#[test]
fn a_task_tries_again_after_75_and_after_nothing_else() {
    let (code, calls) = attempts("75 75 0");
    assert_eq!((code, calls.len()), (0, 3));
    let words = "run --nodes add_node_embeddings --shard 3/8 --rate-share 1/2 --plan-digest ";
    assert!(calls[0].contains(words) && calls[0].contains("--run-group a-group"), "{calls:?}");
    for last in [0, 1, 2, 3, 5, 70, 130, 137, 143] {
        let (code, calls) = attempts(&format!("{last} 0"));
        assert_eq!((code, calls.len()), (last, 1));
    }
    let (code, calls) = attempts("75 75 75 75 75 75 0");
    assert_eq!((code, calls.len()), (75, 6), "five times again, and no more");
}

#[test]
fn a_task_that_is_asked_to_end_lets_flow_finish_and_does_not_try_again() {
    let (project, jobs) = shipped();
    program(
        &project.path("bin/flow"),
        "trap 'echo asked; exit 75' TERM\necho started\nwhile true; do sleep 0.05; done\n",
    );
    let mut child = Command::new("bash")
        .arg(jobs.join("node-embeddings.sbatch"))
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("FLOW_BIN", project.path("bin/flow"))
        .env("FLOW_RETRY_DELAY", "0")
        .stdout(Stdio::piped())
        .spawn()
        .expect("bash");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines().map(|line| line.expect("a line"));
    assert_eq!(lines.next().as_deref(), Some("started"));
    Command::new("kill").args(["-TERM", &child.id().to_string()]).status().expect("kill");
    assert_eq!(lines.next().as_deref(), Some("asked"));
    assert_eq!(child.wait().expect("it ends").code(), Some(75));
    assert_eq!(lines.next(), None, "it was not started again");
}
