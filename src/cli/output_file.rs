//! Files that a command writes where the user says: one that `flow` did not write is not replaced.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::Path,
};

use super::{
    Exit,
    app::{App, Stop},
};

/// The bytes by which a file is recognized.
const BEGINNING: u64 = 64 << 10;

/// Writes `text` into `file`. A file that holds anything is replaced only if it begins as what `command` writes, which `wrote` knows.
pub(super) fn write(
    app: &App,
    file: &Path,
    text: &str,
    command: &str,
    wrote: impl Fn(&str) -> bool,
) -> Result<(), Stop> {
    let failed = |error: io::Error| app.fail(Exit::Environment, format!("{}: {error}", file.display()));
    if beginning(file).map_err(failed)?.is_some_and(|beginning| !wrote(&beginning)) {
        let message = format!(
            "{} was not made by `{command}` and is not replaced\nhelp: write to another file, or remove it",
            file.display()
        );
        return Err(app.fail(Exit::Environment, message));
    }
    fs::write(file, text).map_err(failed)
}

/// The beginning of a file. `None` where nothing is there to lose: no file, an empty one, or what is no file, such as a pipe.
pub(super) fn beginning(file: &Path) -> io::Result<Option<String>> {
    match fs::metadata(file) {
        Ok(found) if found.is_file() && found.len() > 0 => {}
        Ok(_) => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    }
    let mut bytes = Vec::new();
    File::open(file)?.take(BEGINNING).read_to_end(&mut bytes)?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_nothing_has_no_beginning() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        let found = || beginning(&path).expect("readable");
        assert_eq!(found(), None);
        fs::write(&path, "").expect("written");
        assert_eq!(found(), None);
        fs::write(&path, b"digraph\xff").expect("written");
        assert_eq!(found().as_deref(), Some("digraph\u{fffd}"));
        assert_eq!(beginning(Path::new("/dev/null")).expect("readable"), None);
    }
}
