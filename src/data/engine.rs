//! The table engine: DataFusion sessions that keep to a memory limit.

use std::{num::NonZeroUsize, sync::Arc};

use datafusion::{
    error::DataFusionError,
    execution::{
        memory_pool::{FairSpillPool, TrackConsumersPool},
        runtime_env::RuntimeEnvBuilder,
    },
    prelude::{SessionConfig, SessionContext},
};

use super::error::{DataError, shortened};

/// What a sort needs at least, for each thing that runs at once.
const POOL_PER_PARTITION: u64 = 128 << 20;

/// A session that sorts and joins in about half of `memory` bytes before it spills to disk, and runs up to `jobs`
/// partitions of a query at once. Listings are never cached: a table that was just written is read as it is.
///
/// # Errors
/// When there is no temporary folder to spill to.
pub fn session(memory: u64, jobs: usize) -> Result<SessionContext, DataError> {
    // What is in flight between operators is not tracked: the process takes two to four times the pool.
    let pool = (memory / 2).max(POOL_PER_PARTITION);
    let partitions = jobs.clamp(1, usize::try_from(pool / POOL_PER_PARTITION).unwrap_or(usize::MAX));
    let named = NonZeroUsize::MIN.saturating_add(2);
    let pool = FairSpillPool::new(usize::try_from(pool).unwrap_or(usize::MAX));
    let runtime = RuntimeEnvBuilder::new()
        .with_object_list_cache_limit(0)
        .with_memory_pool(Arc::new(TrackConsumersPool::new(pool, named)))
        .build_arc()?;
    let mut config = SessionConfig::new().with_target_partitions(partitions);
    config.options_mut().execution.parquet.pushdown_filters = true;
    Ok(SessionContext::new_with_config_rt(config, runtime))
}

/// What went wrong in a query, without the layers that DataFusion wraps around it.
pub fn explain(error: &DataFusionError) -> String {
    shortened(error)
}
