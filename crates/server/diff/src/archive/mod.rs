//! Reads a tar archive, entry by entry.

mod pax;
mod sparse;

use std::io::{self, BufRead};

use pax::Records;
pub(crate) use sparse::Sparse;
use tar::Header;

/// What an archive consists of.
const BLOCK: usize = 512;

/// The longest name, link or list of PAX records that is read; the same as Go's.
const LONGEST: u64 = 1 << 20;

/// PAX records with the extended attributes of a file begin so.
pub(crate) const XATTR: &str = "SCHILY.xattr.";

/// Seconds and nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Time {
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: u32,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntryKind {
    File,
    Directory,
    Symlink,
    HardLink,
    Character,
    Block,
    Fifo,
    /// Records for all entries that follow, which concern no layer.
    Global,
    /// Of a type that no layer has.
    Unknown(u8),
}

/// What an archive says of a file. Its data come next.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: Vec<u8>,
    pub(crate) kind: EntryKind,
    pub(crate) link: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Time,
    pub(crate) atime: Time,
    /// Major and minor number.
    pub(crate) device: [u32; 2],
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the data belong, if there are holes between them.
    pub(crate) sparse: Option<Sparse>,
}

/// What is wrong with an archive.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It cannot be read; an unexpected end is the archive's own fault.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// What it has, in words that follow "the archive".
    #[error("{0}")]
    Malformed(&'static str),
}

use ArchiveError::Malformed;

/// An archive that is read.
pub(crate) struct Archive<R> {
    input: R,
    /// Bytes of the entry's data that were not read.
    left: u64,
    /// Zeros after them.
    padding: u64,
}

impl<R: BufRead> Archive<R> {
    pub(crate) fn new(input: R) -> Self {
        Self { input, left: 0, padding: 0 }
    }

    /// The next entry, or the end. What was not read of the one before is skipped.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, ArchiveError> {
        let (mut records, mut long_name, mut long_link) = (Records::default(), None, None);
        let mut is_first = true;
        loop {
            self.skip(self.left + self.padding)?;
            (self.left, self.padding) = (0, 0);
            let Some(header) = self.header()? else {
                // What comes before an entry needs one.
                let end =
                    if is_first { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
                return end.map_err(ArchiveError::Io);
            };
            is_first = false;
            let size = number(&header.as_old().size)?;
            self.expect(u64::try_from(size).map_err(|_| Malformed("has a negative size"))?)?;
            match header.as_old().linkflag[0] {
                b'x' => records = Records::parse(&self.whole()?)?,
                b'L' => long_name = Some(until_nul(self.whole()?)),
                b'K' => long_link = Some(until_nul(self.whole()?)),
                _ => return self.entry(&header, &records, long_name, long_link).map(Some),
            }
        }
    }

    /// How many bytes of the entry's data were not read.
    pub(crate) fn left(&self) -> u64 {
        self.left
    }

    /// Some of the entry's data, which [`Archive::consume`] takes; empty at their end.
    pub(crate) fn data(&mut self) -> Result<&[u8], ArchiveError> {
        if self.left == 0 {
            return Ok(&[]);
        }
        let data = self.input.fill_buf()?;
        if data.is_empty() {
            return Err(ArchiveError::Io(io::ErrorKind::UnexpectedEof.into()));
        }
        let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(data.len());
        Ok(&data[..length])
    }

    pub(crate) fn consume(&mut self, length: usize) {
        self.left -= length as u64;
        self.input.consume(length);
    }

    /// Reads what comes behind the archive's end, which is part of its digest.
    pub(crate) fn finish(&mut self) -> Result<(), ArchiveError> {
        loop {
            let length = self.input.fill_buf()?.len();
            if length == 0 {
                return Ok(());
            }
            self.input.consume(length);
        }
    }

