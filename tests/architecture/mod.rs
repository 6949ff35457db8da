//! Modules use only modules of the layers below them, no two files use each other, and every file says what it owns.

mod imports;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// The table of ARCHITECTURE.md: module → layer.
const LEVELS: &[(&str, u8)] = &[
    ("model", 0),
    ("diagnostic", 0),
    ("config", 1),
    ("net", 2),
    ("cache", 2),
    ("graph", 2),
    ("data", 3),
    ("embed", 3),
    ("function", 3),
    ("process", 1),
    ("python", 3),
    ("run", 4),
    ("report", 5),
    ("export", 5),
    ("compile", 5),
    ("telemetry", 5),
    ("serve", 6),
    ("cli", 7),
];

/// Uses inside one level that the table allows: functions are made of data and embeddings, and nothing else is.
const SIDEWAYS: &[(&str, &str)] = &[("function", "python"), ("function", "data"), ("function", "embed")];

/// Modules of lower layers that a module must not use.
const FORBIDDEN: &[(&str, &str)] = &[
    ("report", "graph"),
    ("report", "config"),
    ("report", "data"),
    ("export", "run"),
    ("export", "data"),
    ("compile", "run"),
    ("compile", "data"),
];

fn sources(folder: &Path, extensions: &[&str], out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the source folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, extensions, out);
        } else if path.extension().is_some_and(|found| extensions.iter().any(|extension| found == *extension)) {
            out.push(path);
        }
    }
}

/// The modules that a source text names after `crate::`, also inside braces.
fn used(text: &str) -> Vec<String> {
    let mut modules = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = text[at + "crate::".len()..].trim_start();
        if let Some(group) = rest.strip_prefix('{') {
            let (mut depth, mut word) = (0, String::new());
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    _ => {}
                }
                if depth == 0 && (c.is_alphanumeric() || c == '_') {
                    word.push(c);
                } else if depth == 0 && c == ',' || c == '{' && depth == 1 || depth == 0 && c == ':' {
                    if !word.is_empty() {
                        modules.push(std::mem::take(&mut word));
                    }
                    if c == ':' {
                        // The rest of this path names things inside the module.
                        word.clear();
                    }
                }
            }
            modules.push(word);
        } else {
            modules.push(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    modules
}

#[test]
fn modules_use_only_the_layers_below_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let levels: BTreeMap<&str, u8> = LEVELS.iter().copied().collect();
    let mut files = Vec::new();
    sources(&root, &["rs"], &mut files);
    assert!(files.len() > 50, "the walk found only {} files", files.len());
    let mut wrong = Vec::new();
    for file in files {
        let relative = file.strip_prefix(&root).expect("below the root");
        let module = relative.iter().next().and_then(|part| part.to_str()).expect("a name").trim_end_matches(".rs");
        let Some(&level) = levels.get(module) else {
            assert!(
                matches!(module, "lib" | "main" | "allocator"),
                "{} is in no module of the table",
                relative.display()
            );
            continue;
        };
        let text = fs::read_to_string(&file).expect("readable");
        for other in used(&text) {
            let Some(&below) = levels.get(other.as_str()) else { continue };
            let sideways = SIDEWAYS.contains(&(module, other.as_str()));
            let allowed = other == module || below < level || sideways || (level == 0 && below == 0);
            if !allowed || FORBIDDEN.contains(&(module, other.as_str())) {
                wrong.push(format!("{} uses {other}", relative.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_two_files_use_each_other() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &["rs"], &mut files);
    let edges = imports::Crate::read(&root, &files).edges();
    assert!(edges.len() > 200, "only {} uses were found", edges.len());
    let cycles = imports::cycles(&edges);
    assert!(cycles.is_empty(), "files use each other in a cycle:\n{}", cycles.join("\n\n"));
}

/// Terms of this project's own that gave way to those of the field; only words that cannot be meant otherwise.
const RETIRED: &[&str] = &[
    "straight line",
    "rooms below",
    "every other room",
    "knobs",
    "Errand",
    "NotAdmitted",
    "LaneKey",
    "Flights",
    "Asking",
    "embed_canary",
    "Shelf",
    "Audience",
    "graph::ring",
    "include-circle",
    "cannot be had",
    "stands twice",
    "mend ",
    "parted ",
    "Cutter",
    "Passage",
    "Hurry",
    "cut short",
    "somebody",
    "Somebody",
    "whoever",
    "Whoever",
    "pump",
    "telling",
    "TELLING",
];

/// Text files below a folder.
fn texts(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() && !path.ends_with("target") {
            texts(&path, out);
        } else if path
            .extension()
            .is_some_and(|extension| ["rs", "md", "yml", "html", "py"].iter().any(|known| extension == *known))
        {
            out.push(path);
        }
    }
}

#[test]
fn retired_terms_stay_away() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<PathBuf> =
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"].map(|name| root.join(name)).into();
    ["src", "docs", "templates", "pipelines", "tests", "benches", "examples", "scripts"]
        .iter()
        .for_each(|folder| texts(&root.join(folder), &mut files));
    // The list itself.
    files.retain(|file| !file.ends_with("tests/architecture/mod.rs"));
    assert!(files.len() > 100, "only {} files", files.len());
    let mut found = Vec::new();
    for file in files {
        // Some inputs of tests are not UTF-8 on purpose.
        let text = fs::read(&file).expect("readable");
        let text = String::from_utf8_lossy(&text);
        for (number, line) in text.lines().enumerate() {
            for term in RETIRED.iter().filter(|term| line.contains(**term)) {
                found.push(format!("{}:{}: {term}", file.display(), number + 1));
            }
        }
    }
    assert!(found.is_empty(), "retired terms:\n{}", found.join("\n"));
}

#[test]
fn the_table_of_modules_says_the_layers_that_are_checked() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md")).expect("the page");
    let row = |line: &str| {
        let (layer, rest) = line.strip_prefix("| ")?.split_once(" | `")?;
        Some((rest.split_once('`')?.0.to_owned(), layer.parse::<u8>().ok()?))
    };
    let mut said: Vec<(String, u8)> = page.lines().filter_map(row).collect();
    let mut checked: Vec<(String, u8)> = LEVELS.iter().map(|(name, level)| ((*name).to_owned(), *level)).collect();
    said.sort();
    checked.sort();
    assert_eq!(said, checked);
}

#[test]
fn every_file_says_what_it_owns() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &["rs"], &mut files);
    let without: Vec<_> =
        files.iter().filter(|file| !fs::read_to_string(file).expect("readable").starts_with("//!")).collect();
    assert!(without.is_empty(), "no `//!` at the top of {without:?}");
}

