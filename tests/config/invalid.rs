//! One project with an error for each code of the configuration, with the expected diagnostics.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use flow::diagnostic::CODES;

use super::holds;
use crate::support::{Project, root};

/// Areas whose codes come from reading files alone.
const AREAS: &[&str] = &["yaml", "interpolation", "secret", "config", "catalog", "pipeline", "embed"];

/// Codes without a project here, and why.
const ELSEWHERE: &[(&str, &str)] = &[
    ("config::folder-cycle", "needs a link: `checks` makes one"),
    ("config::file-too-large", "the file would have 64 MiB: a unit test makes it"),
    ("config::unreadable", "needs a file without read permission"),
    ("pipeline::too-many-nodes", "takes a second: a unit test of the library"),
    ("catalog::unknown-dataset", "raised by another module, when steps are assembled"),
];

fn corpus() -> PathBuf {
    root().join("tests/config/invalid")
}

/// Copies a case into a folder of its own and runs its command there: the words of `command`, or `check`.
fn run(case: &Path) -> String {
    let project = Project::empty();
    copy(case, case, &project);
    let command = fs::read_to_string(case.join("command")).unwrap_or_else(|_| "check".to_owned());
    let output = project.flow(command.trim());
    format!("{}exit {}\n", output.stderr, output.code)
}

fn copy(case: &Path, folder: &Path, project: &Project) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.strip_prefix(case).expect("below the case").to_string_lossy().into_owned();
        if path.is_dir() {
            copy(case, &path, project);
        } else if !matches!(name.as_str(), "expected" | "command") {
            let target = project.path(&name);
            fs::create_dir_all(target.parent().expect("a folder")).expect("folders");
            fs::copy(&path, target).expect("copied");
        }
    }
}

#[test]
fn each_wrong_project_is_refused_as_written_beside_it() {
    let mut wrong = Vec::new();
    let mut cases: Vec<PathBuf> =
        fs::read_dir(corpus()).expect("the corpus").map(|entry| entry.expect("an entry").path()).collect();
    cases.sort();
    for case in cases {
        let text = run(&case);
        let name = case.file_name().expect("a name").to_string_lossy().into_owned();
        // A code may have several projects: `area-code-which`.
        let raised = CODES.iter().any(|code| {
            let case = code.code.replace("::", "-");
            let of_it = name.strip_prefix(&case).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
            of_it && text.contains(&format!("[{}]", code.code))
        });
        if !raised {
            wrong.push(format!("{name} does not raise its code:\n{text}"));
        }
        if let Err(panic) = std::panic::catch_unwind(|| holds(&case.join("expected"), &text)) {
            wrong.push(panic.downcast_ref::<String>().cloned().unwrap_or(name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn every_code_of_these_areas_has_a_wrong_project() {
    let there: BTreeSet<String> = fs::read_dir(corpus())
        .expect("the corpus")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    let lacking: Vec<&str> = CODES
        .iter()
        .map(|code| code.code)
        .filter(|code| code.split_once("::").is_some_and(|(area, _)| AREAS.contains(&area)))
        .filter(|code| !ELSEWHERE.iter().any(|(other, _)| other == code))
        .filter(|code| !there.contains(&code.replace("::", "-")))
        .collect();
    assert!(lacking.is_empty(), "no wrong project for {lacking:?}");
}
