//! The bytes of an archive that is made.

use std::{collections::btree_map, io};

use gantry_content::{Content, Reader};
use gantry_domain::Namespace;
use gantry_store::Digest;
use tar::{Builder, EntryType, Header};

use super::{Entries, Entry};
use crate::ImageError;

/// What an archive consists of.
const BLOCK: u64 = 512;

/// Bytes of a longer name that the header has, for those who do not know the records before it.
const SHORT: usize = 99;

/// The bytes of an archive, piece by piece. It can be dropped at any time.
pub struct ArchiveReader {
    content: Content,
    namespace: Namespace,
    entries: btree_map::IntoIter<String, Entry>,
    state: State,
}

/// What comes next.
enum State {
    Entry,
    Document(Vec<u8>),
    Blob { reader: Reader, digest: Digest, size: u64, left: u64 },
    End,
}

impl ArchiveReader {
    pub(super) fn new(content: Content, namespace: Namespace, entries: Entries) -> Self {
        Self { content, namespace, entries: entries.into_iter(), state: State::Entry }
    }

    /// The next piece, at most 256 KiB and a block; `None` at the end.
    ///
    /// # Errors
    /// If a blob is missing by now, cannot be read, or has another size than what refers to it says.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, ImageError> {
        match std::mem::replace(&mut self.state, State::Entry) {
            State::Entry => self.header().await.map(Some),
            State::Document(mut document) => {
                document.resize(document.len() + padding(document.len() as u64), 0);
                Ok(Some(document))
            }
            State::Blob { mut reader, digest, size, left } => match reader.next().await? {
                Some(piece) => {
                    let left = left.saturating_sub(piece.len() as u64);
                    self.state = State::Blob { reader, digest, size, left };
                    Ok(Some(piece))
                }
                None if left == 0 => Ok(Some(vec![0; padding(size)])),
                None => Err(damaged(&digest)),
            },
            State::End => {
                self.state = State::End;
                Ok(None)
            }
        }
    }

    /// The header of the next entry, or what stands for the end.
    async fn header(&mut self) -> Result<Vec<u8>, ImageError> {
        let Some((name, entry)) = self.entries.next() else {
            self.state = State::End;
            return Ok(vec![0; 2 * usize::try_from(BLOCK).unwrap_or_default()]);
        };
        let (kind, mode, size) = match &entry {
            Entry::Directory => (EntryType::Directory, 0o755, 0),
            Entry::Document { mode, document } => {
                (EntryType::Regular, *mode, document.len() as u64)
            }
            Entry::Blob { size, .. } => (EntryType::Regular, 0o444, *size),
        };
        let header = header(&name, kind, mode, size)
            .map_err(|error| ImageError::Archive(format!("cannot have a file {name}: {error}")))?;
        match entry {
            Entry::Directory => {}
            Entry::Document { document, .. } => self.state = State::Document(document),
            Entry::Blob { digest, size } => {
                let found = self.content.store().blob(&self.namespace, &digest).await?.size;
                if found != size {
                    let problem = format!("has {found} bytes, and is referred to with {size}");
                    return Err(ImageError::Document { digest, problem });
                }
                let reader = self.content.read(&self.namespace, &digest, 0, None).await?;
                self.state = State::Blob { reader, digest, size, left: size };
            }
        }
        Ok(header)
    }
}

fn header(name: &str, kind: EntryType, mode: u32, size: u64) -> io::Result<Vec<u8>> {
    let mut records = Builder::new(Vec::new());
    let mut header = Header::new_ustar();
    // With digests of SHA-512 a name is longer than the header's field.
    if header.set_path(name).is_err() {
        records.append_pax_extensions([("path", name.as_bytes())])?;
        header.set_path(name.get(..SHORT).unwrap_or_default())?;
    }
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    let records = std::mem::take(records.get_mut());
    Ok([&records, &header.as_bytes()[..]].concat())
}

/// Zeros behind this many bytes, up to a whole block.
fn padding(size: u64) -> usize {
    usize::try_from(size.next_multiple_of(BLOCK) - size).unwrap_or_default()
}

fn damaged(digest: &Digest) -> ImageError {
    ImageError::Document { digest: digest.clone(), problem: "ends before its end".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_by_others() {
        for digits in [64, 128] {
            let name = format!("blobs/x/{}", "0".repeat(digits));
            // The second one is more than fits into a field of octal digits.
            for size in [0, 9 << 30] {
                let bytes = header(&name, EntryType::Regular, 0o444, size).unwrap();
                let mut archive = tar::Archive::new(&*bytes);
                let entry = archive.entries().unwrap().next().unwrap().unwrap();
                assert_eq!(entry.path().unwrap().to_str().unwrap(), name);
                assert_eq!((entry.size(), entry.header().mode().unwrap()), (size, 0o444));
            }
        }
        assert_eq!((padding(0), padding(1), padding(512)), (0, 511, 0));
    }
}
