//! Real paths: resolves links of the local disk, also where the end of a path does not exist yet.

use std::{
    cell::RefCell,
    collections::HashMap,
    fs,
    path::{Component, Path, PathBuf},
};

use crate::data::normalized;

/// Links followed in one path; the rest is left as written, as the system does.
const MAX_LINKS: usize = 40;
/// Longer paths are not valid on any system.
const MAX_LENGTH: usize = 1 << 14;

/// Resolves links of many paths, reading each link once.
#[derive(Debug, Default)]
pub(super) struct Links {
    /// The target of each link; `None` for other paths.
    known: RefCell<HashMap<PathBuf, Option<PathBuf>>>,
}

impl Links {
    /// The path that `path` leads to, without links, `.` and `..`.
    pub(super) fn resolve(&self, path: &Path) -> PathBuf {
        if path.as_os_str().len() > MAX_LENGTH {
            return normalized(path);
        }
        let mut real = PathBuf::new();
        let mut followed = 0;
        // Remaining parts, the next one last.
        let mut rest: Vec<PathBuf> = parts(path);
        while let Some(part) = rest.pop() {
            match part.components().next() {
                Some(Component::ParentDir) => {
                    real.pop();
                }
                Some(Component::Normal(_)) => {
                    let here = real.join(&part);
                    match self.link(&here).filter(|_| followed < MAX_LINKS) {
                        Some(target) => {
                            followed += 1;
                            rest.extend(parts(&target));
                        }
                        None => real = here,
                    }
                }
                // A root or a prefix starts a new path.
                Some(Component::RootDir | Component::Prefix(_)) => real = real.join(part),
                Some(Component::CurDir) | None => {}
            }
        }
        real
    }

    fn link(&self, path: &Path) -> Option<PathBuf> {
        let mut known = self.known.borrow_mut();
        known.entry(path.to_owned()).or_insert_with(|| fs::read_link(path).ok()).clone()
    }
}

/// The parts of a path, last first.
fn parts(path: &Path) -> Vec<PathBuf> {
    path.components().rev().map(|part| PathBuf::from(part.as_os_str())).collect()
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_followed_where_they_exist_and_the_rest_is_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().canonicalize().expect("a real path");
        fs::create_dir_all(root.join("real/deep")).expect("folders");
        symlink("real", root.join("link")).expect("a link");
        symlink("../link/deep", root.join("real/back")).expect("a link");
        symlink(root.join("absent"), root.join("dangling")).expect("a link");
        symlink("loop", root.join("loop")).expect("a link");
        let links = Links::default();
        for (path, wanted) in [
            ("link/x/y.csv", "real/x/y.csv"),
            ("real/back/x", "real/deep/x"),
            ("link/../x", "x"),
            ("./real//x", "real/x"),
            ("real/back/../x", "real/x"),
            ("dangling/x", "absent/x"),
            ("absent/../x", "x"),
            ("loop/x", "loop/x"),
        ] {
            assert_eq!(links.resolve(&root.join(path)), root.join(wanted), "{path}");
        }
    }
}
