//! The files of an archive that is no layer: an archive of images, for one.

use std::io::{self, BufReader, Read};

use crate::{
    ArchiveError, Packing,
    archive::{Archive, EntryKind},
};

/// How much is read at a time.
const CHUNK: usize = 256 << 10;

/// An archive, file by file.
pub struct Files<'a>(Archive<BufReader<Box<dyn Read + Send + 'a>>>);

/// What an archive has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A file, whose data come next.
    File {
        /// Its name, as the archive has it.
        name: Vec<u8>,
        /// How many bytes the archive says that it has.
        size: u64,
    },
    /// A symbolic link.
    Symlink {
        /// Its name, as the archive has it.
        name: Vec<u8>,
        /// Where it leads, likewise.
        target: Vec<u8>,
    },
}

impl<'a> Files<'a> {
    /// # Errors
    /// If its first bytes cannot be read.
    pub fn open(archive: impl Read + Send + 'a, packing: Packing) -> io::Result<Self> {
        let archive = packing.open(BufReader::with_capacity(CHUNK, archive))?;
        Ok(Self(Archive::new(BufReader::with_capacity(CHUNK, archive))))
    }

    /// The next file or link; `None` at the end. Other entries, and data that were not read, are passed over.
    ///
    /// # Errors
    /// If the archive is malformed, or cannot be read.
    #[allow(clippy::should_implement_trait, reason = "data are read meanwhile")]
    pub fn next(&mut self) -> Result<Option<Found>, ArchiveError> {
        loop {
            let Some(entry) = self.0.next()? else { return Ok(None) };
            let (name, size) = (entry.name, self.0.left());
            match entry.kind {
                EntryKind::File if entry.sparse.is_some() => {
                    return Err(ArchiveError::Malformed("has a file with holes"));
                }
                EntryKind::File => return Ok(Some(Found::File { name, size })),
                EntryKind::Symlink => {
                    return Ok(Some(Found::Symlink { name, target: entry.link }));
                }
                _ => {}
            }
        }
    }

    /// Some of the file's data, which [`Files::consume`] takes; empty at their end.
    ///
    /// # Errors
    /// If the archive ends before, or cannot be read.
    pub fn data(&mut self) -> Result<&[u8], ArchiveError> {
        self.0.data()
    }

    /// Takes so many of the bytes that [`Files::data`] has shown.
    pub fn consume(&mut self, length: usize) {
        self.0.consume(length);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::write::GzEncoder;
    use tar::{Builder, EntryType, Header};

    use super::*;

    fn archive() -> Vec<u8> {
        let mut archive = Builder::new(Vec::new());
        let mut add = |kind: EntryType, name: &str, data: &[u8]| {
            let mut header = Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(data.len() as u64);
            match kind {
                EntryType::Symlink => archive.append_link(&mut header, name, "../target"),
                _ => archive.append_data(&mut header, name, data),
            }
            .unwrap();
        };
        add(EntryType::Directory, "d/", b"");
        add(EntryType::Regular, "d/a", b"data");
        add(EntryType::Symlink, "d/link", b"");
        add(EntryType::Regular, &format!("{}c", "long/".repeat(60)), b"more");
        add(EntryType::Regular, "b", &vec![7; 1 << 20]);
        archive.into_inner().unwrap()
    }

    fn names(archive: &[u8], packing: Packing) -> Result<Vec<String>, ArchiveError> {
        let mut files = Files::open(archive, packing)?;
        let mut names = Vec::new();
        while let Some(found) = files.next()? {
            let (Found::File { name, .. } | Found::Symlink { name, .. }) = found;
            names.push(String::from_utf8(name).unwrap());
            // Of every second one the data are read.
            while names.len() % 2 == 0 && !files.data()?.is_empty() {
                files.consume(1);
            }
        }
        Ok(names)
    }

    #[test]
    fn files_and_links_are_found_in_whatever_compression() {
        let plain = archive();
        let mut gzip = GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&plain).unwrap();
        let gzip = gzip.finish().unwrap();
        let zstd = zstd::encode_all(&*plain, 1).unwrap();
        let long = format!("{}c", "long/".repeat(60));
        let wanted = ["d/a", "d/link", &long, "b"];
        assert_eq!(names(&plain, Packing::Plain).unwrap(), wanted);
        for packed in [&plain, &gzip, &zstd] {
            assert_eq!(names(packed, Packing::Detect).unwrap(), wanted);
        }
        assert!(names(&gzip, Packing::Plain).is_err());
    }

    #[test]
    fn an_archive_that_ends_too_early_is_an_error() {
        let plain = archive();
        for length in [600, 1024, 3000, 1 << 20] {
            let error = names(&plain[..length], Packing::Detect).unwrap_err();
            let ArchiveError::Io(error) = error else { panic!("{error}") };
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{length}");
        }
    }
}
