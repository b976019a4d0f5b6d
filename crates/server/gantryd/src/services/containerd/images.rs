//! Images: names for content.

use std::time::SystemTime;

use gantry_api::containerd::{
    images::{
        CreateImageRequest, CreateImageResponse, DeleteImageRequest, GetImageRequest,
        GetImageResponse, Image, ImageCreate, ImageDelete, ImageUpdate, ListImagesRequest,
        ListImagesResponse, UpdateImageRequest, UpdateImageResponse, images_server,
    },
    to_any, topic,
    types::Descriptor,
};
use gantry_store::Store;
use prost::Message;
use prost_types::Timestamp;
use tonic::{Request, Response, Status};

use super::{
    Surface,
    list_size::ListSize,
    request,
    status::{invalid, of_store},
    to_the_end,
};
use crate::rpc::listing;

/// The service.
pub(super) struct Images(pub(super) Surface);

#[tonic::async_trait]
impl images_server::Images for Images {
    async fn get(
        &self,
        request: Request<GetImageRequest>,
    ) -> Result<Response<GetImageResponse>, Status> {
        let namespace = request::namespace(&request)?;
        let name = &request.get_ref().name;
        let found = self.0.store().await.image(&namespace, name).await.map_err(of_store)?;
        Ok(Response::new(GetImageResponse { image: Some(from_stored(found)) }))
    }

    async fn list(
        &self,
        request: Request<ListImagesRequest>,
    ) -> Result<Response<ListImagesResponse>, Status> {
        let namespace = request::namespace(&request)?;
        let filters = request::filters(&request.get_ref().filters)?;
        let _counted = listing(&request).await;
        let mut size = ListSize::of(&request, "a filter makes it shorter");
        let store = self.0.store().await;
        let (mut images, mut after) = (Vec::new(), None);
        loop {
            let page = store.image_page(&namespace, &filters, after).await.map_err(of_store)?;
            let page_images: Vec<_> = page.images.into_iter().map(from_stored).collect();
            size.add(page_images.iter().map(Message::encoded_len).sum())?;
            images.extend(page_images);
            after = page.after;
            if after.is_none() {
                return Ok(Response::new(ListImagesResponse { images }));
            }
        }
    }

    async fn create(
        &self,
        request: Request<CreateImageRequest>,
    ) -> Result<Response<CreateImageResponse>, Status> {
        let namespace = request::namespace(&request)?;
        let lease = request::lease(&request)?;
        let CreateImageRequest { image, source_date_epoch } = request.into_inner();
        let (image, at) = (named(image)?, time(source_date_epoch)?);
        let (surface, store) = self.ready().await;
        let created = to_the_end(async move {
            let created = store.create_image(&namespace, to_stored(image), lease, at).await;
            let created = created.map_err(of_store)?;
            let event = ImageCreate { name: created.name.clone(), labels: created.labels.clone() };
            surface.publish(&namespace, topic::IMAGE_CREATE, to_any(&event)).await;
            Ok(created)
        });
        Ok(Response::new(CreateImageResponse { image: Some(from_stored(created.await?)) }))
    }

    async fn update(
        &self,
        request: Request<UpdateImageRequest>,
    ) -> Result<Response<UpdateImageResponse>, Status> {
        let namespace = request::namespace(&request)?;
        let lease = request::lease(&request)?;
        let UpdateImageRequest { image, update_mask, source_date_epoch } = request.into_inner();
        let (image, at) = (named(image)?, time(source_date_epoch)?);
        let mask = update_mask.unwrap_or_default().paths;
        let (surface, store) = self.ready().await;
        let updated = to_the_end(async move {
            let updated = store.update_image(&namespace, to_stored(image), mask, lease, at).await;
            let updated = updated.map_err(of_store)?;
            let event = ImageUpdate { name: updated.name.clone(), labels: updated.labels.clone() };
            surface.publish(&namespace, topic::IMAGE_UPDATE, to_any(&event)).await;
            Ok(updated)
        });
        Ok(Response::new(UpdateImageResponse { image: Some(from_stored(updated.await?)) }))
    }

    /// With `sync`, what nothing refers to any more is collected before the answer.
    async fn delete(&self, request: Request<DeleteImageRequest>) -> Result<Response<()>, Status> {
        let namespace = request::namespace(&request)?;
        let lease = request::lease(&request)?;
        let DeleteImageRequest { name, sync, target } = request.into_inner();
        // As in containerd, one without a digest is none.
        let target = target.map(|target| target.digest).filter(|digest| !digest.is_empty());
        let (surface, store) = self.ready().await;
        to_the_end(async move {
            store.delete_image(&namespace, &name, target, lease).await.map_err(of_store)?;
            let event = to_any(&ImageDelete { name });
            surface.publish(&namespace, topic::IMAGE_DELETE, event).await;
            Ok(())
        })
        .await?;
        if sync {
            self.0.0.collections.wait().await?;
        }
        Ok(Response::new(()))
    }
}

impl Images {
    /// What a change and its event need, acquired before: it is not given up when its caller is gone.
    async fn ready(&self) -> (Surface, Store) {
        self.0.supervisor().await;
        (self.0.clone(), self.0.store().await)
    }
}

/// The image of a request that makes or changes it.
fn named(image: Option<Image>) -> Result<Image, Status> {
    let image = image.unwrap_or_default();
    if image.name.is_empty() {
        return Err(Status::invalid_argument("Image.Name required"));
    }
    Ok(image)
}

/// The time that a caller says, if it does.
fn time(at: Option<Timestamp>) -> Result<Option<SystemTime>, Status> {
    let field = "source_date_epoch";
    at.map(|at| {
        SystemTime::try_from(at).map_err(|error| invalid(field, format!("{field}: {error}")))
    })
    .transpose()
}

/// An image to be stored. Its times are ignored: clients send Go's zero time, the year 1.
fn to_stored(image: Image) -> gantry_store::Image {
    let Descriptor { media_type, digest, size, annotations } = image.target.unwrap_or_default();
    gantry_store::Image {
        name: image.name,
        labels: image.labels,
        target: gantry_store::Descriptor {
            media_type,
            digest,
            size: u64::try_from(size).unwrap_or_default(),
            annotations,
        },
        ..gantry_store::Image::default()
    }
}

fn from_stored(image: gantry_store::Image) -> Image {
    let gantry_store::Image { name, labels, target, created_at, updated_at } = image;
    let gantry_store::Descriptor { media_type, digest, size, annotations } = target;
    let size = i64::try_from(size).unwrap_or(i64::MAX);
    Image {
        name,
        labels,
        target: Some(Descriptor { media_type, digest, size, annotations }),
        created_at: Some(created_at.into()),
        updated_at: Some(updated_at.into()),
    }
}
