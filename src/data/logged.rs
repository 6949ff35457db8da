//! An object store that says in the log what is asked of it: `-vv` shows every request with its time and outcome.
//!
//! What travels is never shown, nor are credentials: paths, sizes and the kind of an error are.

use std::{fmt, ops::Range, sync::Arc, time::Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, stream::BoxStream};
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, RenameOptions, Result, path::Path,
};

/// A store with a log.
#[derive(Debug)]
pub(super) struct Logged(Arc<dyn ObjectStore>);

impl Logged {
    /// The same store, with a log.
    pub(super) fn around(store: Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> {
        Arc::new(Self(store))
    }
}

/// Says how a request ended.
fn ended<T>(request: &'static str, path: &dyn fmt::Display, begin: Instant, result: &Result<T>) {
    let milliseconds = begin.elapsed().as_millis() as u64;
    match result {
        Ok(_) => tracing::trace!(request, %path, milliseconds, "store responded"),
        Err(error) => tracing::debug!(request, %path, milliseconds, error = kind(error), "store refused"),
    }
}

/// The kind of an error: its text may hold what the server said of the data.
fn kind(error: &object_store::Error) -> &'static str {
    use object_store::Error as E;
    match error {
        E::NotFound { .. } => "not found",
        E::AlreadyExists { .. } => "exists already",
        E::Precondition { .. } => "changed meanwhile",
        E::NotModified { .. } => "not modified",
        E::PermissionDenied { .. } | E::Unauthenticated { .. } => "no permission",
        E::NotSupported { .. } | E::NotImplemented { .. } => "not supported",
        _ => "failed",
    }
}

impl fmt::Display for Logged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for Logged {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let begin = Instant::now();
        let result = self.0.put_opts(location, payload, options).await;
        ended("put", location, begin, &result);
        result
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let begin = Instant::now();
        let result = self.0.put_multipart_opts(location, options).await;
        ended("begin upload", location, begin, &result);
        result
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let begin = Instant::now();
        let request = if options.head { "head" } else { "get" };
        let result = self.0.get_opts(location, options).await;
        ended(request, location, begin, &result);
        result
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let begin = Instant::now();
        let result = self.0.get_ranges(location, ranges).await;
        ended("get ranges", location, begin, &result);
        result
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let begin = Instant::now();
        let log = move |result: &Result<Path>| match result {
            Ok(path) => ended("delete", path, begin, result),
            Err(_) => ended("delete", &"", begin, result),
        };
        self.0.delete_stream(locations).inspect(log).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        tracing::trace!(request = "list", path = prefix.map(AsRef::as_ref).unwrap_or_default(), "store requested");
        self.0.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        tracing::trace!(request = "list", path = prefix.map(AsRef::as_ref).unwrap_or_default(), "store requested");
        self.0.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let begin = Instant::now();
        let result = self.0.list_with_delimiter(prefix).await;
        ended("list folder", &prefix.map(AsRef::as_ref).unwrap_or_default(), begin, &result);
        result
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let begin = Instant::now();
        let result = self.0.copy_opts(from, to, options).await;
        ended("copy", to, begin, &result);
        result
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        let begin = Instant::now();
        let result = self.0.rename_opts(from, to, options).await;
        ended("rename", to, begin, &result);
        result
    }
}
