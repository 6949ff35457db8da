//! The columns of partitions that an earlier run has committed, which those that are computed now have to have too.

use super::{context::RunContext, outcome::StepError};
use crate::{
    data::{Dataset, Partition},
    function::KnownColumns,
};

/// Partitions whose columns are read, where those before had columns of nulls only.
const MOST: usize = 50;

/// Tells a task the columns of partitions that are there and stay.
pub(super) async fn add(
    run: &RunContext,
    dataset: &dyn Dataset,
    known: &dyn KnownColumns,
    stays: impl Fn(&Partition) -> bool,
) -> Result<(), StepError> {
    // Other formats give back other types than were written.
    if !dataset.keeps_columns() {
        return Ok(());
    }
    let source = dataset.written_partitions()?;
    let existing = source.partitions(&run.stores).await?;
    for partition in existing.iter().filter(|partition| stays(partition)).take(MOST) {
        // One that cannot be read is no concern of those that are computed.
        let Ok(rows) = source.load_partition(&run.stores, partition).await else { continue };
        if known.add(&partition.key, &rows.schema()) {
            break;
        }
    }
    Ok(())
}
