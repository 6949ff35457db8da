//! Headers of compressed pages, looked at before the library decompresses them.
//!
//! The library fills as much memory as a header claims, up to 2 GiB, before it looks at the page's bytes. A header that
//! claims more than the compression can reach is refused.

use ::parquet::{
    basic::Compression,
    errors::ParquetError,
    file::{
        metadata::{ColumnChunkMetaData, ParquetMetaData},
        reader::ChunkReader,
    },
};

/// A byte of LZ4 stands for 255 bytes at most, and one of snappy for 22.
const LARGEST_RATIO: u64 = 256;
/// What a page may claim. Pages hold about a megabyte; one is decompressed whole, and its values are copied.
const LARGEST: u64 = 256 << 20;
/// What the smallest page may claim.
const ALWAYS: u64 = 1 << 10;
/// Bytes in which a header is looked for at first, and at last: it may contain the least and the largest value.
const WINDOWS: [usize; 2] = [256, 1 << 20];

/// How often a byte of this compression may be in what it stands for.
fn ratio(compression: Compression) -> u64 {
    match compression {
        Compression::UNCOMPRESSED => 1,
        Compression::SNAPPY | Compression::LZ4 | Compression::LZ4_RAW => LARGEST_RATIO,
        _ => u64::MAX,
    }
}

/// True when the column's pages need not be looked at.
fn is_small(chunk: &ColumnChunkMetaData) -> bool {
    chunk.compression() == Compression::UNCOMPRESSED
}

/// Refuses pages of a file whose headers claim more than their bytes can hold, or than is decompressed at once.
///
/// # Errors
/// For the first such page. A header that cannot be read is left to the library.
pub(super) fn check_file(source: &impl ChunkReader, footer: &ParquetMetaData) -> Result<(), ParquetError> {
    for chunk in footer.row_groups().iter().flat_map(|group| group.columns()) {
        if !is_small(chunk) {
            let (start, length) = chunk.byte_range();
            check(ratio(chunk.compression()), length, |at, most| source.get_bytes(start + at, most).ok())?;
        }
    }
    Ok(())
}

/// Refuses such pages in `bytes` of a column chunk, which begin where a page does.
///
/// # Errors
/// See [`check_file`].
pub(super) fn check_part(chunk: &ColumnChunkMetaData, bytes: &[u8]) -> Result<(), ParquetError> {
    if is_small(chunk) {
        return Ok(());
    }
    check(ratio(chunk.compression()), bytes.len() as u64, |at, most| {
        bytes.get(usize::try_from(at).ok()?..)?.get(..most)
    })
}

/// Checks `length` bytes; `window` has so many of them from there.
fn check<B: AsRef<[u8]>>(
    ratio: u64,
    length: u64,
    mut window: impl FnMut(u64, usize) -> Option<B>,
) -> Result<(), ParquetError> {
    let mut at = 0;
    while at < length {
        let rest = usize::try_from(length - at).unwrap_or(usize::MAX);
        let header = WINDOWS.iter().find_map(|most| Header::read(window(at, rest.min(*most))?.as_ref()));
        let Some(header) = header else { return Ok(()) };
        let (Ok(claimed), Ok(size)) = (u64::try_from(header.claimed), u64::try_from(header.size)) else {
            return Ok(());
        };
        if claimed > size.saturating_mul(ratio).saturating_add(ALWAYS) {
            return Err(ParquetError::General(format!("a page of {size} bytes claims to hold {claimed} bytes")));
        }
        if claimed > LARGEST {
            let message =
                format!("a page of {size} bytes claims to hold {claimed} bytes, and pages of up to {LARGEST} are read");
            return Err(ParquetError::General(message));
        }
        at += header.length + size;
    }
    Ok(())
}

/// What a page's header says.
struct Header {
    /// Its own bytes.
    length: u64,
    /// The page's bytes once they are decompressed.
    claimed: i64,
    /// The page's bytes in the file.
    size: i64,
}

impl Header {
    /// Reads a header; `None` where the bytes are none, or not all of one.
    fn read(bytes: &[u8]) -> Option<Self> {
        let mut reader = Compact { bytes, at: 0 };
        let (mut claimed, mut size) = (None, None);
        let mut field = 0;
        while let Some(kind) = reader.field(&mut field)? {
            match (field, kind) {
                (2, 5) => claimed = Some(reader.integer()?),
                (3, 5) => size = Some(reader.integer()?),
                _ => reader.skip(kind, 8)?,
            }
        }
        Some(Self { length: reader.at as u64, claimed: claimed?, size: size? })
    }
}

/// Thrift's compact protocol, as far as headers need it.
struct Compact<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Compact<'_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn advance(&mut self, count: u64) -> Option<()> {
        self.at = self.at.checked_add(usize::try_from(count).ok()?)?;
        (self.at <= self.bytes.len()).then_some(())
    }

    fn unsigned(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn integer(&mut self) -> Option<i64> {
        let number = self.unsigned()?;
        Some((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    /// The type of the next field of a structure, whose number is put into `field`; `Some(None)` at its end.
    fn field(&mut self, field: &mut i64) -> Option<Option<u8>> {
        let byte = self.byte()?;
        if byte == 0 {
            return Some(None);
        }
        *field = match byte >> 4 {
            0 => self.integer()?,
            step => field.checked_add(i64::from(step))?,
        };
        Some(Some(byte & 0x0f))
    }

    /// Skips a value. Headers have no deep ones.
    fn skip(&mut self, kind: u8, depth: usize) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        match kind {
            // The type of a field says which boolean it is.
            1 | 2 => Some(()),
            3 => self.advance(1),
            4..=6 => self.unsigned().map(|_| ()),
            7 => self.advance(8),
            8 => {
                let length = self.unsigned()?;
                self.advance(length)
            }
            12 => {
                let mut field = 0;
                while let Some(kind) = self.field(&mut field)? {
                    self.skip(kind, depth)?;
                }
                Some(())
            }
            // Lists, sets and maps are in no header.
            _ => None,
        }
    }
}
