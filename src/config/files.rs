//! The files of a project: finds its folder, its environment and its files, and reads them.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    layers::{Duplicates, empty_mapping, merge_file},
    regular::{MAX_FILE, ReadError, read_regular_file},
    tree::{Node, Value},
    tree_path::{TreeKind, names_below},
    yaml,
};
use crate::{
    diagnostic::{Diagnostic, Diagnostics, Sources, Span, did_you_mean},
    model::{looks_like_a_key, similar_secret_name},
};

/// Depth of folders under `conf/<env>` and `pipelines/`.
const MAX_DEPTH: usize = 32;
/// Folders read below one of them: links can make few folders many.
const MAX_FOLDERS: usize = 10_000;

/// How a project's folder is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// `catalog.yml` at the top, environments under `conf/`.
    Flat,
    /// Kedro's: everything under `conf/base` and `conf/<env>`, several files per kind.
    Kedro,
}

/// The nearest folder, from `start` upward, that holds `catalog.yml` or `conf/base`.
pub fn find_project(start: &Path) -> Option<PathBuf> {
    let start = std::path::absolute(start).ok()?;
    start.ancestors().find(|folder| layout(folder).is_some()).map(Path::to_owned)
}

/// The layout of a folder; `None` when it is not a project.
pub(super) fn layout(folder: &Path) -> Option<Layout> {
    // `conf/base` of a Kedro project holds a `catalog.yml` too, and is not a project of its own.
    let parent = folder.parent();
    let in_conf = parent.is_some_and(|parent| parent.file_name().is_some_and(|name| name == "conf"));
    let of_a_project = || parent.and_then(Path::parent).is_some_and(|above| is_root(above).is_some());
    if in_conf && of_a_project() { None } else { is_root(folder) }
}

fn is_root(folder: &Path) -> Option<Layout> {
    if SUFFIXES.iter().any(|suffix| exists(&folder.join(format!("catalog.{suffix}")))) {
        Some(Layout::Flat)
    } else {
        (folder.join("conf/base").is_dir() || is_kedro_project(folder)).then_some(Layout::Kedro)
    }
}

/// True for a folder with `[tool.kedro]` in its `pyproject.toml`.
fn is_kedro_project(folder: &Path) -> bool {
    let Ok(bytes) = read_regular_file(&folder.join("pyproject.toml")) else { return false };
    String::from_utf8_lossy(&bytes).lines().any(|line| line.trim() == "[tool.kedro]")
}

/// True for a Kedro project without pipelines of ours: its own code says what it is.
pub(super) fn is_run_by_kedro(root: &Path, layout: Layout) -> bool {
    let ours = |folder: PathBuf| any_below(&folder.join("pipelines"), |path| path.is_file());
    let conf = fs::read_dir(root.join("conf")).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    layout == Layout::Kedro && is_kedro_project(root) && !ours(root.to_owned()) && !conf.into_iter().any(ours)
}

/// Calls `found` for each YAML file below a folder, until it returns true. No more folders are opened than [`MAX_FOLDERS`].
fn any_below(folder: &Path, mut found: impl FnMut(PathBuf) -> bool) -> bool {
    let mut open = vec![(folder.to_owned(), 0)];
    let mut folders = 0;
    while let Some((inner, depth)) = open.pop() {
        folders += 1;
        if folders > MAX_FOLDERS {
            break;
        }
        for path in fs::read_dir(&inner).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())) {
            if path.is_dir() {
                open.extend((depth < MAX_DEPTH).then_some((path, depth + 1)));
            } else if path.extension().and_then(|e| e.to_str()).is_some_and(|e| SUFFIXES.contains(&e)) && found(path) {
                return true;
            }
        }
    }
    false
}

/// The files of the catalog and of the parameters below a folder of Kedro's configuration.
pub(super) fn kedro_files(folder: &Path) -> Vec<(&'static str, PathBuf)> {
    let mut files = Vec::new();
    any_below(folder, |path| {
        let relative = path.strip_prefix(folder).unwrap_or(&path);
        let kind = ["catalog", "parameters"].into_iter().find(|kind| is_of_kind(relative, kind));
        files.extend(kind.map(|kind| (kind, path)));
        false
    });
    files.sort();
    files
}

/// True for anything but a folder: other than regular files are refused when they are read, not ignored.
fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok() && !path.is_dir()
}

/// Chooses the environment: the requested one, else `local` where it exists. Reports one that does not exist.
pub(super) fn environment(root: &Path, requested: Option<&str>, problems: &mut Diagnostics) -> Option<String> {
    let conf = root.join("conf");
    let Some(requested) = requested else {
        return conf.join("local").is_dir().then(|| "local".to_owned());
    };
    let plain = !requested.is_empty() && !requested.starts_with('.') && !requested.contains(['/', '\\']);
    // `local` is the default and rarely under version control: a missing folder is an empty layer.
    if plain && (conf.join(requested).is_dir() || matches!(requested, "base" | "local")) {
        return Some(requested.to_owned());
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
            format!("there is no environment `{requested}`: no folder `conf/{requested}`"),
        )
        .help_opt(did_you_mean(requested, &known))
        .help_opt((!known.is_empty()).then(|| format!("environments: {list}"))),
    );
    None
}

