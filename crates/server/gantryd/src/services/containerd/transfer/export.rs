//! Image store to archive: images are sent to a client.

use gantry_api::containerd::types::transfer::ImageExportStream;
use gantry_images::{Export, Platforms};
use tonic::Status;

use super::{Call, ImageStore, image_store::platform};
use crate::services::containerd::{
    status::of_images,
    streaming::{ByteWriter, ClientStream},
};

/// An archive that a client receives.
pub(super) struct Archive {
    bytes: ByteWriter,
    export: Export,
}

impl Archive {
    pub(super) fn new(message: ImageExportStream, stream: ClientStream) -> Self {
        let ImageExportStream {
            stream: _,
            media_type: _,
            platforms,
            all_platforms,
            skip_compatibility_manifest,
            skip_non_distributable,
        } = message;
        let export = Export {
            platforms: Platforms(platforms.into_iter().map(platform).collect()),
            all_platforms,
            skip_compatibility_manifest,
            skip_non_distributable,
        };
        Self { bytes: ByteWriter::new(stream), export }
    }

    pub(super) fn into_bytes(self) -> ByteWriter {
        self.bytes
    }
}

/// Only the lease is changed: it is dropped in the middle if the caller is gone.
pub(super) async fn run(call: &Call, from: &ImageStore, to: Archive) -> Result<(), Status> {
    call.unless_gone(async {
        call.progress.event("Exporting").await;
        let Archive { mut bytes, export } = to;
        let images = from.all_kept(call).await?;
        let archive = export.archive(call.content.clone(), call.namespace.clone(), images).await;
        let mut archive = archive.map_err(of_images)?;
        while let Some(piece) = archive.next().await.map_err(of_images)? {
            bytes.write(&piece).await?;
        }
        bytes.finish().await;
        call.progress.event("Completed export").await;
        Ok(())
    })
    .await
}
