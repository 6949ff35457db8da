//! Which files make a project: finding its folder, its environments and its files, and reading them.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    layers::{Beside, add_beside, nothing},
    place::Area,
    regular::{MAX_FILE, ReadError, read_regular_file},
    tree::{Node, Value},
    yaml,
};
use crate::{
    diagnostic::{Diagnostic, Diagnostics, Sources, Span, did_you_mean},
    model::looks_like_a_key,
};

/// Folders inside each other under `conf/<env>` and `pipelines/`.
const MAX_DEPTH: usize = 32;
/// Folders read below one of them. Links can make few folders many.
const MAX_FOLDERS: usize = 10_000;

/// How a project's folder is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// `catalog.yml` at the top, environments under `conf/`.
    Flat,
    /// Kedro's: everything under `conf/base` and `conf/<env>`, several files a kind.
    Kedro,
}

/// The nearest folder, from `start` upward, that holds `catalog.yml` or `conf/base`.
pub fn find_project(start: &Path) -> Option<PathBuf> {
    let start = std::path::absolute(start).ok()?;
    start.ancestors().find(|folder| layout(folder).is_some()).map(Path::to_owned)
}

/// How a folder is laid out; `None` when it is no project.
pub(super) fn layout(folder: &Path) -> Option<Layout> {
    // `conf/base` of a Kedro project holds a `catalog.yml` too, and is no project of its own.
    let parent = folder.parent();
    let in_conf = parent.is_some_and(|parent| parent.file_name().is_some_and(|name| name == "conf"));
    let of_a_project = || parent.and_then(Path::parent).is_some_and(|above| is_root(above).is_some());
    if in_conf && of_a_project() { None } else { is_root(folder) }
}

fn is_root(folder: &Path) -> Option<Layout> {
    if SUFFIXES.iter().any(|suffix| is_there(&folder.join(format!("catalog.{suffix}")))) {
        Some(Layout::Flat)
    } else {
        folder.join("conf/base").is_dir().then_some(Layout::Kedro)
    }
}

/// True for anything but a folder. What is no regular file is refused when it is read, and not passed over.
fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok() && !path.is_dir()
}

/// Picks the environment: the one asked for, else `local` where there is one. Reports one that does not exist.
pub(super) fn environment(root: &Path, asked: Option<&str>, problems: &mut Diagnostics) -> Option<String> {
    let conf = root.join("conf");
    let Some(asked) = asked else {
        return conf.join("local").is_dir().then(|| "local".to_owned());
    };
    let plain = !asked.is_empty() && !asked.starts_with('.') && !asked.contains(['/', '\\']);
    // `local` is the default, and rarely under version control: without a folder it adds nothing.
    if plain && (conf.join(asked).is_dir() || matches!(asked, "base" | "local")) {
        return Some(asked.to_owned());
    }
    let mut known: Vec<String> = fs::read_dir(&conf)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok().filter(|entry| entry.path().is_dir())?.file_name().into_string().ok())
        .collect();
    known.sort();
    let list = known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    problems.push(
        Diagnostic::error(
            "config::unknown-environment",
            format!("there is no environment `{asked}`: no folder `conf/{asked}`"),
        )
        .help_opt(did_you_mean(asked, &known))
        .help_opt((!known.is_empty()).then(|| format!("environments: {list}"))),
    );
    None
}

const SUFFIXES: &[&str] = &["yml", "yaml", "json"];

/// A walk over folders.
struct Walk {
    /// Files found so far.
    files: Vec<PathBuf>,
    /// The folders that are being read, outermost first, links resolved.
    open: Vec<PathBuf>,
    /// Folders read so far.
    folders: usize,
}

/// Reads the files of a project.
pub(super) struct Reader<'a> {
    pub(super) root: &'a Path,
    pub(super) layout: Layout,
    pub(super) sources: &'a mut Sources,
    pub(super) problems: &'a mut Diagnostics,
    /// What is being read.
    pub(super) area: Area,
    /// Of what a file could not be read or parsed.
    pub(super) unread: Vec<Area>,
}

