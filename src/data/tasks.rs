//! Blocking work off the async threads, and what a task returned.

use tokio::task::JoinError;

/// Runs blocking work on a thread for it. Its panic continues in the caller.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    ended(tokio::task::spawn_blocking(work).await).await
}

/// What a task returned. Its panic continues in the caller.
pub(super) async fn ended<T>(task: Result<T, JoinError>) -> T {
    match task {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only a runtime that is shutting down cancels work, and then there is no caller.
            Err(_) => futures::future::pending().await,
        },
    }
}