pub(super) const SUFFIXES: &[&str] = &["yml", "yaml", "json"];

/// A walk over folders.
struct Walk {
    /// Files found so far.
    files: Vec<PathBuf>,
    /// Folders being read, outermost first, links resolved.
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
    pub(super) kind: TreeKind,
    /// Kinds of which a file could not be read or parsed.
    pub(super) unread: Vec<TreeKind>,
}

impl Reader<'_> {
    /// Everything of one kind (`catalog`, `parameters`, `globals`, `credentials`) in one folder, as one mapping;
    /// `None` when there is no such file.
    pub(super) fn kind(&mut self, folder: &Path, kind: &str, forbidden: Duplicates) -> Option<Node> {
        self.kind = match kind {
            "catalog" => TreeKind::Catalog,
            "globals" => TreeKind::Globals,
            "credentials" => TreeKind::Credentials,
            _ => TreeKind::Parameters,
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
                .filter(|file| exists(file))
                .collect(),
        };
        let mut whole: Option<Node> = None;
        for file in files {
            let Some(node) = self.file(&file, kind == "credentials") else { continue };
            match &mut whole {
                None => whole = Some(node),
                Some(whole) => merge_file(whole, node, forbidden, self.problems),
            }
        }
        whole
    }

    /// The files under `pipelines/`, with their names (`folder.name`), sorted by name.
    pub(super) fn pipelines(&mut self, folder: &Path) -> Vec<(String, Node)> {
        self.kind = TreeKind::Pipeline;
        let folder = folder.join("pipelines");
        let mut named: Vec<(String, PathBuf)> = self
            .files_below(&folder)
            .into_iter()
            .filter_map(|file| {
                let relative = file.strip_prefix(&folder).ok()?.with_extension("");
                let parts: Option<Vec<&str>> = relative.iter().map(|part| part.to_str()).collect();
                if parts.is_none() {
                    let name = self.name(&file);
                    self.refuse(format!("`{name}`: its name is not UTF-8, so the pipeline has none; rename the file"));
                }
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
        // Files in a folder that is being read are read under their own names.
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
            // Reported once.
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
            self.unread.push(self.kind);
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
            warn_of_similar_names(&node, false, self.problems);
        }
        Some(node)
    }

    fn unreadable(&mut self, path: &Path, error: &ReadError) {
        self.refuse(format!("`{}` {error}", self.name(path)));
    }

    fn refuse(&mut self, message: String) {
        self.unread.push(self.kind);
        self.problems.push(Diagnostic::error("config::unreadable", message));
    }

    /// The path in messages: relative to the project.
    fn name(&self, path: &Path) -> String {
        path.strip_prefix(self.root).unwrap_or(path).to_string_lossy().replace('\\', "/")
    }

    /// An empty mapping at the beginning of the first file, for kinds that have no file.
    pub(super) fn empty_mapping(&mut self) -> Node {
        empty_mapping(Span { source: self.sources.add("(nothing)", ""), start: 0, end: 0 })
    }
}

/// As in Kedro: a file named after its kind, or any file in a top-level folder named so.
fn is_of_kind(relative: &Path, kind: &str) -> bool {
    let named = |part: &std::ffi::OsStr| part.to_string_lossy().starts_with(kind);
    let file = relative.file_name().is_some_and(named);
    let mut parts = relative.iter();
    let top = parts.next().is_some_and(named) && parts.next().is_some();
    file || top
}

/// Warns of values that are treated as secrets only because their name looks like a typo of a secret's. `chosen`: the keys of
/// this mapping are names of columns and the like.
fn warn_of_similar_names(node: &Node, chosen: bool, problems: &mut Diagnostics) {
    match &node.value {
        Value::List(list) => list.iter().for_each(|item| warn_of_similar_names(item, false, problems)),
        Value::Map(map) => {
            for (key, entry) in map.iter() {
                if let Some(name) = similar_secret_name(key).filter(|_| !chosen) {
                    problems.push(
                        Diagnostic::warning(
                            "secret::similar-name",
                            format!("`{key}` looks like `{name}` with a typo: its value is treated as a secret"),
                        )
                        .at(entry.key_span, "")
                        .help(format!("write `{name}`, or choose a name that is less like it")),
                    );
                }
                warn_of_similar_names(&entry.node, names_below(key), problems);
            }
        }
        _ => {}
    }
}

/// Refuses literals that look like live keys. They are never shown.
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

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    /// Without a bound two such links are billions of folders.
    #[test]
    fn links_of_a_folder_to_itself_end_the_search_for_files() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["one", "two"] {
            std::os::unix::fs::symlink(".", folder.path().join(name)).expect("a link");
        }
        assert!(!any_below(folder.path(), |_| true));
        assert!(kedro_files(folder.path()).is_empty());
        fs::write(folder.path().join("catalog.yml"), "").expect("written");
        assert!(any_below(folder.path(), |_| true));
    }
}
