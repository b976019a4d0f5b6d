//! Fields to bytes and back.

use std::fmt;

/// A packet that is not a record of this format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecodeError {
    /// The packet is shorter than its header.
    Short,
    /// A length points beyond the end of the packet.
    Length,
    /// A string is not UTF-8.
    Utf8,
    /// A record kind that this version does not know; a receiver skips it.
    UnknownKind(u8),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short => f.write_str("packet is shorter than its header"),
            Self::Length => f.write_str("a length points beyond the end of the packet"),
            Self::Utf8 => f.write_str("a string is not UTF-8"),
            Self::UnknownKind(kind) => write!(f, "unknown record kind {kind}"),
        }
    }
}

impl std::error::Error for DecodeError {}

pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn new(kind: u8) -> Self {
        Self(vec![crate::VERSION, kind])
    }

    pub(crate) fn bool(&mut self, value: bool) -> &mut Self {
        self.0.push(u8::from(value));
        self
    }

    pub(crate) fn u8(&mut self, value: u8) -> &mut Self {
        self.0.push(value);
        self
    }

    pub(crate) fn u16(&mut self, value: u16) -> &mut Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    pub(crate) fn u32(&mut self, value: u32) -> &mut Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    pub(crate) fn u64(&mut self, value: u64) -> &mut Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    /// A string longer than 4 GiB cannot be in memory twice; its length would saturate.
    pub(crate) fn str(&mut self, value: &str) -> &mut Self {
        self.u32(u32::try_from(value.len()).unwrap_or(u32::MAX));
        self.0.extend(value.as_bytes());
        self
    }

    pub(crate) fn list(&mut self, values: &[String]) -> &mut Self {
        self.u32(u32::try_from(values.len()).unwrap_or(u32::MAX));
        for value in values {
            self.str(value);
        }
        self
    }

    pub(crate) fn finish(&mut self) -> Vec<u8> {
        if cfg!(feature = "next") {
            // As a later version may append them.
            self.u64(u64::MAX).str("of a later version");
        }
        std::mem::take(&mut self.0)
    }
}

/// Reads fields; past the end of the packet every field is zero or empty, since an older peer
/// did not write it.
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The record's kind and a reader of its fields.
    pub(crate) fn open(packet: &'a [u8]) -> Result<(u8, Self), DecodeError> {
        match packet {
            [_version, kind, fields @ ..] => Ok((*kind, Self(fields))),
            _ => Err(DecodeError::Short),
        }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        if self.0.is_empty() { Ok([0; N]) } else { self.exact() }
    }

    /// Bytes that every version writes, so that missing ones are an error.
    pub(crate) fn exact<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (field, rest) = self.0.split_first_chunk::<N>().ok_or(DecodeError::Length)?;
        self.0 = rest;
        Ok(*field)
    }

    pub(crate) fn bool(&mut self) -> Result<bool, DecodeError> {
        Ok(self.u8()? != 0)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.take::<1>()?[0])
    }

    pub(crate) fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_le_bytes(self.take()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.take()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.take()?))
    }

    pub(crate) fn str(&mut self) -> Result<String, DecodeError> {
        let length = usize::try_from(self.u32()?).map_err(|_| DecodeError::Length)?;
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(DecodeError::Length)?;
        self.0 = rest;
        String::from_utf8(bytes.to_vec()).map_err(|_| DecodeError::Utf8)
    }

    pub(crate) fn list(&mut self) -> Result<Vec<String>, DecodeError> {
        let length = self.u32()?;
        // The length may be wrong: nothing is allocated before the bytes are there.
        let mut values = Vec::new();
        for _ in 0..length {
            if self.0.is_empty() {
                return Err(DecodeError::Length);
            }
            values.push(self.str()?);
        }
        Ok(values)
    }
}
