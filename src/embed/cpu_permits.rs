//! CPU-bound work on threads for blocking work, as many tasks at once as there are cores.

use std::sync::Arc;

use tokio::{sync::Semaphore, task::spawn_blocking};

use crate::model::{Estimate, Fingerprint, ServiceError};
use arrow::array::{Array, StringArray};

/// One permit per core, shared by clones.
#[derive(Debug, Clone)]
pub(super) struct CpuPermits(Arc<Semaphore>);

impl CpuPermits {
    /// One permit per core.
    pub(super) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self(Arc::new(Semaphore::new(cores)))
    }

    /// Runs `work` on a thread for blocking work once a permit is free. A panic fails the partition, not the process.
    pub(super) async fn run<T: Send + 'static>(
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
        result
            .await
            .unwrap_or_else(|error| Err(ServiceError::Failed(format!("a task that computes vectors failed: {error}"))))
    }
}

/// The estimate of a local provider: rows and distinct texts, no requests, no cost.
pub(super) fn estimate_free(texts: &StringArray, estimate: &mut Estimate) {
    estimate.cost_nano_usd.get_or_insert(0);
    estimate.rows += texts.len() as u64;
    let digests: Vec<Fingerprint> =
        texts.iter().flatten().filter(|text| !super::is_blank(text)).map(Fingerprint::of).collect();
    let (known, fraction) = estimate.seen.check(&digests);
    estimate.unique_rows += if estimate.seen.is_exact() {
        known.iter().filter(|new| **new == Some(true)).count() as u64
    } else {
        (digests.len() as f64 * fraction).round() as u64
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_fails_the_partition_and_frees_its_permit() {
        let permits = CpuPermits(Arc::new(Semaphore::new(1)));
        let broken = permits.run(|| -> Result<(), _> { panic!("a bug") }).await;
        assert!(matches!(broken, Err(ServiceError::Failed(_))));
        assert_eq!(permits.run(|| Ok(7)).await.ok(), Some(7));
    }

    #[test]
    fn estimates_of_several_partitions_add_up() {
        let mut estimate = Estimate::default();
        for texts in [vec![Some("a"), None, Some("b")], vec![Some("a"), Some("c"), Some(" ")]] {
            estimate_free(&StringArray::from(texts), &mut estimate);
        }
        assert_eq!((estimate.rows, estimate.unique_rows, estimate.requests), (6, 3, 0));
        assert_eq!(estimate.cost_nano_usd, Some(0));
    }
}
