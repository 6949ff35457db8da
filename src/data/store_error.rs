//! Errors of object stores as messages that name the location.

use super::{
    backend::Place,
    error::{DataError, chain},
};

/// A store's error as a message.
pub(super) fn store_error(place: &Place, error: &object_store::Error) -> DataError {
    const NO_BUCKET: &[&str] = &["NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist"];
    let words = chain(error);
    if NO_BUCKET.iter().any(|words_of_one| words.contains(words_of_one)) {
        return no_bucket(place);
    }
    DataError::store(&place.shown, error, &place.secrets)
}

/// The bucket or container does not exist.
pub(super) fn no_bucket(place: &Place) -> DataError {
    let rest = place.shown.split_once("://").map_or(&*place.shown, |(_, rest)| rest);
    let bucket = rest.split('/').next().unwrap_or_default();
    let message = format!("bucket `{bucket}` does not exist; create it, or correct the path or the endpoint");
    DataError::Store { location: place.shown.to_string(), message, not_found: false, transient: false }
}