/// Lines of a file that need no reason.
const LONGEST: usize = 600;

/// The lines in which a file says what it owns.
fn introduction(text: &str) -> impl Iterator<Item = &str> {
    let docstring = text.strip_prefix("\"\"\"").and_then(|rest| rest.split_once("\"\"\"")).map_or("", |(text, _)| text);
    text.lines().take_while(|line| line.starts_with("//!") || line.starts_with('#')).chain(docstring.lines())
}

#[test]
fn long_files_give_a_reason() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "tests", "examples", "benches", "scripts"] {
        sources(&root.join(folder), &["rs", "py"], &mut files);
    }
    let mut lengths = Vec::new();
    let mut wrong = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("readable");
        let lines = text.lines().count();
        let reason = introduction(&text).any(|line| line.contains("One file because"));
        if lines > LONGEST && !reason {
            wrong.push(format!(
                "{}: {lines} lines; split it, or say \"One file because …\" in its first lines",
                file.display()
            ));
        }
        if file.starts_with(root.join("src")) {
            lengths.push(lines);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    lengths.sort_unstable();
    let median = lengths[lengths.len() / 2];
    assert!(median < 200, "the median file has {median} lines");
}

#[test]
fn uses_are_found_inside_braces_too() {
    assert_eq!(used("use crate::model::Shape;"), ["model"]);
    let found = used("use crate::{\n    data::{Dataset, State},\n    graph,\n    run::event::Event,\n};");
    for module in ["data", "graph", "run"] {
        assert!(found.iter().any(|name| name == module), "{module} in {found:?}");
    }
}
