//! Makes a layer, and content of it.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use gantry_api::containerd::types::Descriptor;
use gantry_content::{Content, ContentError, Writer, unique};
use gantry_diff::{Compression, DiffError, DiffOptions, Unpacked, diff_mounts};
use gantry_domain::{Mount, Namespace};
use gantry_images::label::UNCOMPRESSED;
use gantry_store::{Algorithm, Blob, Digest, Labels};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tonic::Status;

use super::{messages, worker};
use crate::services::containerd::status::{of_content, of_store, reported};

/// Bytes that are written to a file at a time, and how many such pieces wait.
const PIECE: usize = 256 << 10;
const PIECES: usize = 4;

/// A layer that is to be made.
pub(super) struct Layer {
    pub(super) content: Content,
    pub(super) namespace: Namespace,
    pub(super) lease: Option<String>,
    pub(super) media_type: String,
    /// Empty for a new one.
    pub(super) reference: String,
    pub(super) labels: Labels,
    pub(super) left: Vec<Mount>,
    pub(super) right: Vec<Mount>,
    pub(super) places: PathBuf,
    pub(super) options: DiffOptions,
}

impl Layer {
    /// Has to be done to its end, as writes of content have to.
    pub(super) async fn make(
        self,
        turn: Option<OwnedSemaphorePermit>,
    ) -> Result<Descriptor, Status> {
        let Self { content, namespace, lease, media_type, labels, .. } = &self;
        let is_new = self.reference.is_empty();
        let reference = if is_new { new_reference() } else { self.reference.clone() };
        let opened = content.writer(namespace, reference.clone(), 0, None, lease.clone()).await;
        let mut writer =
            opened.map_err(|error| reported("failed to open writer", &of_content(error)))?;
        let written = self.write(&mut writer, turn).await;
        let made = match written {
            Ok(made) => made,
            Err(status) => {
                drop(writer);
                // A reference of the caller's stays, as in containerd, for the caller to give up.
                if is_new {
                    let _ = content.abort(namespace, &reference).await;
                }
                return Err(status);
            }
        };
        let mut labels = labels.clone();
        if self.options.compression != Compression::None {
            let digest = Digest::new(Algorithm::Sha256, &made.sha256);
            labels.insert(UNCOMPRESSED.to_owned(), digest.to_string());
        }
        let digest = match writer.commit(0, None, labels.clone()).await {
            Ok(digest) | Err(ContentError::Exists(digest)) => digest,
            Err(error) => {
                if is_new {
                    let _ = content.abort(namespace, &reference).await;
                }
                return Err(reported("failed to commit", &of_content(error)));
            }
        };
        let blob = self.labelled(&digest, labels).await?;
        Ok(Descriptor {
            media_type: media_type.clone(),
            digest: digest.to_string(),
            size: messages::signed(blob.size),
            ..Descriptor::default()
        })
    }

    /// Writes the layer; returns what it is without compression.
    async fn write(
        &self,
        writer: &mut Writer,
        turn: Option<OwnedSemaphorePermit>,
    ) -> Result<Unpacked, Status> {
        if writer.offset() > 0 {
            writer.truncate().await.map_err(of_content)?;
        }
        let (pieces, mut incoming) = mpsc::channel(PIECES);
        let (left, right) = (self.left.clone(), self.right.clone());
        let (places, options) = (self.places.clone(), self.options.clone());
        let work = move || {
            let output = Pieces { pieces, piece: Vec::with_capacity(PIECE) };
            diff_mounts(&left, &right, &places, output, &options)
        };
        let receiving = async move {
            while let Some(piece) = incoming.recv().await {
                writer.write(piece).await?;
            }
            // After an error nothing more is received, and the work ends, too.
            Ok::<_, ContentError>(())
        };
        let (made, received) = tokio::join!(worker::run(turn, work), receiving);
        let what = match self.options.compression {
            Compression::None => "failed to write diff",
            _ => "failed to write compressed diff",
        };
        received.map_err(|error| reported(what, &of_content(error)))?;
        made.map_err(|error| match error {
            DiffError::Cancelled => messages::of_diff(&error),
            error => reported(what, &messages::of_diff(&error)),
        })
    }

    /// The blob, which has the label even if it was there before.
    async fn labelled(&self, digest: &Digest, mut labels: Labels) -> Result<Blob, Status> {
        let (store, namespace) = (self.content.store(), &self.namespace);
        let blob = store.blob(namespace, digest).await;
        let blob = blob
            .map_err(|error| reported("failed to get info from content store", &of_store(error)))?;
        if blob.labels.contains_key(UNCOMPRESSED) || !labels.contains_key(UNCOMPRESSED) {
            return Ok(blob);
        }
        labels.retain(|label, _| label == UNCOMPRESSED);
        let mask = vec![format!("labels.{UNCOMPRESSED}")];
        let updated = store.update_blob(namespace, digest, labels, mask).await;
        updated.map_err(|error| reported("error setting uncompressed label", &of_store(error)))
    }
}

/// Of a write that nobody has named.
fn new_reference() -> String {
    let (now, number) = unique();
    format!("{now}-layer-{number}")
}

/// What is written by a thread, and received by a task.
struct Pieces {
    pieces: mpsc::Sender<Vec<u8>>,
    piece: Vec<u8>,
}

impl Write for Pieces {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.piece.len() == PIECE {
            self.flush()?;
        }
        let length = data.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&data[..length]);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        self.pieces
            .blocking_send(piece)
            .map_err(|_| io::Error::other("the content is not written any more"))
    }
}
