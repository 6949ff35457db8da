//! CPU-bound work on threads for blocking work, as many tasks at once as there are cores.

use std::sync::Arc;

use tokio::{sync::Semaphore, task::spawn_blocking};

use crate::model::ServiceError;

/// One permit per core, shared by clones.
#[derive(Debug, Clone)]
pub struct CpuPermits(Arc<Semaphore>);

impl Default for CpuPermits {
    /// One permit per core.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self(Arc::new(Semaphore::new(cores)))
    }
}

impl CpuPermits {
    /// Runs `work` on a thread for blocking work once a permit is free. A panic fails the partition, not the process.
    ///
    /// # Errors
    /// Those of `work`.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, ServiceError> + Send + 'static,
    ) -> Result<T, ServiceError> {
        // The permit is held by the work, which goes on if the caller stops waiting.
        let permit = Arc::clone(&self.0).acquire_owned().await.expect("the semaphore is never closed");
        let result = spawn_blocking(move || {
            let result = work();
            drop(permit);
            result
        });
        result.await?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_fails_the_partition_and_frees_its_permit() {
        let permits = CpuPermits(Arc::new(Semaphore::new(1)));
        let broken = permits.run(|| -> Result<(), _> { panic!("a bug") }).await;
        assert!(matches!(broken, Err(ServiceError::Bug(_))));
        assert_eq!(permits.run(|| Ok(7)).await.ok(), Some(7));
    }
}
