//! The bytes of a request and of its response.
//!
//! Nothing of a response is used before everything was checked: as many vectors as texts, every index once, every length
//! right, every number finite. A vector that is invalid is a fault of its row; anything else is a fault of the whole
//! response.

mod decode;
mod malformed;
mod sink;
mod vectors;

use bytes::Bytes;

pub use decode::decode;
pub use malformed::Malformed;
pub(super) use sink::Sink;
pub use vectors::{Fault, Vectors};

use super::request_fields::RequestFields;

/// The parameters of a request besides its texts.
#[derive(Debug, Clone)]
pub struct RequestBody<'a> {
    /// `model`.
    pub model: &'a str,
    /// `dimensions`, if requested.
    pub dimensions: Option<usize>,
    /// True for `encoding_format: base64`.
    pub base64: bool,
    /// `output_dtype`, if it is not the usual one.
    pub dtype: Option<&'a str>,
    /// What else is sent, and under which names.
    pub fields: &'a RequestFields,
}

/// The body of a request; `bytes` is its expected size.
pub fn encode<'t>(request: &RequestBody<'_>, texts: impl Iterator<Item = &'t str>, bytes: usize) -> Bytes {
    let mut body = Vec::with_capacity(bytes);
    body.push(b'{');
    let mut field = |name: &str, value: &serde_json::Value| {
        push_string(&mut body, name);
        body.push(b':');
        serde_json::to_writer(&mut body, value).expect("plain JSON");
        body.push(b',');
    };
    let fields = request.fields;
    let format = if request.base64 { "base64" } else { "float" };
    for (name, value) in [
        ("model", Some(request.model.into())),
        ("dimensions", request.dimensions.map(Into::into)),
        ("encoding_format", Some(format.into())),
        ("output_dtype", request.dtype.map(Into::into)),
        ("input_type", fields.input_type.as_deref().map(Into::into)),
    ] {
        if let (Some(name), Some(value)) = (fields.name(name), value) {
            field(name, &value);
        }
    }
    fields.extra_body.iter().for_each(|(name, value)| field(name, value));
    push_string(&mut body, fields.name("input").unwrap_or("input"));
    body.extend_from_slice(b":[");
    for (i, text) in texts.enumerate() {
        if i > 0 {
            body.push(b',');
        }
        push_string(&mut body, text);
    }
    body.extend_from_slice(b"]}");
    body.into()
}

fn push_string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a string is serializable");
}

/// The limit on the size of a response with this many vectors: pretty-printed numbers, and a margin.
pub fn max_response_bytes(rows: usize, dimensions: Option<usize>) -> usize {
    (64 << 10) + rows * (512 + dimensions.unwrap_or(8192) * 32)
}

#[cfg(test)]
mod fuzz_tests;
#[cfg(test)]
mod tests;
