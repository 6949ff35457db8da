//! Hashes of everything that a result depends on, which name the files of results.

use std::{
    fmt,
    hash::{BuildHasherDefault, Hasher},
    sync::LazyLock,
};

use siphasher::sip128::SipHasher13;

/// A 128-bit BLAKE3 digest, written as 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint([u8; 16]);

impl Fingerprint {
    /// The digest of one byte string.
    pub fn of(bytes: impl AsRef<[u8]>) -> Self {
        Self::builder("bytes").bytes(bytes.as_ref()).finish()
    }

    /// Starts a fingerprint of several parts. `domain` separates fingerprints of different kinds with equal parts.
    pub fn builder(domain: &str) -> FingerprintBuilder {
        FingerprintBuilder { hasher: blake3::Hasher::new() }.text(domain)
    }

    /// Parses the 32 digits; `None` for any other string, so that a foreign file name is never mistaken for a fingerprint.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return None;
        }
        u128::from_str_radix(text, 16).ok().map(|n| Self(n.to_be_bytes()))
    }

    /// The raw sixteen bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl From<[u8; 16]> for Fingerprint {
    fn from(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Collects the parts of a fingerprint. Every part is length-prefixed, so `("ab", "c")` and `("a", "bc")` differ.
#[derive(Clone, Debug)]
pub struct FingerprintBuilder {
    hasher: blake3::Hasher,
}

impl FingerprintBuilder {
    /// Adds a byte string.
    #[must_use]
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.push(bytes);
        self
    }

    /// Adds a string.
    #[must_use]
    pub fn text(self, text: &str) -> Self {
        self.bytes(text.as_bytes())
    }

    /// Adds a number.
    #[must_use]
    pub fn number(self, number: u64) -> Self {
        self.bytes(&number.to_le_bytes())
    }

    /// Adds another fingerprint.
    #[must_use]
    pub fn fingerprint(self, other: Fingerprint) -> Self {
        self.bytes(&other.0)
    }

    /// Adds a byte string in place, for use inside loops.
    pub fn push(&mut self, bytes: &[u8]) {
        self.hasher.update(&(bytes.len() as u64).to_le_bytes());
        self.hasher.update(bytes);
    }

    /// The fingerprint of all parts so far, in order.
    pub fn finish(&self) -> Fingerprint {
        let mut out = [0; 16];
        out.copy_from_slice(&self.hasher.finalize().as_bytes()[..16]);
        Fingerprint(out)
    }
}

/// Computes fingerprints of many byte strings that share all other parts, with one short hash each.
#[derive(Clone)]
pub struct Namer(Naming);

#[derive(Clone)]
enum Naming {
    Persistent([u8; blake3::KEY_LEN]),
    Ephemeral(SipHasher13),
}

impl Namer {
    /// A namer with the same results in every process. `domain` separates namers of different kinds with the same `under`.
    pub fn new(domain: &str, under: Fingerprint) -> Self {
        let key = Fingerprint::builder(domain).fingerprint(under);
        Self(Naming::Persistent(*key.hasher.finalize().as_bytes()))
    }

    /// A namer whose results are valid only in this process: SipHash with a random key, much faster than BLAKE3.
    pub fn ephemeral(domain: &str, under: Fingerprint) -> Self {
        static SECRET: LazyLock<[u8; 16]> = LazyLock::new(rand::random);
        let key = Fingerprint::builder(domain).fingerprint(under).bytes(&*SECRET).finish();
        Self(Naming::Ephemeral(SipHasher13::new_with_key(key.as_bytes())))
    }

    /// The fingerprint of one byte string.
    pub fn of(&self, bytes: impl AsRef<[u8]>) -> Fingerprint {
        match &self.0 {
            Naming::Persistent(key) => {
                let mut out = [0; 16];
                out.copy_from_slice(&blake3::keyed_hash(key, bytes.as_ref()).as_bytes()[..16]);
                Fingerprint(out)
            }
            Naming::Ephemeral(hasher) => Fingerprint(hasher.hash(bytes.as_ref()).as_bytes()),
        }
    }
}

impl fmt::Debug for Namer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Namer")
    }
}

/// The hasher of maps with fingerprint keys: these are digests already, so their bytes serve as the hash.
pub type ByDigest = BuildHasherDefault<FirstBytes>;

/// A hasher that returns the XOR of the key's 8-byte words; see [`ByDigest`].
#[derive(Debug, Default, Clone, Copy)]
pub struct FirstBytes(u64);

impl Hasher for FirstBytes {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for eight in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..eight.len()].copy_from_slice(eight);
            self.0 ^= u64::from_le_bytes(word);
        }
    }
    fn write_usize(&mut self, _length: usize) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_string_form_parses() {
        let fingerprint = Fingerprint::of("a text");
        assert_eq!(Fingerprint::parse(&fingerprint.to_string()), Some(fingerprint));
        for foreign in ["", "part-0", "ABCDEF00112233445566778899aabbcc", "+0112233445566778899aabbccddeeff", "00"] {
            assert_eq!(Fingerprint::parse(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn boundaries_between_parts_matter() {
        let one = Fingerprint::builder("t").text("ab").text("c").finish();
        let two = Fingerprint::builder("t").text("a").text("bc").finish();
        assert_ne!(one, two);
    }

    #[test]
    fn fingerprints_of_a_namer_depend_on_domain_parent_and_bytes() {
        let (one, two) = (Fingerprint::of("one"), Fingerprint::of("two"));
        for namer in [Namer::new, Namer::ephemeral] {
            let name = namer("d", one).of("text");
            assert_eq!(name, namer("d", one).of("text"));
            for other in [namer("d", one).of("texT"), namer("e", one).of("text"), namer("d", two).of("text")] {
                assert_ne!(name, other);
            }
        }
    }
}
