//! Objects that are replaced under a name of their own: what arrives after another run's object is refused by the store.
//!
//! A process that was stopped, or a machine that slept, has requests on their way when it wakes up, and its lease may be
//! another run's by then. A request that says which object it replaces does nothing once that object is another one. Names
//! that say what is inside need no fence: the same name is the same content.

use std::sync::Arc;

use bytes::Bytes;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, UpdateVersion, path::Path};

use super::{
    backend::Place,
    error::DataError,
    file_name::FileName,
    guard::{self, Guard},
    store_error::store_error,
};

/// True where another process may have the right to write to an object of this name before a request for it arrives.
pub(super) fn is_needed(place: &Place, path: &Path) -> bool {
    place.guard.as_ref().and_then(Guard::left).is_some()
        && path.filename().is_some_and(|name| FileName::parse(name).is_none())
}

/// Puts a whole object in place of the one that is there now, or where none is.
///
/// # Errors
/// When the lease is lost, when another process has put an object there in between, and when the store refuses.
pub(super) async fn replace(
    store: &Arc<dyn ObjectStore>,
    path: &Path,
    place: &Place,
    bytes: Bytes,
) -> Result<(), DataError> {
    let held = place.guard.as_ref();
    // Another attempt of the same shard writes the same partition: of two that are right, the last one stays.
    let mut again = if held.is_some_and(Guard::is_shared) { 8 } else { 0 };
    loop {
        let mode = match guard::hold(held, store.head(path)).await? {
            Ok(there) => PutMode::Update(UpdateVersion { e_tag: there.e_tag, version: there.version }),
            Err(Error::NotFound { .. }) => PutMode::Create,
            Err(error) => return Err(store_error(place, &error)),
        };
        let put = |mode| store.put_opts(path, PutPayload::from_bytes(bytes.clone()), PutOptions::from(mode));
        let refused = match guard::hold(held, put(mode)).await? {
            Ok(_) => return Ok(()),
            // A simple store, which has no conditional requests.
            Err(error) if is_unconditional(&error) => guard::hold(held, put(PutMode::Overwrite)).await?.err(),
            Err(error) if is_taken(&error) => {
                // It may be this very request, whose response was lost and which was sent again.
                let there = guard::hold(held, async { store.get(path).await?.bytes().await }).await?;
                if there.is_ok_and(|there| there == bytes) {
                    return Ok(());
                }
                if again > 0 {
                    again -= 1;
                    continue;
                }
                return Err(place.layout("", "another process replaced it at the same time, and its file was kept"));
            }
            Err(error) => Some(error),
        };
        return refused.map_or(Ok(()), |error| Err(store_error(place, &error)));
    }
}

/// True for the refusal of a conditional request: the object is not the one that the request was for.
pub(super) fn is_taken(error: &Error) -> bool {
    matches!(error, Error::AlreadyExists { .. } | Error::Precondition { .. } | Error::NotFound { .. })
}

/// True for a store that has no conditional requests.
pub(super) fn is_unconditional(error: &Error) -> bool {
    matches!(error, Error::NotImplemented { .. } | Error::NotSupported { .. })
}

#[cfg(test)]
mod tests {
    use std::{fmt, ops::Range, sync::Mutex, time::Duration};

    use async_trait::async_trait;
    use futures::stream::BoxStream;
    use object_store::{
        CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, PutMultipartOptions, PutResult,
        Result, memory::InMemory,
    };

    use super::*;
    use crate::data::guard::Moment;

    /// A store to which another run's object comes right before a request arrives; with `conditions` it honours them.
    #[derive(Debug)]
    struct Delayed {
        store: InMemory,
        other: Mutex<Option<(Path, &'static str)>>,
        conditions: bool,
    }

    impl fmt::Display for Delayed {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a delayed store")
        }
    }

