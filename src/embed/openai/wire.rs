//! The bytes of a request and of its answer.
//!
//! An answer is parsed once, in a single pass, straight into one buffer of numbers: no tree, no allocation a vector.
//! Nothing of it is believed before everything was checked: as many vectors as texts, every index once, every length
//! right, every number finite. A vector that is no vector is a fault of its row; anything else is a fault of the
//! whole answer.

use std::{borrow::Cow, fmt};

use arrow::buffer::{Buffer, MutableBuffer};
use base64_simd::{AsOut, STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use bytes::Bytes;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

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

/// The vectors of one answer.
#[derive(Debug)]
pub struct Vectors {
    values: Buffer,
    dimensions: usize,
    /// Where the vector of each row stands; `None` when they came in order.
    places: Option<Vec<u32>>,
    /// Rows whose vector is no vector, sorted.
    faults: Vec<(u32, Fault)>,
    /// What the server says it counted.
    pub tokens: Option<u64>,
}

/// Why one vector is no vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Not a number, or infinite.
    #[error("invalid_vector: a number is not finite")]
    NotFinite,
    /// All zero: such a vector has no direction.
    #[error("invalid_vector: all numbers are zero")]
    Zero,
    /// Nothing where the vector should be.
    #[error("invalid_vector: there is none")]
    Missing,
    /// Another length than the rest.
    #[error("invalid_vector: {0} numbers")]
    Length(usize),
    /// Base64 that is none.
    #[error("invalid_vector: broken base64")]
    Base64,
}

impl Vectors {
    /// Numbers in each vector.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// The vector of a row, or why there is none.
    ///
    /// # Errors
    /// With the fault of the row.
    pub fn row(&self, row: usize) -> Result<&[f32], Fault> {
        if let Ok(found) = self.faults.binary_search_by_key(&row, |(row, _)| *row as usize) {
            return Err(self.faults[found].1);
        }
        let place = self.places.as_ref().map_or(row, |places| places[row] as usize);
        Ok(&self.values.typed_data::<f32>()[place * self.dimensions..][..self.dimensions])
    }

    /// Bytes of all the numbers.
    pub fn bytes(&self) -> usize {
        self.values.len()
    }

    /// All vectors one after another, when every row has one and they came in order: a column as it stands.
    pub fn column(&self) -> Option<&Buffer> {
        (self.is_sound() && self.places.is_none()).then_some(&self.values)
    }

    /// True when no row has a fault.
    pub fn is_sound(&self) -> bool {
        self.faults.is_empty()
    }

    /// The rows whose vector is no vector, in order.
    pub fn faulty_rows(&self) -> impl ExactSizeIterator<Item = usize> {
        self.faults.iter().map(|(row, _)| *row as usize)
    }

    /// The length that most vectors have, where it is not the length that was expected of them.
    fn usual_length(&self, rows: usize) -> Option<usize> {
        let mut lengths: Vec<usize> = self
            .faults
            .iter()
            .filter_map(|(_, fault)| match fault {
                Fault::Length(length) => Some(*length),
                _ => None,
            })
            .collect();
        lengths.sort_unstable();
        let sound = rows - self.faults.len();
        let most = lengths.chunk_by(usize::eq).max_by_key(|same| same.len())?;
        (most.len() > sound).then_some(most[0])
    }
}

/// Why an answer with status 200 is no answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Malformed {
    /// Not JSON, or not the JSON that was asked for.
    #[error("the answer is no embedding response: {0}")]
    Unreadable(String),
    /// An error in a 200.
    #[error("an error in a 200: {}", .0.message)]
    Error(ErrorBody),
    /// Not one vector a text.
    #[error("{expected} texts were sent, {got} vectors came back")]
    Count {
        /// Texts sent.
        expected: usize,
        /// Vectors received.
        got: usize,
    },
    /// The indices are no numbering of the texts.
    #[error("the vectors are not numbered 0 to {last}: {what}")]
    Indices {
        /// The last index there should be.
        last: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// All vectors have another length than was asked for.
    #[error("vectors of {expected} numbers were asked for, the server sends {got}")]
    Dimensions {
        /// As asked for or as before.
        expected: usize,
        /// As received.
        got: usize,
    },
}

