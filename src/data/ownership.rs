//! Ownership of the files at a dataset's location, decided by their names and folders.
//!
//! Owns the one rule for what a write may replace or remove; every removal applies it first, and so do `flow
//! plan` and the checks before a run. Must not know stores, and reads nothing.

use std::borrow::Cow;

use super::{
    file_name::FileName,
    listing::{Entry, Listing},
    names::is_hidden,
    partition_receipts::PartitionReceipts,
};
use crate::model::PartitionKey;

/// As many files are named in a message.
const NAMED: usize = 5;

/// Whose a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// `flow` wrote it for this dataset.
    Flow,
    /// `flow` wrote it while the dataset had another type or suffix.
    OtherOptions,
    /// A data file of this dataset that another program wrote or changed.
    DataFile,
    /// Anything else. Never replaced, never removed.
    Foreign,
}

/// The folders of a dataset's files and the suffix of their names.
#[derive(Debug, Clone)]
pub(super) struct FileLayout<'a> {
    /// The folders of the files.
    pub(super) level: Level<'a>,
    /// How their names end when they are written.
    pub(super) suffix: Cow<'a, str>,
    /// True where the catalog says that data files which `flow` did not write are replaced.
    pub(super) overwrite: bool,
    /// Its partitions that are files with names of their own, where it may have some.
    pub(super) files: Option<FileIds<'a>>,
}

/// Partitions that are files with names of their own.
#[derive(Debug, Clone, Copy)]
pub(super) struct FileIds<'a> {
    /// What their names end with, after the id.
    pub(super) suffix: &'a str,
    /// What was written under ids.
    pub(super) receipts: &'a PartitionReceipts,
    /// True when every file with that suffix is a partition.
    pub(super) all: bool,
}

/// The folders of a dataset's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level<'a> {
    /// The dataset's own.
    Folder,
    /// Partition folders of these columns, in this order.
    Partition(&'a [String]),
    /// Partition folders of columns that are not known yet.
    AnyPartition,
}

impl Level<'_> {
    /// True when a file with this path is at the level of the dataset's files.
    fn holds(self, path: &str) -> bool {
        let folder = path.rsplit_once('/').map(|(folder, _)| folder);
        // `flow` writes no folder that is not well encoded.
        let encoded = folder.filter(|folder| PartitionKey::is_well_encoded(folder));
        let key = encoded.and_then(|folder| PartitionKey::parse(folder).ok());
        match (self, folder, key) {
            (Self::Folder, folder, _) => folder.is_none(),
            (Self::Partition(columns), Some(_), Some(key)) => {
                key.columns().map(|(column, _)| column).eq(columns.iter().map(String::as_str))
            }
            (Self::AnyPartition, Some(_), Some(_)) => true,
            _ => false,
        }
    }
}

impl FileLayout<'_> {
    /// Whose a listed file is.
    pub(super) fn origin(&self, entry: &Entry) -> Origin {
        let path = &*entry.path;
        let name = path.rsplit('/').next().unwrap_or_default();
        if !entry.plain || is_hidden(path) {
            return Origin::Foreign;
        }
        let of_id = self.files.as_ref().and_then(|files| Some((files, path.strip_suffix(files.suffix)?)));
        if of_id.is_some_and(|(files, id)| files.receipts.own(id, entry)) {
            return Origin::Flow;
        }
        let otherwise = if of_id.is_some_and(|(files, _)| files.all) { Origin::DataFile } else { Origin::Foreign };
        if !self.level.holds(path) {
            return otherwise;
        }
        match FileName::parse(name) {
            // A truncated one is still flow's; one that grew was changed by another program.
            Some(own) if own.suffix == self.suffix && entry.size <= own.bytes => Origin::Flow,
            Some(own) if own.bytes == entry.size => Origin::OtherOptions,
            _ if name.len() > self.suffix.len() && name.ends_with(&*self.suffix) => Origin::DataFile,
            _ => otherwise,
        }
    }

    /// True for a file that a write may remove once it has put its own there.
    pub(super) fn may_remove(&self, entry: &Entry) -> bool {
        match self.origin(entry) {
            Origin::Flow => true,
            Origin::OtherOptions | Origin::DataFile => self.overwrite,
            Origin::Foreign => false,
        }
    }
}

