//! Segments: append-only files of values, each record with its own checksum.
//!
//! Owns the layout of a record, appending, parsing, and scanning a file that may be damaged. Must not know how a record is
//! found ([`super::index`]) or when files are removed ([`super::maintenance`]).
//!
//! A record, little-endian, always a multiple of four bytes long:
//! `magic u32 | words u32 | check u64 | key [u8; 16] | words × 4 bytes`. The check covers all but itself, so each
//! record is verified on its own, whatever its index and its neighbours contain.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use crate::model::Fingerprint;

/// A segment is closed before it exceeds this many bytes.
pub(super) const MAX_BYTES: u64 = 128 << 20;
/// A segment is closed at this many records: its keys are held in memory while it is open.
pub(super) const MAX_RECORDS: usize = 1 << 20;
/// The most bytes of a value, which are a multiple of [`WORD`]; a header with more is damaged.
pub const MAX_VALUE: usize = 16 << 20;
/// The length of a value is a multiple of this many bytes.
pub(super) const WORD: usize = 4;
/// Bytes of a record before its value.
pub(super) const HEADER: usize = 32;

/// Disk space is allocated in multiples of this many bytes.
const ALLOCATION: u64 = 1 << 20;

const MAGIC: [u8; 4] = *b"fvec";
/// The extension of unfinished segments and indexes; a crash may leave them behind.
pub(super) const STAGING: &str = "tmp";
/// The extension of segments.
pub(super) const SEGMENT: &str = "vec";
/// The extension of indexes.
pub(super) const INDEX: &str = "idx";

/// The name of a segment or an index. The first eight bytes are the time of creation in milliseconds since 1970, so that
/// names sort by age; the rest is random, so that two processes never choose the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct FileId(pub(super) Fingerprint);

impl FileId {
    pub(super) fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_millis());
        Self::at(u64::try_from(now).unwrap_or(u64::MAX))
    }

    /// A new name with a given time, for a file that replaces older ones.
    pub(super) fn at(millis: u64) -> Self {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&millis.to_be_bytes());
        bytes[8..].copy_from_slice(&rand::random::<[u8; 8]>());
        Self(Fingerprint::from(bytes))
    }

    /// Milliseconds since 1970.
    pub(super) fn millis(self) -> u64 {
        let (millis, _) = self.0.as_bytes().split_at(8);
        millis.iter().fold(0, |n, byte| n << 8 | u64::from(*byte))
    }

    pub(super) fn path(self, dir: &Path, ending: &str) -> PathBuf {
        dir.join(format!("{}.{ending}", self.0))
    }

    /// The id in a file's name, if it is one of a file with this extension.
    pub(super) fn of(path: &Path, ending: &str) -> Option<Self> {
        if path.extension()? != ending {
            return None;
        }
        Fingerprint::parse(path.file_stem()?.to_str()?).map(Self)
    }
}

/// Bytes of a record with a value of this many bytes.
pub(super) fn record_len(bytes: usize) -> usize {
    HEADER + bytes
}

/// Appends one record to `out`.
pub(super) fn encode(key: Fingerprint, value: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&((value.len() / WORD) as u32).to_le_bytes());
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(value);
    let check = check(&out[start..]);
    out[start + 8..start + 16].copy_from_slice(&check);
}

fn check(record: &[u8]) -> [u8; 8] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&record[..8]).update(&record[16..]);
    let mut out = [0; 8];
    out.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    out
}

/// The result of parsing a record at the start of some bytes.
#[derive(Debug, PartialEq)]
pub(super) enum Parsed<'a> {
    /// A complete record whose check is correct.
    Complete(Record<'a>),
    /// The start of a record of this many bytes.
    Incomplete(usize),
    /// Not a record, or a damaged one.
    Damaged,
}

/// A record in a file.
#[derive(Debug, PartialEq, Clone, Copy)]
pub(super) struct Record<'a> {
    pub(super) key: Fingerprint,
    /// The whole record, header included.
    pub(super) bytes: &'a [u8],
}

impl<'a> Record<'a> {
    pub(super) fn value(&self) -> &'a [u8] {
        &self.bytes[HEADER..]
    }
}

/// Parses the record at the start of `bytes`.
pub(super) fn parse(bytes: &[u8]) -> Parsed<'_> {
    let Some(header) = bytes.first_chunk::<HEADER>() else {
        return if bytes.starts_with(&MAGIC[..bytes.len().min(4)]) {
            Parsed::Incomplete(HEADER)
        } else {
            Parsed::Damaged
        };
    };
    let [_, _, _, _, d0, d1, d2, d3, ..] = *header;
    let length = u32::from_le_bytes([d0, d1, d2, d3]) as usize * WORD;
    if header[..4] != MAGIC || length == 0 || length > MAX_VALUE {
        return Parsed::Damaged;
    }
    let Some(record) = bytes.get(..record_len(length)) else { return Parsed::Incomplete(record_len(length)) };
    if check(record) != record[8..16] {
        return Parsed::Damaged;
    }
    let mut key = [0; 16];
    key.copy_from_slice(&record[16..HEADER]);
    Parsed::Complete(Record { key: Fingerprint::from(key), bytes: record })
}

