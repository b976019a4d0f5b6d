//! Diff: layers are applied to trees, and made of what differs between two. The work is `gantry-diff`'s.

mod make;
mod messages;
mod worker;

use std::{num::NonZero, sync::Arc, thread};

use gantry_api::containerd::{
    diff::{ApplyRequest, ApplyResponse, DiffRequest, DiffResponse, diff_server},
    types::Descriptor,
};
use gantry_content::{BlockingReader, Content};
use gantry_diff::{
    ApplyOptions, Cancel, Compression, DiffError, DiffOptions, Packing, Unpacked, apply_to_mounts,
};
use gantry_domain::{Mount, Namespace};
use gantry_store::{Algorithm, Digest};
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};

use super::{
    Surface, request,
    status::{invalid, of_content, of_store},
    to_the_end,
};

/// What Apply answers: a layer without compression.
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// The service.
pub(super) struct Service(pub(super) Surface);

/// As many layers as there are processors are worked on at a time; further calls wait for their turn.
pub(super) struct Turns(Arc<Semaphore>);

impl Default for Turns {
    fn default() -> Self {
        let processors = thread::available_parallelism().map_or(1, NonZero::get);
        Self(Arc::new(Semaphore::new(processors)))
    }
}

/// A layer that is content.
pub(super) struct Layer {
    pub(super) digest: Digest,
    pub(super) media_type: String,
}

/// Applies a layer of the namespace's content to a tree; gives what it is without compression. If the future is dropped
/// before the work is cancelled, that goes on for a while.
pub(super) async fn apply(
    surface: &Surface,
    namespace: &Namespace,
    layer: Layer,
    mounts: impl FnOnce() -> Result<Vec<Mount>, Status>,
    sync: bool,
    cancel: Cancel,
) -> Result<Unpacked, Status> {
    let Layer { digest, media_type } = layer;
    let found = surface.content().await?.store().blob(namespace, &digest).await;
    found.map_err(|error| no_reader(of_store(error)))?;
    let packing = Packing::of_media_type(&media_type).ok_or_else(|| {
        let problem = "no processor for media-type";
        Status::unknown(format!("failed to get stream processor for {media_type}: {problem}"))
    })?;
    let mounts = mounts()?;
    if mounts.is_empty() {
        return Err(invalid("mounts", "mounts: at least one is required"));
    }
    let bounds = surface.0.layer_bounds;
    unpack(surface, namespace, digest, mounts, ApplyOptions { packing, bounds, sync, cancel }).await
}

/// Unpacks an archive of the namespace's content, as [`apply`] does.
pub(super) async fn unpack(
    surface: &Surface,
    namespace: &Namespace,
    digest: Digest,
    mounts: Vec<Mount>,
    options: ApplyOptions,
) -> Result<Unpacked, Status> {
    let content = surface.content().await?;
    let places = surface.mount_places().await;
    let turn = worker::turn(&surface.0.layer_turns.0).await;
    // Only now: a call that waits for its turn holds no file.
    let reader = open(content.clone(), namespace.clone(), digest.clone()).await?;
    let work = move || apply_to_mounts(reader, &mounts, &places, &options);
    match worker::run(turn, work).await {
        Ok(applied) => Ok(applied),
        Err(error) => Err(failed(content, namespace.clone(), digest, error).await),
    }
}

/// A directory of which a tar archive without compression is to be made.
pub(super) struct Archive {
    pub(super) directory: String,
    pub(super) media_type: String,
    pub(super) namespace: Namespace,
    pub(super) lease: Option<String>,
    pub(super) cancel: Cancel,
}

/// Makes content of a directory. Has to be done to its end, as writes of content have to.
pub(super) async fn pack(surface: &Surface, archive: Archive) -> Result<Descriptor, Status> {
    let Archive { directory, media_type, namespace, lease, cancel } = archive;
    let content = surface.content().await?;
    let places = surface.mount_places().await;
    let turn = worker::turn(&surface.0.layer_turns.0).await;
    let options = DiffOptions { compression: Compression::None, epoch: None, cancel };
    let (left, right) = (Vec::new(), vec![bind(directory, "ro")]);
    let (reference, labels) = Default::default();
    let layer = make::Layer {
        content,
        namespace,
        lease,
        media_type,
        reference,
        labels,
        left,
        right,
        places,
        options,
    };
    layer.make(turn).await
}

