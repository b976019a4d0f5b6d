//! Files with holes: GNU's old format, and its formats 0.0, 0.1 and 1.0 in PAX records, of which the crate `tar`
//! reads the first only, and writes zeros into the holes.

use std::io::BufRead;

use tar::{GnuExtSparseHeader, GnuSparseHeader, Header};

use super::{
    Archive, ArchiveError,
    ArchiveError::Malformed,
    BLOCK, number,
    pax::{Records, decimal},
};

/// More pieces than this has no file that a layer is made of.
const MOST_PIECES: usize = 1 << 17;

/// A file with holes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sparse {
    /// In the records, as the header has another one.
    pub(super) name: Option<Vec<u8>>,
    /// Offset and length of each piece of the data.
    pub(crate) pieces: Vec<[u64; 2]>,
    /// How long the file is, with its holes.
    pub(crate) size: u64,
}

/// The holes of the file that the archive has come to.
pub(super) fn of<R: BufRead>(
    archive: &mut Archive<R>,
    header: &Header,
    records: &Records,
) -> Result<Option<Sparse>, ArchiveError> {
    let sparse = if header.as_old().linkflag[0] == b'S' {
        old(archive, header)?
    } else if records.get("GNU.sparse.major").is_some() {
        if (records.number("GNU.sparse.major")?, records.number("GNU.sparse.minor")?)
            != (Some(1), Some(0))
        {
            return Err(Malformed("has a sparse file of a format that is not known"));
        }
        let pieces = in_front(archive)?;
        with_records(records, "GNU.sparse.realsize", pieces)?
    } else if let Some(map) = records.get("GNU.sparse.map") {
        let numbers = map.split(|byte| *byte == b',').map(decimal);
        with_records(records, "GNU.sparse.size", pairs(numbers)?)?
    } else if records.get("GNU.sparse.size").is_some() {
        let keys = ["GNU.sparse.offset", "GNU.sparse.numbytes"];
        let listed = records.iter().filter(|(key, _)| keys.contains(key));
        with_records(records, "GNU.sparse.size", pairs(listed.map(|(_, number)| decimal(number)))?)?
    } else {
        return Ok(None);
    };
    check(&sparse, archive.left)?;
    Ok(Some(sparse))
}

fn with_records(
    records: &Records,
    size: &str,
    pieces: Vec<[u64; 2]>,
) -> Result<Sparse, ArchiveError> {
    let size = records.number(size)?.ok_or(Malformed("has a sparse file without a size"))?;
    Ok(Sparse { name: records.text("GNU.sparse.name"), pieces, size })
}

fn pairs(
    numbers: impl Iterator<Item = Result<u64, ArchiveError>>,
) -> Result<Vec<[u64; 2]>, ArchiveError> {
    let numbers: Vec<u64> = numbers.collect::<Result<_, _>>()?;
    let (pairs, rest) = numbers.as_chunks();
    if !rest.is_empty() || pairs.len() > MOST_PIECES {
        return Err(Malformed("has a sparse file whose map cannot be read"));
    }
    Ok(pairs.to_vec())
}

/// The pieces are listed in the header, and in blocks between that and the data.
fn old<R: BufRead>(archive: &mut Archive<R>, header: &Header) -> Result<Sparse, ArchiveError> {
    let fields = header.as_gnu().ok_or(Malformed("has a sparse file that is not GNU's"))?;
    let mut pieces = Vec::new();
    add(&mut pieces, &fields.sparse)?;
    let mut goes_on = fields.isextended[0] != 0;
    while goes_on {
        let block = archive.block()?.ok_or(Malformed("ends in the map of a sparse file"))?;
        let mut more = GnuExtSparseHeader::new();
        more.as_mut_bytes().copy_from_slice(&block);
        add(&mut pieces, &more.sparse)?;
        if pieces.len() > MOST_PIECES {
            return Err(Malformed("has a sparse file of too many pieces"));
        }
        goes_on = more.isextended[0] != 0;
    }
    Ok(Sparse { name: None, pieces, size: unsigned(&fields.realsize)? })
}

fn add(pieces: &mut Vec<[u64; 2]>, fields: &[GnuSparseHeader]) -> Result<(), ArchiveError> {
    for field in fields {
        let (offset, length) = (unsigned(&field.offset)?, unsigned(&field.numbytes)?);
        if length > 0 || offset > 0 {
            pieces.push([offset, length]);
        }
    }
    Ok(())
}

/// The pieces are listed in front of the data: their count, then offset and length of each, a line each, and zeros
/// up to the end of a block.
fn in_front<R: BufRead>(archive: &mut Archive<R>) -> Result<Vec<[u64; 2]>, ArchiveError> {
    let mut taken = 0_usize;
    let mut line = |archive: &mut Archive<R>| -> Result<u64, ArchiveError> {
        let mut digits = Vec::new();
        loop {
            let data = archive.data()?;
            let Some(&byte) = data.first() else {
                return Err(Malformed("ends in the map of a sparse file"));
            };
            archive.consume(1);
            taken += 1;
            match byte {
                b'\n' => return decimal(&digits),
                _ if digits.len() > 20 => {
                    return Err(Malformed("has a sparse file whose map cannot be read"));
                }
                digit => digits.push(digit),
            }
        }
    };
    let count = usize::try_from(line(archive)?).ok().filter(|count| *count <= MOST_PIECES);
    let count = count.ok_or(Malformed("has a sparse file of too many pieces"))?;
    let pieces = (0..count).map(|_| Ok([line(archive)?, line(archive)?]));
    let pieces = pieces.collect::<Result<Vec<_>, ArchiveError>>()?;
    let mut zeros = (BLOCK - taken % BLOCK) % BLOCK;
    while zeros > 0 {
        let there = archive.data()?.len().min(zeros);
        if there == 0 {
            return Err(Malformed("ends in the map of a sparse file"));
        }
        archive.consume(there);
        zeros -= there;
    }
    Ok(pieces)
}

/// That pieces follow each other within the file, and are as long as the data.
fn check(sparse: &Sparse, data: u64) -> Result<(), ArchiveError> {
    let (mut end, mut sum) = (0, 0_u64);
    for &[offset, length] in &sparse.pieces {
        let next = offset.checked_add(length).filter(|next| offset >= end && *next <= sparse.size);
        end = next.ok_or(Malformed("has a sparse file whose pieces are in disorder"))?;
        sum += length;
    }
    if sum != data {
        return Err(Malformed("has a sparse file with more or less data than its map says"));
    }
    Ok(())
}

fn unsigned(field: &[u8]) -> Result<u64, ArchiveError> {
    u64::try_from(number(field)?).map_err(|_| Malformed("has a negative size"))
}
