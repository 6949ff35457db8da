//! `*` in the path of a table: the files below a folder whose paths match. Must not know where they lie.

/// The part of a path from the first name with a `*` on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob(Vec<String>);

/// Stands for any number of folders.
const ANY_FOLDERS: &str = "**";

impl Glob {
    /// Splits a path into the folder in front of the first name with a `*`, and the pattern; `None` where there is no `*`.
    pub(super) fn split(path: &str) -> Option<(&str, Self)> {
        let star = path.find('*')?;
        let start = path[..star].rfind('/').map_or(0, |slash| slash + 1);
        let names = path[start..].split('/').filter(|name| !name.is_empty() && *name != ".");
        let mut names: Vec<String> = names.map(str::to_owned).collect();
        // Two in a row say no more than one, and cost much more to match.
        names.dedup_by(|one, other| one == other && one == ANY_FOLDERS);
        Some((&path[..start], Self(names)))
    }

    /// Its names.
    pub fn names(&self) -> &[String] {
        &self.0
    }

    /// True for a file with this path below the folder, and for one inside a folder that matches.
    pub(super) fn matches(&self, path: &str) -> bool {
        let names: Vec<&str> = path.split('/').collect();
        fits(&self.0, &names, false)
    }

    /// True when a location with these names below the folder matches, or holds something that might.
    pub fn reaches(&self, names: &[String]) -> bool {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        fits(&self.0, &names, true)
    }
}

/// `open` is true where more names may follow.
fn fits(pattern: &[String], names: &[&str], open: bool) -> bool {
    match (pattern.split_first(), names.split_first()) {
        (None, _) => true,
        (Some(_), None) => open || pattern.iter().all(|name| name == ANY_FOLDERS),
        (Some((first, rest)), Some((_, more))) if first == ANY_FOLDERS => {
            fits(rest, names, open) || fits(pattern, more, open)
        }
        (Some((first, rest)), Some((name, more))) => name_fits(first, name) && fits(rest, more, open),
    }
}

/// True for a name that is the pattern, each `*` of which stands for any characters.
fn name_fits(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    // The first place of each part in the middle leaves the most for those after it.
    for part in parts {
        let Some(at) = name.find(part) else { return false };
        name = &name[at + part.len()..];
    }
    name.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_match_by_their_names_and_by_the_folders_that_they_are_in() {
        for (path, folder, yes, no) in [
            ("data/*.csv", "data/", &["a.csv", ".csv"][..], &["a.txt", "sub/a.csv", "a.csv.bak"][..]),
            ("data/2024-*-x*.csv", "data/", &["2024-01-x.csv", "2024-x-x-xy.csv"], &["2023-01-x.csv", "2024-01.csv"]),
            ("*.csv", "", &["a.csv"], &["b/a.csv"]),
            ("d/*/a.csv", "d/", &["x/a.csv"], &["a.csv", "x/y/a.csv"]),
            ("d/year=*", "d/", &["year=1/a.csv", "year=2/b/c.csv"], &["x/year=1/a.csv"]),
            ("d/**/*.csv", "d/", &["a.csv", "x/a.csv", "x/y/a.csv"], &["x/a.txt"]),
            ("/srv/./a*/x?.csv", "/srv/./", &["ab/x?.csv"], &["ab/xy.csv"]),
        ] {
            let (found, glob) = Glob::split(path).expect(path);
            assert_eq!(found, folder);
            yes.iter().for_each(|file| assert!(glob.matches(file), "{path} {file}"));
            no.iter().for_each(|file| assert!(!glob.matches(file), "{path} {file}"));
        }
        assert_eq!(Glob::split("data/a.csv"), None);
    }

    #[test]
    fn what_may_lie_inside_a_folder_is_reached() {
        let reaches = |path: &str, names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            Glob::split(path).expect(path).1.reaches(&names)
        };
        assert!(reaches("d/*/a.csv", &["x"]) && reaches("d/**/a.csv", &["x", "y"]) && reaches("d/*.csv", &["o.csv"]));
        assert!(!reaches("d/*.csv", &["out"]) && !reaches("d/a*/b.csv", &["x", "b.csv"]));
    }
}
