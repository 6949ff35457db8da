//! Parsing of a response: a single pass straight into one buffer of numbers, without a tree or an allocation per vector.

use std::{borrow::Cow, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{
    malformed::Malformed,
    sink::Sink,
    vectors::{Fault, Vectors},
};
use crate::net::client::{ErrorBody, strip_bom};

/// Decodes the response to a request with `rows` texts. `dimensions` are those requested, or those of earlier responses.
///
/// # Errors
/// When the response as a whole is invalid.
pub fn decode(body: &[u8], rows: usize, dimensions: Option<usize>) -> Result<Vectors, Malformed> {
    let body = strip_bom(body);
    match read(body, rows, dimensions) {
        // If the length is unknown, the first vector may be the one with the wrong length.
        Ok(vectors) if dimensions.is_none() => match vectors.majority_length(rows) {
            Some(length) => read(body, rows, Some(length)),
            None => Ok(vectors),
        },
        Err(Malformed::Unreadable(why)) => match without_nan(body) {
            // Python writes NaN, which is not JSON: as null it is a fault of one row.
            Some(replaced) => read(&replaced, rows, dimensions),
            None => Err(Malformed::Unreadable(why)),
        },
        read => read,
    }
}

fn read(body: &[u8], rows: usize, dimensions: Option<usize>) -> Result<Vectors, Malformed> {
    let mut sink = Sink::new(rows, dimensions);
    let mut json = serde_json::Deserializer::from_slice(body);
    let parsed = TopLevel(&mut sink).deserialize(&mut json).and_then(|()| json.end());
    if let Some(error) = sink.error.take() {
        return Err(Malformed::Error(error));
    }
    if sink.received > rows {
        return Err(Malformed::Count { expected: rows, got: sink.received });
    }
    parsed.map_err(|error| Malformed::Unreadable(without_quotes(error.to_string())))?;
    sink.finish()
}

/// The parser's message, which quotes strings of any length. What is left out is not cut in the middle: half of a key is not
/// recognized.
fn without_quotes(message: String) -> String {
    const LONGEST: usize = 200;
    if message.len() <= LONGEST {
        return message;
    }
    match message.rfind("expected ").map(|at| (at, &message[at..])) {
        Some((before, rest)) if rest.len() <= LONGEST => format!("({before} bytes left out) {rest}"),
        _ => format!("({} bytes left out)", message.len()),
    }
}

struct TopLevel<'s>(&'s mut Sink);

impl<'de> DeserializeSeed<'de> for TopLevel<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for TopLevel<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `data`")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Key(key)) = map.next_key::<Key<'de>>()? {
            match &*key {
                "data" => {
                    self.0.has_data = true;
                    map.next_value_seed(Data(&mut *self.0))?;
                }
                "usage" => {
                    let usage: serde_json::Value = map.next_value()?;
                    let number = |key| usage.get(key).and_then(serde_json::Value::as_u64);
                    self.0.tokens = number("total_tokens").or_else(|| number("prompt_tokens"));
                }
                "error" | "base_resp" | "detail" => {
                    let value: serde_json::Value = map.next_value()?;
                    let whole = serde_json::Value::Object([(key.into_owned(), value)].into_iter().collect());
                    self.0.error = self.0.error.take().or_else(|| ErrorBody::from_json(&whole));
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// A key of an object, borrowed from the body unless it is written with escapes.
#[derive(serde::Deserialize)]
struct Key<'k>(#[serde(borrow)] Cow<'k, str>);

struct Data<'s>(&'s mut Sink);

impl<'de> DeserializeSeed<'de> for Data<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Data<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of embeddings")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(Item(&mut *self.0))?.is_some() {
            if self.0.received > self.0.rows {
                // Ends endless lists.
                return Err(A::Error::custom("more vectors than texts"));
            }
        }
        Ok(())
    }
}

/// One element of `data`.
struct Item<'s>(&'s mut Sink);

impl<'de> DeserializeSeed<'de> for Item<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Item<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `embedding`")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut vectors = 0;
        let mut index = None;
        while let Some(Key(key)) = map.next_key::<Key<'de>>()? {
            match &*key {
                "embedding" if vectors == 0 => {
                    vectors += 1;
                    map.next_value_seed(Embedding(&mut *self.0))?;
                }
                "embedding" => return Err(A::Error::custom("an element has two embeddings")),
                "index" => {
                    index = map.next_value::<Option<u32>>()?;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        if vectors == 0 {
            self.0.fault(Fault::Missing);
        }
        self.0.indices.push(index);
        self.0.received += 1;
        Ok(())
    }
}

/// The value of `embedding`: base64, or numbers.
struct Embedding<'s>(&'s mut Sink);

impl<'de> DeserializeSeed<'de> for Embedding<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for Embedding<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("base64 or a list of numbers")
    }
    fn visit_none<E: serde::de::Error>(self) -> Result<(), E> {
        self.0.fault(Fault::Missing);
        Ok(())
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        // As bytes, so that base64 is not validated as UTF-8 before it is decoded. Lists are passed on as well.
        deserializer.deserialize_bytes(self)
    }
    fn visit_bytes<E: serde::de::Error>(self, text: &[u8]) -> Result<(), E> {
        self.0.push_base64(text);
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let mut has_null = false;
        self.0.floats.clear();
        while let Some(number) = list.next_element::<Option<f32>>()? {
            has_null |= number.is_none();
            self.0.floats.push(number.unwrap_or(0.0));
        }
        self.0.push_floats(has_null);
        Ok(())
    }
}

/// The body with `NaN`, `Infinity` and `-Infinity` outside of strings replaced by null; `None` if there are none.
fn without_nan(body: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(body.len());
    let (mut in_string, mut escaped, mut found) = (false, false, false);
    let mut rest = body;
    while let Some((&byte, tail)) = rest.split_first() {
        if in_string {
            in_string = byte != b'"' || escaped;
            escaped = byte == b'\\' && !escaped;
        } else {
            let word =
                [&b"NaN"[..], b"-Infinity", b"Infinity", b"-NaN"].into_iter().find(|word| rest.starts_with(word));
            if let Some(word) = word {
                found = true;
                out.extend_from_slice(b"null");
                rest = &rest[word.len()..];
                continue;
            }
            in_string = byte == b'"';
        }
        out.push(byte);
        rest = tail;
    }
    found.then_some(out)
}