/// The files at the location of a dataset's writes that `flow` did not write.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Occupants {
    /// Data files of this dataset that `flow` did not write, as displayed paths.
    data_files: Vec<String>,
    /// Files that `flow` wrote while the dataset had another type or suffix.
    other_options: Vec<String>,
    /// A file that `flow` wrote and another program changed or replaced.
    changed: Vec<String>,
    /// Everything else.
    foreign: Vec<String>,
    /// Links to folders.
    links: Vec<String>,
    /// Why the place itself cannot be written, where it is a file instead of a folder or the other way round.
    unfit: Option<String>,
    /// Whether data files may be replaced.
    overwrite: bool,
}

impl Occupants {
    /// The occupants of a folder. `show` gives a path as displayed.
    pub(super) fn of_folder(listing: &Listing, layout: &FileLayout<'_>, show: impl Fn(&str) -> String) -> Self {
        let mut found = Self { overwrite: layout.overwrite, ..Self::default() };
        let links = listing.links();
        found.links = links.iter().map(|link| show(link)).collect();
        let behind = |path: &str| {
            links.iter().any(|link| path.strip_prefix(link.as_str()).is_some_and(|rest| rest.starts_with('/')))
        };
        for entry in listing.entries() {
            let (path, shown) = (&entry.path, || show(&entry.path));
            match layout.origin(entry) {
                Origin::Flow => {}
                Origin::OtherOptions => found.other_options.push(shown()),
                Origin::DataFile => found.data_files.push(shown()),
                // Named once, by the link.
                Origin::Foreign if behind(path) => {}
                Origin::Foreign => found.foreign.push(shown()),
            }
        }
        found
    }

    /// A file that another program wrote, where the dataset is one file.
    pub(super) fn file(shown: String, plain: bool, overwrite: bool) -> Self {
        let (data_files, foreign) = if plain { (vec![shown], Vec::new()) } else { (Vec::new(), vec![shown]) };
        Self { data_files, foreign, overwrite, ..Self::default() }
    }

    /// A file that was changed or replaced after `flow` wrote it, where the dataset is one file.
    pub(super) fn changed_file(shown: String, overwrite: bool) -> Self {
        Self { changed: vec![shown], overwrite, ..Self::default() }
    }

    /// The place cannot be written at all.
    pub(super) fn unfit(message: String) -> Self {
        Self { unfit: Some(message), ..Self::default() }
    }

    /// Links to folders, as displayed paths.
    pub fn links(&self) -> &[String] {
        &self.links
    }

    /// How many files would be replaced that hold what `flow` did not write, or wrote with other options.
    pub fn replaced(&self) -> usize {
        if self.overwrite { self.replaceable().map(|(files, _)| files.len()).sum() } else { 0 }
    }

    /// What is replaced where the catalog says so, and what that is.
    fn replaceable(&self) -> impl Iterator<Item = (&[String], &'static str)> {
        [
            (self.data_files.as_slice(), "that flow did not write"),
            (self.other_options.as_slice(), "that flow wrote with another type or suffix"),
            (self.changed.as_slice(), "that flow wrote and that changed since"),
        ]
        .into_iter()
        .filter(|(files, _)| !files.is_empty())
    }

    /// The announcement that they would be replaced.
    pub fn replacement(&self, dataset: &str) -> Option<String> {
        if self.replaced() == 0 {
            return None;
        }
        let part = |(files, what): (&[String], &str)| {
            let noun = if files.len() == 1 { "data file" } else { "data files" };
            format!("{} {noun} of `{dataset}` {what}", files.len())
        };
        Some(format!("{} will be replaced", self.replaceable().map(part).collect::<Vec<_>>().join(" and ")))
    }

