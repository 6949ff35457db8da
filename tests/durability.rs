//! Files are trusted only if they are whole, and what was reported as done survives a power cut.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use parquet::file::reader::{FileReader as _, SerializedFileReader};
use serde_json::Value as Json;

use crate::support::{Project, place::Place, small};

const BUCKETS: &str = "data/out/buckets";
const VECTORS: &str = "data/out/vectors";

/// Fifty rows in five buckets, embedded, and counted into a single CSV file.
fn ran() -> Project {
    let project = small::project("data/out", "")
        .file("data/nodes.csv", &small::csv(0..50, "any", 2))
        .more("catalog.yml", "vectors@table: {type: parquet, path: data/out/vectors}\ncount: {type: csv, path: data/out/count.csv}\n")
        .more("parameters.yml", "query: SELECT count(*) AS n FROM vectors\n")
        .more("pipelines/main.yml", "  - name: count\n    function: sql\n    inputs: {vectors: vectors@table, query: params:query}\n    outputs: count\n");
    project.flow("run -q").exits(0);
    assert_eq!(actions(&project), ["skip"; 3]);
    project
}

fn actions(project: &Project) -> Vec<String> {
    let plan = project.flow("plan --output json").exits(0).json();
    let action = |node: &Json| node["action"].as_str().expect("a string").to_owned();
    plan["nodes"].as_array().expect("nodes").iter().map(action).collect()
}

/// How many partitions a run computed.
fn computed(project: &Project) -> u64 {
    project.flow("run --output json --nodes embed").exits(0).summary()["partitions"]["done"].as_u64().expect("a count")
}

fn resize(project: &Project, folder: &str, file: &str, size: impl FnOnce(u64) -> u64) {
    let file = File::options().write(true).open(project.path(folder).join(file)).expect("opens");
    file.set_len(size(file.metadata().expect("metadata").len())).expect("resized");
}

#[test]
fn a_truncated_or_emptied_output_partition_is_computed_again() {
    let project = ran();
    let tables = Place::Local(project.path(VECTORS)).tables();
    let files = project.files(VECTORS);
    resize(&project, VECTORS, &files[0], |_| 0);
    resize(&project, VECTORS, &files[1], |size| size / 2);
    resize(&project, VECTORS, &files[2], |size| size + 1);
    assert_eq!(computed(&project), 3);
    assert_eq!(Place::Local(project.path(VECTORS)).tables(), tables);
    assert_eq!(project.files(VECTORS), files, "under the same names");
    assert_eq!(actions(&project), ["skip"; 3]);
}

#[test]
fn a_written_table_with_a_truncated_partition_is_written_again() {
    let project = ran();
    let files = project.files(BUCKETS);
    resize(&project, BUCKETS, &files[3], |_| 0);
    assert_eq!(actions(&project)[0], "run");
    let summary = project.flow("run --output json").exits(0).summary();
    assert_eq!(summary["rows"]["ok"], 0, "the same rows, so nothing after it was computed: {summary}");
    assert_eq!(project.files(BUCKETS), files);
    assert_eq!(actions(&project), ["skip"; 3]);
}

#[test]
fn a_truncated_input_is_named_before_anything_starts() {
    let project = ran();
    let file = project.files(BUCKETS).remove(3);
    resize(&project, BUCKETS, &file, |size| size - 1);
    let output = project.flow("run --nodes embed").exits(3);
    assert!(
        output.stderr.contains(&format!("{BUCKETS}/{file}")) && output.stderr.contains("truncated"),
        "{}",
        output.stderr
    );
    let file = project.files(VECTORS).remove(0);
    resize(&project, VECTORS, &file, |_| 0);
    let output = project.flow("run --nodes count").exits(1);
    assert!(
        output.stderr.contains(&format!("{VECTORS}/{file}")) && output.stderr.contains("truncated"),
        "{}",
        output.stderr
    );
    let shown = project.flow("show vectors@table");
    assert!(shown.stderr.contains(&format!("{VECTORS}/{file}")), "{}", shown.stderr);
}

#[test]
fn times_and_copies_change_nothing() {
    let project = ran();
    let long_ago = SystemTime::now() - Duration::from_secs(1_000_000);
    for file in project.files("data") {
        let file = File::options().write(true).open(project.path("data").join(file)).expect("opens");
        file.set_modified(long_ago).expect("a time");
    }
    assert_eq!(actions(&project), ["skip"; 3], "touched");
    assert_eq!(actions(&project.copy()), ["skip"; 3], "copied");
}

