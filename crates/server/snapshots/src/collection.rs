//! Removes what nothing refers to any more.

use gantry_store::Removed;

use crate::Snapshots;

impl Snapshots {
    /// Moves the directories of snapshots that were removed to the trash. Whether there were any.
    pub async fn set_aside(&self, removed: &[Removed]) -> bool {
        let mut is_any = false;
        for known in self.all() {
            let directory = |one: &_| match one {
                Removed::Snapshot { snapshotter, directory, .. } if snapshotter == known.name() => {
                    Some(*directory)
                }
                _ => None,
            };
            let directories: Vec<_> = removed.iter().filter_map(directory).collect();
            if !directories.is_empty() {
                known.set_aside(directories).await;
                is_any = true;
            }
        }
        is_any
    }

    /// Removes what is in the trash.
    pub async fn empty(&self) {
        for snapshotter in self.all() {
            snapshotter.empty_now().await;
        }
    }
}