    /// Why nothing may be written there, with the way out; `None` when it may.
    pub fn refusal(&self, dataset: &str) -> Option<String> {
        let mut parts = Vec::new();
        let mut ways = Vec::new();
        if let Some(message) = &self.unfit {
            return Some(format!("`{dataset}` {message}"));
        }
        if !self.links.is_empty() {
            parts.push(format!("{}: links, which no write follows", some(&self.links)));
            ways.push("put folders in the place of links".to_owned());
        }
        if !self.foreign.is_empty() {
            parts.push(format!("{}: not data files of this dataset", some(&self.foreign)));
        }
        let refused = !self.overwrite && self.replaceable().next().is_some();
        if refused {
            parts.extend(self.replaceable().map(|(files, what)| format!("{}: data files {what}", some(files))));
        }
        if parts.is_empty() {
            return None;
        }
        if refused || !self.foreign.is_empty() {
            ways.push(format!("move them away, or give `{dataset}` another `path`"));
        }
        if refused {
            ways.push(format!("set `overwrite: true` on `{dataset}` to replace the data files"));
        }
        Some(format!(
            "`{dataset}` cannot be written: its location holds files that flow may not replace\n  {}\nhelp: {}",
            parts.join("\n  "),
            ways.join("; ")
        ))
    }
}

