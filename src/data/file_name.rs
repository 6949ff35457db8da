//! Names of the data files that `flow` writes, and what they say about a file without reading it.
//!
//! `<32 hex digits>[-r<rows>[-e<errors>][-n<empty>]]-b<bytes><suffix>`: the name of a computed partition holds its number of rows, those of them
//! that carry an error of their own and those that had nothing to compute, a written table only its size. A file of
//! another size than its name says was truncated after it was written, and is not read as data. Any other name is
//! not ours.

use std::fmt;

use crate::model::Fingerprint;

/// A name that `flow` gives, in parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileName<'a> {
    /// The work that made a computed partition, or the content of a written one.
    pub(super) fingerprint: Fingerprint,
    /// How many rows it holds, for a computed partition.
    pub(super) rows: Option<u64>,
    /// How many of them carry an error of their own.
    pub(super) errors: u64,
    /// How many of them had nothing to compute.
    pub(super) empty: u64,
    /// How many bytes long the whole file is.
    pub(super) bytes: u64,
    /// What comes last, as in `.parquet`; never begins with a letter or digit.
    pub(super) suffix: &'a str,
}

impl<'a> FileName<'a> {
    /// The name of a written file, without row counts.
    pub(super) fn of_table(fingerprint: Fingerprint, bytes: u64, suffix: &'a str) -> Self {
        Self { fingerprint, rows: None, errors: 0, empty: 0, bytes, suffix }
    }

    /// Reads the last part of a path; `None` for every name that [`fmt::Display`] here would not give.
    pub(super) fn parse(path: &'a str) -> Option<Self> {
        let name = path.rsplit('/').next()?;
        let fingerprint = Fingerprint::parse(name.get(..32)?)?;
        let mut rest = &name[32..];
        let rows = number(&mut rest, "-r");
        let errors = rows.and_then(|_| number(&mut rest, "-e"));
        let empty = rows.and_then(|_| number(&mut rest, "-n"));
        let bytes = number(&mut rest, "-b")?;
        if errors == Some(0) || empty == Some(0) || rest.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            return None;
        }
        let (errors, empty) = (errors.unwrap_or_default(), empty.unwrap_or_default());
        Some(Self { fingerprint, rows, errors, empty, bytes, suffix: rest })
    }
}

impl fmt::Display for FileName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.fingerprint)?;
        if let Some(rows) = self.rows {
            write!(f, "-r{rows}")?;
            if self.errors > 0 {
                write!(f, "-e{}", self.errors)?;
            }
            if self.empty > 0 {
                write!(f, "-n{}", self.empty)?;
            }
        }
        write!(f, "-b{}{}", self.bytes, self.suffix)
    }
}

/// Takes `<mark><digits>` off the front, as it would be printed: no sign, no zeros in front.
fn number(rest: &mut &str, mark: &str) -> Option<u64> {
    let digits = rest.strip_prefix(mark)?;
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    let (digits, after) = digits.split_at(end);
    let value: u64 = digits.parse().ok()?;
    if digits.len() > 1 && digits.starts_with('0') {
        return None;
    }
    *rest = after;
    Some(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_name_that_is_given_reads_back(
            text in "[a-z]{0,8}", rows in proptest::option::of(any::<u64>()), errors in any::<u64>(), empty in any::<u64>(), bytes in any::<u64>(),
            suffix in "([.][a-z0-9._-]{0,12})?", folder in "([a-z]=[0-9]{1,3}/)?",
        ) {
            let (errors, empty) = if rows.is_some() { (errors, empty) } else { (0, 0) };
            let name = FileName { fingerprint: Fingerprint::of(text), rows, errors, empty, bytes, suffix: &suffix };
            let path = format!("{folder}{name}");
            prop_assert_eq!(FileName::parse(&path), Some(name));
        }

        #[test]
        fn whatever_reads_as_ours_is_a_name_that_we_give(tail in "(-r[0-9]{0,3})?(-e[0-9]{0,3})?(-n[0-9]{0,3})?(-b[0-9]{0,3})?[.a-z0-9-]{0,6}") {
            let path = format!("{}{tail}", Fingerprint::of("x"));
            if let Some(name) = FileName::parse(&path) {
                prop_assert_eq!(name.to_string(), path);
            }
        }
    }

    #[test]
    fn names_of_others_are_not_ours() {
        let digits = Fingerprint::of("x").to_string();
        for name in [
            "part-0.parquet".to_owned(),
            digits.clone(),
            format!("{digits}.parquet"),
            format!("{digits}-r5.parquet"),
            format!("{digits}-b.parquet"),
            format!("{digits}-b05.parquet"),
            format!("{digits}-b+5.parquet"),
            format!("{digits}-b5parquet"),
            format!("{digits}-e1-b5.parquet"),
            format!("{digits}-r5-e0-b5.parquet"),
            format!("{digits}-b99999999999999999999.parquet"),
            format!("{}-b5.parquet", digits.to_uppercase()),
            format!("{digits}0-b5.parquet"),
        ] {
            assert_eq!(FileName::parse(&name), None, "{name}");
        }
    }
}
