//! Images that are transferred: tagged, imported and exported.

mod archive;
mod bad;
mod bounds;
mod echo;
mod export;
mod import;
mod interrupted;
mod registry;
mod stream;
mod tag;

use gantry_api::containerd::{
    content::ListStatusesRequest,
    images::{GetImageRequest, Image, ListImagesRequest},
    leases::ListRequest,
    to_any,
    transfer::{TransferOptions, TransferRequest},
    types::{
        Descriptor, Platform,
        transfer::{
            ImageExportStream, ImageImportStream, ImageReference, ImageStore, UnpackConfiguration,
        },
    },
};
use prost::Name;
use prost_types::Any;
use stream::Stream;
use tonic::{Request, Status};

use crate::{Bed, of};

/// Asks for a transfer; `progress` is the id of a stream, or nothing.
fn request(
    namespace: &str,
    source: Any,
    destination: Any,
    progress: &str,
) -> Request<TransferRequest> {
    let options = Some(TransferOptions { progress_stream: progress.to_owned() });
    of(namespace, TransferRequest { source: Some(source), destination: Some(destination), options })
}

async fn transfer<S: Name, D: Name>(
    bed: &Bed,
    namespace: &str,
    source: &S,
    destination: &D,
) -> Result<(), Status> {
    let request = request(namespace, to_any(source), to_any(destination), "");
    bed.transfer().transfer(request).await.map(drop)
}

/// Imports an archive.
async fn import(
    bed: &Bed,
    namespace: &str,
    archive: &[u8],
    store: &ImageStore,
) -> Result<(), Status> {
    let stream = Stream::open(bed, namespace, "archive").await?;
    let from = ImageImportStream { stream: "archive".to_owned(), ..ImageImportStream::default() };
    let sending = stream.send_bytes(archive);
    let (done, ()) = tokio::join!(transfer(bed, namespace, &from, store), sending);
    done
}

/// Exports images of these names.
async fn export(
    bed: &Bed,
    namespace: &str,
    names: &[&str],
    to: ImageExportStream,
) -> Result<Vec<u8>, Status> {
    let stream = Stream::open(bed, namespace, "archive").await?;
    let to = ImageExportStream { stream: "archive".to_owned(), ..to };
    let names = names
        .iter()
        .map(|name| ImageReference { name: (*name).to_owned(), ..ImageReference::default() });
    let from = ImageStore { extra_references: names.collect(), ..ImageStore::default() };
    let (done, bytes) = tokio::join!(transfer(bed, namespace, &from, &to), stream.receive_bytes());
    done.map(|()| bytes)
}

/// Images are named by an archive, whatever it says.
fn any_name(digests: bool) -> ImageStore {
    let name = "import".to_owned();
    let reference = ImageReference {
        name,
        is_prefix: true,
        allow_overwrite: true,
        add_digest: digests,
        skip_named_digest: false,
    };
    ImageStore { extra_references: vec![reference], ..ImageStore::default() }
}

fn own_platform() -> Platform {
    let (os, architecture) = ("linux".to_owned(), archive::architecture().to_owned());
    Platform { os, architecture, ..Platform::default() }
}

/// Unpacked with the default snapshotter.
fn unpacked(store: ImageStore) -> ImageStore {
    let (platform, snapshotter) = (Some(own_platform()), String::new());
    ImageStore { unpacks: vec![UnpackConfiguration { platform, snapshotter }], ..store }
}

async fn target(bed: &Bed, namespace: &str, name: &str) -> Result<Descriptor, Status> {
    let request = GetImageRequest { name: name.to_owned() };
    let found = bed.images().get(of(namespace, request)).await?.into_inner();
    Ok(found.image.and_then(|image| image.target).expect("a target"))
}

async fn images(bed: &Bed, namespace: &str) -> Vec<Image> {
    let listed = bed.images().list(of(namespace, ListImagesRequest::default())).await.unwrap();
    listed.into_inner().images
}

async fn names(bed: &Bed, namespace: &str) -> Vec<String> {
    images(bed, namespace).await.into_iter().map(|image| image.name).collect()
}

/// Writes under way, and leases: a transfer leaves neither.
async fn left(bed: &Bed, namespace: &str) -> Vec<String> {
    let writes = bed.content().list_statuses(of(namespace, ListStatusesRequest::default())).await;
    let writes = writes.unwrap().into_inner().statuses.into_iter().map(|status| status.r#ref);
    let leases = bed.leases().list(of(namespace, ListRequest::default())).await.unwrap();
    let leases = leases.into_inner().leases.into_iter().map(|lease| lease.id);
    writes.chain(leases).collect()
}
