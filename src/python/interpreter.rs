//! Which Python runs a project's functions.

use std::path::{Path, PathBuf};

/// What names an interpreter, most specific first.
#[derive(Debug, Clone, Default)]
pub struct InterpreterSettings {
    /// `--python` or `FLOW_PYTHON`: a path, or the name of a program on the `PATH`.
    pub given: Option<String>,
    /// `VIRTUAL_ENV`: the folder of an active virtual environment.
    pub virtual_env: Option<String>,
    /// `PATH`.
    pub path: Option<String>,
}

/// An interpreter, and what named it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interpreter {
    /// The program.
    pub program: PathBuf,
    /// What named it, for messages.
    pub named_by: &'static str,
}

const WAYS: &str = "help: set `--python PATH`, activate a virtual environment, or create one in `.venv` of the project";

impl Interpreter {
    /// Finds the interpreter of the project in `root`.
    ///
    /// # Errors
    /// When there is none, or the one that was named is missing; with where it was looked for.
    pub fn find(settings: &InterpreterSettings, root: &Path) -> Result<Self, String> {
        if let Some(given) = &settings.given {
            let program = if given.contains('/') || given.contains('\\') {
                // As the shell does: relative to the current folder.
                std::path::absolute(given).ok().filter(|path| path.is_file())
            } else {
                on_path(given, settings.path.as_deref())
            };
            return match program {
                Some(program) => Ok(Self { program, named_by: "--python" }),
                None => Err(format!("there is no Python at `{given}`, which `--python` or `FLOW_PYTHON` names")),
            };
        }
        if let Some(folder) = &settings.virtual_env {
            return match of_environment(Path::new(folder)) {
                Some(program) => Ok(Self { program, named_by: "VIRTUAL_ENV" }),
                None => Err(format!(
                    "there is no Python in the virtual environment `{folder}`, which `VIRTUAL_ENV` names\nhelp: create it \
                     again, or deactivate it"
                )),
            };
        }
        if let Some(program) = of_environment(&root.join(".venv")) {
            return Ok(Self { program, named_by: ".venv" });
        }
        ["python3", "python"]
            .iter()
            .find_map(|name| on_path(name, settings.path.as_deref()))
            .map(|program| Self { program, named_by: "PATH" })
            .ok_or_else(|| {
                format!("there is no Python: no `.venv` in the project, and no `python3` on the `PATH`\n{WAYS}")
            })
    }
}

/// The interpreter of a virtual environment.
fn of_environment(folder: &Path) -> Option<PathBuf> {
    ["bin/python3", "bin/python", "Scripts/python.exe"].iter().map(|name| folder.join(name)).find(|path| path.is_file())
}

fn on_path(name: &str, path: Option<&str>) -> Option<PathBuf> {
    let suffixes: &[&str] = if cfg!(windows) { &[".exe"] } else { &[""] };
    std::env::split_paths(path?)
        .flat_map(|folder| suffixes.iter().map(move |suffix| folder.join(format!("{name}{suffix}"))))
        .find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_most_specific_interpreter_is_used_and_a_named_one_that_is_missing_is_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        for name in ["project/.venv/bin/python3", "active/bin/python3", "tools/python3", "tools/python3.12"] {
            let path = root.join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
            fs::write(path, "").expect("written");
        }
        let at = |name: &str| root.join(name).display().to_string();
        let find = |given: Option<&str>, active: Option<&str>, project: &str| {
            let settings = InterpreterSettings {
                given: given.map(str::to_owned),
                virtual_env: active.map(at),
                path: Some(at("tools")),
            };
            Interpreter::find(&settings, &root.join(project)).map(|found| (found.program, found.named_by))
        };
        let found = |name: &str, by| Ok((root.join(name), by));
        assert_eq!(
            find(Some(&at("tools/python3.12")), Some("active"), "project"),
            found("tools/python3.12", "--python")
        );
        assert_eq!(find(Some("python3.12"), None, "project"), found("tools/python3.12", "--python"));
        assert_eq!(find(None, Some("active"), "project"), found("active/bin/python3", "VIRTUAL_ENV"));
        assert_eq!(find(None, None, "project"), found("project/.venv/bin/python3", ".venv"));
        assert_eq!(find(None, None, "other"), found("tools/python3", "PATH"));
        assert!(find(Some("python9"), None, "project").is_err_and(|error| error.contains("no Python at `python9`")));
        assert!(find(None, Some("gone"), "project").is_err_and(|error| error.contains("VIRTUAL_ENV")));
        let nothing = InterpreterSettings::default();
        assert!(Interpreter::find(&nothing, root).is_err_and(|error| error.contains("there is no Python")));
    }
}
