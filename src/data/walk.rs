//! Listings of the local disk, by several threads where there are many folders.
//!
//! Must not know what the files are.

use std::{fs, io, panic::resume_unwind, path::Path, thread};

use super::{
    error::DataError,
    file_status::FileStatus,
    listing::{Entry, Listing, Stamp},
    names::is_hidden,
};

/// Threads that read the folders of one level, and how many folders are worth one more.
const WALKERS: usize = 8;
const LEAST_SHARE: usize = 256;

/// What is at a path: nothing, one file, or all files below a folder. Blocking.
pub(super) fn list(path: &Path) -> Result<Listing, DataError> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Listing::Absent);
        }
        Err(error) => return Err(DataError::io(path, error)),
    };
    if !metadata.is_dir() {
        check_regular(path, &metadata)?;
        return Ok(Listing::File(local_entry(String::new(), &metadata)));
    }
    let Found { mut files, links, .. } = below(path)?;
    let linked = |path: &str| links.iter().any(|link| path.strip_prefix(&**link).is_some_and(|r| r.starts_with('/')));
    if !links.is_empty() {
        files.iter_mut().for_each(|entry| entry.plain &= !linked(&entry.path));
    }
    Ok(Listing::with_links(files, links))
}

/// The files directly in a folder; what is neither seen by readers nor named in Unicode is left out. Blocking.
pub(super) fn files(folder: &Path) -> Result<Vec<Entry>, DataError> {
    let error = |error| DataError::io(folder, error);
    let mut found = Vec::new();
    for item in fs::read_dir(folder).map_err(error)? {
        let item = item.map_err(error)?;
        let Ok(name) = item.file_name().into_string() else { continue };
        if is_hidden(&name) || !item.file_type().map_err(error)?.is_file() {
            continue;
        }
        match item.metadata() {
            Ok(metadata) => found.push(local_entry(name, &metadata)),
            Err(gone) if gone.kind() == io::ErrorKind::NotFound => {}
            Err(other) => return Err(DataError::io(item.path(), other)),
        }
    }
    Ok(found)
}

/// Refuses a path below `root` that leads through a link: the target belongs to another location, and nothing
/// there is written or removed. The root itself may be one. Blocking.
///
/// # Errors
/// [`DataError::Layout`], naming the link.
pub(super) fn refuse_links(root: &Path, relative: &str) -> Result<(), DataError> {
    let mut path = root.to_path_buf();
    for name in relative.split('/').filter(|name| !name.is_empty()) {
        path.push(name);
        if fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_symlink()) {
            let message = "it is a link, and nothing is written or removed through one; put a folder in its place";
            return Err(DataError::Layout { file: path.display().to_string(), message: message.to_owned() });
        }
    }
    Ok(())
}

/// All files below a folder. Folders are read by several threads at once: tens of thousands of partitions are as many
/// waits for the file system.
fn below(root: &Path) -> Result<Found, DataError> {
    let mut found = Found::default();
    found.read(root, "")?;
    while !found.folders.is_empty() {
        let folders = std::mem::take(&mut found.folders);
        let share = folders.len().div_ceil(WALKERS).max(LEAST_SHARE);
        let parts: Vec<Result<Found, DataError>> = thread::scope(|scope| {
            let read = |share| move || Found::in_folders(root, share);
            // Where the system starts no more threads, this one reads.
            let walkers: Vec<_> = folders
                .chunks(share)
                .map(|share| thread::Builder::new().spawn_scoped(scope, read(share)).map_err(|_| read(share)))
                .collect();
            let joined = walkers.into_iter().map(|walker| match walker {
                Ok(walker) => walker.join().unwrap_or_else(|panic| resume_unwind(panic)),
                Err(read) => read(),
            });
            joined.collect()
        });
        let parts = parts.into_iter().collect::<Result<Vec<_>, _>>()?;
        found.files.reserve_exact(parts.iter().map(|part| part.files.len()).sum());
        for mut part in parts {
            found.files.append(&mut part.files);
            found.folders.append(&mut part.folders);
            found.links.append(&mut part.links);
        }
    }
    Ok(found)
}