#[test]
fn an_input_with_other_bytes_and_the_same_size_and_time_is_seen() {
    let project = ran();
    for path in ["data/nodes.csv", "data/out/count.csv"] {
        let file = File::options().write(true).open(project.path(path)).expect("opens");
        let time = file.metadata().expect("metadata").modified().expect("a time");
        let text = project.read(path);
        let other = text.replace("name of row 7\n", "name of Row 7\n").replace("50", "60");
        assert_eq!(other.len(), text.len());
        fs::write(project.path(path), &other).expect("written");
        file.set_modified(time).expect("a time");
        assert!(actions(&project).contains(&"run".to_owned()), "{path}");
        fs::write(project.path(path), text).expect("written");
        assert_eq!(actions(&project), ["skip"; 3], "{path}: as it was");
    }
}

#[test]
fn another_type_or_suffix_or_compression_of_partitions_computes_them_again() {
    for (from, to) in [
        ("dataset: {type: parquet}", "dataset: {type: json}"),
        ("dataset: {type: parquet}", "dataset: {type: parquet, save_args: {compression: gzip}}"),
        ("filename_suffix: .parquet", "filename_suffix: .pq"),
    ] {
        let project = ran();
        let catalog = project.read("catalog.yml");
        let vectors = catalog.lines().find(|line| line.contains("vectors@partitioned")).expect("an entry").to_owned();
        let project = project.edit("catalog.yml", &vectors, &vectors.replace(from, to));
        assert_eq!(computed(&project), 5, "{to}");
        assert_eq!(project.files(VECTORS).len(), 5, "{to}: what was there is replaced");
        assert_eq!(computed(&project), 0, "{to}");
        let shown = project.flow("show vectors@partitioned").exits(0);
        assert!(shown.stdout.contains("embedding"), "{to}: it reads back: {}", shown.stdout);
    }
}

#[test]
fn locations_that_differ_in_odd_characters_or_case_share_nothing() {
    let names = ["a?1", "a?2", "a%3F1", "a", "A", "a#1", "a b", "a%20b"];
    let project = Project::empty().file("data/nodes.csv", &small::csv(0..20, "any", 2));
    let mut parameters = String::new();
    let mut catalog = "nodes: {type: csv, path: data/nodes.csv}\n".to_owned();
    let mut nodes = "nodes:\n".to_owned();
    for (i, name) in names.iter().enumerate() {
        catalog.push_str(&format!("t{i}: {{type: csv, path: 'data/{name}'}}\n"));
        nodes.push_str(&format!(
            "  - {{name: n{i}, function: sql, inputs: {{nodes: nodes, query: params:q{i}}}, outputs: t{i}}}\n"
        ));
        parameters.push_str(&format!("q{i}: SELECT id, {i} AS n FROM nodes\n"));
    }
    let project =
        project.file("catalog.yml", &catalog).file("pipelines/main.yml", &nodes).file("parameters.yml", &parameters);
    project.flow("run --jobs 8").exits(0);
    for (i, name) in names.iter().enumerate() {
        assert!(project.read(&format!("data/{name}")).contains(&format!(",{i}\n")), "{name}");
        assert!(project.path(&format!("data/.{name}.flow")).is_file(), "{name} has a receipt of its own");
    }
    let plan = project.flow("plan --output json").exits(0).json();
    for node in plan["nodes"].as_array().expect("nodes") {
        assert_eq!(node["action"], "skip", "{node}");
    }
}

/// An ext4 file system in a file, mounted through a loop device.
struct PowerDisk {
    image: tempfile::NamedTempFile,
    folder: PathBuf,
}

/// Shuts a file system down as a power cut does: what is not on the disk never gets there, and the journal is not
/// flushed.
const CUT: &str = "import os, fcntl, struct, sys
fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 2))";

impl PowerDisk {
    /// Mounted at a new folder. `None`, with a message, where mounting is not permitted.
    fn new(folder: PathBuf) -> Option<Self> {
        fs::create_dir(&folder).expect("a folder");
        let image = tempfile::NamedTempFile::new().expect("an image");
        image.as_file().set_len(96 << 20).expect("sized");
        let disk = Self { image, folder };
        let made = ran_command("mkfs.ext4", &["-q", "-F", disk.image()])
            .and_then(|()| ran_command("python3", &["-c", "pass"]))
            .and_then(|()| disk.mount());
        match made {
            Ok(()) => Some(disk),
            Err(why) => {
                eprintln!("skipped: a power cut needs root, mkfs.ext4, loop devices and Python: {why}");
                None
            }
        }
    }

    fn image(&self) -> &str {
        self.image.path().to_str().expect("Unicode")
    }

    fn folder(&self) -> &str {
        self.folder.to_str().expect("Unicode")
    }