/// An error as a server writes it, whatever the shape.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ErrorBody {
    /// For people.
    pub message: String,
    /// `type`.
    pub kind: String,
    /// `code`.
    pub code: String,
    /// `param`.
    pub param: String,
}

impl ErrorBody {
    /// Reads the body of an error. A body that is no JSON is its own message, shortened; of HTML only the title counts.
    pub fn read(body: &[u8]) -> Self {
        match serde_json::from_slice::<serde_json::Value>(strip_bom(body)) {
            Ok(value) => Self::from_json(&value).unwrap_or_else(|| Self::plain(body)),
            Err(_) => Self::plain(body),
        }
    }

    fn plain(body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(&body[..body.len().min(4096)]);
        let lower = text.to_ascii_lowercase();
        let title = lower.find("<title>").and_then(|start| {
            let start = start + "<title>".len();
            let end = lower[start..].find("</title>")? + start;
            text.get(start..end)
        });
        Self { message: shorten(title.unwrap_or(&text)), ..Self::default() }
    }

    /// OpenAI nests it under `error`, Ollama writes a text there, TEI and vLLM write it flat, FastAPI says `detail`,
    /// MiniMax says `base_resp`.
    fn from_json(value: &serde_json::Value) -> Option<Self> {
        let object = value.as_object()?;
        let text = |value: Option<&serde_json::Value>| match value {
            Some(serde_json::Value::String(text)) => text.clone(),
            Some(serde_json::Value::Null) | None => String::new(),
            Some(other) => other.to_string(),
        };
        let of = |part: &serde_json::Map<String, serde_json::Value>| Self {
            message: shorten(&text(part.get("message").or_else(|| part.get("msg")).or_else(|| part.get("status_msg")))),
            kind: text(part.get("type").or_else(|| part.get("error_type"))),
            code: text(part.get("code").or_else(|| part.get("status_code"))),
            param: text(part.get("param")),
        };
        if let Some(error) = object.get("error").filter(|error| !error.is_null()) {
            return Some(match error {
                serde_json::Value::Object(part) => of(part),
                other => Self { message: shorten(&text(Some(other))), ..of(object) },
            });
        }
        if let Some(part) = object.get("base_resp").and_then(serde_json::Value::as_object) {
            let error = of(part);
            return (error.code != "0").then_some(error);
        }
        if let Some(detail) = object.get("detail").filter(|detail| !detail.is_null()) {
            return Some(Self { message: shorten(&text(Some(detail))), ..Self::default() });
        }
        object.contains_key("message").then(|| of(object))
    }
}

/// One line of at most three hundred characters.
fn shorten(text: &str) -> String {
    let words: Vec<&str> =
        text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()).collect();
    let line = words.join(" ");
    match line.char_indices().nth(300) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

fn strip_bom(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body)
}