/// What was found so far: files, folders not read yet, and links, by their paths below the root.
#[derive(Default)]
struct Found {
    files: Vec<Entry>,
    folders: Vec<String>,
    /// Links to folders, and links to nothing.
    links: Vec<String>,
}

impl Found {
    fn in_folders(root: &Path, folders: &[String]) -> Result<Self, DataError> {
        let mut found = Self::default();
        folders.iter().try_for_each(|folder| found.read(&root.join(folder), folder))?;
        Ok(found)
    }

    /// Reads one folder.
    fn read(&mut self, folder: &Path, prefix: &str) -> Result<(), DataError> {
        let error = |error| DataError::io(folder, error);
        let items = match fs::read_dir(folder) {
            Ok(items) => items,
            // Another run removed the partition between the listing of its parent and now.
            Err(gone) if gone.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(other) => return Err(error(other)),
        };
        for item in items {
            let item = item.map_err(error)?;
            let name = item.file_name();
            let Some(name) = name.to_str() else {
                return Err(DataError::Layout {
                    file: item.path().display().to_string(),
                    message: "its name is not valid Unicode".to_owned(),
                });
            };
            if is_hidden(name) {
                continue;
            }
            let relative = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
            let kind = item.file_type().map_err(error)?;
            if kind.is_dir() {
                self.folders.push(relative);
                continue;
            }
            // Follows links, so that a linked folder is read too.
            let metadata = if kind.is_symlink() { fs::metadata(item.path()) } else { item.metadata() };
            match metadata {
                Ok(metadata) if metadata.is_dir() => {
                    if kind.is_symlink() && leads_back(folder, prefix, &item.path()) {
                        let message = "it is a link to a folder around it; remove the link".to_owned();
                        return Err(DataError::Layout { file: item.path().display().to_string(), message });
                    }
                    self.links.push(relative.clone());
                    self.folders.push(relative);
                }
                Ok(metadata) => {
                    check_regular(&item.path(), &metadata)?;
                    let entry = local_entry(relative, &metadata);
                    self.files.push(Entry { plain: entry.plain && !kind.is_symlink(), ..entry });
                }
                Err(gone) if gone.kind() == io::ErrorKind::NotFound && kind.is_symlink() => self.links.push(relative),
                Err(gone) if gone.kind() == io::ErrorKind::NotFound => {}
                Err(other) => return Err(DataError::io(item.path(), other)),
            }
        }
        Ok(())
    }
}

/// Refuses a named pipe, a device or a socket: reading one may never end.
fn check_regular(path: &Path, metadata: &fs::Metadata) -> Result<(), DataError> {
    if metadata.is_file() {
        return Ok(());
    }
    let message = "it is a named pipe, a device or a socket, and data is read from regular files only".to_owned();
    Err(DataError::Layout { file: path.display().to_string(), message })
}

/// True for a linked folder in `folder` that is `folder` itself, or one of those on the way to it from the root of the walk:
/// `prefix` is that way. Its files would be read again and again.
fn leads_back(folder: &Path, prefix: &str, link: &Path) -> bool {
    let Ok(target) = fs::canonicalize(link) else { return false };
    let steps = prefix.split('/').filter(|name| !name.is_empty()).count();
    folder.ancestors().take(steps + 1).any(|above| fs::canonicalize(above).is_ok_and(|above| above == target))
}

