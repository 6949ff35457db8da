//! What `flow check` finds before anything runs, and where it says so.

use std::{os::unix::fs::symlink, process::Command};

use serde_json::Value as Json;

use crate::support::{Output, Project, small};

/// A project with a warning and every kind of dataset.
fn warned() -> Project {
    small::project("data", "").file("data/nodes.csv", "id,name\na,one\n").more("parameters.yml", "old: yes\n")
}

/// A project whose one node copies `t` to `o`.
fn copying(catalog: &str) -> Project {
    Project::empty()
        .file("catalog.yml", catalog)
        .file("parameters.yml", "q: SELECT * FROM t\n")
        .file("pipelines/p.yml", "nodes:\n  - {name: n, function: sql, inputs: {t: t, query: params:q}, outputs: o}\n")
        .file("t.csv", "x\n1\n")
}

/// Asserts that stderr holds nothing but diagnostics as JSON lines, and gives them.
#[track_caller]
fn diagnostics(output: &Output) -> Vec<Json> {
    output
        .stderr
        .lines()
        .map(|line| {
            let line: Json = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            assert_eq!(line["kind"], "diagnostic", "{line}");
            line
        })
        .collect()
}

#[test]
fn a_link_from_a_folder_to_itself_does_not_hang_check() {
    for base in ["", "conf/base/"] {
        let project = Project::empty()
            .file(&format!("{base}catalog.yml"), "a: {type: csv, path: a.csv}\n")
            .file("pipelines/p.yml", "nodes:\n  - {name: n, function: placeholder, inputs: a}\n")
            .file("pipelines/sub/q.yml", "");
        for link in ["one", "two", "sub/up"] {
            let target = if link.starts_with("sub") { ".." } else { "." };
            symlink(target, project.path(&format!("pipelines/{link}"))).expect("a link");
        }
        if !base.is_empty() {
            symlink("..", project.path("conf/base/loop")).expect("a link");
        }
        let text = project.flow("check").exits(0).stderr;
        assert!(text.contains("`pipelines/one` is a link to a folder around it, and is not followed"), "{text}");
        assert!(text.contains("`pipelines/sub/up`"), "{text}");
        let names = project.flow("ls pipelines --output json").exits(0).json();
        assert_eq!(names.as_array().expect("a list").len(), 2, "{names}");
    }
}

#[test]
fn configuration_that_is_no_regular_file_is_refused_and_not_waited_for() {
    for (name, what) in [
        ("catalog.yml", "a named pipe"),
        ("parameters.yml", "a device"),
        ("credentials.yml", "a named pipe"),
        ("pipelines/x.yml", "a named pipe"),
        ("conf/local/parameters.yml", "a device"),
        ("query.sql", "a named pipe"),
    ] {
        let project = copying("t: {type: csv, path: t.csv}\no: {type: csv, path: o.csv}\n");
        let path = project.path(name);
        std::fs::create_dir_all(path.parent().expect("below")).expect("folders");
        let _ = std::fs::remove_file(&path);
        if what == "a device" {
            symlink("/dev/zero", &path).expect("a link");
        } else {
            assert!(Command::new("mkfifo").arg(&path).status().expect("mkfifo").success());
        }
        let project = project.file(
            "pipelines/p.yml",
            "nodes:\n  - {name: n, function: sql, inputs: {t: t, file: params:f}, outputs: o}\n",
        );
        if name != "parameters.yml" {
            project.write("parameters.yml", "f: query.sql\n");
        }
        let text = project.flow("check").exits(2).stderr;
        assert!(text.contains(&format!("`{name}` is {what}, not a regular file")), "{name}: {text}");
    }
}

