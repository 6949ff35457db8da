//! Collects the vectors of a response into one buffer while it is parsed, and checks each.

use arrow::buffer::MutableBuffer;
use base64_simd::{AsOut, STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use serde_json::Value as Json;

use super::{
    malformed::Malformed,
    vectors::{Fault, Vectors},
};
use crate::net::client::ErrorBody;

/// Collects what the parser finds.
pub struct Sink {
    pub(super) rows: usize,
    values: MutableBuffer,
    dimensions: Option<usize>,
    /// The index of each vector, in the order of arrival.
    pub(super) indices: Vec<Option<u32>>,
    pub(super) received: usize,
    pub(super) faults: Vec<(u32, Fault)>,
    pub(super) has_data: bool,
    pub(super) tokens: Option<u64>,
    pub(super) error: Option<ErrorBody>,
    /// The numbers of a vector that is a JSON list.
    pub(super) floats: Vec<f32>,
}

impl Sink {
    pub(super) fn new(rows: usize, dimensions: Option<usize>) -> Self {
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

    /// The vectors of a response that has them as lists of numbers, in the order of its texts.
    pub fn of_lists(lists: &[&Json], dimensions: Option<usize>, tokens: Option<u64>) -> Result<Vectors, Malformed> {
        let read = |dimensions| {
            let mut sink = Self::new(lists.len(), dimensions);
            (sink.has_data, sink.tokens) = (true, tokens);
            for list in lists {
                let numbers = list.as_array().map_or(&[][..], Vec::as_slice);
                sink.floats.extend(numbers.iter().filter_map(Json::as_f64).map(|number| number as f32));
                let others = sink.floats.len() < numbers.len();
                if others {
                    sink.floats.resize(numbers.len(), 0.0);
                }
                sink.push_floats(others);
                sink.indices.push(None);
                sink.received += 1;
            }
            sink.finish()
        };
        match read(dimensions) {
            // If the length is unknown, the first vector may be the one with the wrong length.
            Ok(vectors) if dimensions.is_none() => match vectors.majority_length(lists.len()) {
                Some(length) => read(Some(length)),
                None => Ok(vectors),
            },
            read => read,
        }
    }

    /// The buffer of the next vector. Invalid ones before it leave zeroes.
    fn slot(&mut self, dimensions: usize) -> &mut [u8] {
        let start = self.received * dimensions * 4;
        self.values.resize(start + dimensions * 4, 0);
        &mut self.values.as_slice_mut()[start..]
    }

    pub(super) fn fault(&mut self, fault: Fault) {
        self.faults.push((u32::try_from(self.received).unwrap_or(u32::MAX), fault));
    }

    pub(super) fn push_base64(&mut self, text: &[u8]) {
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

    /// Base64 with white space, without padding, or in the URL-safe alphabet.
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

    pub(super) fn push_floats(&mut self, has_null: bool) {
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

    /// Checks the last vector; on big-endian machines, swaps its bytes first.
    fn check_last(&mut self, dimensions: usize) {
        let start = self.values.len() / 4 - dimensions;
        if cfg!(target_endian = "big") {
            for four in self.values.as_slice_mut()[start * 4..].chunks_exact_mut(4) {
                four.reverse();
            }
        }
        // Bit operations instead of float comparisons, so that the loop is vectorized.
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

    pub(super) fn finish(mut self) -> Result<Vectors, Malformed> {
        if !self.has_data {
            return Err(Malformed::Unreadable("no `data`".into()));
        }
        if self.received != self.rows {
            return Err(Malformed::Count { expected: self.rows, got: self.received });
        }
        let dimensions = self.dimensions.unwrap_or(0);
        self.values.resize(self.rows * dimensions * 4, 0);
        self.all_of_another_length(dimensions)?;
        let positions = self.positions()?;
        if let Some(positions) = &positions {
            // Faults are in order of arrival; rows are needed.
            let mut row_of = vec![0u32; positions.len()];
            for (row, position) in (0u32..).zip(positions) {
                row_of[*position as usize] = row;
            }
            for (at, _) in &mut self.faults {
                *at = row_of[*at as usize];
            }
            self.faults.sort_unstable_by_key(|(row, _)| *row);
        }
        Ok(Vectors { values: self.values.into(), dimensions, positions, faults: self.faults, tokens: self.tokens })
    }

    /// A wrong length of some vectors is a fault of their rows; the same wrong length of all is one of the response.
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

    /// The position of each row's vector. Without any index they are in order, and a single missing one is 0; with only some
    /// the response is invalid.
    fn positions(&self) -> Result<Option<Vec<u32>>, Malformed> {
        let wrong = |what| Malformed::Indices { last: self.rows.saturating_sub(1), what };
        if self.indices.iter().all(Option::is_none) {
            return Ok(None);
        }
        if self.indices.iter().zip(0u32..).all(|(index, position)| *index == Some(position)) {
            return Ok(None);
        }
        if self.rows > 1 && self.indices.iter().all(|index| *index == Some(0)) {
            return Err(Malformed::OneIndex { rows: self.rows });
        }
        // Protobuf's JSON leaves out numbers that are zero.
        let zero = self.indices.iter().filter(|index| index.is_none()).count() == 1 && !self.indices.contains(&Some(0));
        let mut positions = vec![u32::MAX; self.rows];
        for (index, position) in self.indices.iter().zip(0u32..) {
            let index = index.or(zero.then_some(0)).ok_or_else(|| wrong("some indices are missing"))?;
            let slot = positions.get_mut(index as usize).ok_or_else(|| wrong("index out of range"))?;
            if std::mem::replace(slot, position) != u32::MAX {
                return Err(wrong("duplicate index"));
            }
        }
        Ok(Some(positions))
    }
}
