//! Removes what nothing refers to any more.

use gantry_failpoints::{Point, reach};
use gantry_store::{Collection, Node, Removed};

use crate::{SnapshotError, Snapshots};

impl Snapshots {
    /// Removes a piece of a collection: the records first, in one step, and then the directories, which are in the
    /// trash when this returns. Tells what was removed.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn remove_piece(
        &self,
        collection: &mut Collection,
        nodes: Vec<Node>,
    ) -> Result<Vec<Removed>, SnapshotError> {
        let removed = collection.remove(nodes).await?;
        reach(Point::ServerPieceForgotten);
        for one in &removed {
            let Removed::Snapshot { snapshotter, directory, .. } = one else { continue };
            let found = self.all().into_iter().find(|known| known.name() == snapshotter);
            if let Some(found) = found {
                found.set_aside(*directory).await;
            }
        }
        Ok(removed)
    }

    /// Removes what is in the trash.
    pub async fn empty(&self) {
        for snapshotter in self.all() {
            snapshotter.empty_now().await;
        }
    }
}
