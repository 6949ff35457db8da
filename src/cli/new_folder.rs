//! Folders that a command creates and fills. One that holds anything already is refused.

use std::{fs, io, path::Path};

use super::{
    Exit,
    app::{App, Stop},
};

/// Writes files, by their paths in the new folder `dir`; it may exist if it is empty.
pub(super) fn write<N: AsRef<Path>, T: AsRef<[u8]>>(
    app: &App,
    dir: &Path,
    files: impl IntoIterator<Item = (N, T)>,
) -> Result<(), Stop> {
    let failed = |error: io::Error| app.fail(Exit::Environment, format!("{}: {error}", dir.display()));
    match fs::read_dir(dir) {
        Ok(mut entries) => {
            if entries.next().is_some() {
                return Err(app.fail(Exit::Wrong, format!("`{}` is not empty; choose a new folder", dir.display())));
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    for (name, text) in files {
        let path = dir.join(name);
        let folder = path.parent().expect("every file is in the new folder");
        fs::create_dir_all(folder).and_then(|()| fs::write(&path, text)).map_err(failed)?;
    }
    Ok(())
}
