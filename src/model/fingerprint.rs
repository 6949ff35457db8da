//! What a result depends on, hashed: the name under which a result is committed.

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

    /// Starts a fingerprint of several parts. `domain` keeps two kinds of thing with equal parts apart.
    pub fn builder(domain: &str) -> FingerprintBuilder {
        FingerprintBuilder { hasher: blake3::Hasher::new() }.text(domain)
    }

    /// Reads the 32 digits back; `None` for anything else, so that a foreign file name is never taken for ours.
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

    /// Adds a text.
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

/// Names many byte strings that share everything else they depend on, each by one short hash.
#[derive(Clone)]
pub struct Namer(Naming);

#[derive(Clone)]
enum Naming {
    Kept([u8; blake3::KEY_LEN]),
    Ephemeral(SipHasher13),
}

impl Namer {
    /// Names within `under`, the same in every process. `domain` keeps two kinds of thing under one fingerprint apart.
    pub fn new(domain: &str, under: Fingerprint) -> Self {
        let whole = Fingerprint::builder(domain).fingerprint(under);
        Self(Naming::Kept(*whole.hasher.finalize().as_bytes()))
    }

    /// Names that mean something in this process alone: SipHash with a secret key, in a fraction of the time.
    pub fn ephemeral(domain: &str, under: Fingerprint) -> Self {
        static SECRET: LazyLock<[u8; 16]> = LazyLock::new(rand::random);
        let key = Fingerprint::builder(domain).fingerprint(under).bytes(&*SECRET).finish();
        Self(Naming::Ephemeral(SipHasher13::new_with_key(key.as_bytes())))
    }

    /// The name of one byte string.
    pub fn of(&self, bytes: impl AsRef<[u8]>) -> Fingerprint {
        match &self.0 {
            Naming::Kept(key) => {
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

/// For maps whose keys are fingerprints: these are digests already, and their bytes as good a hash as any.
pub type ByDigest = BuildHasherDefault<FirstBytes>;

/// See [`ByDigest`].
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
    fn text_form_reads_back() {
        let fingerprint = Fingerprint::of("a text");
        assert_eq!(Fingerprint::parse(&fingerprint.to_string()), Some(fingerprint));
        for foreign in ["", "part-0", "ABCDEF00112233445566778899aabbcc", "+0112233445566778899aabbccddeeff", "00"] {
            assert_eq!(Fingerprint::parse(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        let one = Fingerprint::builder("t").text("ab").text("c").finish();
        let two = Fingerprint::builder("t").text("a").text("bc").finish();
        assert_ne!(one, two);
    }

    #[test]
    fn names_differ_by_text_by_domain_and_by_what_they_are_under() {
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