    #[async_trait]
    impl ObjectStore for Delayed {
        async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
            let other = self.other.lock().expect("not poisoned").take();
            if let Some((path, words)) = other {
                self.store.put(&path, PutPayload::from_static(words.as_bytes())).await?;
            }
            if !self.conditions && !matches!(options.mode, PutMode::Overwrite) {
                return Err(Error::NotImplemented { operation: "put_opts".to_owned(), implementer: "this".to_owned() });
            }
            self.store.put_opts(location, payload, options).await
        }

        async fn put_multipart_opts(
            &self,
            at: &Path,
            options: PutMultipartOptions,
        ) -> Result<Box<dyn MultipartUpload>> {
            self.store.put_multipart_opts(at, options).await
        }

        async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
            self.store.get_opts(location, options).await
        }

        async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
            self.store.get_ranges(location, ranges).await
        }

        fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
            self.store.delete_stream(locations)
        }

        fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
            self.store.list(prefix)
        }

        async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
            self.store.list_with_delimiter(prefix).await
        }

        async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
            self.store.copy_opts(from, to, options).await
        }
    }

    /// What is at `out.csv` after `ours` is put there, with `before` there already and `between` coming in the middle.
    async fn after(
        before: Option<&'static str>,
        between: Option<&'static str>,
        conditions: bool,
    ) -> (std::result::Result<(), DataError>, Bytes) {
        let path = Path::from("data/out.csv");
        let other = Mutex::new(between.map(|words| (path.clone(), words)));
        let delayed = Delayed { store: InMemory::new(), other, conditions };
        if let Some(words) = before {
            delayed.store.put(&path, PutPayload::from_static(words.as_bytes())).await.expect("put");
        }
        let store: Arc<dyn ObjectStore> = Arc::new(delayed);
        let guard = Guard::expiring("out".to_owned(), Moment::now(), Duration::from_secs(3600));
        let place = Place { shown: "s3://bucket/data/out.csv".into(), secrets: Arc::default(), guard: Some(guard) };
        assert!(is_needed(&place, &path));
        let result = replace(&store, &path, &place, Bytes::from_static(b"ours")).await;
        (result, store.get(&path).await.expect("there").bytes().await.expect("bytes"))
    }

    #[tokio::test]
    async fn a_request_that_arrives_after_another_runs_file_does_not_replace_it() {
        for before in [None, Some("old")] {
            let (result, there) = after(before, Some("theirs"), true).await;
            let message = result.expect_err("refused").to_string();
            assert!(message.contains("s3://bucket/data/out.csv") && message.contains("another process"), "{message}");
            assert_eq!(there, "theirs", "{before:?}");
        }
    }

    #[tokio::test]
    async fn an_object_is_replaced_by_a_process_that_is_alone_and_on_a_store_without_conditions() {
        for before in [None, Some("old"), Some("ours")] {
            for conditions in [true, false] {
                let (result, there) = after(before, None, conditions).await;
                result.expect("put");
                assert_eq!(there, "ours", "{before:?} {conditions}");
            }
        }
    }

    #[tokio::test]
    async fn a_request_that_was_sent_twice_is_no_other_process() {
        let (result, there) = after(Some("old"), Some("ours"), true).await;
        result.expect("the same bytes");
        assert_eq!(there, "ours");
    }

    #[test]
    fn a_name_that_says_what_is_inside_needs_no_fence() {
        let guard = Guard::expiring("out".to_owned(), Moment::now(), Duration::from_secs(3600));
        let place = Place { shown: "s3://b/out".into(), secrets: Arc::default(), guard: Some(guard) };
        let name = "out/bucket=1/0123456789abcdef0123456789abcdef-r5-b812.parquet";
        assert!(!is_needed(&place, &Path::from(name)));
        assert!(is_needed(&place, &Path::from("out/.out.flow")));
        assert!(!is_needed(&Place { guard: None, ..place }, &Path::from("out/.out.flow")), "nobody else may write");
    }
}
