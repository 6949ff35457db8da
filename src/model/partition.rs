//! Partition keys and their Hive path format: `bucket=12`, `country=DE/year=2024`.

use std::{cmp::Ordering, fmt, sync::Arc};

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

/// The key of a partition: column names and values, in directory order. Never empty for a partition of a dataset.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PartitionKey(Vec<(Arc<str>, PartitionValue)>);

/// A path that is not Hive-partitioned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a partition directory: expected `column=value`")]
pub struct InvalidPartitionPath(pub String);

impl PartitionKey {
    /// A key of these columns, in directory order.
    pub fn new(columns: impl IntoIterator<Item = (Arc<str>, PartitionValue)>) -> Self {
        Self(columns.into_iter().collect())
    }

    /// A key of one integer column.
    pub fn integer(column: &str, value: i64) -> Self {
        Self(vec![(column.into(), PartitionValue::Integer(value))])
    }

    /// Parses the directories of a path: `country=DE/year=2024`. Values are percent-decoded.
    ///
    /// # Errors
    /// When a segment has no `=`, an empty column, or invalid percent encoding.
    pub fn parse(path: &str) -> Result<Self, InvalidPartitionPath> {
        let error = || InvalidPartitionPath(path.to_owned());
        let columns = path
            .split('/')
            .map(|segment| {
                let (column, value) = segment.split_once('=').ok_or_else(error)?;
                let column = decode(column).filter(|c| !c.is_empty()).ok_or_else(error)?;
                let value = decode(value).ok_or_else(error)?;
                Ok((Arc::from(column), PartitionValue::from_text(&value)))
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self(columns))
    }

    /// The columns and their values, in directory order.
    pub fn columns(&self) -> impl ExactSizeIterator<Item = (&str, &PartitionValue)> {
        self.0.iter().map(|(column, value)| (&**column, value))
    }

    /// The value of a column.
    pub fn get(&self, column: &str) -> Option<&PartitionValue> {
        self.0.iter().find(|(name, _)| &**name == column).map(|(_, value)| value)
    }

    /// The directories, percent-encoded as Hive and Spark do: `city=A%2FB`.
    pub fn path(&self) -> String {
        let mut out = String::new();
        for (column, value) in &self.0 {
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
}

impl fmt::Display for PartitionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (column, value)) in self.0.iter().enumerate() {
            let slash = if i == 0 { "" } else { "/" };
            write!(f, "{slash}{column}={value}")?;
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
            let digits = text.get(i + 1..i + 3)?;
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
        for path in ["", "bucket", "=1", "a=%2", "a=%zz", "a=%ff"] {
            assert!(PartitionKey::parse(path).is_err(), "{path}");
        }
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
}
