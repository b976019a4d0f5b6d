//! What an earlier server has left in the middle of something.

use std::{collections::HashSet, fs, io};

use crate::{SnapshotError, layout::Layout};

/// Moves directories without a record to the trash; gives the greatest number that a directory has.
pub(crate) fn set_strays_aside(layout: &Layout, known: &[u64]) -> Result<u64, SnapshotError> {
    let mut missing: HashSet<u64> = known.iter().copied().collect();
    let (mut greatest, mut strays) = (0, 0_usize);
    for (dir, is_trash) in [(layout.all(), false), (layout.trash(), true)] {
        let failed = || SnapshotError::io::<io::Error>("list", &dir);
        for entry in fs::read_dir(&dir).map_err(failed())? {
            let name = entry.map_err(failed())?.file_name();
            // What has no number is not the server's.
            let Some(number) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
            greatest = greatest.max(number);
            if !is_trash && !missing.remove(&number) {
                layout.set_aside(number)?;
                strays += 1;
            }
        }
    }
    if strays > 0 {
        tracing::info!(strays, "directories of snapshots that an earlier server had not finished");
    }
    if !missing.is_empty() {
        let (count, root) = (missing.len(), layout.root().display());
        tracing::error!(count, %root, "directories of snapshots are missing");
    }
    Ok(greatest)
}
