//! The bytes of a request and of its response.
//!
//! Nothing of a response is used before everything was checked: as many vectors as texts, every index once, every length
//! right, every number finite. A vector that is invalid is a fault of its row; anything else is a fault of the whole
//! response.

mod decode;
mod error_body;
mod malformed;
mod sink;
mod vectors;

use bytes::Bytes;

pub use decode::decode;
pub use error_body::ErrorBody;
pub use malformed::Malformed;
pub use vectors::{Fault, Vectors};

/// What a request says besides its texts.
#[derive(Debug, Clone)]
pub struct RequestBody<'a> {
    /// `model`.
    pub model: &'a str,
    /// `dimensions`, where they are asked for.
    pub dimensions: Option<usize>,
    /// True for `encoding_format: base64`.
    pub base64: bool,
}

/// The body of a request.
pub fn encode<'t>(asking: &RequestBody<'_>, texts: impl Iterator<Item = &'t str>, bytes: usize) -> Bytes {
    let mut body = Vec::with_capacity(bytes);
    body.extend_from_slice(b"{\"model\":");
    push_text(&mut body, asking.model);
    if let Some(dimensions) = asking.dimensions {
        body.extend_from_slice(format!(",\"dimensions\":{dimensions}").as_bytes());
    }
    body.extend_from_slice(if asking.base64 {
        b",\"encoding_format\":\"base64\",\"input\":["
    } else {
        b",\"encoding_format\":\"float\",\"input\":["
    });
    for (i, text) in texts.enumerate() {
        if i > 0 {
            body.push(b',');
        }
        push_text(&mut body, text);
    }
    body.extend_from_slice(b"]}");
    body.into()
}

fn push_text(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a text can be written to memory");
}

/// How large an answer with this many vectors may be: pretty-printed numbers, and room for everything around them.
pub fn largest_answer(rows: usize, dimensions: Option<usize>) -> usize {
    (64 << 10) + rows * (512 + dimensions.unwrap_or(8192) * 32)
}

#[cfg(test)]
mod tests;
