//! Removes the files of what nothing refers to any more.

use std::fs::File;

use gantry_domain::Namespace;
use gantry_failpoints::{Point, reach};
use gantry_store::{Collection, Digest, Node, NodeKind, Removed, StoreError};

use crate::{Content, ContentError, layout, locks::Held};

/// How many files are removed at a time. A write of a blob can wait for their names, and a server that stops for their room.
const AT_ONCE: usize = 32;

impl Content {
    /// Removes a piece of a collection: the records first, of all kinds in one step, and then the files of blobs and
    /// writes, of which only those that are being removed are locked. A write that is open stays. Tells what was removed;
    /// directories of snapshots are still there. While the content is being closed, files are left to the next server.
    ///
    /// # Errors
    /// If the store or a file fails. The collection cannot be continued then.
    pub async fn remove_piece(
        &self,
        collection: &mut Collection,
        nodes: Vec<Node>,
    ) -> Result<Vec<Removed>, ContentError> {
        let change = self.0.order.begin().await?;
        // Nobody begins these writes again before their files are removed.
        let (nodes, _held) = self.hold(nodes);
        let removed = collection.remove(nodes).await;
        reach(Point::ServerPieceForgotten);
        let removed = match removed {
            Ok(removed) => removed,
            Err(error) => {
                if matches!(error, StoreError::Busy | StoreError::Closed) {
                    change.done();
                }
                return Err(error.into());
            }
        };
        let (mut digests, mut ingests) = (Vec::new(), Vec::new());
        for one in &removed {
            match one {
                Removed::Blob { digest, is_last: true, .. } => digests.push(digest.clone()),
                Removed::Ingest { namespace, reference } => {
                    ingests.push(self.0.layout.ingest(namespace, reference));
                }
                _ => {}
            }
        }
        if !ingests.is_empty() {
            let files = &self.0.files;
            files.run(move |_| ingests.iter().try_for_each(|path| layout::remove(path))).await?;
        }
        for some in digests.chunks(AT_ONCE) {
            if self.0.order.is_closing() {
                change.leaves_strays();
                return Ok(removed);
            }
            self.remove_files(some).await?;
            reach(Point::ServerBlobFilesRemoved);
        }
        change.done();
        Ok(removed)
    }

    /// Holds the writes among `nodes`. Those that somebody has are none of those that can be removed.
    fn hold(&self, mut nodes: Vec<Node>) -> (Vec<Node>, Vec<Held>) {
        let mut all_held = Vec::new();
        nodes.retain(|node| {
            if node.kind != NodeKind::Ingest {
                return true;
            }
            let Some(namespace) = Namespace::from_record(&node.namespace) else { return false };
            let held = self.0.references.hold(&namespace, &node.key).ok();
            let is_held = held.is_some();
            all_held.extend(held);
            is_held
        });
        (nodes, all_held)
    }

    /// Removes files of blobs, unless somebody has written them again.
    async fn remove_files(&self, digests: &[Digest]) -> Result<(), ContentError> {
        let nobody_writes_them = self.0.blobs.lock_all(digests).await;
        let unknown = self.0.store.unknown_blobs(digests.to_vec()).await?;
        let paths: Vec<_> = unknown.iter().map(|digest| self.0.layout.blob(digest)).collect();
        let remove = move |_: &_| {
            // Open files keep their room.
            let open: Vec<_> = paths.iter().filter_map(|path| File::open(path).ok()).collect();
            paths.iter().try_for_each(|path| layout::remove(path)).map(|()| open)
        };
        let open = self.0.files.run(remove).await?;
        drop(nobody_writes_them);
        self.0.files.run(move |_| drop(open)).await;
        Ok(())
    }
}