/// Reads the answer to a request with `rows` texts. `dimensions` is what was asked for or what earlier answers had.
///
/// # Errors
/// When the answer as a whole cannot be believed.
pub fn decode(body: &[u8], rows: usize, dimensions: Option<usize>) -> Result<Vectors, Malformed> {
    let body = strip_bom(body);
    match read(body, rows, dimensions) {
        // Where nobody knows the length yet, the first vector may be the odd one.
        Ok(vectors) if dimensions.is_none() => match vectors.usual_length(rows) {
            Some(length) => read(body, rows, Some(length)),
            None => Ok(vectors),
        },
        Err(Malformed::Unreadable(why)) => match without_nan(body) {
            // Python's JSON writes NaN, which is no JSON: as null it is the fault of one row.
            Some(mended) => read(&mended, rows, dimensions),
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
    parsed.map_err(|error| Malformed::Unreadable(shorten(&error.to_string())))?;
    sink.finish()
}

/// Collects what the parser finds.
struct Sink {
    rows: usize,
    values: MutableBuffer,
    dimensions: Option<usize>,
    /// The index of each vector, in the order of arrival.
    indices: Vec<Option<u32>>,
    received: usize,
    faults: Vec<(u32, Fault)>,
    has_data: bool,
    tokens: Option<u64>,
    error: Option<ErrorBody>,
    /// Numbers of one vector that came as JSON numbers, and whether one was null.
    floats: Vec<f32>,
}

impl Sink {
    fn new(rows: usize, dimensions: Option<usize>) -> Self {
        Self {
            rows,
            values: MutableBuffer::with_capacity(rows * dimensions.unwrap_or(0) * 4),
            dimensions,
            indices: Vec::with_capacity(rows),
            received: 0,
            faults: Vec::new(),
            has_data: false,
            tokens: None,
            error: None,
            floats: Vec::new(),
        }
    }

    /// Room for the next vector. Faulty ones before it have left zeroes in their place.
    fn slot(&mut self, dimensions: usize) -> &mut [u8] {
        let start = self.received * dimensions * 4;
        self.values.resize(start + dimensions * 4, 0);
        &mut self.values.as_slice_mut()[start..]
    }

    fn fault(&mut self, fault: Fault) {
        self.faults.push((u32::try_from(self.received).unwrap_or(u32::MAX), fault));
    }

    fn push_base64(&mut self, text: &[u8]) {
        if text.is_empty() {
            return self.fault(Fault::Missing);
        }
        let Ok(bytes) = STANDARD.decoded_length(text) else { return self.push_loose_base64(text) };
        let dimensions = *self.dimensions.get_or_insert(bytes / 4);
        if bytes == dimensions * 4 && bytes > 0 {
            let slot = self.slot(dimensions);
            if STANDARD.decode(text, slot.as_out()).is_err() {
                return self.push_loose_base64(text);
            }
            self.check_last(dimensions);
        } else {
            self.push_bytes_of_other_length(text);
        }
    }

    /// Base64 with blanks in it, without padding, or in the alphabet for addresses.
    fn push_loose_base64(&mut self, text: &[u8]) {
        let text: Vec<u8> = text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
        let bytes = base64_simd::forgiving_decode_to_vec(&text)
            .or_else(|_| URL_SAFE.decode_to_vec(&text))
            .or_else(|_| URL_SAFE_NO_PAD.decode_to_vec(&text));
        match bytes {
            Ok(bytes) => self.push_bytes(&bytes),
            Err(_) => self.fault(Fault::Base64),
        }
    }

    fn push_bytes_of_other_length(&mut self, text: &[u8]) {
        match STANDARD.decode_to_vec(text) {
            Ok(bytes) => self.push_bytes(&bytes),
            Err(_) => self.fault(Fault::Base64),
        }
    }

    fn push_bytes(&mut self, bytes: &[u8]) {
        let dimensions = *self.dimensions.get_or_insert(bytes.len() / 4);
        if bytes.len() == dimensions * 4 && dimensions > 0 {
            self.slot(dimensions).copy_from_slice(bytes);
            self.check_last(dimensions);
        } else if bytes.len() == dimensions * 8 && dimensions > 0 {
            // Some servers encode doubles.
            let doubles = bytes
                .chunks_exact(8)
                .map(|eight| f64::from_le_bytes(eight.try_into().expect("chunks of eight bytes")) as f32);
            let singles: Vec<u8> = doubles.flat_map(f32::to_le_bytes).collect();
            self.slot(dimensions).copy_from_slice(&singles);
            self.check_last(dimensions);
        } else {
            self.fault(Fault::Length(bytes.len() / 4));
        }
    }

    fn push_floats(&mut self, has_null: bool) {
        if self.floats.is_empty() {
            return self.fault(Fault::Missing);
        }
        let floats = std::mem::take(&mut self.floats);
        let dimensions = *self.dimensions.get_or_insert(floats.len());
        if floats.len() != dimensions {
            self.fault(Fault::Length(floats.len()));
        } else if has_null {
            self.fault(Fault::NotFinite);
        } else {
            for (to, from) in self.slot(dimensions).chunks_exact_mut(4).zip(&floats) {
                to.copy_from_slice(&from.to_le_bytes());
            }
            self.check_last(dimensions);
        }
        self.floats = floats;
        self.floats.clear();
    }

    /// Checks the vector that was added last; on machines of the other byte order, turns it round first.
    fn check_last(&mut self, dimensions: usize) {
        let start = self.values.len() / 4 - dimensions;
        if cfg!(target_endian = "big") {
            for four in self.values.as_slice_mut()[start * 4..].chunks_exact_mut(4) {
                four.reverse();
            }
        }
        // Bit tricks instead of comparisons, because they become vector instructions.
        let (mut infinite, mut any) = (0u32, 0u32);
        for value in &self.values.typed_data::<f32>()[start..] {
            let bits = value.to_bits() & 0x7fff_ffff;
            infinite |= u32::from(bits >= 0x7f80_0000);
            any |= bits;
        }
        if infinite != 0 {
            self.fault(Fault::NotFinite);
        } else if any == 0 {
            self.fault(Fault::Zero);
        }
    }

    fn finish(mut self) -> Result<Vectors, Malformed> {
        if !self.has_data {
            return Err(Malformed::Unreadable("no `data`".into()));
        }
        if self.received != self.rows {
            return Err(Malformed::Count { expected: self.rows, got: self.received });
        }
        let dimensions = self.dimensions.unwrap_or(0);
        self.values.resize(self.rows * dimensions * 4, 0);
        self.all_of_another_length(dimensions)?;
        let places = self.places()?;
        if let Some(places) = &places {
            // Faults were noted by arrival; rows are wanted.
            let mut row_of = vec![0u32; places.len()];
            for (row, place) in (0u32..).zip(places) {
                row_of[*place as usize] = row;
            }
            for (at, _) in &mut self.faults {
                *at = row_of[*at as usize];
            }
            self.faults.sort_unstable_by_key(|(row, _)| *row);
        }
        Ok(Vectors { values: self.values.into(), dimensions, places, faults: self.faults, tokens: self.tokens })
    }

    /// One odd length among others is the row's fault; the same odd length everywhere is the server's.
    fn all_of_another_length(&self, expected: usize) -> Result<(), Malformed> {
        let mut lengths = self.faults.iter().map(|(_, fault)| match fault {
            Fault::Length(got) => Some(*got),
            _ => None,
        });
        match lengths.next() {
            Some(Some(got)) if self.faults.len() == self.rows && lengths.all(|other| other == Some(got)) => {
                Err(Malformed::Dimensions { expected, got })
            }
            _ => Ok(()),
        }
    }

    /// Where each row's vector stands. No index at all means in order; some but not all is a muddle.
    fn places(&self) -> Result<Option<Vec<u32>>, Malformed> {
        let wrong = |what| Malformed::Indices { last: self.rows.saturating_sub(1), what };
        if self.indices.iter().all(Option::is_none) {
            return Ok(None);
        }
        if self.indices.iter().zip(0u32..).all(|(index, place)| *index == Some(place)) {
            return Ok(None);
        }
        let mut places = vec![u32::MAX; self.rows];
        for (index, place) in self.indices.iter().zip(0u32..) {
            let index = index.ok_or_else(|| wrong("some have no index"))?;
            let slot = places.get_mut(index as usize).ok_or_else(|| wrong("an index is out of range"))?;
            if std::mem::replace(slot, place) != u32::MAX {
                return Err(wrong("an index stands twice"));
            }
        }
        Ok(Some(places))
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
                // Endless lists end here.
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
        // As bytes: whether base64 is UTF-8 need not be asked before it is decoded. Lists come this way as well.
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

/// The body with `NaN`, `Infinity` and `-Infinity` outside of texts as null; `None` when there are none.
fn without_nan(body: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(body.len());
    let (mut in_text, mut escaped, mut found) = (false, false, false);
    let mut rest = body;
    while let Some((&byte, tail)) = rest.split_first() {
        if in_text {
            in_text = byte != b'"' || escaped;
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
            in_text = byte == b'"';
        }
        out.push(byte);
        rest = tail;
    }
    found.then_some(out)
}

#[cfg(test)]
mod tests;
