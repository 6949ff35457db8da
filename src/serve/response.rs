//! Responses in JSON.

use axum::{
    http::{HeaderValue, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse as _, Response},
};
use serde_json::json;

/// A response with JSON.
pub(super) fn json(status: StatusCode, body: String) -> Response {
    let kind = HeaderValue::from_static("application/json; charset=utf-8");
    (status, [(CONTENT_TYPE, kind)], body).into_response()
}

/// An error.
pub(super) fn error(status: StatusCode, message: impl AsRef<str>) -> Response {
    json(status, json!({"error": message.as_ref()}).to_string())
}