/// The first few of many.
fn some(paths: &[String]) -> String {
    let mut shown = paths[..paths.len().min(NAMED)].join(", ");
    if paths.len() > NAMED {
        shown.push_str(&format!(" and {} more", paths.len() - NAMED));
    }
    shown
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{data::listing::Stamp, model::Fingerprint};

    fn entry(path: &str, size: u64) -> Entry {
        Entry { path: path.into(), size, stamp: Stamp::Time(0), plain: true }
    }

    fn layout(level: Level<'_>, overwrite: bool) -> FileLayout<'_> {
        FileLayout { level, suffix: ".parquet".into(), overwrite, files: None }
    }

    fn own(suffix: &str) -> String {
        FileName::of_table(Fingerprint::of("x"), 7, suffix).to_string()
    }

    #[test]
    fn whose_a_file_is_follows_from_its_name_and_its_level() {
        let columns = ["a".to_owned(), "b".to_owned()];
        let one = ["a".to_owned()];
        let (ours, digits) = (own(".parquet"), Fingerprint::of("x").to_string());
        for (level, path, expected) in [
            (Level::Folder, ours.clone(), Origin::Flow),
            (Level::Folder, "part-0.parquet".into(), Origin::DataFile),
            (Level::Folder, format!("{digits}.parquet"), Origin::DataFile),
            (Level::Folder, own(".csv"), Origin::OtherOptions),
            (Level::Folder, format!("{digits}-b8.csv"), Origin::Foreign),
            (Level::Folder, digits.clone(), Origin::Foreign),
            (Level::Folder, ".parquet".into(), Origin::Foreign),
            (Level::Folder, ".x.parquet".into(), Origin::Foreign),
            (Level::Folder, "_tmp.parquet".into(), Origin::Foreign),
            (Level::Folder, "xparquet".into(), Origin::Foreign),
            (Level::Folder, "x.parquet.bak".into(), Origin::Foreign),
            (Level::Folder, "x.PARQUET".into(), Origin::Foreign),
            (Level::Folder, "thesis.docx".into(), Origin::Foreign),
            (Level::Folder, format!("sub/{ours}"), Origin::Foreign),
            (Level::Folder, format!("a=1/{ours}"), Origin::Foreign),
            (Level::Partition(&one), format!("a=1/{ours}"), Origin::Flow),
            (Level::Partition(&one), "a=1/x.parquet".into(), Origin::DataFile),
            (Level::Partition(&one), "a=1/x.csv".into(), Origin::Foreign),
            (Level::Partition(&one), ours.clone(), Origin::Foreign),
            (Level::Partition(&one), format!("b=1/{ours}"), Origin::Foreign),
            (Level::Partition(&one), format!("a=1/b=2/{ours}"), Origin::Foreign),
            (Level::Partition(&one), format!("a=1/sub/{ours}"), Origin::Foreign),
            (Level::Partition(&one), format!("sub/a=1/{ours}"), Origin::Foreign),
            (Level::Partition(&one), format!("a=1/.hidden/{ours}"), Origin::Foreign),
            (Level::Partition(&columns), format!("a=1/b=2/{ours}"), Origin::Flow),
            (Level::Partition(&columns), format!("b=2/a=1/{ours}"), Origin::Foreign),
            (Level::AnyPartition, format!("b=2/a=1/{ours}"), Origin::Flow),
            (Level::AnyPartition, format!("x/a=1/{ours}"), Origin::Foreign),
            (Level::AnyPartition, format!("b=%GG/{ours}"), Origin::Foreign),
            (Level::AnyPartition, "x.parquet".into(), Origin::Foreign),
        ] {
            assert_eq!(layout(level, false).origin(&entry(&path, 7)), expected, "{level:?}: {path}");
        }
        let torn = entry(&ours, 3);
        assert_eq!(layout(Level::Folder, false).origin(&torn), Origin::Flow, "truncated, and still ours");
        let grown = entry(&ours, 8);
        assert_eq!(layout(Level::Folder, false).origin(&grown), Origin::DataFile, "modified from outside");
        let linked = Entry { plain: false, ..entry(&ours, 7) };
        assert!(!layout(Level::Folder, true).may_remove(&linked), "no link is ours");
    }

    proptest! {
        #[test]
        fn what_may_be_removed_has_our_name_or_is_a_data_file_that_the_catalog_lets_us_replace(
            path in "([ab]=[0-9]{1,2}/|sub/|[.]x/){0,2}([a-z0-9.=_ -]{1,12}|[a-f0-9]{32}(-r[0-9])?(-b[0-9])?)([.]parquet|[.]csv|)",
            size in 0..9_u64, overwrite: bool, plain: bool, any: bool,
        ) {
            let columns = ["a".to_owned()];
            let level = if any { Level::AnyPartition } else { Level::Partition(&columns) };
            let (layout, entry) = (layout(level, overwrite), Entry { plain, ..entry(&path, size) });
            if layout.may_remove(&entry) {
                prop_assert!(plain && level.holds(&path) && !is_hidden(&path));
                let ours = FileName::parse(&path);
                let named = ours.is_some_and(|name| name.suffix == ".parquet" && size <= name.bytes);
                let replaced = path.ends_with(".parquet") || ours.is_some_and(|name| name.bytes == size);
                prop_assert!(named || (overwrite && replaced));
            }
            let listing = Listing::folder(vec![entry.clone()]);
            let found = Occupants::of_folder(&listing, &layout, str::to_owned);
            // A write begins only where it may remove, or leave, everything that it finds.
            prop_assert_eq!(found.refusal("d").is_none(), layout.may_remove(&entry));
        }
    }

    #[test]
    fn a_refusal_names_the_first_files_and_the_way_out() {
        let files = (0..7).map(|i| entry(&format!("note-{i}.txt"), 1)).chain([entry("part-0.parquet", 1)]);
        let listing = Listing::with_links(files.collect(), vec!["a=1".to_owned()]);
        let found = Occupants::of_folder(&listing, &layout(Level::Folder, false), |path| format!("out/{path}"));
        assert_eq!(
            found.refusal("d").expect("refused"),
            "`d` cannot be written: its location holds files that flow may not replace\n  out/a=1: links, which no write follows\n  \
             out/note-0.txt, out/note-1.txt, out/note-2.txt, out/note-3.txt, out/note-4.txt and 2 more: not data files of this \
             dataset\n  out/part-0.parquet: data files that flow did not write\nhelp: put folders in the place of links; move \
             them away, or give `d` another `path`; set `overwrite: true` on `d` to replace the data files"
        );
        let data = Listing::folder(vec![entry("part-0.parquet", 1)]);
        let replaced = Occupants::of_folder(&data, &layout(Level::Folder, true), str::to_owned);
        assert_eq!((replaced.refusal("d"), replaced.replaced()), (None, 1));
    }
}
