//! Archive to image store: what a client sends becomes content and images, unpacked if that is asked for.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use gantry_api::containerd::types::transfer::ImageImportStream;
use gantry_diff::Packing;
use gantry_images::{
    Descriptor, Import, Pieces, Walk, children, incoming, media_type, read_document,
    reference_labels,
};
use gantry_store::Image;
use tonic::Status;

use super::{Call, ImageStore, unpack::Unpacker};
use crate::services::containerd::{
    status::{of_images, of_store},
    streaming::{ByteReader, ClientStream},
};

/// An archive that a client sends.
pub(super) struct Archive {
    bytes: ByteReader,
    packing: Packing,
    force_compress: bool,
}

impl Archive {
    pub(super) fn new(message: ImageImportStream, stream: ClientStream) -> Self {
        let ImageImportStream { stream: _, media_type, force_compress } = message;
        let packing = if media_type.is_empty() { Packing::Detect } else { Packing::Plain };
        Self { bytes: ByteReader::new(stream), packing, force_compress }
    }

    pub(super) fn into_bytes(self) -> ByteReader {
        self.bytes
    }
}

pub(super) async fn run(call: &Call, from: Archive, to: &ImageStore) -> Result<(), Status> {
    call.progress.event("Importing").await;
    let (index, images) = receive(call, from).await?;
    keep(call, &index, &images, to).await?;
    let of_index = to.store_if_named(call, &index).await?;
    tell_saved(call, &of_index, &index).await;
    for target in &images {
        let stored = to.store_archived(call, target).await?;
        tell_saved(call, &stored, target).await;
    }
    call.progress.event("Completed import").await;
    Ok(())
}

async fn tell_saved(call: &Call, images: &[Image], target: &Descriptor) {
    for image in images {
        call.progress.of("saved", &image.name, target).await;
    }
}

/// Writes the archive to content; gives its index, and what that lists.
async fn receive(call: &Call, from: Archive) -> Result<(Descriptor, Vec<Descriptor>), Status> {
    let Archive { mut bytes, packing, force_compress } = from;
    let (pieces, archive) = incoming();
    let stop = Arc::<AtomicBool>::default();
    let import = Import {
        content: call.content.clone(),
        namespace: call.namespace.clone(),
        lease: call.lease.clone(),
        force_compress,
        stop: Arc::clone(&stop),
    };
    let mut importing = Box::pin(import.run(archive, packing));
    let passed_on = tokio::select! {
        // The archive has ended, or is none.
        imported = &mut importing => Err(imported),
        end = pass_on(call, &mut bytes, pieces) => Ok(end),
    };
    let imported = match passed_on {
        Err(imported) => imported,
        Ok(end) => {
            // What was begun has to be done to its end, which comes soon if the caller is gone.
            let imported = tokio::select! {
                imported = &mut importing => imported,
                () = call.gone.wait() => {
                    stop.store(true, Ordering::Relaxed);
                    importing.await
                }
            };
            end?;
            imported
        }
    };
    let imported = imported.map_err(of_images)?;
    bytes.finish().await;
    Ok(imported)
}

/// Passes on what the client sends, to its end.
async fn pass_on(call: &Call, bytes: &mut ByteReader, pieces: Pieces) -> Result<(), Status> {
    loop {
        let piece = match call.unless_gone(bytes.next()).await {
            Ok(Some(piece)) => piece,
            Ok(None) => return Ok(()),
            Err(status) => {
                // Nobody may want it any more.
                let _ = pieces.send(Err(io::Error::other("it was broken off"))).await;
                return Err(status);
            }
        };
        if pieces.send(Ok(piece)).await.is_err() {
            return Ok(());
        }
    }
}

/// Has the documents refer to what they consist of, so that it is kept with them; unpacks images.
async fn keep(
    call: &Call,
    index: &Descriptor,
    images: &[Descriptor],
    to: &ImageStore,
) -> Result<(), Status> {
    let unpacker = Unpacker::of_request(call, &to.unpacks).await?;
    let (mut walk, mut is_empty) = (Walk::from(index.clone()), true);
    while let Some(next) = walk.next() {
        let children = match next.digest == index.digest {
            true => images.to_vec(),
            false => parts(call, &next).await?,
        };
        if children.is_empty() {
            continue;
        }
        let labels = reference_labels(&children);
        let mask = labels.keys().map(|label| format!("labels.{label}")).collect();
        let labelled = call.store().update_blob(&call.namespace, &next.digest, labels, mask).await;
        labelled.map_err(of_store)?;
        let wanted = to.filter.wanted(&next, children).map_err(of_images)?;
        is_empty &= wanted.is_empty();
        if let Some(unpacker) = &unpacker
            && media_type::is_manifest(&next.media_type)
        {
            unpack(unpacker, &wanted).await?;
        }
        walk.add(wanted).map_err(of_images)?;
    }
    // As in containerd.
    if is_empty { Err(Status::unknown("image might be filtered out")) } else { Ok(()) }
}

/// What a document refers to; nothing of what is no document.
async fn parts(call: &Call, of: &Descriptor) -> Result<Vec<Descriptor>, Status> {
    if !media_type::is_manifest(&of.media_type) && !media_type::is_index(&of.media_type) {
        return Ok(Vec::new());
    }
    let reading = async {
        let document = read_document(&call.content, &call.namespace, &of.digest).await;
        children(of, &document.map_err(of_images)?).map_err(of_images)
    };
    call.unless_gone(reading).await
}

/// Unpacks the image of a manifest that has these parts.
async fn unpack(unpacker: &Unpacker<'_>, parts: &[Descriptor]) -> Result<(), Status> {
    let config = parts.iter().find(|part| media_type::is_config(&part.media_type));
    let Some(config) = config else { return Ok(()) };
    let layers = parts.iter().filter(|part| media_type::is_layer(&part.media_type));
    let layers: Vec<_> = layers.cloned().collect();
    let Some(chain) = unpacker.chain(config, &layers).await? else { return Ok(()) };
    for layer in chain.present().await?..layers.len() {
        chain.add(layer).await?;
    }
    chain.finish().await
}
