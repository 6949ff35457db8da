//! The documentation: its commands run, its links lead somewhere, and pages made from tables of the code are up to date.
//!
//! A page with `console` blocks is worked through from top to bottom in an empty folder, as a reader would ([`pages`]).

pub mod blocks;
mod links;
mod pages;
mod reference;

use std::{
    fs,
    path::{Path, PathBuf},
};

/// All pages below a folder of the documentation, sorted.
fn markdown(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(markdown(&path));
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
    found.sort();
    found
}
