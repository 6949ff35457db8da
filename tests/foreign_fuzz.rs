//! Random files and links of others, around and inside outputs of every kind, while random runs write, are killed, are
//! forced, and find other inputs: not a byte of theirs changes, and nothing of theirs is moved or removed.
//!
//! `FLOW_FUZZ_SECONDS` sets how long, `FLOW_FUZZ_SEED` repeats one run of it.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use crate::support::{Project, small};

const SECONDS: u64 = 25;
/// Runs in one project before the next one begins.
const RUNS: usize = 12;

/// Splitmix: the same numbers for the same seed, everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("small")
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// The outputs: the location of each, the suffix of its data files, and whether they are in partitions.
const OUTPUTS: &[(&str, &str, bool)] = &[
    ("data/out/buckets", ".parquet", true),
    ("data/out/vectors", ".parquet", true),
    ("data/out/table", ".csv", false),
    ("data/out/one.csv", "", false),
];

const NAMES: &[&str] = &[
    "notes.txt",
    "thesis.docx",
    "part-0.parquet",
    "part-0.csv",
    "0123456789abcdef0123456789abcdef",
    "0123456789abcdef0123456789abcdef.parquet",
    "0123456789abcdef0123456789abcdef.csv",
    "0123456789abcdef0123456789abcdef-b9.txt",
    "0123456789abcdef0123456789abcdef-r1-b9.pq",
    "0123456789ABCDEF0123456789ABCDEF-b9.parquet",
    "x.parquet.bak",
    "x.PARQUET",
    "parquet",
    ".hidden.parquet",
    "_private.csv",
    "_SUCCESS",
    "a b%2F.csv",
    "été ☃.parquet",
    "new\nline.txt",
    "*?.parquet",
    "bucket=4",
    "-",
];

const FOLDERS: &[&str] = &[
    "",
    "",
    "bucket=0",
    "bucket=1",
    "bucket=4",
    "bucket=99",
    "bucket=1/sub",
    "bucket=1/bucket=1",
    "other=1",
    "sub",
    "sub/bucket=1",
    ".cache",
    "_tmp/bucket=1",
    "bucket=2/.x",
    "bucket=%GG",
    "../.vectors.flow-staging",
    "../.buckets.flow-staging/sub",
    "..",
];

/// A path without `..`, which leads somewhere even where the folder in front of it does not exist.
fn plain(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        if part == ".." {
            parts.pop();
        } else {
            parts.push(part);
        }
    }
    parts.join("/")
}

/// Something of others.
enum Thing {
    File(Vec<u8>),
    Link(PathBuf),
}

struct Planted {
    path: PathBuf,
    thing: Thing,
    /// The output whose data file it is, which may replace it where the catalog says so.
    data_of: Option<usize>,
}

impl Planted {
    fn is_there(&self) -> bool {
        match &self.thing {
            Thing::File(bytes) => {
                fs::symlink_metadata(&self.path).is_ok_and(|found| found.is_file())
                    && fs::read(&self.path).is_ok_and(|found| found == *bytes)
            }
            Thing::Link(target) => fs::read_link(&self.path).is_ok_and(|found| found == *target),
        }
    }
}

struct Stage {
    project: Project,
    random: Random,
    planted: Vec<Planted>,
    overwrite: [bool; OUTPUTS.len()],
    /// The steps so far, for the message of a failure.
    story: Vec<String>,
}

impl Stage {
    fn new(seed: u64) -> Self {
        let project = small::project("data/out", "")
            .more("parameters.yml", "query: SELECT count(*) AS n FROM vectors\n")
            .more(
                "pipelines/main.yml",
                "  - {name: count, function: sql, inputs: {vectors: vectors@table, query: params:query}, outputs: one}\n  \
                 - {name: copy, function: sql, inputs: {vectors: vectors@table, query: params:query}, outputs: table}\n",
            );
        let mut stage =
            Self { project, random: Random(seed), planted: Vec::new(), overwrite: [false; 4], story: Vec::new() };
        for name in ["a.txt", "b.parquet", "sub/c.csv"] {
            stage.plant(&Path::new("elsewhere").join(name), None);
        }
        stage
    }

    fn plant(&mut self, path: &Path, data_of: Option<usize>) {
        let path = self.project.path(&plain(&path.to_string_lossy()));
        let folder = path.parent().expect("a folder");
        // What a link leads to is planted by itself, and flow's own files are not in question.
        let linked = folder.ancestors().any(Path::is_symlink);
        if linked || fs::symlink_metadata(&path).is_ok() || fs::create_dir_all(folder).is_err() {
            return;
        }
        let bytes = format!("keep {:>4}", self.random.below(9999)).into_bytes();
        fs::write(&path, &bytes).expect("written");
        self.story.push(format!("plant {path:?}"));
        self.planted.push(Planted { path, thing: Thing::File(bytes), data_of });
    }