/// A tree that is one directory.
pub(super) fn bind(source: String, access: &str) -> Mount {
    let options = vec!["rbind".to_owned(), access.to_owned()];
    Mount { kind: "bind".to_owned(), source, target: String::new(), options }
}

#[tonic::async_trait]
impl diff_server::Diff for Service {
    async fn apply(
        &self,
        request: Request<ApplyRequest>,
    ) -> Result<Response<ApplyResponse>, Status> {
        let namespace = request::namespace(&request).map_err(no_reader)?;
        let ApplyRequest { diff, mounts, payloads: _, sync_fs } = request.into_inner();
        let diff = diff.ok_or_else(|| invalid("diff", "diff: a descriptor is required"))?;
        let digest = Digest::parse(&diff.digest).map_err(|_| {
            let digest = &diff.digest;
            no_reader(Status::not_found(format!("content digest {digest}: not found")))
        })?;
        let cancel = Cancel::default();
        let _stops = cancel.on_drop();
        let layer = Layer { digest, media_type: diff.media_type };
        let mounts = || messages::mounts("mounts", mounts);
        let applied = apply(&self.0, &namespace, layer, mounts, sync_fs, cancel).await?;
        let descriptor = Descriptor {
            media_type: LAYER.to_owned(),
            digest: Digest::new(Algorithm::Sha256, &applied.sha256).to_string(),
            size: messages::signed(applied.size),
            ..Descriptor::default()
        };
        Ok(Response::new(ApplyResponse { applied: Some(descriptor) }))
    }

    async fn diff(&self, request: Request<DiffRequest>) -> Result<Response<DiffResponse>, Status> {
        let media_type = &request.get_ref().media_type;
        let (media_type, compression) = messages::media_type(media_type)?;
        let namespace = request::namespace(&request)?;
        let lease = request::lease(&request)?;
        let DiffRequest { left, right, r#ref, labels, source_date_epoch, .. } =
            request.into_inner();
        let left = messages::mounts("left", left)?;
        let right = messages::mounts("right", right)?;
        let epoch = messages::epoch(source_date_epoch)?;
        let places = self.0.mount_places().await;
        let content = self.0.content().await?;
        let turn = worker::turn(&self.0.0.layer_turns.0).await;
        let cancel = Cancel::default();
        // The write has to be given up in order when the caller has gone.
        let _stops = cancel.on_drop();
        let layer = make::Layer {
            content,
            namespace,
            lease,
            media_type,
            reference: r#ref,
            labels: labels.into_iter().collect(),
            left,
            right,
            places,
            options: DiffOptions { compression, epoch, cancel },
        };
        let diff = to_the_end(layer.make(turn)).await?;
        Ok(Response::new(DiffResponse { diff: Some(diff) }))
    }
}

/// Opens the layer. What is found damaged is dropped to the end.
async fn open(
    content: Content,
    namespace: Namespace,
    digest: Digest,
) -> Result<BlockingReader, Status> {
    let opened =
        to_the_end(
            async move { content.read_blocking(&namespace, &digest).await.map_err(of_content) },
        );
    opened.await.map_err(no_reader)
}

/// containerd says so of whatever is wrong with the content.
#[allow(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn no_reader(status: Status) -> Status {
    let message = format!("failed to get reader from content store: {}", status.message());
    Status::new(status.code(), message)
}

/// The answer for a layer that was not applied. If it could not be read its blob may be damaged, and is dropped
/// then: clients can fetch it again.
async fn failed(
    content: Content,
    namespace: Namespace,
    digest: Digest,
    error: DiffError,
) -> Status {
    let blames_layer =
        matches!(error, DiffError::Layer(_) | DiffError::Archive(_) | DiffError::Entry { .. });
    if blames_layer {
        let checked =
            to_the_end(async move { content.check(&namespace, &digest).await.map_err(of_content) });
        if let Err(damaged) = checked.await {
            return no_reader(damaged);
        }
    }
    messages::of_diff(&error)
}
