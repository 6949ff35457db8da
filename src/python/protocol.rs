//! The frames between `flow` and a worker: a header of 16 bytes (kind, stream, length) and a payload.

use std::io::{self, IoSlice, Read, Write};

use arrow::buffer::Buffer;
use bytes::Bytes;

/// One frame. A message is JSON; data belongs to one table, its stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frame {
    /// A message.
    Message(Bytes),
    /// A part of a table.
    Data(u16, Bytes),
    /// The same, in buffers that follow each other. It is only written.
    Parts(u16, Vec<Buffer>),
    /// The end of a table.
    End(u16),
}

const MESSAGE: u16 = 1;
const DATA: u16 = 2;
const END: u16 = 3;
const HEADER: usize = 16;
/// Longer ones are no frames: something else wrote to the pipe.
const LONGEST: u64 = 1 << 40;

/// Writes a frame.
pub(super) fn write(out: &mut impl Write, frame: &Frame) -> io::Result<()> {
    let one = |payload| vec![IoSlice::new(payload)];
    let (kind, stream, payload) = match frame {
        Frame::Message(payload) => (MESSAGE, 0, one(payload)),
        Frame::Data(stream, payload) => (DATA, *stream, one(payload)),
        Frame::Parts(stream, parts) => (DATA, *stream, parts.iter().map(|part| IoSlice::new(part)).collect()),
        Frame::End(stream) => (END, *stream, Vec::new()),
    };
    let length: usize = payload.iter().map(|part| part.len()).sum();
    let mut header = [0; HEADER];
    header[..2].copy_from_slice(&kind.to_le_bytes());
    header[2..4].copy_from_slice(&stream.to_le_bytes());
    header[8..].copy_from_slice(&(length as u64).to_le_bytes());
    let mut all = Vec::with_capacity(payload.len() + 1);
    all.push(IoSlice::new(&header));
    all.extend(payload);
    write_all(out, &mut all)
}

/// Writes all of several buffers, many with one call of the system.
fn write_all(out: &mut impl Write, mut left: &mut [IoSlice<'_>]) -> io::Result<()> {
    // Without those that are empty at the front.
    IoSlice::advance_slices(&mut left, 0);
    while !left.is_empty() {
        match out.write_vectored(left) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => IoSlice::advance_slices(&mut left, count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads a frame; `None` at the end.
pub(super) fn read(input: &mut impl Read) -> io::Result<Option<Frame>> {
    let mut header = [0; HEADER];
    let mut filled = 0;
    while filled < HEADER {
        match input.read(&mut header[filled..]) {
            Ok(0) => return Ok(None),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let number = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
    let (kind, stream) = (number(0), number(2));
    let length = u64::from_le_bytes(header[8..].try_into().expect("eight bytes"));
    let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    if length > LONGEST {
        return Err(invalid(format!("a frame of {length} bytes")));
    }
    // What is said to come may never come: memory is taken as the bytes arrive.
    let mut payload = Vec::with_capacity(length.min(1 << 24) as usize);
    if input.take(length).read_to_end(&mut payload)? as u64 != length {
        return Ok(None);
    }
    let payload = Bytes::from(payload);
    match kind {
        MESSAGE => Ok(Some(Frame::Message(payload))),
        DATA => Ok(Some(Frame::Data(stream, payload))),
        END => Ok(Some(Frame::End(stream))),
        other => Err(invalid(format!("a frame of kind {other}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_as_they_were_written_and_half_a_frame_is_the_end() {
        let frames =
            [Frame::Message(Bytes::from_static(b"{}")), Frame::Data(7, Bytes::from_static(b"rows")), Frame::End(7)];
        let mut bytes = Vec::new();
        frames.iter().for_each(|frame| write(&mut bytes, frame).expect("a vector takes all"));
        let mut input = bytes.as_slice();
        for frame in &frames {
            assert_eq!(read(&mut input).expect("whole").as_ref(), Some(frame));
        }
        assert_eq!(read(&mut input).expect("the end"), None);
        let parts = ["", "ro", "", "ws", ""].map(|part| Buffer::from(part.as_bytes()));
        let mut in_parts = Vec::new();
        write(&mut in_parts, &Frame::Parts(7, parts.to_vec())).expect("a vector takes all");
        assert_eq!(read(&mut in_parts.as_slice()).expect("whole").as_ref(), Some(&frames[1]));
        assert_eq!(read(&mut &bytes[..10]).expect("the end"), None);
        assert_eq!(read(&mut &bytes[..17]).expect("the end"), None);
        assert!(read(&mut &b"Hello, this is text"[..]).is_err());
    }
}
