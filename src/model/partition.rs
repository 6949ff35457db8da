//! Partition keys: hive folders (`bucket=12`, `country=DE/year=2024`), or files by their ids (`2024/jan`, `north`).

use std::{
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use super::visible::visible_line;

/// The directory value that Hive and Spark use for null. Readers interpret such a key differently.
pub const NULL_PARTITION: &str = "__HIVE_DEFAULT_PARTITION__";

/// The value of one partition column.
///
/// A value that parses as a 64-bit integer *and* formats to the same string is an integer, so that partition 10 sorts
/// after partition 9 and the column is read as `Int64`; `007` remains a string.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PartitionValue {
    /// An integer.
    Integer(i64),
    /// Any other string.
    Text(Arc<str>),
}

impl PartitionValue {
    /// Parses a decoded path segment.
    pub fn from_text(text: &str) -> Self {
        match text.parse::<i64>() {
            Ok(number) if number.to_string() == text => Self::Integer(number),
            _ => Self::Text(text.into()),
        }
    }
}

impl fmt::Display for PartitionValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl Ord for PartitionValue {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Integer(a), Self::Integer(b)) => a.cmp(b),
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            (Self::Integer(_), Self::Text(_)) => Ordering::Less,
            (Self::Text(_), Self::Integer(_)) => Ordering::Greater,
        }
    }
}

impl PartialOrd for PartitionValue {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The key of a partition. It is a hive folder, identified by its columns and their values in directory order, or one file,
/// identified by its id: the path below the dataset without the suffix. The folders of an id may be hive folders too
/// (`bucket=3/shard`) and give columns, which are no part of its identity. A folder's columns are never empty.
#[derive(Clone)]
pub struct PartitionKey {
    columns: Arc<[(Arc<str>, PartitionValue)]>,
    file: Option<Arc<str>>,
}

/// True for the name of a file or folder that is no data: what Spark, Hadoop and `flow` leave beside it (`_SUCCESS`,
/// `.crc` files, staging). A partition column may start with `_`.
pub fn is_hidden_name(name: &str) -> bool {
    name.starts_with('.') || (name.starts_with('_') && !name.contains('='))
}

/// A path that is not Hive-partitioned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a partition directory: expected `column=value`")]
pub struct InvalidPartitionPath(pub String);

impl PartitionKey {
    /// A key of these columns, in directory order.
    pub fn new(columns: impl IntoIterator<Item = (Arc<str>, PartitionValue)>) -> Self {
        Self { columns: columns.into_iter().collect(), file: None }
    }

    /// A key of one integer column.
    pub fn integer(column: &str, value: i64) -> Self {
        Self::new([(column.into(), PartitionValue::Integer(value))])
    }

    /// The key of a file with this id. Its hive folders, wherever they are, give columns.
    pub fn of_file(id: &str) -> Self {
        let folders = id.rsplit_once('/').map_or("", |(folders, _)| folders);
        let columns = folders.split('/').filter_map(|folder| column_of(folder).ok());
        Self { columns: columns.collect(), file: Some(id.into()) }
    }

    /// The key of what a program calls a partition: a hive folder (`bucket=3`), or else a file's id (`bucket=3/shard`, `jan`).
    pub fn of_id(id: &str) -> Self {
        Self::parse(id).unwrap_or_else(|_| Self::of_file(id))
    }

    /// Says what is wrong with an id that a program gives: it would leave the dataset's folder, or name a file that is no data.
    ///
    /// # Errors
    /// With what an id must not have, to be put after "partition `…` ".
    pub fn check_id(id: &str) -> Result<(), &'static str> {
        for part in id.split('/') {
            match part {
                "" if id.starts_with('/') => return Err("begins with `/`; ids are paths below the dataset"),
                "" => return Err("has an empty name in its path"),
                "." | ".." => return Err("has `.` or `..` in its path; ids are paths below the dataset"),
                _ if is_hidden_name(part) => {
                    return Err("has a name that begins with `.` or `_`, and files of such names are no data");
                }
                _ if part.contains('\0') => return Err("holds a zero byte"),
                _ => {}
            }
        }
        Ok(())
    }

    /// The same file, as one without columns; a folder stays as it is.
    #[must_use]
    pub fn without_columns(self) -> Self {
        if self.file.is_some() { Self { columns: Arc::default(), ..self } } else { self }
    }

