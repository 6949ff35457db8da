//! Counts the failed rows of a node and compares them with `max_row_error_rate`.
//!
//! The result is the same whether rows were computed by this run or by an earlier one, whose file names record the
//! number of failed and empty rows.

use crate::{
    data::{ComputedRows, PartitionReceipt},
    model::RowTally,
};

/// The number of non-empty rows of a node, and how many of them failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct RowErrors {
    rows: u64,
    errors: u64,
}

impl From<ComputedRows> for RowErrors {
    fn from(ComputedRows { rows, outcomes }: ComputedRows) -> Self {
        Self { rows: rows.saturating_sub(outcomes.empty), errors: outcomes.errors }
    }
}

impl RowErrors {
    /// Adds the rows of an existing partition.
    pub fn add_receipt(&mut self, receipt: &PartitionReceipt) {
        self.rows += receipt.rows.unwrap_or_default().saturating_sub(receipt.outcomes.empty);
        self.errors += receipt.outcomes.errors;
    }

    /// Adds rows computed by this run.
    pub fn add(&mut self, tally: RowTally) {
        self.rows += tally.ok + tally.cached + tally.error;
        self.errors += tally.error;
    }

    /// The number of failed rows.
    pub fn errors(&self) -> u64 {
        self.errors
    }

    /// The error message of `node` if the share of failed rows is above `allowed`; it quotes the error of the last row that
    /// failed.
    pub fn exceed(&self, node: &str, allowed: f64, last: Option<&str>) -> Option<String> {
        let Self { rows, errors } = *self;
        let rate = if rows == 0 { 0.0 } else { errors as f64 / rows as f64 };
        (rate > allowed).then(|| {
            let last = last.map(|last| format!("; the last one: {last}")).unwrap_or_default();
            format!(
                "{errors} of {rows} rows failed ({:.2} %), above `max_row_error_rate` ({:.2} %){last}; each failed row \
                 holds its error in the output\nhelp: fix the rows, raise `errors.max_row_error_rate`, or ask for the failed \
                 rows again with `--force --nodes {node}`: answers that are there are not requested again",
                rate * 100.0,
                allowed * 100.0
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{data::RowOutcomes, model::Fingerprint};

    fn receipt(rows: u64, errors: u64, empty: u64) -> PartitionReceipt {
        let outcomes = RowOutcomes { errors, empty };
        PartitionReceipt { fingerprint: Fingerprint::of("work"), rows: Some(rows), outcomes }
    }

    #[test]
    fn the_error_rate_is_the_same_for_rows_computed_now_and_before() {
        for (ok, cached, empty, error) in [(29, 0, 0, 1), (9, 20, 5, 1), (0, 0, 7, 0), (0, 0, 0, 3), (98, 1, 900, 1)] {
            let (mut now, mut before) = (RowErrors::default(), RowErrors::default());
            now.add(RowTally { ok, cached, empty, error });
            before.add_receipt(&receipt(ok + cached + empty + error, error, empty));
            assert_eq!(now, before);
            for allowed in [0.0, 0.01, 0.05, 1.0] {
                assert_eq!(now.exceed("n", allowed, None), before.exceed("n", allowed, None));
            }
        }
    }

    #[test]
    fn only_a_rate_above_the_limit_is_an_error() {
        let mut rows = RowErrors::default();
        rows.add(RowTally { ok: 99, error: 1, empty: 100, ..RowTally::default() });
        assert_eq!(rows.exceed("n", 0.01, None), None);
        let wrong = rows.exceed("n", 0.0, Some("400: no")).expect("an error");
        let begin = "1 of 100 rows failed (1.00 %), above `max_row_error_rate` (0.00 %); the last one: 400: no; each";
        assert!(wrong.starts_with(begin), "{wrong}");
        assert_eq!(RowErrors::default().exceed("n", 0.0, None), None);
    }
}
