//! Rows of JSON lines as batches of text, of a bounded size.

use std::io::BufRead;

use arrow::{array::RecordBatch, datatypes::SchemaRef, error::ArrowError, json::ReaderBuilder, json::reader::Decoder};

use crate::data::format::file::{BATCH_BYTES, ROW_BYTES, batch_rows, too_long};

/// The batches of a file. A batch ends at the rows that its columns allow, or at [`BATCH_BYTES`].
pub(super) struct Rows<R> {
    source: R,
    decoder: Decoder,
    /// Bytes of the current batch.
    bytes: usize,
    /// Bytes of the row that is not whole yet.
    partial: usize,
    done: bool,
}

impl<R: BufRead> Rows<R> {
    /// Reads rows of the columns of `text`, which are strings at the leaves.
    ///
    /// # Errors
    /// For types that Arrow has no JSON decoder for.
    pub(super) fn new(source: R, text: SchemaRef) -> Result<Self, ArrowError> {
        let decoder = ReaderBuilder::new(text.clone())
            .with_batch_size(batch_rows(text.fields().len()))
            // Numbers and booleans come as they are written, and are cast without loss afterwards.
            .with_coerce_primitive(true)
            // A field that another file lacks is drift, not noise.
            .with_strict_mode(true)
            .build_decoder()?;
        Ok(Self { source, decoder, bytes: 0, partial: 0, done: false })
    }

    fn read(&mut self) -> Result<Option<RecordBatch>, ArrowError> {
        self.bytes = 0;
        loop {
            let buffer = self.source.fill_buf()?;
            if buffer.is_empty() {
                self.done = true;
                return self.decoder.flush();
            }
            let is_large = self.bytes + buffer.len() >= BATCH_BYTES;
            let line_end = || buffer.iter().rposition(|byte| *byte == b'\n').map(|at| at + 1);
            let end = is_large.then(line_end).flatten().unwrap_or(buffer.len());
            let rows = self.decoder.len();
            let read = self.decoder.decode(&buffer[..end])?;
            self.source.consume(read);
            self.bytes += read;
            let goes_on = self.decoder.has_partial_record();
            self.partial = if goes_on && self.decoder.len() == rows { self.partial + read } else { 0 };
            if self.partial > ROW_BYTES {
                let message = format!("{}; expected one JSON object per line", too_long("an object"));
                return Err(ArrowError::JsonError(message));
            }
            // The decoder takes less where its batch is full.
            if read < end || is_large && !goes_on {
                return self.decoder.flush();
            }
        }
    }
}

impl<R: BufRead> Iterator for Rows<R> {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let batch = self.read();
        self.done |= batch.is_err();
        batch.transpose()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{self, BufReader, Read},
        sync::Arc,
    };

    use arrow::{
        array::AsArray as _,
        datatypes::{DataType, Field, Schema},
    };

    use super::*;

    fn rows(source: impl Read) -> Vec<Result<RecordBatch, ArrowError>> {
        let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Utf8, true)]));
        Rows::new(BufReader::new(source), schema).expect("a decoder").collect()
    }

    #[test]
    fn large_rows_make_small_batches() {
        let line = format!("{{\"a\": \"{}\"}}\n", "x".repeat(1 << 20));
        let text = line.repeat(20);
        let batches = rows(text.as_bytes());
        assert!(batches.len() >= 3, "{}", batches.len());
        let texts: Vec<_> = batches.into_iter().map(|batch| batch.expect("rows")).collect();
        assert_eq!(texts.iter().map(RecordBatch::num_rows).sum::<usize>(), 20);
        assert!(
            texts.iter().all(|batch| batch
                .column(0)
                .as_string::<i32>()
                .iter()
                .all(|a| a.is_some_and(|a| a.len() == 1 << 20)))
        );
    }

    #[test]
    fn objects_over_several_lines_and_many_on_one_are_rows() {
        let many = "{\"a\": 1} {\"a\": 2}\n".repeat(5000) + "{\n\"a\":\n3\n}";
        let batches: Vec<_> = rows(many.as_bytes()).into_iter().map(|batch| batch.expect("rows")).collect();
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 10_001);
        let last = batches.last().expect("a batch");
        assert_eq!(last.column(0).as_string::<i32>().value(last.num_rows() - 1), "3");
    }

    #[test]
    fn an_object_without_an_end_is_an_error_before_it_fills_the_memory() {
        let endless = b"{\"a\": \"".chain(io::repeat(b'x'));
        let batches = rows(endless);
        let [Err(error)] = &batches[..] else { panic!("{batches:?}") };
        assert!(error.to_string().contains("an object of more than 64 MiB"), "{error}");
    }
}
