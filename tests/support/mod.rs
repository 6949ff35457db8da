//! A project in a folder of its own, and the binary run in it with a clean environment.

#[expect(dead_code, reason = "the mock API of the benchmarks uses the rest")]
pub mod api_server;
pub mod model_server;
pub mod place;
pub mod proxy;
pub mod rest_server;
pub mod slurm;
pub mod small;
pub mod stores;

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use arrow::{array::RecordBatch, compute::concat_batches};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value as Json;

/// The repository's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A project in a temporary folder, removed on drop.
pub struct Project {
    folder: tempfile::TempDir,
    environment: Vec<(String, String)>,
}

/// What a command printed, and its exit code.
#[derive(Debug)]
pub struct Output {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// Asserts the exit code, showing everything when it is another.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// stdout as one JSON document.
    #[track_caller]
    pub fn json(&self) -> Json {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}:\n{}", self.stdout))
    }

    /// stdout as JSON lines.
    #[track_caller]
    pub fn lines(&self) -> Vec<Json> {
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        self.stdout.lines().map(parse).collect()
    }

    /// The last JSON line of a run.
    #[track_caller]
    pub fn summary(&self) -> Json {
        let last = self.lines().pop().expect("a last line");
        assert_eq!(last["kind"], "run.finished", "{last}");
        last
    }
}

impl Project {
    /// An empty folder.
    pub fn empty() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder"), environment: Vec::new() }
    }

    /// The shipped project.
    pub fn shipped() -> Self {
        let project = Self::empty();
        for name in ["catalog.yml", "parameters.yml", "globals.yml", "pipelines", "conf", "data/nodes.csv"] {
            copy(&root().join(name), &project.path(name));
        }
        project
    }

    /// The same files in a folder of its own.
    pub fn copy(&self) -> Self {
        let copied = Self { folder: tempfile::tempdir().expect("a folder"), environment: self.environment.clone() };
        copy(self.folder.path(), copied.folder.path());
        copied
    }

    /// Writes a file, folders included. Common indentation is removed.
    pub fn file(self, name: &str, text: &str) -> Self {
        self.write(name, text);
        self
    }

    /// Writes a file, folders included. Common indentation is removed.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
        fs::write(path, unindent(text)).expect("written");
    }

    /// Changes what a file says; `from` must be there.
    #[track_caller]
    pub fn edit(self, name: &str, from: &str, to: &str) -> Self {
        let text = self.read(name);
        assert!(text.contains(from), "{name} says nothing like {from:?}: {text}");
        self.write(name, &text.replace(from, to));
        self
    }

    /// Appends to a file.
    pub fn more(self, name: &str, text: &str) -> Self {
        let text = self.read(name) + text;
        self.write(name, &text);
        self
    }

    /// Sets a variable for every command.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A path in the project.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The text of a file.
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// What every command gets.
    pub fn environment(&self) -> impl Iterator<Item = (&str, &str)> {
        self.environment.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The binary with arguments, a clean environment, and the project as its folder.
    pub fn command(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_flow"));
        command.args(arguments).current_dir(self.folder.path()).env_clear().stdin(Stdio::null());
        command.env("PATH", "/usr/bin:/bin").env("AWS_EC2_METADATA_DISABLED", "true");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs `flow` with the words of a line.
    pub fn flow(&self, line: &str) -> Output {
        self.run(line.split_whitespace())
    }

    /// Runs `flow` with arguments.
    pub fn run(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Output {
        let output = self.command(arguments).output().expect("the binary starts");
        Output {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).expect("UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }

    /// Starts `flow` and does not wait.
    pub fn spawn(&self, line: &str) -> Child {
        let mut command = self.command(line.split_whitespace());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("the binary starts")
    }

    /// All files below a folder of the project, relative to it, sorted.
    pub fn files(&self, folder: &str) -> Vec<String> {
        let mut out = Vec::new();
        walk(&self.path(folder), &mut out);
        let base = self.path(folder);
        let mut names: Vec<String> =
            out.iter().map(|path| path.strip_prefix(&base).expect("below").to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// A hive dataset as one batch, with the partition's directories by file, rows in key order.
    pub fn table(&self, folder: &str) -> BTreeMap<String, RecordBatch> {
        self.files(folder)
            .into_iter()
            .filter(|name| name.ends_with(".parquet"))
            .map(|name| {
                let key = name.rsplit_once('/').map_or(String::new(), |(directories, _)| directories.to_owned());
                (key, read_parquet(&self.path(folder).join(&name)))
            })
            .collect()
    }
}

/// One parquet file as one batch.
pub fn read_parquet(path: &Path) -> RecordBatch {
    let file = fs::File::open(path).expect("the file");
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("parquet").build().expect("a reader");
    let schema = arrow::array::RecordBatchReader::schema(&reader);
    let batches: Vec<_> = reader.collect::<Result<_, _>>().expect("rows");
    concat_batches(&schema, &batches).expect("one schema")
}

fn walk(folder: &Path, out: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("an entry").path();
        if path.is_dir() { walk(&path, out) } else { out.push(path) }
    }
}

/// Copies a file, or a folder with everything in it.
pub fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        for entry in fs::read_dir(from).expect("a folder") {
            let entry = entry.expect("an entry");
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else {
        fs::create_dir_all(to.parent().expect("a folder")).expect("folders");
        fs::copy(from, to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    }
}

/// Removes the indentation that all lines share, and the first line when it is empty.
fn unindent(text: &str) -> String {
    let text = text.strip_prefix('\n').unwrap_or(text);
    let margin = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| line.len() - line.trim_start().len())
        .min()
        .unwrap_or(0);
    text.lines().map(|line| line.get(margin..).unwrap_or("").to_owned() + "\n").collect()
}