impl Reader<'_> {
    /// Everything of one kind (`catalog`, `parameters`, `globals`, `credentials`) in one folder, as one mapping;
    /// `None` when there is no such file.
    pub(super) fn kind(&mut self, folder: &Path, kind: &str, how: Beside) -> Option<Node> {
        self.area = match kind {
            "catalog" => Area::Catalog,
            "globals" => Area::Globals,
            "credentials" => Area::Credentials,
            _ => Area::Parameters,
        };
        let files = match self.layout {
            Layout::Kedro if kind != "globals" => {
                let mut files = self.files_below(folder);
                files.retain(|file| is_of_kind(file.strip_prefix(folder).unwrap_or(file), kind));
                files
            }
            _ => SUFFIXES
                .iter()
                .map(|suffix| folder.join(format!("{kind}.{suffix}")))
                .filter(|file| is_there(file))
                .collect(),
        };
        let mut whole: Option<Node> = None;
        for file in files {
            let Some(node) = self.file(&file, kind == "credentials") else { continue };
            match &mut whole {
                None => whole = Some(node),
                Some(whole) => add_beside(whole, node, how, self.problems),
            }
        }
        whole
    }

    /// The files under `pipelines/`, with their names (`folder.name`), sorted by name.
    pub(super) fn pipelines(&mut self, folder: &Path) -> Vec<(String, Node)> {
        self.area = Area::Pipeline;
        let folder = folder.join("pipelines");
        let mut named: Vec<(String, PathBuf)> = self
            .files_below(&folder)
            .into_iter()
            .filter_map(|file| {
                let relative = file.strip_prefix(&folder).ok()?.with_extension("");
                let parts: Option<Vec<&str>> = relative.iter().map(|part| part.to_str()).collect();
                Some((parts?.join("."), file))
            })
            .collect();
        named.sort();
        named.into_iter().filter_map(|(name, file)| Some((name, self.file(&file, false)?))).collect()
    }

    /// All files with a known suffix below a folder, sorted; hidden ones are left out.
    fn files_below(&mut self, folder: &Path) -> Vec<PathBuf> {
        let mut walk = Walk { files: Vec::new(), open: Vec::new(), folders: 0 };
        self.walk(folder, &mut walk);
        walk.files
    }

    fn walk(&mut self, folder: &Path, walk: &mut Walk) {
        let read = fs::canonicalize(folder).and_then(|real| Ok((real, fs::read_dir(folder)?)));
        let (real, entries) = match read {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => return self.unreadable(folder, &ReadError::Io(error)),
        };
        // What is below a folder that is being read is read under its own name.
        if walk.open.contains(&real) {
            let name = self.name(folder);
            self.problems.push(
                Diagnostic::warning(
                    "config::folder-cycle",
                    format!("`{name}` is a link to one of its parent folders and is not followed"),
                )
                .help("remove the link; the files in that folder are read anyway"),
            );
            return;
        }
        walk.folders += 1;
        if walk.open.len() == MAX_DEPTH || walk.folders > MAX_FOLDERS {
            // Once is enough: the folders after this one are as many.
            if walk.folders <= MAX_FOLDERS + 1 {
                let name = self.name(folder);
                self.refuse(format!("`{name}`: more than {MAX_FOLDERS} folders, or nested more than {MAX_DEPTH} deep"));
            }
            return;
        }
        walk.open.push(real);
        let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        paths.sort();
        for path in paths {
            let hidden = path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
            if hidden {
                continue;
            }
            if path.is_dir() {
                self.walk(&path, walk);
            } else if path.extension().and_then(|e| e.to_str()).is_some_and(|e| SUFFIXES.contains(&e)) {
                walk.files.push(path);
            }
        }
        walk.open.pop();
    }

    fn file(&mut self, path: &Path, secret: bool) -> Option<Node> {
        let node = self.parse(path, secret);
        if node.is_none() {
            self.unread.push(self.area);
        }
        node
    }

    fn parse(&mut self, path: &Path, secret: bool) -> Option<Node> {
        let name = self.name(path);
        let bytes = match read_regular_file(path) {
            Ok(bytes) => bytes,
            Err(ReadError::TooLarge) => {
                self.problems.push(
                    Diagnostic::error("config::file-too-large", format!("`{name}` {}", ReadError::TooLarge))
                        .help(format!("a file may have up to {} MiB; put data into a dataset", MAX_FILE >> 20)),
                );
                return None;
            }
            Err(error) => {
                self.unreadable(path, &error);
                return None;
            }
        };
        let add = |sources: &mut Sources, name: String, text: String| {
            if secret { sources.add_secret(name, text) } else { sources.add(name, text) }
        };
        let text = match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                let at = error.utf8_error().valid_up_to();
                let bytes = error.into_bytes();
                let wide = bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]);
                let source = add(self.sources, name, String::from_utf8_lossy(&bytes).into_owned());
                self.problems.push(
                    Diagnostic::error("yaml::encoding", "the file is not UTF-8")
                        .at(Span { source, start: at, end: at + 1 }, "the first byte that is not")
                        .help(if wide { "it looks like UTF-16: save it as UTF-8" } else { "save it as UTF-8" }),
                );
                return None;
            }
        };
        let source = add(self.sources, name, text);
        let text = self.sources.get(source).text.clone();
        let node = yaml::parse_file(source, &text, self.problems)?;
        if !secret {
            refuse_keys(&node, self.problems);
        }
        Some(node)
    }

    fn unreadable(&mut self, path: &Path, error: &ReadError) {
        self.refuse(format!("`{}` {error}", self.name(path)));
    }

    fn refuse(&mut self, message: String) {
        self.unread.push(self.area);
        self.problems.push(Diagnostic::error("config::unreadable", message));
    }

    /// A path as shown: relative to the project.
    fn name(&self, path: &Path) -> String {
        path.strip_prefix(self.root).unwrap_or(path).to_string_lossy().replace('\\', "/")
    }

    /// An empty mapping at the beginning of the first file, for kinds that have no file.
    pub(super) fn nothing(&mut self) -> Node {
        nothing(Span { source: self.sources.add("(nothing)", ""), start: 0, end: 0 })
    }
}

/// Kedro's choice: a file named after its kind, or any file in a folder at the top that is.
fn is_of_kind(relative: &Path, kind: &str) -> bool {
    let named = |part: &std::ffi::OsStr| part.to_string_lossy().starts_with(kind);
    let file = relative.file_name().is_some_and(named);
    let mut parts = relative.iter();
    let top = parts.next().is_some_and(named) && parts.next().is_some();
    file || top
}

/// Refuses literals that look like live keys. Their text is shown nowhere.
fn refuse_keys(node: &Node, problems: &mut Diagnostics) {
    match &node.value {
        Value::Text(text) => {
            let not_in_key = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
            if text.len() >= 20 && text.split(not_in_key).any(looks_like_a_key) {
                problems.push(
                    Diagnostic::error("secret::literal-key", "a shared file contains what looks like a live key")
                        .at(node.span, "")
                        .help("write `${oc.env:NAME}` and set the variable, or move the key to `credentials.yml` and keep that file out of version control")
                        .help("if it was ever shared, revoke it"),
                );
            }
        }
        Value::List(list) => list.iter().for_each(|item| refuse_keys(item, problems)),
        Value::Map(map) => map.iter().for_each(|(_, entry)| refuse_keys(&entry.node, problems)),
        _ => {}
    }
}
