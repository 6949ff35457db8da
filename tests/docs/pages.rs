//! Works through each page of the documentation that has `console` blocks, in a folder of its own, and through the README of each
//! example project, in a copy of the project.
//!
//! - ```` ```console ````: each line after `$ ` is typed into a shell, in order; the folder and the variables stay. What follows
//!   must be what it prints (stderr, then stdout), with `…` as in the README. The command must succeed, unless what it is
//!   said to print begins with `error`.
//! - ```` ```yaml title="conf/x.yml" ````, in any language: the file has this content from here on. `title="catalog.yml (added)"`
//!   adds to the end of a file.
//! - ```` ```sh ````: commands that need something a test does not have. None of them may be a command of `flow`.
//! - `<!-- api: http://127.0.0.1:11434/v1 -->`: the mock API answers under this address.
//! - `<!-- mock: http://127.0.0.1:8123 -->`: the same, at the root of the server, for its other services.
//! - `<!-- s3: http://127.0.0.1:8333 -->`: a real S3 server answers under this address.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tokio::runtime::Runtime;

use super::{
    blocks::{all_fit, steps},
    markdown,
};
use crate::support::{
    api_server::{ApiServer, Behaviour},
    copy, root, stores,
};

/// Something to do with a page, in order.
#[derive(Debug)]
enum Item {
    Run { line: usize, command: String, expected: Vec<String> },
    Write { name: String, text: String, added: bool },
}

/// Commands and files of a page, in order.
fn items(text: &str) -> Vec<Item> {
    let mut items: Vec<(usize, Item)> = steps(text)
        .into_iter()
        .map(|step| (step.line, Item::Run { line: step.line, command: step.command, expected: step.expected }))
        .collect();
    let mut file: Option<(usize, String, String)> = None;
    for (at, line) in text.lines().enumerate() {
        match &mut file {
            Some((_, _, body)) if line != "```" => *body += &format!("{line}\n"),
            Some(_) => {
                let (at, title, text) = file.take().expect("a file");
                let name = title.trim_end_matches(" (added)").to_owned();
                items.push((at, Item::Write { added: name != title, name, text }));
            }
            None => {
                let title = line.strip_prefix("```").and_then(|info| info.split_once(" title=\""));
                file = title.map(|(_, title)| (at + 1, title.trim_end_matches('"').to_owned(), String::new()));
            }
        }
    }
    items.sort_by_key(|(line, _)| *line);
    items.into_iter().map(|(_, item)| item).collect()
}

/// The value of `<!-- name: value -->`.
fn directive<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.split(&format!("<!-- {name}: ")).nth(1)?.split(" -->").next()
}

/// A folder in which commands are typed, and what stays between two of them.
struct Shell {
    folder: tempfile::TempDir,
}

impl Shell {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["bin", "home", "work"] {
            fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        symlink(env!("CARGO_BIN_EXE_flow"), folder.path().join("bin/flow")).expect("a link");
        fs::write(folder.path().join("state"), format!("cd '{}'\n", folder.path().join("work").display()))
            .expect("written");
        Self { folder }
    }

    /// The folder that the shell is in.
    fn current(&self) -> PathBuf {
        let state = fs::read_to_string(self.folder.path().join("state")).expect("the state");
        let line = state.lines().find_map(|line| line.strip_prefix("cd '")).expect("a folder");
        PathBuf::from(line.trim_end_matches('\''))
    }

    /// Runs a command; its exit code, and what it printed to stderr and then to stdout.
    fn run(&self, command: &str) -> (i32, String) {
        let state = self.folder.path().join("state");
        let script = format!(
            ". '{0}'\n{command}\ncode=$?\n{{ printf \"cd '%s'\\n\" \"$PWD\"; export -p; }} > '{0}'\nexit $code\n",
            state.display()
        );
        let home = self.folder.path().join("home");
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", self.folder.path().join("bin").display());
        let output = Command::new("bash")
            .args(["-c", &script])
            .env_clear()
            .envs([("PATH", path.as_str()), ("AWS_EC2_METADATA_DISABLED", "true"), ("LANG", "C.UTF-8")])
            .env("HOME", home)
            .stdin(Stdio::null())
            .output()
            .expect("a shell");
        let text = [output.stderr, output.stdout].map(|bytes| String::from_utf8(bytes).expect("UTF-8")).concat();
        (output.status.code().unwrap_or(-1), text)
    }
}

/// Works through a page; the number of commands.
fn work_through(page: &Path) -> usize {
    work_through_in(page, &Shell::start())
}