    fn entry(
        &mut self,
        header: &Header,
        records: &Records,
        long_name: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
    ) -> Result<Entry, ArchiveError> {
        let flag = header.as_old().linkflag[0];
        let fields = header.as_old();
        if let Some(size) = records.number("size")? {
            self.expect(size)?;
        }
        let name = records.text("path").or(long_name).unwrap_or_else(|| name(header));
        let link =
            records.text("linkpath").or(long_link).unwrap_or_else(|| cut(&fields.linkname).into());
        let kind = kind(flag, &name);
        let has_data = matches!(kind, EntryKind::File | EntryKind::Unknown(_) | EntryKind::Global);
        if !has_data {
            // A hard link may have a size, as cpio has it, and no data.
            self.expect(0)?;
        }
        let ids = |record: &str, field: &[u8]| -> Result<u32, ArchiveError> {
            let id = match records.number(record)? {
                Some(id) => Some(id),
                None => u64::try_from(number(field)?).ok(),
            };
            id.and_then(|id| u32::try_from(id).ok()).ok_or(Malformed("has an owner out of range"))
        };
        let device = match (kind, header.as_ustar(), header.as_gnu()) {
            (EntryKind::Character | EntryKind::Block, Some(fields), _) => {
                [small(&fields.dev_major)?, small(&fields.dev_minor)?]
            }
            (EntryKind::Character | EntryKind::Block, _, Some(fields)) => {
                [small(&fields.dev_major)?, small(&fields.dev_minor)?]
            }
            _ => [0, 0],
        };
        let in_header = Time { seconds: number(&fields.mtime)?, nanoseconds: 0 };
        let mtime = records.time("mtime")?.unwrap_or(in_header);
        let mut entry = Entry {
            kind,
            link,
            mode: small(&fields.mode)? & 0o7777,
            uid: ids("uid", &fields.uid)?,
            gid: ids("gid", &fields.gid)?,
            mtime,
            atime: records.time("atime")?.unwrap_or(mtime),
            device,
            xattrs: records.xattrs(),
            sparse: None,
            name,
        };
        if kind == EntryKind::File {
            entry.sparse = sparse::of(self, header, records)?;
            if let Some(name) = entry.sparse.as_mut().and_then(|sparse| sparse.name.take()) {
                entry.name = name;
            }
        }
        if entry.name.contains(&0) || entry.link.contains(&0) {
            return Err(Malformed("has a name with a NUL"));
        }
        Ok(entry)
    }

    /// The next header; `None` at the end.
    fn header(&mut self) -> Result<Option<Header>, ArchiveError> {
        let Some(block) = self.block()? else { return Ok(None) };
        if is_zero(&block) {
            return match self.block()? {
                Some(next) if !is_zero(&next) => Err(Malformed("goes on after its end")),
                _ => Ok(None),
            };
        }
        let header = Header::from_byte_slice(&block);
        let sum = |signed: bool| {
            let bytes = block[..148].iter().chain(&[b' '; 8]).chain(&block[156..]);
            bytes.fold(0_i64, |sum, &byte| match signed {
                true => sum + i64::from(byte.cast_signed()),
                false => sum + i64::from(byte),
            })
        };
        let wanted = number(&header.as_old().cksum)?;
        if wanted != sum(false) && wanted != sum(true) {
            return Err(Malformed("has a header with a wrong checksum"));
        }
        Ok(Some(header.clone()))
    }

    /// The next block; `None` at the end of the input.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, ArchiveError> {
        if self.input.fill_buf()?.is_empty() {
            return Ok(None);
        }
        let mut block = [0; BLOCK];
        self.input.read_exact(&mut block)?;
        Ok(Some(block))
    }

    /// The entry has this much data.
    fn expect(&mut self, size: u64) -> Result<(), ArchiveError> {
        self.left = size;
        let over = size % BLOCK as u64;
        self.padding = if over == 0 { 0 } else { BLOCK as u64 - over };
        if size.checked_add(self.padding).is_none() {
            return Err(Malformed("has an entry that is too large"));
        }
        Ok(())
    }

    /// All of the data, of an entry that is about another one.
    fn whole(&mut self) -> Result<Vec<u8>, ArchiveError> {
        if self.left > LONGEST {
            return Err(Malformed("has a name or a list of records that is too long"));
        }
        let mut data = vec![0; usize::try_from(self.left).unwrap_or_default()];
        self.input.read_exact(&mut data)?;
        self.left = 0;
        Ok(data)
    }

    fn skip(&mut self, mut length: u64) -> Result<(), ArchiveError> {
        while length > 0 {
            let there = self.input.fill_buf()?.len();
            if there == 0 {
                return Err(ArchiveError::Io(io::ErrorKind::UnexpectedEof.into()));
            }
            let part = usize::try_from(length).unwrap_or(usize::MAX).min(there);
            self.input.consume(part);
            length -= part as u64;
        }
        Ok(())
    }
}