    fn plant_something(&mut self) {
        let output = self.random.below(OUTPUTS.len());
        let (place, suffix, partitioned) = OUTPUTS[output];
        if suffix.is_empty() {
            // A file without anything that marks it as flow's.
            if !self.project.path("data/out/.one.csv.flow").exists() {
                self.plant(Path::new(place), Some(output));
            }
            return;
        }
        let (folder, name) = (self.random.one(FOLDERS), self.random.one(NAMES));
        if self.random.chance(15) {
            let below = if matches!(folder, "" | "..") { name } else { folder };
            let path = self.project.path(&plain(&format!("{place}/{below}")));
            let target = self.project.path(self.random.one(&["elsewhere", "elsewhere/b.parquet", "nowhere"]));
            let free = fs::symlink_metadata(&path).is_err() && !path.ancestors().skip(1).any(Path::is_symlink);
            if free && fs::create_dir_all(path.parent().expect("a folder")).is_ok() {
                symlink(&target, &path).expect("a link");
                self.story.push(format!("link {path:?} to {target:?}"));
                self.planted.push(Planted { path, thing: Thing::Link(target), data_of: None });
            }
            return;
        }
        let hidden = name.starts_with(['.', '_']);
        let level = if partitioned {
            folder.strip_prefix("bucket=").is_some_and(|key| key.parse::<u64>().is_ok())
        } else {
            folder.is_empty()
        };
        let data = level && !hidden && name.len() > suffix.len() && name.ends_with(suffix);
        // Names that say their own size, which only flow gives, are flow's under another suffix.
        let data = data || level && name.contains("-b9.");
        self.plant(&Path::new(place).join(folder).join(name), data.then_some(output));
    }

    fn clear(&mut self) {
        for planted in self.planted.drain(3..) {
            let _ = fs::remove_file(planted.path);
        }
        self.story.push("clear".to_owned());
    }

    fn write_catalog(&mut self) {
        for output in 0..OUTPUTS.len() {
            self.overwrite[output] = self.random.chance(40);
        }
        let [buckets, vectors, table, one] = self.overwrite;
        self.story.push(format!("overwrite {:?}", self.overwrite));
        self.project.write(
            "catalog.yml",
            &format!(
                "nodes: {{type: csv, path: data/nodes.csv}}\n\
                 buckets@table: {{type: parquet, path: data/out/buckets, overwrite: {buckets}, save_args: {{partition_by: [bucket]}}}}\n\
                 buckets@partitioned: {{type: partitioned, path: data/out/buckets, dataset: parquet, filename_suffix: .parquet}}\n\
                 vectors@partitioned: {{type: partitioned, path: data/out/vectors, dataset: parquet, filename_suffix: .parquet, overwrite: {vectors}}}\n\
                 vectors@table: {{type: parquet, path: data/out/vectors}}\n\
                 table: {{type: csv, path: data/out/table/, overwrite: {table}}}\n\
                 one: {{type: csv, path: data/out/one.csv, overwrite: {one}}}\n"
            ),
        );
    }

    fn run(&mut self) -> Option<i32> {
        let mut words = vec!["run", "-q"];
        for (flag, percent) in [("--force", 30), ("--yes", 70), ("--keep-going", 30)] {
            if self.random.chance(percent) {
                words.push(flag);
            }
        }
        let mut command = self.project.command(&words);
        if self.random.chance(40) {
            let step = 1 + self.random.below(60);
            command.env("FLOW_UNSTABLE_KILL_AT", step.to_string());
            self.story.push(format!("killed at {step}"));
        }
        let output = command.stdout(Stdio::null()).output().expect("the binary starts");
        let code = output.status.code();
        self.story.push(format!("{words:?}: {code:?}"));
        assert!(
            matches!(code, None | Some(0 | 1 | 3)),
            "{}\n{}",
            String::from_utf8_lossy(&output.stderr),
            self.story.join("\n")
        );
        code
    }

    fn check(&mut self, seed: u64) {
        let overwrite = self.overwrite;
        for planted in &self.planted {
            let replaceable = planted.data_of.is_some_and(|output| overwrite[output]);
            assert!(
                replaceable || planted.is_there(),
                "seed {seed}: {:?} was changed or removed:\n{}",
                planted.path,
                self.story.join("\n")
            );
        }
        // What was rightly replaced is flow's now.
        self.planted.retain(Planted::is_there);
    }
}

#[test]
fn no_byte_of_others_ever_changes() {
    let variable = |name: &str| std::env::vars_os().find(|(key, _)| key == name).map(|(_, value)| value);
    let number = |name: &str| variable(name).and_then(|value| value.to_str()?.parse::<u64>().ok());
    let (first, only) = match number("FLOW_FUZZ_SEED") {
        Some(seed) => (seed, true),
        None => (Instant::now().elapsed().as_nanos() as u64 ^ u64::from(std::process::id()) << 20, false),
    };
    let end = Instant::now() + Duration::from_secs(number("FLOW_FUZZ_SECONDS").unwrap_or(SECONDS));
    let (mut runs, mut finished, mut refused, mut killed) = (0, 0, 0, 0);
    for seed in first.. {
        let mut stage = Stage::new(seed);
        for round in 0..RUNS {
            if round == 0 || stage.random.chance(40) {
                let rows = stage.random.below(60);
                stage.project.write("data/nodes.csv", &small::csv(0..rows, "any", 1 + rows % 5));
                stage.write_catalog();
            }
            if round > 0 && stage.random.chance(60) {
                stage.clear();
            }
            for _ in 0..stage.random.below(4) {
                stage.plant_something();
            }
            match stage.run() {
                Some(0) => finished += 1,
                Some(3) => refused += 1,
                None => killed += 1,
                _ => {}
            }
            runs += 1;
            stage.check(seed);
        }
        if only || Instant::now() >= end {
            break;
        }
    }
    eprintln!("seeds from {first}: {runs} runs, {finished} finished, {refused} refused, {killed} killed");
    assert!(finished > 0 && refused > 0, "some runs go through and some do not");
}
