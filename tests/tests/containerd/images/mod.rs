//! Images: names for content.

mod changes;
mod kept;
mod service;

use gantry_api::containerd::{
    LEASE_METADATA,
    images::{
        CreateImageRequest, DeleteImageRequest, GetImageRequest, Image, ListImagesRequest,
        UpdateImageRequest,
    },
    types::Descriptor,
};
use prost_types::FieldMask;
use tonic::{Request, Status};

use crate::{Bed, of};

/// What an image can name.
fn digest(byte: u8) -> String {
    format!("sha256:{}", format!("{byte:02x}").repeat(32))
}

/// What can be created.
fn image(name: &str, byte: u8) -> Image {
    let target = Descriptor {
        media_type: "application/vnd.oci.image.index.v1+json".to_owned(),
        digest: digest(byte),
        size: 10,
        annotations: labels(&[("a", "1"), ("b.c/d", "2")]),
    };
    let labels = labels(&[("a", "1"), ("b.c/d", "2")]);
    Image { name: name.to_owned(), labels, target: Some(target), ..Image::default() }
}

fn labels<T: FromIterator<(String, String)>>(labels: &[(&str, &str)]) -> T {
    labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

async fn create(bed: &Bed, namespace: &str, image: Image) -> Result<Image, Status> {
    create_by(
        bed,
        of(namespace, CreateImageRequest { image: Some(image), source_date_epoch: None }),
    )
    .await
}

async fn create_by(bed: &Bed, request: Request<CreateImageRequest>) -> Result<Image, Status> {
    Ok(bed.images().create(request).await?.into_inner().image.expect("an image"))
}

async fn get(bed: &Bed, namespace: &str, name: &str) -> Result<Image, Status> {
    let request = GetImageRequest { name: name.to_owned() };
    Ok(bed.images().get(of(namespace, request)).await?.into_inner().image.expect("an image"))
}

async fn update(bed: &Bed, namespace: &str, image: Image, mask: &[&str]) -> Result<Image, Status> {
    update_by(bed, of(namespace, changes(image, mask))).await
}

fn changes(image: Image, mask: &[&str]) -> UpdateImageRequest {
    let paths: Vec<_> = mask.iter().map(|path| (*path).to_owned()).collect();
    // Go's clients send none for all.
    let update_mask = (!paths.is_empty()).then_some(FieldMask { paths });
    UpdateImageRequest { image: Some(image), update_mask, source_date_epoch: None }
}

async fn update_by(bed: &Bed, request: Request<UpdateImageRequest>) -> Result<Image, Status> {
    Ok(bed.images().update(request).await?.into_inner().image.expect("an image"))
}

async fn delete(bed: &Bed, namespace: &str, name: &str) -> Result<(), Status> {
    let request = DeleteImageRequest { name: name.to_owned(), ..DeleteImageRequest::default() };
    bed.images().delete(of(namespace, request)).await.map(drop)
}

async fn names(bed: &Bed, namespace: &str, filters: &[&str]) -> Result<Vec<String>, Status> {
    let filters = filters.iter().map(|filter| (*filter).to_owned()).collect();
    let listed = bed.images().list(of(namespace, ListImagesRequest { filters })).await?;
    Ok(listed.into_inner().images.into_iter().map(|image| image.name).collect())
}

/// A request that names a lease.
fn leased<T>(lease: &str, message: T) -> Request<T> {
    let mut request = of("ns", message);
    request.metadata_mut().insert(LEASE_METADATA, lease.parse().expect("ASCII"));
    request
}
