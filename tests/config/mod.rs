//! The configuration through the binary: projects with errors and their diagnostics, Kedro's own projects, and the
//! documents and schemas that are generated from tables.

mod documents;
mod invalid;
mod kedro;

use std::{fs, path::Path};

/// Compares a string with a file of the repository; `FLOW_BLESS=1` writes the file instead.
#[expect(clippy::disallowed_methods, reason = "a switch for running the tests")]
pub fn holds(path: &Path, text: &str) {
    if std::env::var_os("FLOW_BLESS").is_some() {
        fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
        fs::write(path, text).expect("written");
        return;
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    assert!(
        expected == text,
        "{} is not what it was; `FLOW_BLESS=1 cargo test` writes it again\n--- expected\n{expected}\n--- found\n{text}",
        path.display()
    );
}
