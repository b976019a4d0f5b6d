//! An archive of images becomes content: a layout of the OCI image specification, or what `docker save` writes.
//!
//! ```text
//! archive's bytes -> thread: decompress, find files -> content, a blob a file -> the index of what images there are
//! ```
//! The thread is there for the decompression and as archives are read from a `Read`. Between it and the tasks are a few pieces of
//! 256 KiB.

mod compress;
mod docker;
mod files;
mod reader;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use files::Written;
use gantry_content::Content;
use gantry_diff::Packing;
use gantry_domain::Namespace;
use serde::Deserialize;
use tokio::sync::mpsc;

use crate::{Descriptor, ImageError, Index, read_document};

/// The version of layouts that can be read.
const LAYOUT_VERSION: &str = "1.0.0";

/// Pieces of the archive that wait for the thread.
const PIECES: usize = 4;

/// Whose content an archive becomes.
pub struct Import {
    /// All content.
    pub content: Content,
    /// The namespace that gets it.
    pub namespace: Namespace,
    /// What is written is added to it.
    pub lease: String,
    /// Whether layers of a Docker archive that are not compressed are.
    pub force_compress: bool,
    /// Set when the archive is wanted no more: compression, which may take minutes, ends soon after.
    pub stop: Arc<AtomicBool>,
}

/// Where the bytes of an archive go. The archive has ended when this is dropped.
pub type Pieces = mpsc::Sender<io::Result<Vec<u8>>>;

/// The bytes of an archive, piece by piece; an error tells why there are no more.
pub struct Incoming(mpsc::Receiver<io::Result<Vec<u8>>>);

/// Where bytes of an archive are put, and where an import takes them from.
#[must_use]
pub fn incoming() -> (Pieces, Incoming) {
    let (pieces, incoming) = mpsc::channel(PIECES);
    (pieces, Incoming(incoming))
}

#[derive(Deserialize)]
struct Layout {
    #[serde(default, rename = "imageLayoutVersion")]
    version: String,
}

impl Import {
    /// Reads an archive; gives the index of its images, and the images. What was written is the lease's; no write is left
    /// under way. Has to be done to its end, as writes of content have to.
    ///
    /// # Errors
    /// If the archive is none of images, ends too early, or has more or longer files than are read; that it was stopped;
    /// and those of content.
    pub async fn run(
        &self,
        archive: Incoming,
        packing: Packing,
    ) -> Result<(Descriptor, Vec<Descriptor>), ImageError> {
        let parts = reader::start(archive, packing)?;
        let written = self.write_all(parts).await?;
        let Some(layout) = &written.layout else { return self.docker(written).await };
        let Layout { version } = serde_json::from_slice(layout).map_err(|error| {
            ImageError::Archive(format!("has an oci-layout that is none: {error}"))
        })?;
        match (&*version, &written.index) {
            // As in containerd, an empty one is that of no layout.
            ("", _) => self.docker(written).await,
            (LAYOUT_VERSION, Some(index)) => self.images_of(index.clone()).await,
            (LAYOUT_VERSION, None) => {
                let problem = "is a layout of the OCI image specification without an index.json";
                Err(ImageError::Archive(problem.to_owned()))
            }
            (other, _) => {
                let problem =
                    format!("is a layout of the version {other:?}, which is not supported");
                Err(ImageError::Archive(problem))
            }
        }
    }

    /// An error if the archive is wanted no more.
    fn unless_stopped(&self) -> Result<(), ImageError> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(ImageError::Cancelled("the import was stopped".to_owned()));
        }
        Ok(())
    }

    async fn images_of(
        &self,
        index: Descriptor,
    ) -> Result<(Descriptor, Vec<Descriptor>), ImageError> {
        let document = read_document(&self.content, &self.namespace, &index.digest).await?;
        let Index { manifests } = Index::parse(&index.digest, &document)?;
        Ok((index, manifests))
    }

    async fn docker(&self, written: Written) -> Result<(Descriptor, Vec<Descriptor>), ImageError> {
        let index = docker::index(self, written).await?;
        self.images_of(index).await
    }
}
