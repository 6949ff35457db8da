//! The table engine: DataFusion sessions that know our stores and keep to a memory limit.

use std::{path::PathBuf, sync::Arc};

use datafusion::{
    execution::{
        disk_manager::{DiskManagerBuilder, DiskManagerMode},
        memory_pool::{FairSpillPool, TrackConsumersPool},
        runtime_env::RuntimeEnvBuilder,
    },
    prelude::{SessionConfig, SessionContext},
};

use super::{DataError, Stores};

/// What a sort needs at least, for each thing that runs at once.
const POOL_PER_PARTITION: usize = 64 << 20;

/// How a session may use the machine.
#[derive(Debug, Clone, Default)]
pub struct EngineSettings {
    /// Memory the whole process may use, in bytes; about half of it goes to sorts and joins before they spill.
    pub memory_limit: Option<u64>,
    /// Partitions of a query that run at once; `None` for one a core.
    pub jobs: Option<usize>,
    /// Where what does not fit is put; `None` for the system's temporary folder.
    pub spill_dir: Option<PathBuf>,
}

/// A session whose tables may lie on any store that the catalog opened. Listings are never cached: a table that was
/// just written is read as it is.
///
/// # Errors
/// When the spill folder cannot be made.
pub fn session(stores: &Stores, settings: &EngineSettings) -> Result<SessionContext, DataError> {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let mut partitions = settings.jobs.unwrap_or(cores).max(1);
    let mut runtime =
        RuntimeEnvBuilder::new().with_object_store_registry(stores.registry()).with_object_list_cache_limit(0);
    if let Some(limit) = settings.memory_limit {
        // What is in flight between operators is not tracked: the process takes two to four times the pool.
        let pool = usize::try_from(limit / 2).unwrap_or(usize::MAX).max(POOL_PER_PARTITION);
        partitions = partitions.min((pool / POOL_PER_PARTITION).max(1));
        let top = std::num::NonZeroUsize::MIN.saturating_add(2);
        runtime = runtime.with_memory_pool(Arc::new(TrackConsumersPool::new(FairSpillPool::new(pool), top)));
    }
    if let Some(folder) = &settings.spill_dir {
        std::fs::create_dir_all(folder).map_err(|error| DataError::io(folder, error))?;
        let disk = DiskManagerBuilder::default().with_mode(DiskManagerMode::Directories(vec![folder.clone()]));
        runtime = runtime.with_disk_manager_builder(disk);
    }
    let mut config = SessionConfig::new()
        .with_target_partitions(partitions)
        .with_information_schema(false)
        .with_create_default_catalog_and_schema(true);
    config.options_mut().execution.parquet.pushdown_filters = true;
    Ok(SessionContext::new_with_config_rt(config, runtime.build_arc()?))
}
