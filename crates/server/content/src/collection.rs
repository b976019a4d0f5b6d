//! Removes the files of what nothing refers to any more.

use std::{collections::VecDeque, fs::File, path::PathBuf, time::Duration};

use gantry_domain::Namespace;
use gantry_failpoints::{Point, reach};
use gantry_store::{Collection, Digest, Node, NodeKind, Removed, StoreError};
use tokio::time::sleep;

use crate::{
    Content, ContentError,
    change::Change,
    layout,
    locks::{Held, Locked},
};

/// How many files are removed at a time. A write of a blob can wait for their names, and a server that stops for their room.
const AT_ONCE: usize = 32;

/// When to ask a store again that had too much to do. What waits for it is done in less.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(10);

/// What was removed in one step, and has its files still.
#[must_use = "its files are removed by a call"]
pub struct Piece {
    content: Content,
    removed: Vec<Removed>,
    change: Change,
    /// Nobody begins these writes again before their files are removed.
    held: Vec<Held>,
}

impl Content {
    /// Removes the records of a piece of a collection, of all kinds in one step. A write that is open stays.
    ///
    /// # Errors
    /// If the store fails. The collection cannot be continued then.
    pub async fn remove_records(
        &self,
        collection: &mut Collection,
        nodes: Vec<Node>,
    ) -> Result<Piece, ContentError> {
        let change = self.0.order.begin().await?;
        let (nodes, held) = self.hold(nodes);
        let removed = collection.remove(nodes).await;
        reach(Point::ServerPieceForgotten);
        match removed {
            Ok(removed) => Ok(Piece { content: self.clone(), removed, change, held }),
            Err(error) => {
                if matches!(error, StoreError::Busy | StoreError::Closed) {
                    change.done();
                }
                Err(error.into())
            }
        }
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
}

impl Piece {
    /// What was removed, in the order in which it was.
    #[must_use]
    pub fn removed(&self) -> &[Removed] {
        &self.removed
    }

    /// Removes the files of writes and blobs, of which only those that are being removed are locked; directories of
    /// snapshots are not touched. While the content is being closed, files of blobs are left to the next server.
    ///
    /// # Errors
    /// If a file fails, or the store. All other files are removed; the next server tries again.
    pub async fn remove_files(self) -> Result<(), ContentError> {
        let Self { content, removed, change, held } = self;
        let (mut digests, mut ingests) = (VecDeque::new(), Vec::new());
        for one in removed {
            match one {
                Removed::Blob { digest, is_last: true, .. } => digests.push_back(digest),
                Removed::Ingest { namespace, reference } => {
                    ingests.push(content.0.layout.ingest(&namespace, &reference));
                }
                _ => {}
            }
        }
        let mut writes = Ok(());
        if !ingests.is_empty() {
            writes = content.0.files.run(move |_| remove_all(&ingests)).await;
        }
        drop(held);
        let blobs = content.remove_blobs(&mut digests).await;
        match (&writes, digests.is_empty() && blobs.is_ok()) {
            (Ok(()), true) => change.done(),
            (Ok(()), false) => change.leaves_strays(),
            // Files of writes are looked for after an end of which nobody knows how it has left them.
            (Err(_), _) => drop(change),
        }
        writes.and(blobs)
    }
}

impl Content {
    /// Removes files of blobs, unless somebody has written them again. Leaves those that it has not come to.
    async fn remove_blobs(&self, digests: &mut VecDeque<Digest>) -> Result<(), ContentError> {
        let mut result = Ok(());
        while !digests.is_empty() && !self.0.order.is_closing() {
            let some = digests.drain(..AT_ONCE.min(digests.len())).collect();
            let Locked { names, busy, guards } = self.0.blobs.lock_free(some).await;
            // They come last: who has them may be at work for long.
            digests.extend(busy);
            let unknown = match self.0.store.unknown_blobs(names.clone()).await {
                Err(StoreError::Busy) => {
                    drop(guards);
                    digests.extend(names);
                    sleep(ASK_AGAIN_AFTER).await;
                    continue;
                }
                unknown => unknown?,
            };
            let paths: Vec<_> = unknown.iter().map(|digest| self.0.layout.blob(digest)).collect();
            let remove = move |_: &_| {
                // Open files keep their room.
                let open: Vec<_> = paths.iter().filter_map(|path| File::open(path).ok()).collect();
                (remove_all(&paths), open)
            };
            let (removed, open) = self.0.files.run(remove).await;
            drop(guards);
            self.0.files.run(move |_| drop(open)).await;
            reach(Point::ServerBlobFilesRemoved);
            result = result.and(removed);
        }
        result
    }
}

/// Removes all that can be removed.
fn remove_all(paths: &[PathBuf]) -> Result<(), ContentError> {
    paths.iter().map(|path| layout::remove(path)).fold(Ok(()), Result::and)
}