fn work_through_in(page: &Path, shell: &Shell) -> usize {
    let name = page.strip_prefix(root()).expect("a page of this repository").display().to_string();
    let mut text = fs::read_to_string(page).expect("a page");
    let runtime = Runtime::new().expect("threads");
    let mut servers = Vec::new();
    for (name, path) in [("api", "/v1"), ("mock", "")] {
        if let Some(address) = directive(&text, name).map(str::to_owned) {
            let server = runtime.block_on(ApiServer::start(Behaviour { dimensions: 64, ..Behaviour::default() }));
            text = text.replace(&address, &format!("http://{}{path}", server.address()));
            servers.push(server);
        }
    }
    let store = directive(&text, "s3").map(str::to_owned).map(|address| {
        let store = stores::s3();
        text = text.replace(&address, &format!("http://127.0.0.1:{}", store.port));
        store
    });
    let mut ran = 0;
    for item in items(&text) {
        match item {
            Item::Write { name, text, added } => {
                let path = shell.current().join(name);
                fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
                let before = if added { fs::read_to_string(&path).expect("a file to add to") } else { String::new() };
                fs::write(path, before + &text).expect("written");
            }
            Item::Run { line, command, expected } => {
                let (code, printed) = shell.run(&command);
                let lines: Vec<&str> = printed.lines().map(str::trim_end).collect();
                let fails = expected.iter().any(|line| line.starts_with("error"));
                assert!(
                    (expected.is_empty() || all_fit(&expected, &lines)) && fails == (code != 0),
                    "{name}:{line}: `{command}` exited {code} and printed:\n{printed}\nexpected:\n{}",
                    expected.join("\n")
                );
                ran += 1;
            }
        }
    }
    drop((servers, store));
    ran
}

/// The pages of a folder of the documentation that have commands, each worked through.
fn all(folder: &str, least: usize) {
    let pages = markdown(&root().join(folder));
    let ran: usize = pages.iter().map(|page| work_through(page)).sum();
    assert!(ran >= least, "only {ran} commands were found in {folder}");
}

#[test]
fn the_tutorial_prints_what_it_says() {
    let ran = work_through(&root().join("docs/tutorial.md"));
    assert!(ran >= 10, "only {ran} commands were found");
}

#[test]
fn recipes_print_what_they_say() {
    all("docs/recipes", 10);
}

#[test]
fn guides_print_what_they_say() {
    all("docs/guides", 10);
}

#[test]
fn the_page_about_shards_prints_what_it_says_and_shows_the_script_that_is_written() {
    let ran = work_through(&root().join("docs/cluster.md"));
    assert!(ran >= 8, "only {ran} commands were found");
}

#[test]
fn example_projects_print_what_they_say() {
    let mut ran = 0;
    for entry in fs::read_dir(root().join("examples/projects")).expect("the examples") {
        let project = entry.expect("an entry").path();
        let shell = Shell::start();
        copy(&project, &shell.current());
        ran += work_through_in(&project.join("README.md"), &shell);
    }
    assert!(ran >= 18, "only {ran} commands were found");
}

#[test]
fn commands_of_flow_are_in_blocks_that_run() {
    let mut wrong = Vec::new();
    for folder in ["docs/recipes", "docs/guides"] {
        let others = ["docs/tutorial.md", "docs/cluster.md"].map(|page| root().join(page));
        for page in markdown(&root().join(folder)).into_iter().chain(others) {
            let text = fs::read_to_string(&page).expect("a page");
            for block in text.split("```sh\n").skip(1) {
                let lines = block.split("```").next().unwrap_or_default().lines();
                wrong
                    .extend(lines.filter(|line| line.starts_with("flow ")).map(|l| format!("{}: {l}", page.display())));
            }
        }
    }
    assert!(wrong.is_empty(), "these are not run:\n{}", wrong.join("\n"));
}

#[test]
fn files_and_commands_are_found_in_order() {
    let page = "```yaml title=\"a/b.yml\"\nx: 1\n```\n```console\n$ cat a/b.yml\nx: 1\n```\n```yaml title=\"a/b.yml (added)\"\ny: 2\n```\n";
    let found = items(page);
    assert!(
        matches!(&found[..], [Item::Write { name, added: false, .. }, Item::Run { command, .. }, Item::Write { added: true, text, .. }]
            if name == "a/b.yml" && command == "cat a/b.yml" && text == "y: 2\n"),
        "{found:?}"
    );
}
