//! What a layer may have at most: a few kilobytes can unpack to more than any disk has.

use crate::{DiffError, archive::Entry, error::shown};

/// Bounds of one layer. `None` is none but the disk's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bounds {
    /// Bytes: of the archive without compression, and of its files with their holes.
    pub bytes: Option<u64>,
    /// Entries.
    pub entries: Option<u64>,
}

/// How much of its bounds a layer has used up.
pub(crate) struct Budget {
    bounds: Bounds,
    bytes: u64,
    entries: u64,
}

impl Bounds {
    pub(crate) fn budget(self) -> Budget {
        Budget { bounds: self, bytes: 0, entries: 0 }
    }
}

impl Budget {
    /// Counts an entry with the size that it claims, before anything is made of it.
    pub(crate) fn take(&mut self, entry: &Entry, data: u64) -> Result<(), DiffError> {
        let size = entry.sparse.as_ref().map_or(data, |sparse| sparse.size);
        self.bytes = self.bytes.saturating_add(size);
        self.entries += 1;
        let Bounds { bytes, entries } = self.bounds;
        if let Some(most) = entries.filter(|most| self.entries > *most) {
            return Err(DiffError::TooMany { name: shown(&entry.name), most });
        }
        if let Some(most) = bytes.filter(|most| self.bytes > *most) {
            return Err(DiffError::TooLarge { name: shown(&entry.name), most });
        }
        Ok(())
    }
}
