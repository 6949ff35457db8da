//! Folders that a command creates and fills. One that holds anything already is refused.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
};

use super::{
    Exit,
    app::{App, Stop},
};

/// Writes files, by their paths in the new folder `dir`; it may exist if it holds nothing but a repository's `.git`.
pub(super) fn write<N: AsRef<Path>, T: AsRef<[u8]>>(
    app: &App,
    dir: &Path,
    files: impl IntoIterator<Item = (N, T)>,
) -> Result<(), Stop> {
    let refused = |path: &Path, error: io::Error| {
        let message = format!("`{}` cannot be written: {error}\nhelp: choose another folder", path.display());
        app.fail(Exit::Environment, message)
    };
    let failed = |error: io::Error| refused(dir, error);
    // Made first: only then is it known which folder `new/..` is.
    fs::create_dir_all(dir).map_err(failed)?;
    let mut there = fs::read_dir(dir).map_err(failed)?;
    if there.any(|entry| entry.map_or(true, |entry| entry.file_name() != ".git")) {
        return Err(app.fail(Exit::Wrong, format!("`{}` is not empty; choose a new folder", dir.display())));
    }
    for (name, text) in files {
        let path = dir.join(name);
        let folder = path.parent().expect("every file is in the new folder");
        let written = fs::create_dir_all(folder)
            .and_then(|()| File::create_new(&path))
            .and_then(|mut file| file.write_all(text.as_ref()));
        written.map_err(|error| refused(&path, error))?;
    }
    Ok(())
}
