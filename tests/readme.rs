//! The README's blocks run, and print what it says they print.
//!
//! In a `console` block a line `$ flow …` (or `$ cargo run -- …`) is run in a copy of the shipped project, block after
//! block in one folder. What follows must be what it prints (stderr, then stdout); `…` matches any text in a line,
//! and a line of only `…` for any lines. Other commands are not run here: `cargo test` is what runs this test.

use std::{collections::HashSet, fs, path::Path};

use crate::{
    docs::blocks::{all_fit, steps},
    support::{
        Project,
        api_server::{ApiServer, Behaviour},
        root,
    },
};

/// Writes the files of blocks that begin with `# new file: NAME`, or with `# more lines: NAME` for the end of one.
fn add_files(text: &str, lines: std::ops::Range<usize>, project: &Project) -> usize {
    let lines: Vec<&str> = text.lines().skip(lines.start).take(lines.len()).collect();
    let text = lines.join("\n");
    let mut found = 0;
    for block in text.split("```").filter_map(|block| Some(block.split_once('\n')?.1)) {
        let Some((first, body)) = block.split_once('\n') else { continue };
        if let Some(name) = first.strip_prefix("# new file: ") {
            project.write(name, body);
        } else if let Some(name) = first.strip_prefix("# more lines: ") {
            project.write(name, &(project.read(name) + body));
        } else {
            continue;
        }
        found += 1;
    }
    found
}

/// Runs the commands of a page in a project: how many there were, and how many files its blocks added.
#[track_caller]
fn run_blocks(page: &str, text: &str, project: &Project) -> (usize, usize) {
    let (mut ran, mut read, mut added) = (0, 0, 0);
    for step in steps(text) {
        let words = step.command.strip_prefix("flow ").or_else(|| step.command.strip_prefix("cargo run --quiet -- "));
        let Some(words) = words.or_else(|| step.command.strip_prefix("cargo run -- ")) else { continue };
        added += add_files(text, read..step.line, project);
        read = step.line;
        if words.contains('|') {
            continue;
        }
        let output = project.flow(words);
        let all = format!("{}{}", output.stderr, output.stdout);
        let lines: Vec<&str> = all.lines().map(str::trim_end).collect();
        assert!(
            step.expected.is_empty() || all_fit(&step.expected, &lines),
            "{page}:{}: `{}` exited {} and printed:\n{all}\nexpected:\n{}",
            step.line,
            step.command,
            output.code,
            step.expected.join("\n")
        );
        ran += 1;
    }
    (ran, added)
}

#[test]
fn every_block_prints_what_it_says() {
    let text = fs::read_to_string(root().join("README.md")).expect("the README");
    let (ran, added) = run_blocks("README.md", &text, &Project::shipped());
    assert!(ran >= 5, "only {ran} commands were found");
    assert_eq!(added, 3, "files of the README");
}

#[test]
fn the_page_on_call_api_runs_as_it_is_written() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
    let server = runtime.block_on(ApiServer::start(Behaviour::default()));
    let text = fs::read_to_string(root().join("docs/call-api.md")).expect("the page");
    let project = Project::shipped().env("NODENORM_URL", &format!("http://{}", server.address()));
    let (ran, added) = run_blocks("docs/call-api.md", &text, &project);
    assert!(ran >= 4, "only {ran} commands were found");
    assert_eq!(added, 5, "files of the page");
}

#[test]
fn the_page_on_generate_runs_as_it_is_written() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
    let server = runtime.block_on(ApiServer::start(Behaviour::default()));
    let text = fs::read_to_string(root().join("docs/generate.md")).expect("the page");
    let project = Project::shipped().env("MODEL_URL", &server.base_url());
    let (ran, added) = run_blocks("docs/generate.md", &text, &project);
    assert!(ran >= 6, "only {ran} commands were found");
    assert_eq!(added, 5, "files of the page");
}

#[test]
fn yaml_blocks_are_the_shipped_files() {
    let text = fs::read_to_string(root().join("README.md")).expect("the README");
    let mut found = 0;
    for block in text.split("```yaml\n").skip(1) {
        let block = block.split("```").next().expect("a block");
        let Some((first, body)) = block.split_once('\n') else { continue };
        let Some(name) = first.strip_prefix("# ").filter(|name| name.ends_with(".yml")) else { continue };
        if name.contains(": ") {
            continue;
        }
        let file = fs::read_to_string(root().join(name)).expect(name);
        for line in body.lines().filter(|line| !line.trim().is_empty() && line.trim() != "# …") {
            assert!(file.lines().any(|other| other == line), "{name} has no line `{line}`");
        }
        found += 1;
    }
    assert!(found >= 2, "only {found} blocks name their file");
}

/// Names of functions in the source files of a folder and those below it.
fn functions(folder: &Path, names: &mut HashSet<String>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            functions(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a source file");
            let after = text.split("fn ").skip(1);
            names.extend(after.map(|rest| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()));
        }
    }
}

#[test]
fn tests_that_the_docs_name_exist() {
    let mut names = HashSet::new();
    ["src", "tests"].iter().for_each(|folder| functions(&root().join(folder), &mut names));
    let mut found = 0;
    for page in ["docs/guarantees.md", "docs/faults.md"] {
        let text = fs::read_to_string(root().join(page)).expect(page);
        let rows = text.lines().filter(|line| line.starts_with('|'));
        for test in rows.flat_map(|row| row.split('`').skip(1).step_by(2)).filter(|word| word.contains("::")) {
            let name = test.rsplit("::").next().unwrap_or_default();
            let known = match name.split_once('…') {
                Some((beginning, _)) => names.iter().any(|name| name.starts_with(beginning)),
                None => names.contains(name),
            };
            assert!(known || name.starts_with('…'), "{page} names `{test}`, and there is no such test");
            found += 1;
        }
    }
    assert!(found > 100, "only {found} tests are named");
}
