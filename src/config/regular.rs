//! Reading configuration files: regular files of a bounded size.
//!
//! A named pipe waits for a writer and `/dev/zero` never ends, so that anything but a regular file is refused.

use std::{
    fs::{self, File, FileType},
    io::{self, Read as _},
    path::Path,
};

/// Larger files are data, not configuration.
pub(super) const MAX_FILE: u64 = 64 << 20;

/// Why a file was not read. The message follows the file's name: "`x` …".
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A folder, a named pipe, a device or a socket.
    #[error("is {0}, not a regular file")]
    NotRegular(&'static str),
    /// More than 64 MiB.
    #[error("has more than {} MiB: too large for configuration", MAX_FILE >> 20)]
    TooLarge,
    /// An error of the operating system.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
}

/// The content of a regular file of at most 64 MiB. Links are followed.
///
/// # Errors
/// When it is not a regular file, is too large, or cannot be read.
pub fn read_regular_file(path: &Path) -> Result<Vec<u8>, ReadError> {
    // Checked before it is opened: opening a named pipe blocks.
    let found = fs::metadata(path)?;
    if !found.is_file() {
        return Err(ReadError::NotRegular(kind(found.file_type())));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE { Err(ReadError::TooLarge) } else { Ok(bytes) }
}

/// Opens a regular file to read it, and never waits. Links are followed.
///
/// # Errors
/// When it is not a regular file, or cannot be opened.
pub fn open_regular_file(path: &Path) -> io::Result<File> {
    let found = fs::metadata(path)?;
    if !found.is_file() && !found.is_dir() {
        let what = kind(found.file_type());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("it is {what}, not a regular file")));
    }
    File::open(path)
}

fn kind(found: FileType) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt as _;
        if found.is_fifo() {
            return "a named pipe";
        }
        if found.is_socket() {
            return "a socket";
        }
        if found.is_char_device() || found.is_block_device() {
            return "a device";
        }
    }
    if found.is_dir() { "a folder" } else { "something else" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anything_but_a_regular_file_is_refused_with_its_kind() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("a.yml");
        fs::write(&file, "a: 1").expect("written");
        assert_eq!(read_regular_file(&file).expect("a file"), b"a: 1");
        let refused = |path: &Path| read_regular_file(path).expect_err("refused").to_string();
        assert_eq!(refused(folder.path()), "is a folder, not a regular file");
        assert!(refused(&folder.path().join("absent")).starts_with("cannot be read: "));
        #[cfg(unix)]
        {
            let link = folder.path().join("link.yml");
            std::os::unix::fs::symlink("/dev/zero", &link).expect("a link");
            assert_eq!(refused(&link), "is a device, not a regular file");
            let socket = folder.path().join("socket.yml");
            let _listener = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
            assert_eq!(refused(&socket), "is a socket, not a regular file");
        }
    }
}
