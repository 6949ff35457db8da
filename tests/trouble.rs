//! Full disks, read-only folders, vanished folders, too few file handles: an error that names the location, no torn
//! files, and the next run continues once the cause is removed.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command},
};

use crate::support::{
    Output, Project,
    place::{Place, Tables},
    small,
};

/// A small file system of its own, where mounting is permitted.
pub(crate) struct Disk {
    folder: PathBuf,
}

impl Disk {
    pub(crate) fn mount(folder: &Path, options: &str) -> Option<Self> {
        std::fs::create_dir_all(folder).expect("a folder");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(folder).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self { folder: folder.to_owned() }),
            Ok(output) => skip(&String::from_utf8_lossy(&output.stderr)),
            Err(error) => skip(&error.to_string()),
        }
    }

    pub(crate) fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        let status = Command::new("mount").args(["-o", &options]).arg(&self.folder).status().expect("mount");
        assert!(status.success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.folder).status();
    }
}

fn skip<T>(why: &str) -> Option<T> {
    eprintln!("skipped: mounting a tmpfs is not permitted here: {}", why.trim());
    None
}

fn undisturbed(csv: &str) -> Tables {
    let project = small::project("data/out", "").file("data/nodes.csv", csv);
    project.flow("run -q").exits(0);
    Place::Local(project.path("data/out")).tables()
}