    /// Makes a key that was parsed just now use the names of another one's columns where they are equal: all partitions of a
    /// dataset have the same.
    pub fn share_names(&mut self, with: &Self) {
        let Some(columns) = Arc::get_mut(&mut self.columns) else { return };
        for ((name, _), (other, _)) in columns.iter_mut().zip(&*with.columns) {
            if name == other {
                name.clone_from(other);
            }
        }
    }

    /// Parses the directories of a path: `country=DE/year=2024`. Values are percent-decoded where they are well encoded;
    /// others are taken as they are, as `discount=100%`.
    ///
    /// # Errors
    /// When a segment has no `=`, or an empty column.
    pub fn parse(path: &str) -> Result<Self, InvalidPartitionPath> {
        let columns = path.split('/').map(column_of).collect::<Result<Vec<_>, ()>>();
        columns.map(Self::new).map_err(|()| InvalidPartitionPath(path.to_owned()))
    }

    /// True when the directories of a path are percent-encoded as [`Self::path`] does it. Others can be read, and nothing that
    /// wrote them is known.
    pub fn is_well_encoded(path: &str) -> bool {
        path.split('/').flat_map(|folder| folder.splitn(2, '=')).all(|part| decode(part).is_some())
    }

    /// The columns and their values, in directory order.
    pub fn columns(&self) -> impl ExactSizeIterator<Item = (&str, &PartitionValue)> {
        self.columns.iter().map(|(column, value)| (&**column, value))
    }

    /// The value of a column.
    pub fn get(&self, column: &str) -> Option<&PartitionValue> {
        self.columns.iter().find(|(name, _)| &**name == column).map(|(_, value)| value)
    }

    /// The id of a partition that is one file; `None` for a hive folder.
    pub fn file(&self) -> Option<&str> {
        self.file.as_deref()
    }

    /// The directories, percent-encoded as Hive and Spark do: `city=A%2FB`. The id of a file.
    pub fn path(&self) -> String {
        if let Some(file) = &self.file {
            return file.to_string();
        }
        let mut out = String::new();
        for (column, value) in &*self.columns {
            if !out.is_empty() {
                out.push('/');
            }
            encode(&mut out, column);
            out.push('=');
            match value {
                PartitionValue::Integer(number) => out.push_str(&number.to_string()),
                PartitionValue::Text(text) => encode(&mut out, text),
            }
        }
        out
    }

    /// What identifies it: its id, or else its columns.
    fn identity(&self) -> (Option<&str>, &[(Arc<str>, PartitionValue)]) {
        match &self.file {
            Some(file) => (Some(file), &[]),
            None => (None, &self.columns),
        }
    }
}

/// The column and the value of a hive folder's name.
fn column_of(folder: &str) -> Result<(Arc<str>, PartitionValue), ()> {
    let (column, value) = folder.split_once('=').filter(|(column, _)| !column.is_empty()).ok_or(())?;
    let text = |text: &str| decode(text).unwrap_or_else(|| text.to_owned());
    Ok((Arc::from(text(column)), PartitionValue::from_text(&text(value))))
}

impl PartialEq for PartitionKey {
    fn eq(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }
}

impl Eq for PartitionKey {}

impl Hash for PartitionKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity().hash(state);
    }
}

impl Ord for PartitionKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.identity().cmp(&other.identity())
    }
}

impl PartialOrd for PartitionKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// As displayed: a value or an id of several lines is shown on one.
impl fmt::Display for PartitionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            return f.write_str(&visible_line(file));
        }
        for (i, (column, value)) in self.columns.iter().enumerate() {
            let slash = if i == 0 { "" } else { "/" };
            f.write_str(slash)?;
            f.write_str(&visible_line(&format!("{column}={value}")))?;
        }
        Ok(())
    }
}

impl fmt::Debug for PartitionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Percent-encodes the characters that Hive escapes in a directory name. Spaces and non-ASCII letters are kept.
fn encode(out: &mut String, text: &str) {
    for c in text.chars() {
        let special = c.is_ascii_control()
            || matches!(
                c,
                '"' | '#'
                    | '%'
                    | '\''
                    | '*'
                    | '/'
                    | ':'
                    | '='
                    | '?'
                    | '\\'
                    | '{'
                    | '['
                    | ']'
                    | '^'
                    | '<'
                    | '>'
                    | '|'
                    | '~'
            );
        if special {
            out.push_str(&format!("%{:02X}", c as u32));
        } else {
            out.push(c);
        }
    }
}

