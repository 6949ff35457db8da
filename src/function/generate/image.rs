//! The image of a prompt: an address, or a file that is sent with it.

use std::{io::Read as _, path::Path, sync::Arc};

use base64_simd::STANDARD;

use crate::{config::open_regular_file, model::Fingerprint};

/// The largest file that is sent.
const MAX_BYTES: u64 = 20 << 20;

/// An image.
#[derive(Debug, Clone)]
pub enum Image {
    /// Its address; the server loads it.
    Address(Arc<str>),
    /// Its content.
    Data {
        /// Such as `image/png`.
        media_type: &'static str,
        /// The content.
        base64: Arc<str>,
        /// Its digest.
        digest: Fingerprint,
    },
}

impl Image {
    /// The image that a value of the column names: an address, or a path relative to the project.
    ///
    /// # Errors
    /// When the file cannot be read, or is no image.
    pub fn load(value: &str, root: &Path) -> Result<Self, String> {
        if value.starts_with("https://") || value.starts_with("http://") {
            return Ok(Self::Address(value.into()));
        }
        let failed = |why: String| format!("image: `{value}`: {why}");
        let mut file = open_regular_file(&root.join(value)).map_err(|error| failed(error.to_string()))?;
        let mut bytes = Vec::new();
        file.by_ref().take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|error| failed(error.to_string()))?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(failed(format!("larger than {} MiB", MAX_BYTES >> 20)));
        }
        let media_type = media_type(&bytes).ok_or_else(|| failed("no PNG, JPEG, GIF or WebP".to_owned()))?;
        let digest = Fingerprint::builder("image").bytes(&bytes).finish();
        Ok(Self::Data { media_type, base64: STANDARD.encode_to_string(&bytes).into(), digest })
    }

    /// What it is known by.
    pub fn identity(&self) -> String {
        match self {
            Self::Address(address) => address.to_string(),
            Self::Data { digest, .. } => format!("digest {digest}"),
        }
    }

    /// Bytes of it in a request.
    pub fn len(&self) -> usize {
        match self {
            Self::Address(address) => address.len(),
            Self::Data { base64, .. } => base64.len(),
        }
    }

    /// As one address, which holds the content.
    pub fn to_address(&self) -> String {
        match self {
            Self::Address(address) => address.to_string(),
            Self::Data { media_type, base64, .. } => format!("data:{media_type};base64,{base64}"),
        }
    }
}

/// The kind of an image, by its first bytes.
fn media_type(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0x89, b'P', b'N', b'G', ..] => Some("image/png"),
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [b'G', b'I', b'F', b'8', ..] => Some("image/gif"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("image/webp"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_sent_with_their_kind_and_what_is_no_image_is_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("a.png"), b"\x89PNG\r\n").expect("written");
        std::fs::write(folder.path().join("b.txt"), b"text").expect("written");
        let image = Image::load("a.png", folder.path()).expect("an image");
        assert_eq!(image.to_address(), "data:image/png;base64,iVBORw0K");
        let same = Image::load("./a.png", folder.path()).expect("an image");
        assert_eq!(image.identity(), same.identity(), "known by its content");
        assert!(Image::load("b.txt", folder.path()).is_err_and(|why| why.contains("no PNG, JPEG, GIF or WebP")));
        assert!(Image::load("c.png", folder.path()).is_err_and(|why| why.starts_with("image: `c.png`:")));
        #[cfg(unix)]
        {
            let pipe = folder.path().join("pipe.png");
            let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo");
            assert!(made.success());
            // Opening it would wait for a writer.
            assert!(Image::load("pipe.png", folder.path()).is_err_and(|why| why.contains("a named pipe")));
        }
        assert!(matches!(Image::load("https://host/a.png", folder.path()), Ok(Image::Address(_))));
    }
}