/// What a scan found besides complete records.
#[derive(Debug, Default, PartialEq, Eq, Clone, Copy)]
pub(super) struct Scan {
    /// Where the next scan of a growing file continues.
    pub(super) end: u64,
    /// Ranges of bytes between records that are not records.
    pub(super) damaged: u64,
    /// Bytes after the last complete record: a torn write, or one in progress.
    pub(super) tail: u64,
}

/// Calls `visit` with the offset and content of every complete record from `start` on, in order. Damage is skipped: the next
/// record is searched for at every offset where one could start.
pub(super) fn scan(file: &File, start: u64, mut visit: impl FnMut(u64, Record<'_>)) -> io::Result<Scan> {
    const CHUNK: usize = 1 << 20;
    let size = file.metadata()?.len();
    let mut buffer = Vec::new();
    let (mut base, mut at) = (start, 0); // `buffer` holds the file from `base` on; `at` is the offset in it.
    let (mut end, mut damaged, mut in_damage) = (start, 0, false);
    loop {
        let wanted = match parse(&buffer[at..]) {
            Parsed::Complete(record) => {
                damaged += u64::from(in_damage);
                in_damage = false;
                visit(base + at as u64, record);
                at += record.bytes.len();
                end = base + at as u64;
                continue;
            }
            // A length beyond the end of the file is damage.
            Parsed::Incomplete(length) if base + (at + length) as u64 <= size => length,
            _ if buffer.len() - at >= HEADER || base + buffer.len() as u64 >= size => {
                if base + at as u64 >= size {
                    break;
                }
                in_damage = true;
                at += next_magic(&buffer[at..]);
                continue;
            }
            _ => HEADER,
        };
        // More bytes are needed: read at least one more record from here on.
        base += at as u64;
        at = 0;
        let remaining = usize::try_from(size - base).unwrap_or(usize::MAX);
        buffer.resize(remaining.min(CHUNK.max(wanted)), 0);
        read_exact_at(file, &mut buffer, base)?;
    }
    Ok(Scan { end, damaged, tail: size.saturating_sub(end) })
}

/// The distance to the next offset where a record may start, or to the end. Records are aligned to four bytes.
fn next_magic(bytes: &[u8]) -> usize {
    (4..bytes.len())
        .step_by(4)
        .find(|&i| bytes[i..].starts_with(&MAGIC[..MAGIC.len().min(bytes.len() - i)]))
        .unwrap_or(bytes.len())
}

/// Creates the folder of a cache, for its owner alone: it holds what texts became. An existing one keeps its permissions.
pub(super) fn create_folder(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

/// Options for a new file of a cache: those who may use its folder may use the file.
pub(super) fn new_file(dir: &Path) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
        options.mode(fs::metadata(dir).map_or(0o600, |folder| folder.mode() & 0o666));
    }
    #[cfg(not(unix))]
    let _ = dir;
    options
}

/// Fills `buffer` from an offset of a file, without moving the cursor that threads share.
pub(super) fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    #[cfg(unix)]
    return std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset);
    #[cfg(windows)]
    {
        let (mut done, length) = (0, buffer.len());
        while done < length {
            match std::os::windows::fs::FileExt::seek_read(file, &mut buffer[done..], offset + done as u64)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => done += read,
            }
        }
        Ok(())
    }
}

/// A segment that this process appends to. It is locked while it is open, so that other processes know that it is being
/// written.
#[derive(Debug)]
pub(super) struct Appender {
    pub(super) id: FileId,
    pub(super) file: Arc<File>,
    pub(super) len: u64,
    /// The end of the disk space allocated for it.
    reserved: u64,
}

impl Appender {
    /// Creates an empty segment. It is locked before it gets the name that other processes read.
    pub(super) fn create(dir: &Path, id: FileId) -> io::Result<Self> {
        let staged = id.path(dir, STAGING);
        let file = new_file(dir).read(true).append(true).create_new(true).open(&staged)?;
        file.lock()?;
        fs::rename(&staged, id.path(dir, SEGMENT))?;
        sync_folder(dir)?;
        Ok(Self { id, file: Arc::new(file), len: 0, reserved: 0 })
    }

    /// Allocates disk space for `bytes` more bytes, in large units if there is enough.
    pub(super) fn reserve(&mut self, bytes: u64) -> io::Result<()> {
        let end = self.len + bytes;
        if end > self.reserved {
            let ahead = end.next_multiple_of(ALLOCATION);
            self.reserved = match allocate(&self.file, ahead) {
                Ok(()) => ahead,
                Err(_) => allocate(&self.file, end).map(|()| end)?,
            };
        }
        Ok(())
    }

    /// Releases allocated space that was not used.
    pub(super) fn release_unused(&mut self) {
        if self.reserved > self.len && self.file.set_len(self.len).is_ok() {
            self.reserved = self.len;
        }
    }

