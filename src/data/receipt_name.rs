//! The name of a partition's file: what it is known by, and how its rows came out.
//!
//! `<fingerprint>-<rows>.parquet`, or `<fingerprint>-<rows>-<errors>.parquet` when rows carry an error of their own. A
//! later run that finds the partition there learns both from the listing, and gives the same honest exit code.

use crate::model::Fingerprint;

/// What a file's name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ReceiptName {
    /// What it was made from; for a table's partition, a digest of its rows.
    pub fingerprint: Fingerprint,
    /// Rows in it, where the name says.
    pub rows: Option<u64>,
    /// Rows with an error of their own.
    pub errors: u64,
}

impl ReceiptName {
    /// Reads a file's name (without folders); `None` for a name that is not ours.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let fingerprint = Fingerprint::parse(name.get(..32)?)?;
        let rest = &name[32..];
        if rest.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            return None;
        }
        let marks = rest.split('.').next().unwrap_or_default();
        let mut numbers = marks.split('-').skip(1).map(str::parse::<u64>);
        let rows = numbers.next().and_then(Result::ok);
        let errors = numbers.next().and_then(Result::ok).unwrap_or_default();
        Some(Self { fingerprint, rows, errors })
    }

    /// The file's name.
    pub(super) fn file(&self, suffix: &str) -> String {
        let rows = self.rows.map(|rows| format!("-{rows}")).unwrap_or_default();
        let errors = if self.errors > 0 { format!("-{}", self.errors) } else { String::new() };
        format!("{}{rows}{errors}{suffix}", self.fingerprint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        let fingerprint = Fingerprint::of("x");
        for (rows, errors, tail) in
            [(None, 0, ".parquet"), (Some(500), 0, "-500.parquet"), (Some(500), 3, "-500-3.parquet")]
        {
            let name = ReceiptName { fingerprint, rows, errors };
            assert_eq!(name.file(".parquet"), format!("{fingerprint}{tail}"));
            assert_eq!(ReceiptName::parse(&name.file(".parquet")), Some(name));
        }
        for foreign in ["part-0.parquet", "0123.parquet", &format!("{fingerprint}0.parquet"), ""] {
            assert_eq!(ReceiptName::parse(foreign), None, "{foreign}");
        }
    }
}