fn decode(text: &str) -> Option<String> {
    if !text.contains('%') {
        return Some(text.to_owned());
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        if bytes[i] == b'%' {
            let digits = text.get(i + 1..i + 3).filter(|digits| !digits.starts_with('+'))?;
            out.push(u8::from_str_radix(digits, 16).ok()?);
            i += 3;
        } else {
            out.push(bytes[i]);
            i += 1;
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_parse_and_format_as_hive_paths() {
        for (path, shown) in [
            ("bucket=12", "bucket=12"),
            ("city=A%2FB%25 c", "city=A/B% c"),
            ("country=DE/year=2024", "country=DE/year=2024"),
            ("name=été", "name=été"),
        ] {
            let key = PartitionKey::parse(path).expect(path);
            assert_eq!(key.to_string(), shown);
            assert_eq!(key.path(), path);
        }
        for path in ["", "bucket", "=1"] {
            assert!(PartitionKey::parse(path).is_err(), "{path}");
        }
    }

    #[test]
    fn a_broken_percent_sign_in_a_hive_folder_is_text() {
        for (path, text) in [
            ("discount=100%", "100%"),
            ("discount=50%off", "50%off"),
            ("a=%2", "%2"),
            ("a=%zz", "%zz"),
            ("a=%ff", "%ff"),
            ("a=%+1", "%+1"),
            ("a=%é", "%é"),
            ("a=%25", "%"),
        ] {
            let key = PartitionKey::parse(path).expect(path);
            assert_eq!(key.columns().next().map(|(_, value)| value.to_string()).as_deref(), Some(text), "{path}");
            assert_eq!(PartitionKey::parse(&key.path()).expect("reads back"), key);
        }
    }

    #[test]
    fn a_file_is_known_by_its_id_and_its_hive_folders_give_columns() {
        let shown = |key: &PartitionKey| key.columns().map(|(c, v)| format!("{c}={v}")).collect::<Vec<_>>();
        for (id, columns) in [
            ("north", &[][..]),
            ("2024/jan", &[]),
            ("bucket=3/shard", &["bucket=3"]),
            ("x/bucket=3/y/city=A%20B/part", &["bucket=3", "city=A B"]),
            ("bucket=3", &[]),
            ("", &[]),
        ] {
            let key = PartitionKey::of_file(id);
            assert_eq!(
                (key.to_string(), key.path(), shown(&key)),
                (id.to_owned(), id.to_owned(), columns.iter().map(|c| (*c).to_owned()).collect())
            );
            assert_eq!(key, key.clone().without_columns(), "columns are no part of its identity");
        }
        assert_ne!(PartitionKey::of_file("bucket=3"), PartitionKey::integer("bucket", 3), "a file is no folder");
    }

    #[test]
    fn integers_are_ordered_as_integers() {
        let mut keys = ["bucket=10", "bucket=9", "bucket=007"].map(|p| PartitionKey::parse(p).expect(p));
        keys.sort();
        assert_eq!(format!("{keys:?}"), "[bucket=9, bucket=10, bucket=007]");
    }

    proptest! {
        #[test]
        fn any_key_round_trips_through_its_path(column in "[a-zA-Z_é %/=]{1,8}", value in "\\PC{0,12}") {
            let key = PartitionKey::new([(Arc::from(column.as_str()), PartitionValue::from_text(&value))]);
            prop_assert_eq!(PartitionKey::parse(&key.path()).expect("parses"), key);
        }
    }

    #[test]
    fn ids_that_leave_the_folder_or_name_files_that_are_no_data_are_refused() {
        for id in ["jan", "2024/jan", "bucket=3", "bucket=3/shard", "_x=1/a", "a..b", "é x?*", "a\\b"] {
            assert_eq!(PartitionKey::check_id(id), Ok(()), "{id}");
        }
        for id in ["", "/tmp/x", "../in/p0", "a/../../b", ".", "./e", "a//b", "a/", "_a", ".b", "x/_b", "x/.c", "a\0"] {
            assert!(PartitionKey::check_id(id).is_err(), "{id:?}");
        }
    }
}
