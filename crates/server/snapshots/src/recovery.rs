//! What calls that were not done to their end have left, of this server or an earlier one.

use std::{fs, io, path::Path};

use crate::{SnapshotError, layout::Layout};

/// The numbers of all directories of snapshots that there are.
pub(crate) fn directories(layout: &Layout) -> Result<Vec<u64>, SnapshotError> {
    numbers(&layout.all())
}

/// The greatest number that a directory has, be it removed or not.
pub(crate) fn greatest(layout: &Layout) -> Result<u64, SnapshotError> {
    let all = [numbers(&layout.all())?, numbers(&layout.trash())?];
    Ok(all.into_iter().flatten().max().unwrap_or_default())
}

/// What has no number is not the server's.
fn numbers(dir: &Path) -> Result<Vec<u64>, SnapshotError> {
    let failed = || SnapshotError::io::<io::Error>("list", dir);
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed())? {
        let name = entry.map_err(failed())?.file_name();
        numbers.extend(name.to_str().and_then(|name| name.parse::<u64>().ok()));
    }
    Ok(numbers)
}

/// Moves directories to the trash that have no record.
pub(crate) fn set_aside(layout: &Layout, strays: &[u64]) -> Result<(), SnapshotError> {
    for stray in strays {
        layout.set_aside(*stray)?;
    }
    if !strays.is_empty() {
        let (count, root) = (strays.len(), layout.root().display());
        tracing::info!(count, %root, "directories of snapshots that were not finished are removed");
    }
    Ok(())
}
