//! The name of a blob.

use std::fmt;

/// What is wrong with a text that is no digest of any algorithm.
const FORMAT: &str = "invalid checksum digest format";

/// How a digest is computed. What opencontainers/go-digest knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// SHA-256, which nearly all blobs are named by.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    const ALL: [Self; 3] = [Self::Sha256, Self::Sha384, Self::Sha512];

    /// As it is written before the colon.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    /// How many hexadecimal digits follow the colon.
    fn digits(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha384 => 96,
            Self::Sha512 => 128,
        }
    }
}

/// The digest of a blob, as `sha256:0a…`. Its text is also safe as the name of a file.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(String);

impl Digest {
    /// # Errors
    /// What is wrong, in the words of opencontainers/go-digest.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let Some((name, hex)) = text.split_once(':') else {
            return Err(FORMAT);
        };
        if name.is_empty() || hex.is_empty() {
            return Err(FORMAT);
        }
        let known = Algorithm::ALL.into_iter().find(|algorithm| algorithm.name() == name);
        let Some(algorithm) = known else {
            return Err(if is_algorithm(name) && hex.bytes().all(is_of_value) {
                "unsupported digest algorithm"
            } else {
                FORMAT
            });
        };
        if hex.len() != algorithm.digits() {
            return Err("invalid checksum digest length");
        }
        if !hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(FORMAT);
        }
        Ok(Self(text.to_owned()))
    }

    /// The digest of this value.
    #[must_use]
    pub fn new(algorithm: Algorithm, value: &[u8]) -> Self {
        let mut text = format!("{}:", algorithm.name());
        for byte in value {
            for digit in [byte >> 4, byte & 0xf] {
                text.push(char::from_digit(digit.into(), 16).unwrap_or_default());
            }
        }
        Self(text)
    }

    /// All of it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// How it is computed.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        let is_its = |algorithm: &Algorithm| self.0.starts_with(algorithm.name());
        Algorithm::ALL.into_iter().find(is_its).unwrap_or(Algorithm::Sha256)
    }

    /// What follows the colon.
    #[must_use]
    pub fn hex(&self) -> &str {
        self.0.split_once(':').map_or("", |(_, hex)| hex)
    }
}

/// Whether an algorithm may have this name, in opencontainers' specification of images.
fn is_algorithm(name: &str) -> bool {
    let is_of_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    name.split(['.', '+', '_', '-']).all(|part| !part.is_empty() && part.bytes().all(is_of_name))
}

/// Whether the value of some algorithm may have this character.
fn is_of_value(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'=' | b'_' | b'-')
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_its_algorithm_and_so_many_digits() {
        for (algorithm, bytes) in
            [(Algorithm::Sha256, 32), (Algorithm::Sha384, 48), (Algorithm::Sha512, 64)]
        {
            let digest = Digest::new(algorithm, &vec![0xa0; bytes]);
            assert_eq!(digest.hex(), "a0".repeat(bytes));
            assert_eq!(digest.algorithm(), algorithm);
            assert_eq!(Digest::parse(digest.as_str()), Ok(digest));
        }
        for (wrong, problem) in [
            ("", "invalid checksum digest format"),
            ("a0", "invalid checksum digest format"),
            ("md5:a0", "unsupported digest algorithm"),
            ("md5+b64:A0=_-", "unsupported digest algorithm"),
            ("md5+:a0", "invalid checksum digest format"),
            ("MD5:a0", "invalid checksum digest format"),
            ("md5:a/", "invalid checksum digest format"),
            (":a0", "invalid checksum digest format"),
            ("md5:", "invalid checksum digest format"),
            ("sha256:", "invalid checksum digest format"),
            ("sha256:a0", "invalid checksum digest length"),
            (&format!("sha256:{}", "A0".repeat(32)), "invalid checksum digest format"),
            (&format!("sha256:{}", "/.".repeat(32)), "invalid checksum digest format"),
        ] {
            assert_eq!(Digest::parse(wrong), Err(problem), "{wrong}");
        }
    }
}
