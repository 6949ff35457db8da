//! How many rows of a node carry an error of their own, and whether that is too many.
//!
//! The judgement is the same whether rows were computed now or by an earlier run, whose files tell in their names how
//! their rows came out.

use crate::{data::PartitionReceipt, embed::RowTally};

/// Rows that had something to compute, and those of them with an error of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct RowErrors {
    rows: u64,
    errors: u64,
}

impl RowErrors {
    /// Adds the rows of a partition that is there already.
    pub fn add_receipt(&mut self, receipt: &PartitionReceipt) {
        self.rows += receipt.rows.unwrap_or_default().saturating_sub(receipt.outcomes.empty);
        self.errors += receipt.outcomes.errors;
    }

    /// Adds rows that were computed now.
    pub fn add(&mut self, tally: RowTally) {
        self.rows += tally.ok + tally.cached + tally.error;
        self.errors += tally.error;
    }

    /// Rows with an error of their own.
    pub fn errors(&self) -> u64 {
        self.errors
    }

    /// What is wrong when more than this share of the rows carries an error.
    pub fn exceed(&self, allowed: f64) -> Option<String> {
        let Self { rows, errors } = *self;
        let rate = if rows == 0 { 0.0 } else { errors as f64 / rows as f64 };
        (rate > allowed).then(|| {
            format!(
                "{errors} of {rows} rows failed ({:.2} %), above `max_row_error_rate` ({:.2} %); each failed row holds \
                 its error in the output; fix the rows, or raise `errors.max_row_error_rate`",
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
    fn rows_are_judged_alike_whether_computed_now_or_before() {
        for (ok, cached, empty, error) in [(29, 0, 0, 1), (9, 20, 5, 1), (0, 0, 7, 0), (0, 0, 0, 3), (98, 1, 900, 1)] {
            let (mut now, mut before) = (RowErrors::default(), RowErrors::default());
            now.add(RowTally { ok, cached, empty, error });
            before.add_receipt(&receipt(ok + cached + empty + error, error, empty));
            assert_eq!(now, before);
            for allowed in [0.0, 0.01, 0.05, 1.0] {
                assert_eq!(now.exceed(allowed), before.exceed(allowed));
            }
        }
    }

    #[test]
    fn only_a_rate_above_the_allowed_one_is_too_many() {
        let mut rows = RowErrors::default();
        rows.add(RowTally { ok: 99, error: 1, empty: 100, ..RowTally::default() });
        assert_eq!(rows.exceed(0.01), None);
        let wrong = rows.exceed(0.0).expect("too many");
        assert!(wrong.starts_with("1 of 100 rows failed (1.00 %), above `max_row_error_rate` (0.00 %)"), "{wrong}");
        assert_eq!(RowErrors::default().exceed(0.0), None);
    }
}