    fn mount(&self) -> Result<(), String> {
        ran_command("mount", &["-o", "loop", self.image(), self.folder()])
    }

    fn cut_power(&self) {
        ran_command("python3", &["-c", CUT, self.folder()]).expect("shut down");
    }

    fn power_on(&self) {
        ran_command("umount", &[self.folder()]).expect("unmounted");
        self.mount().expect("mounted, and its journal replayed");
    }
}

impl Drop for PowerDisk {
    fn drop(&mut self) {
        // It may not be mounted.
        let _ = ran_command("umount", &["-l", self.folder()]);
    }
}

fn ran_command(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()))
    }
}

/// Two hundred partitions on a disk of their own.
fn on_a_disk() -> (Project, Place) {
    let project = small::project("disk/out", "").file("data/nodes.csv", &small::csv(0..2000, "any", 2));
    let place = Place::Local(project.path("disk/out"));
    (project, place)
}

#[test]
fn after_a_power_cut_everything_that_was_reported_as_done_is_whole() {
    let (project, place) = on_a_disk();
    let Some(disk) = PowerDisk::new(project.path("disk")) else { return };
    project.flow("run -q").exits(0);
    // The removal of a lock is no result.
    let files = || place.files().into_iter().filter(|name| !name.ends_with(".flow-lock")).collect::<Vec<_>>();
    let (before, tables) = (files(), place.tables());
    assert_eq!(project.files("disk/out/vectors").len(), 200);
    disk.cut_power();
    disk.power_on();
    assert!(files() == before, "a file that was reported is gone");
    assert!(place.tables() == tables, "a partition that was reported is not whole");
    assert_eq!(actions(&project), ["skip"; 2]);
}

#[test]
fn after_a_power_cut_during_a_run_what_was_reported_is_whole_and_the_rest_is_computed() {
    let (project, place) = on_a_disk();
    let expected = {
        let undisturbed = small::project("data/out", "").file("data/nodes.csv", &project.read("data/nodes.csv"));
        undisturbed.flow("run -q").exits(0);
        Place::Local(undisturbed.path("data/out")).tables()
    };
    for reported_before_the_cut in [1, 40, 150] {
        let Some(disk) = PowerDisk::new(project.path("disk")) else { return };
        let mut child = project.spawn("run --output json");
        let mut reported = Vec::new();
        for line in BufReader::new(child.stdout.take().expect("a pipe")).lines() {
            let event: Json = serde_json::from_str(&line.expect("a line")).expect("JSON");
            if event["kind"] == "partition.finished" {
                reported.push(event["partition"].as_str().expect("a string").to_owned());
            }
            if reported.len() == reported_before_the_cut {
                break;
            }
        }
        disk.cut_power();
        assert_eq!(reported.len(), reported_before_the_cut);
        // By itself it ends too, its disk being gone.
        let _ = child.kill();
        child.wait().expect("over");
        disk.power_on();
        let whole = |name: &String| read_parquet_rows(&project.path("disk/out/vectors").join(name)) == Some(10);
        let there: Vec<String> = project.files("disk/out/vectors").into_iter().filter(whole).collect();
        for partition in &reported {
            let folder = format!("{partition}/");
            assert!(there.iter().any(|name| name.starts_with(&folder)), "{partition} was reported and is missing");
        }
        project.flow("run -q").exits(0);
        assert!(place.tables() == expected, "cut after {reported_before_the_cut}");
        assert_eq!(actions(&project), ["skip"; 2]);
        drop(disk);
        fs::remove_dir(project.path("disk")).expect("an empty folder");
    }
}

/// How many rows a file holds; `None` for one that is torn.
fn read_parquet_rows(path: &Path) -> Option<i64> {
    let reader = SerializedFileReader::new(File::open(path).ok()?).ok()?;
    Some(reader.metadata().file_metadata().num_rows())
}

#[test]
fn a_file_of_the_right_size_that_was_overwritten_is_named_when_it_is_read() {
    let project = ran();
    let file = project.files(BUCKETS).remove(3);
    let path = project.path(BUCKETS).join(&file);
    fs::write(&path, vec![0; usize::try_from(fs::metadata(&path).expect("metadata").len()).expect("small")])
        .expect("written");
    assert_eq!(actions(&project), ["skip"; 3], "its size and its name are right");
    let output = project.flow("run --nodes embed --force").exits(1);
    assert!(output.stderr.contains(&format!("{BUCKETS}/{file}")), "{}", output.stderr);
    assert!(output.stderr.contains("remove it"), "{}", output.stderr);
    fs::remove_file(&path).expect("removed");
    project.flow("run -q").exits(0);
    assert_eq!(actions(&project), ["skip"; 3]);
}
