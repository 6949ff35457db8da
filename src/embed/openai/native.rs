//! Requests and responses in the dialect of a server.

use bytes::Bytes;
use serde_json::Value as Json;

use super::{
    dialect::{Ask, Dialect},
    settings::OpenAiSettings,
    wire::{Malformed, Sink, Vectors},
};
use crate::net::client::strip_bom;

/// What these settings ask for.
fn ask(settings: &OpenAiSettings) -> Ask<'_> {
    Ask {
        model: &settings.model,
        dimensions: settings.dimensions,
        input_type: settings.request.input_type.as_deref(),
        dtype: settings.dtype.word(),
        on_too_long: settings.on_too_long,
    }
}

/// The body of a request.
pub fn encode<'t>(dialect: &dyn Dialect, settings: &OpenAiSettings, mut texts: impl Iterator<Item = &'t str>) -> Bytes {
    let mut body = dialect.body(&ask(settings), &mut texts);
    body.extend(settings.request.extra_body.clone());
    serde_json::to_vec(&body).expect("plain JSON").into()
}

/// Decodes the response to a request with `rows` texts. `dimensions` are those requested, or those of earlier responses.
///
/// # Errors
/// When the response as a whole is invalid.
pub fn decode(
    dialect: &dyn Dialect,
    settings: &OpenAiSettings,
    body: &[u8],
    rows: usize,
    dimensions: Option<usize>,
) -> Result<Vectors, Malformed> {
    let json: Json =
        serde_json::from_slice(strip_bom(body)).map_err(|error| Malformed::Unreadable(error.to_string()))?;
    let Some(lists) = dialect.vectors(&json, &ask(settings)) else {
        return Err(match crate::net::client::ErrorBody::from_json(&json) {
            Some(error) => Malformed::Error(error),
            None => Malformed::Unreadable("no vectors".into()),
        });
    };
    if lists.len() != rows {
        return Err(Malformed::Count { expected: rows, got: lists.len() });
    }
    Sink::of_lists(&lists, dimensions, dialect.tokens(&json))
}
