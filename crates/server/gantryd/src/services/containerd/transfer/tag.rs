//! Image store to image store: an image gets further names.

use tonic::Status;

use super::{Call, ImageStore};
use crate::services::containerd::status::of_images;

pub(super) async fn run(call: &Call, from: &ImageStore, to: &ImageStore) -> Result<(), Status> {
    let image = from.get(call).await?;
    let target = gantry_images::Descriptor::of_stored(&image.target).map_err(of_images)?;
    // As in containerd, the content need not be there.
    call.keep(&target.digest).await?;
    to.store(call, &target).await?;
    Ok(())
}