/// Runs with a limit of the shell's `ulimit`.
fn limited(project: &Project, limit: &str) -> Output {
    let line = format!("ulimit {limit}; exec \"$0\" run -q");
    let mut command = Command::new("sh");
    command.args(["-c", &line, env!("CARGO_BIN_EXE_flow")]).current_dir(project.path("")).env_clear();
    let output = command.env("PATH", "/usr/bin:/bin").output().expect("a shell");
    Output {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Every file that exists is whole and has the expected rows.
fn nothing_torn(place: &Place, expected: &Tables) {
    for (key, batches) in place.tables() {
        assert_eq!(batches, expected[&key], "{key}");
    }
}

#[test]
fn a_full_disk_is_named_keeps_what_is_finished_and_goes_on_with_more_space() {
    let csv = small::csv(0..3000, "any", 2);
    let expected = undisturbed(&csv);
    let project = small::project("full/out", "").file("data/nodes.csv", &csv);
    let place = Place::Local(project.path("full/out"));
    // 300 buckets of a page each, and space for some of what comes after them.
    let Some(disk) = Disk::mount(&project.path("full"), "size=2m") else { return };
    let failed = project.flow("run").exits(75);
    assert!(failed.stderr.contains("No space left on device") && failed.stderr.contains("full/"), "{}", failed.stderr);
    nothing_torn(&place, &expected);
    let kept = place.tables().len();
    assert!(kept > 0, "what fitted is kept");
    let again = project.flow("run").exits(3);
    assert!(again.stderr.contains("No space left on device"), "{}", again.stderr);
    nothing_torn(&place, &expected);
    disk.remount("size=64m");
    project.flow("run -q").exits(0);
    assert_eq!(place.tables(), expected);
    let left: Vec<_> = place.files().into_iter().filter(|name| !name.ends_with(".parquet")).collect();
    assert_eq!(left, [".buckets.flow"]);
}

#[test]
fn a_disk_too_full_for_the_history_costs_the_history_only() {
    let csv = small::csv(0..100, "any", 2);
    let project = small::project("data/out", "").file("data/nodes.csv", &csv);
    let Some(disk) = Disk::mount(&project.path(".flow"), "size=4k,nr_inodes=3") else { return };
    std::fs::write(project.path(".flow/filler"), [0; 4096]).expect("the only page");
    let output = project.flow("run").exits(0);
    assert!(output.stderr.contains(".flow/runs"), "it is reported: {}", output.stderr);
    assert_eq!(Place::Local(project.path("data/out")).tables(), undisturbed(&csv));
    drop(disk);
}

#[test]
fn a_read_only_folder_is_refused_before_the_start() {
    let csv = small::csv(0..100, "any", 2);
    let project = small::project("fixed/out", "").file("data/nodes.csv", &csv);
    let Some(disk) = Disk::mount(&project.path("fixed"), "size=8m") else { return };
    disk.remount("ro");
    let refused = project.flow("run").exits(3);
    assert!(
        refused.stderr.contains("fixed/out") && refused.stderr.contains("Read-only file system"),
        "{}",
        refused.stderr
    );
    disk.remount("rw");
    project.flow("run -q").exits(0);
    let expected = undisturbed(&csv);
    let place = Place::Local(project.path("fixed/out"));
    assert_eq!(place.tables(), expected);
    // What is up to date can be found so on a disk that takes nothing, and what is not is refused.
    disk.remount("ro");
    project.flow("plan").exits(0);
    project.write("data/nodes.csv", &small::csv(0..100, "other", 2));
    let refused = project.flow("run").exits(3);
    assert!(refused.stderr.contains("Read-only file system"), "{}", refused.stderr);
    assert_eq!(place.tables(), expected);
    disk.remount("rw");
    project.flow("run -q").exits(0);
}

/// A run over these rows that computes one partition at a time, once it has written some of them.
fn running(csv: &str) -> (Project, Place, Child) {
    let project = small::project("data/out", "").file("data/nodes.csv", csv).edit(
        "catalog.yml",
        "overwrite: true",
        "overwrite: true, save_args: {max_workers: 1}",
    );
    let place = Place::Local(project.path("data/out"));
    let mut child = project.spawn("run");
    while project.files("data/out/vectors").len() < 3 {
        assert!(child.try_wait().expect("a child").is_none(), "it was over too soon");
    }
    (project, place, child)
}

#[test]
fn an_input_that_vanishes_during_a_run_is_named_and_made_again() {
    let csv = small::csv(0..3000, "any", 2);
    let expected = undisturbed(&csv);
    let (project, place, child) = running(&csv);
    std::fs::rename(project.path("data/out/buckets"), project.path("data/gone")).expect("moved away");
    let output = child.wait_with_output().expect("over");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("data/out/buckets/bucket=") && stderr.contains("No such file"), "{stderr}");
    nothing_torn(&place, &expected);
    project.flow("run -q").exits(0);
    assert_eq!(place.tables(), expected);
}

#[test]
fn an_output_that_is_removed_or_moved_during_a_run_fails_the_run_and_is_computed_again() {
    let csv = small::csv(0..3000, "any", 2);
    let expected = undisturbed(&csv);
    for whole_folder in [false, true] {
        let (project, place, child) = running(&csv);
        let gone = if whole_folder { "data/out/vectors" } else { "data/out/vectors/bucket=0" };
        std::fs::rename(project.path(gone), project.path("data/gone")).expect("moved away");
        let output = child.wait_with_output().expect("over");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(
            stderr.contains("of 300 partitions of `vectors@partitioned` were removed, replaced or truncated"),
            "{stderr}"
        );
        project.flow("run -q").exits(0);
        assert_eq!(place.tables(), expected);
    }
}

#[test]
fn too_few_file_handles_are_named_and_cost_nothing() {
    let csv = small::csv(0..400, "any", 2);
    let expected = undisturbed(&csv);
    let place = |project: &Project| Place::Local(project.path("data/out"));
    let mut failed = 0;
    for handles in 10..40 {
        let project = small::project("data/out", "").file("data/nodes.csv", &csv);
        let output = limited(&project, &format!("-n {handles}"));
        if output.code != 0 {
            failed += 1;
            assert!(matches!(output.code, 1..=3), "{handles} handles: {} {}", output.code, output.stderr);
            assert!(output.stderr.contains("open files"), "{handles} handles: {}", output.stderr);
        }
        nothing_torn(&place(&project), &expected);
        project.flow("run -q").exits(0);
        assert_eq!(place(&project).tables(), expected, "{handles} handles");
    }
    assert!(failed > 0, "ten handles are not enough for anything");
}

#[test]
fn a_limit_on_the_size_of_files_is_named_and_costs_nothing() {
    let csv = small::csv(0..40, "any", 2);
    let expected = undisturbed(&csv);
    let project = small::project("data/out", "").file("data/nodes.csv", &csv);
    let place = Place::Local(project.path("data/out"));
    // One block of 512 bytes: no parquet file is so small.
    let output = limited(&project, "-f 1");
    assert_eq!(output.code, 3, "{}", output.stderr);
    assert!(output.stderr.contains("File too large") && output.stderr.contains("data/out/"), "{}", output.stderr);
    assert!(place.tables().is_empty());
    project.flow("run -q").exits(0);
    assert_eq!(place.tables(), expected);
}
