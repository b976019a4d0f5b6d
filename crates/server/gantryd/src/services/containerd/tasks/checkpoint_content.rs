//! Checkpoints that are content: CRIU's images in a tar archive, and the container's specification beside it.
//!
//! ```text
//! make:    specification written, not committed -> runtime checkpoint into a directory of the server's own
//!          -> archive of that committed -> specification committed -> directory removed -> descriptors
//! extract: blob -> such a directory -> the task that is created has it, and it goes with the task
//! ```
//! The first write finds a lease that is not there before a checkpoint can end the task.

use std::path::PathBuf;

use gantry_api::containerd::types::Descriptor;
use gantry_content::{ContentError, Writer, unique};
use gantry_diff::{ApplyOptions, Bounds, Cancel, Packing};
use gantry_domain::Namespace;
use gantry_images::media_type::{CHECKPOINT, CHECKPOINT_CONFIG};
use gantry_store::{AnyValue, Digest, Labels};
use gantry_supervisor::{ContainerHandle, ImageOptions, OwnImage};
use prost::Message;
use prost_types::Any;
use tonic::Status;

use super::texts::{Call, Subject};
use crate::services::containerd::{
    Surface, diff,
    status::{of_content, of_store},
    to_the_end,
};

/// A checkpoint that is to be made.
pub(super) struct New {
    pub(super) namespace: Namespace,
    pub(super) lease: Option<String>,
    pub(super) task: ContainerHandle,
    pub(super) subject: Subject,
    pub(super) spec: Option<AnyValue>,
    /// For CRIU's logs.
    pub(super) work: Option<PathBuf>,
    pub(super) options: ImageOptions,
}

/// Makes it, and content of it. If the caller goes away meanwhile, or something fails, nothing of it is left, unless the task has
/// ended with it: then it becomes content whether the caller is there or not, or its image is kept, as the error says.
pub(super) async fn make(surface: &Surface, new: New) -> Result<Vec<Descriptor>, Status> {
    let (surface, cancel) = (surface.clone(), Cancel::default());
    let _stops = cancel.on_drop();
    to_the_end(async move {
        let content = surface.content().await?;
        let (namespace, lease) = (new.namespace.clone(), new.lease.clone());
        let (now, number) = unique();
        let reference = format!("{now}-checkpoint-{number}");
        let begun = content.writer(&namespace, reference.clone(), 0, None, lease).await;
        let made = make_both(&surface, new, begun.map_err(of_content)?, cancel).await;
        if made.is_err()
            && let Err(error) = content.abort(&namespace, &reference).await
        {
            tracing::warn!(reference, %error, "a write of a failed checkpoint is left until it is stale");
        }
        made
    })
    .await
}

/// Makes both blobs; the specification is written first, and committed last.
async fn make_both(
    surface: &Surface,
    new: New,
    mut writer: Writer,
    cancel: Cancel,
) -> Result<Vec<Descriptor>, Status> {
    let AnyValue { type_url, value } = new.spec.clone().unwrap_or_default();
    let spec = Any { type_url, value }.encode_to_vec();
    writer.write(spec.clone()).await.map_err(of_content)?;
    let (exit, lease, namespace) = (new.options.exit, new.lease.clone(), new.namespace.clone());
    let image = make_image(surface, new).await?;
    // What a task that has ended was is in its image alone, which becomes content whoever goes away.
    let cancel = if exit { Cancel::default() } else { cancel };
    let (directory, media_type) = (text(&image), CHECKPOINT.to_owned());
    let archive = diff::Archive { directory, media_type, namespace, lease, cancel };
    match commit_both(surface, archive, writer, &spec).await {
        Err(status) if exit => {
            let (path, problem) = (text(&image), status.message());
            let message = format!("{problem} (the task has ended; its image is kept: {path})");
            Err(Status::new(status.code(), message))
        }
        made => {
            image.remove().await;
            made
        }
    }
}

/// Has the runtime make the image. If the task has ended with that, the image stays until it is removed.
async fn make_image(surface: &Surface, new: New) -> Result<OwnImage, Status> {
    let New { task, subject, work, options, .. } = new;
    let failed = |error| subject.status(Call::Checkpoint, &error);
    let mut image = surface.supervisor().await.new_image().await.map_err(failed)?;
    let exit = options.exit;
    match task.image(image.path().to_owned(), work, options).await {
        Ok(()) if exit => image.keep().await,
        Ok(()) => {}
        Err(error) => {
            image.remove().await;
            return Err(failed(error));
        }
    }
    Ok(image)
}

/// Makes content of the image, and then of the specification.
async fn commit_both(
    surface: &Surface,
    archive: diff::Archive,
    writer: Writer,
    spec: &[u8],
) -> Result<Vec<Descriptor>, Status> {
    let archive = diff::pack(surface, archive).await?;
    let digest = match writer.commit(0, None, Labels::new()).await {
        Ok(digest) | Err(ContentError::Exists(digest)) => digest.to_string(),
        Err(error) => return Err(of_content(error)),
    };
    let (media_type, size) = (CHECKPOINT_CONFIG.to_owned(), spec.len());
    let size = i64::try_from(size).unwrap_or(i64::MAX);
    Ok(vec![archive, Descriptor { media_type, digest, size, ..Descriptor::default() }])
}

/// Unpacks the image that a descriptor names. What is damaged, or leads out of the image, is refused.
pub(super) async fn extract(
    surface: &Surface,
    namespace: &Namespace,
    checkpoint: &Descriptor,
) -> Result<OwnImage, Status> {
    let Descriptor { media_type, digest, .. } = checkpoint;
    if media_type != CHECKPOINT {
        return Err(Status::unknown(format!("unsupported checkpoint type {media_type:?}")));
    }
    let digest = Digest::parse(digest)
        .map_err(|_| Status::not_found(format!("content digest {digest}: not found")))?;
    let found = surface.content().await?.store().blob(namespace, &digest).await;
    found.map_err(of_store)?;
    let cancel = Cancel::default();
    let _stops = cancel.on_drop();
    let (surface, namespace) = (surface.clone(), namespace.clone());
    // The directory must not be removed before the work on it has ended, also if the caller goes away.
    to_the_end(async move {
        let made = surface.supervisor().await.new_image().await;
        let image = made.map_err(|error| Status::internal(error.to_string()))?;
        let mounts = vec![diff::bind(text(&image), "rw")];
        let options = ApplyOptions {
            packing: Packing::Plain,
            bounds: Bounds::default(),
            sync: false,
            cancel,
        };
        match diff::unpack(&surface, &namespace, digest, mounts, options).await {
            Ok(_) => Ok(image),
            Err(status) => {
                image.remove().await;
                Err(status)
            }
        }
    })
    .await
}

/// The path of an image, below the server's root directory.
fn text(image: &OwnImage) -> String {
    image.path().to_string_lossy().into_owned()
}