fn kind(flag: u8, name: &[u8]) -> EntryKind {
    match flag {
        // Of old archives: a directory is a file with a slash.
        0 | b'0' if name.ends_with(b"/") => EntryKind::Directory,
        0 | b'0' | b'7' | b'S' => EntryKind::File,
        b'1' => EntryKind::HardLink,
        b'2' => EntryKind::Symlink,
        b'3' => EntryKind::Character,
        b'4' => EntryKind::Block,
        b'5' => EntryKind::Directory,
        b'6' => EntryKind::Fifo,
        b'g' => EntryKind::Global,
        other => EntryKind::Unknown(other),
    }
}

/// The name in a header, which ustar has in two fields.
fn name(header: &Header) -> Vec<u8> {
    let name = cut(&header.as_old().name);
    match header.as_ustar().map(|fields| cut(&fields.prefix)) {
        Some(prefix) if !prefix.is_empty() => [prefix, name].join(&b'/'),
        _ => name.to_vec(),
    }
}

fn cut(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn until_nul(mut text: Vec<u8>) -> Vec<u8> {
    text.truncate(cut(&text).len());
    text
}

fn is_zero(block: &[u8]) -> bool {
    block.iter().all(|byte| *byte == 0)
}

/// A field of a header: octal digits between blanks and NULs, or, with the first bit set, a binary number of two's complement.
/// Nothing is zero.
fn number(field: &[u8]) -> Result<i64, ArchiveError> {
    let malformed = Malformed("has a number that cannot be read");
    if field.first().is_some_and(|byte| byte & 0x80 != 0) {
        let first = (field[0] & 0x7f) as i8;
        // The second bit is the sign.
        let mut value = i128::from(if first & 0x40 != 0 { first | i8::MIN } else { first });
        for byte in &field[1..] {
            value = value.checked_mul(256).ok_or(Malformed("has a number out of range"))?;
            value += i128::from(*byte);
        }
        return i64::try_from(value).map_err(|_| malformed);
    }
    let digits = field.split(|byte| matches!(byte, 0 | b' ')).find(|digits| !digits.is_empty());
    let Some(digits) = digits else { return Ok(0) };
    let text = std::str::from_utf8(digits).ok();
    text.and_then(|text| i64::from_str_radix(text, 8).ok()).ok_or(malformed)
}

fn small(field: &[u8]) -> Result<u32, ArchiveError> {
    u32::try_from(number(field)?).map_err(|_| Malformed("has a number out of range"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_binary() {
        for (field, value) in [
            (&b"0000644\0"[..], 0o644),
            (b"   644 \0", 0o644),
            (b"\0\0\0\0\0\0\0\0", 0),
            (b"\x80\0\0\0\0\0\0\x01\0\0\0\0", 1 << 32),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe", -2),
        ] {
            assert_eq!(number(field).unwrap(), value, "{field:?}");
        }
        assert!(number(b"0000648\0").is_err());
        assert!(number(&[0xbf; 12]).is_err());
    }

    #[test]
    fn an_archive_without_entries_ends() {
        for zeros in [0, 512, 1024, 10240] {
            assert!(Archive::new(&*vec![0; zeros]).next().unwrap().is_none());
        }
        assert!(Archive::new(&[0; 100][..]).next().is_err());
        assert!(Archive::new(&[1; 512][..]).next().is_err());
    }
}
