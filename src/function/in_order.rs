//! Reads a table in the order of its files and rows, for programs to which the order means something.

use std::sync::Arc;

use datafusion::{catalog::TableProvider, execution::SendableRecordBatchStream, prelude::SessionContext};

use super::error::FunctionError;

/// The rows of a table in the order of its files.
///
/// # Errors
/// When it cannot be read.
pub async fn in_order(
    session: &SessionContext,
    table: Arc<dyn TableProvider>,
) -> Result<SendableRecordBatchStream, FunctionError> {
    let config = session.copied_config().with_target_partitions(1);
    let session = SessionContext::new_with_config_rt(config, session.runtime_env());
    Ok(session.read_table(table)?.execute_stream().await?)
}
