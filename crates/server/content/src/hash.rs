//! Digests of data that comes in parts. `sha2` uses the processor's instructions for them where there are any.

use std::{fs::File, io, os::unix::fs::FileExt};

use gantry_store::{Algorithm, Digest};
use sha2::{Digest as _, Sha256, Sha384, Sha512};

/// How much is read at a time.
const CHUNK: usize = 1 << 20;

/// What a digest will be made of.
#[derive(Debug, Clone)]
pub(crate) enum Hasher {
    Sha256(Sha256),
    Sha384(Sha384),
    Sha512(Sha512),
}

impl Hasher {
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(Sha256::new()),
            Algorithm::Sha384 => Self::Sha384(Sha384::new()),
            Algorithm::Sha512 => Self::Sha512(Sha512::new()),
        }
    }

    /// Reads a file to its end; how long it is.
    pub(crate) fn of_file(algorithm: Algorithm, file: &File) -> io::Result<(Self, u64)> {
        let mut hasher = Self::new(algorithm);
        let (mut chunk, mut length) = (vec![0; CHUNK], 0);
        loop {
            match file.read_at(&mut chunk, length) {
                Ok(0) => return Ok((hasher, length)),
                Ok(count) => {
                    hasher.update(&chunk[..count]);
                    length += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    pub(crate) fn update(&mut self, data: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(data),
            Self::Sha384(hasher) => hasher.update(data),
            Self::Sha512(hasher) => hasher.update(data),
        }
    }

    pub(crate) fn algorithm(&self) -> Algorithm {
        match self {
            Self::Sha256(_) => Algorithm::Sha256,
            Self::Sha384(_) => Algorithm::Sha384,
            Self::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// Of what there was up to now.
    pub(crate) fn digest(&self) -> Digest {
        let algorithm = self.algorithm();
        match self.clone() {
            Self::Sha256(hasher) => Digest::new(algorithm, &hasher.finalize()),
            Self::Sha384(hasher) => Digest::new(algorithm, &hasher.finalize()),
            Self::Sha512(hasher) => Digest::new(algorithm, &hasher.finalize()),
        }
    }
}

/// The name of a write's file: its reference may be anything, and long.
pub(crate) fn name_of(namespace: &str, reference: &str) -> Digest {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    hasher.update(namespace.as_bytes());
    // No namespace has it.
    hasher.update(&[0]);
    hasher.update(reference.as_bytes());
    hasher.digest()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_the_standard() {
        // FIPS 180-4's example of one block.
        for (algorithm, start) in [
            (Algorithm::Sha256, "ba7816bf8f01cfea414140de5dae2223"),
            (Algorithm::Sha384, "cb00753f45a35e8bb5a03d699ac65007"),
            (Algorithm::Sha512, "ddaf35a193617abacc417349ae204131"),
        ] {
            let mut hasher = Hasher::new(algorithm);
            hasher.update(b"a");
            hasher.update(b"bc");
            assert!(hasher.digest().hex().starts_with(start), "{algorithm:?}");
        }
    }
}