    /// Appends complete records. After an error with `true` the segment is unchanged; with `false` its content is unknown, and
    /// it must be closed.
    pub(super) fn append(&mut self, records: &[u8]) -> Result<(), (io::Error, bool)> {
        match (&*self.file).write_all(records) {
            Ok(()) => {
                self.len += records.len() as u64;
                Ok(())
            }
            Err(error) => Err((error, self.file.set_len(self.len).is_ok())),
        }
    }
}

/// Allocates disk space for the first `end` bytes of a file, without changing its length.
#[cfg(target_os = "linux")]
fn allocate(file: &File, end: u64) -> io::Result<()> {
    use rustix::{fs::FallocateFlags, io::Errno};
    match rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, 0, end) {
        Ok(()) => Ok(()),
        // Not every file system supports this; then the free space is checked.
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
            let space = rustix::fs::fstatvfs(file)?;
            let used = file.metadata()?.len();
            if space.f_bavail.saturating_mul(space.f_frsize) < end.saturating_sub(used) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

/// Other systems cannot allocate space without changing the length of the file.
#[cfg(not(target_os = "linux"))]
fn allocate(_: &File, _: u64) -> io::Result<()> {
    Ok(())
}

/// Syncs the names in a folder to the disk, where the system supports that.
pub(super) fn sync_folder(dir: &Path) -> io::Result<()> {
    #[cfg(unix)]
    File::open(dir)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = dir;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn key(n: u32) -> Fingerprint {
        Fingerprint::of(n.to_le_bytes())
    }

    fn three() -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(key(1), &[1; 4], &mut bytes);
        encode(key(2), &[2; 12], &mut bytes);
        encode(key(3), &[3; 8], &mut bytes);
        bytes
    }

    fn keys_of(bytes: &[u8]) -> (Vec<Fingerprint>, Scan) {
        let mut file = tempfile::tempfile().expect("a temporary file");
        file.write_all(bytes).expect("a few free bytes");
        let mut keys = Vec::new();
        let scan = scan(&file, 0, |_, record| keys.push(record.key)).expect("a readable file");
        (keys, scan)
    }

    #[test]
    fn a_record_reads_back_to_the_bit() {
        let mut bytes = Vec::new();
        let value: Vec<u8> = (0..=255).collect();
        encode(key(7), &value, &mut bytes);
        let Parsed::Complete(record) = parse(&bytes) else { panic!("incomplete") };
        assert_eq!((record.key, record.value()), (key(7), &value[..]));
    }

    #[test]
    fn a_scan_of_complete_records_finds_all() {
        let bytes = three();
        let (keys, scan) = keys_of(&bytes);
        assert_eq!(keys, [key(1), key(2), key(3)]);
        assert_eq!(scan, Scan { end: bytes.len() as u64, damaged: 0, tail: 0 });
    }

    #[test]
    fn a_truncated_file_loses_only_the_truncated_record() {
        let bytes = three();
        let ends = [36, 36 + 44, 36 + 44 + 40];
        for cut in 0..bytes.len() {
            let whole = ends.iter().filter(|end| **end <= cut).count();
            let (keys, scan) = keys_of(&bytes[..cut]);
            assert_eq!(keys.len(), whole, "cut at {cut}");
            let end = ends.get(whole.wrapping_sub(1)).copied().unwrap_or(0);
            assert_eq!((scan.end, scan.tail), (end as u64, (cut - end) as u64), "cut at {cut}");
        }
    }

    #[test]
    fn a_flipped_bit_loses_only_its_record() {
        let bytes = three();
        let expected = |at: usize| match at {
            0..36 => vec![key(2), key(3)],
            36..80 => vec![key(1), key(3)],
            _ => vec![key(1), key(2)],
        };
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(keys_of(&changed).0, expected(bit / 8), "bit {bit}");
        }
    }

    #[test]
    fn records_longer_than_a_read_are_found() {
        let mut bytes = Vec::new();
        for n in 0..40 {
            encode(key(n), &vec![n as u8; 80_000], &mut bytes);
        }
        assert_eq!(keys_of(&bytes).0.len(), 40);
    }

    #[test]
    fn allocated_space_is_no_content_and_is_released() {
        let folder = tempfile::tempdir().expect("a folder");
        let id = FileId::new();
        let mut open = Appender::create(folder.path(), id).expect("a segment");
        open.reserve(3 << 20).expect("free space");
        open.append(&three()).expect("free space");
        let bytes = three().len() as u64;
        assert_eq!(open.file.metadata().expect("a file").len(), bytes);
        assert_eq!(scan(&open.file, 0, |_, _| ()).expect("readable"), Scan { end: bytes, damaged: 0, tail: 0 });
        open.release_unused();
        assert_eq!(open.file.metadata().expect("a file").len(), bytes);
        open.append(&three()).expect("appending continues");
    }

    #[test]
    fn ids_sort_by_age() {
        let (old, new) = (FileId::at(5), FileId::at(6));
        assert!(old < new);
        assert_eq!(new.millis(), 6);
        let path = new.path(Path::new("/cache"), SEGMENT);
        assert_eq!(FileId::of(&path, SEGMENT), Some(new));
        assert_eq!(FileId::of(&path, INDEX), None);
    }
}