fn local_entry(path: String, metadata: &fs::Metadata) -> Entry {
    let entry = Entry::new(path, metadata.len(), || Stamp::Unread(Box::new(FileStatus::of(metadata))));
    Entry { plain: metadata.is_file(), ..entry }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_folders_at_two_levels_are_all_found_and_hidden_ones_are_not() {
        let root = tempfile::tempdir().expect("a folder");
        let folders = 2 * LEAST_SHARE + 1;
        let mut expected = Vec::new();
        for i in 0..folders {
            for name in [format!("a={i}/b=1/x.parquet"), format!("a={i}/y.parquet"), format!("a={i}/.hidden/z.parquet")]
            {
                let path = root.path().join(&name);
                fs::create_dir_all(path.parent().expect("below the root")).expect("a folder");
                fs::write(path, "1234").expect("written");
                if !name.contains("hidden") {
                    expected.push(name);
                }
            }
        }
        expected.sort_unstable();
        let listing = list(root.path()).expect("listed");
        assert!(listing.entries().iter().all(|entry| entry.size == 4));
        let found: Vec<&str> = listing.entries().iter().map(|entry| &*entry.path).collect();
        assert_eq!(found, expected);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_a_folder_around_it_is_refused_by_name_and_others_are_followed() {
        let root = tempfile::tempdir().expect("a folder");
        let link = |target: &str, name: &str| {
            std::os::unix::fs::symlink(target, root.path().join(name)).expect("a link");
        };
        for folder in ["t/a=1", "t/b", "elsewhere"] {
            fs::create_dir_all(root.path().join(folder)).expect("a folder");
            fs::write(root.path().join(folder).join("x.csv"), "1").expect("written");
        }
        link("../elsewhere", "t/a=2");
        let listing = list(&root.path().join("t")).expect("listed");
        assert_eq!(listing.entries().len(), 3);
        for (target, name) in [(".", "t/one"), ("..", "t/a=1/up"), ("../b", "t/a=1/cross")] {
            link(target, name);
            if name == "t/a=1/cross" {
                link("../a=1", "t/b/cross");
            }
            let error = list(&root.path().join("t")).expect_err("refused").to_string();
            assert!(error.contains("it is a link to a folder around it"), "{error}");
            fs::remove_file(root.path().join(name)).expect("removed");
        }
    }

    #[cfg(unix)]
    #[test]
    fn what_lies_behind_a_link_is_listed_and_marked_and_no_path_through_one_is_accepted() {
        let root = tempfile::tempdir().expect("a folder");
        let (data, other) = (root.path().join("data"), root.path().join("other"));
        for folder in [data.join("b=1"), other.join("sub")] {
            fs::create_dir_all(folder).expect("a folder");
        }
        for file in [data.join("b=1/x"), other.join("y"), other.join("sub/z")] {
            fs::write(file, "1").expect("written");
        }
        let link = |to: &Path, name: &str| std::os::unix::fs::symlink(to, data.join(name)).expect("a link");
        link(&other, "b=2");
        link(&other.join("y"), "b=1/w");
        link(&root.path().join("nowhere"), "b=3");
        let listing = list(&data).expect("listed");
        let found: Vec<_> = listing.entries().iter().map(|entry| (&*entry.path, entry.plain)).collect();
        assert_eq!(found, [("b=1/w", false), ("b=1/x", true), ("b=2/sub/z", false), ("b=2/y", false)]);
        assert_eq!(listing.links(), ["b=2", "b=3"]);
        refuse_links(&data, "b=1/x").expect("a plain path");
        for path in ["b=2", "b=2/y", "b=3", "b=1/w"] {
            let error = refuse_links(&data, path).expect_err("a link").to_string();
            assert!(error.contains("it is a link"), "{error}");
        }
    }

    #[test]
    fn a_file_is_itself_and_nothing_is_nothing() {
        let root = tempfile::tempdir().expect("a folder");
        let file = root.path().join("x.csv");
        assert_eq!(list(&file).expect("nothing"), Listing::Absent);
        fs::write(&file, "12").expect("written");
        assert!(
            matches!(list(&file).expect("a file"), Listing::File(entry) if entry.path.is_empty() && entry.size == 2)
        );
        assert_eq!(list(&file.join("below")).expect("nothing"), Listing::Absent);
    }
}
