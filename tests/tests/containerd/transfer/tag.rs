//! Further names of images.

use gantry_api::containerd::{
    images::{CreateImageRequest, Image},
    types::{
        Descriptor,
        transfer::{ImageReference, ImageStore, WindowUpdate},
    },
};
use tonic::Code;

use super::{left, names, target, transfer};
use crate::{Bed, assert_refused, content::put, of};

fn named(name: &str) -> ImageStore {
    ImageStore { name: name.to_owned(), ..ImageStore::default() }
}

async fn create(bed: &Bed, name: &str, data: &[u8]) -> Descriptor {
    let descriptor = Descriptor {
        media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
        digest: put(bed, "ns", data).await,
        size: i64::try_from(data.len()).unwrap(),
        annotations: [("a".to_owned(), "b".to_owned())].into(),
    };
    let (name, target) = (name.to_owned(), Some(descriptor.clone()));
    let image = Some(Image { name, target, ..Image::default() });
    let request = CreateImageRequest { image, ..CreateImageRequest::default() };
    bed.images().create(of("ns", request)).await.unwrap();
    descriptor
}

#[tokio::test]
async fn an_image_gets_further_names() {
    let Some(bed) = Bed::start().await else { return };
    let (one, other) = (create(&bed, "one", b"1").await, create(&bed, "other", b"2").await);
    let labels = [("key".to_owned(), "value".to_owned())].into();
    let further = ImageStore { labels, ..named("further") };
    transfer(&bed, "ns", &named("one"), &further).await.unwrap();
    assert_eq!(target(&bed, "ns", "further").await.unwrap(), one);
    // A name that is there is changed.
    transfer(&bed, "ns", &named("other"), &named("further")).await.unwrap();
    assert_eq!(target(&bed, "ns", "further").await.unwrap(), other);
    let digest = ImageReference {
        name: "by".to_owned(),
        is_prefix: true,
        add_digest: true,
        ..ImageReference::default()
    };
    let plain = ImageReference { name: "plain".to_owned(), ..ImageReference::default() };
    let many = ImageStore { extra_references: vec![plain, digest], ..named("many") };
    transfer(&bed, "ns", &named("one"), &many).await.unwrap();
    let by = format!("by@{}", one.digest);
    assert_eq!(names(&bed, "ns").await, [&*by, "further", "many", "one", "other", "plain"]);
    // Only the test's own lease is left.
    assert_eq!(left(&bed, "ns").await, [crate::content::KEEPER]);
    bed.server.finish().await;
}

#[tokio::test]
async fn what_cannot_be_tagged_is_refused() {
    let Some(bed) = Bed::start().await else { return };
    create(&bed, "one", b"1").await;
    let missing = transfer(&bed, "ns", &named("none"), &named("new")).await;
    assert_refused(missing, Code::NotFound, "image \"none\": not found");
    let unnamed = transfer(&bed, "ns", &named("one"), &ImageStore::default()).await;
    assert_refused(unnamed, Code::NotFound, "no image name found: not found");
    let unknown = transfer(&bed, "ns", &WindowUpdate::default(), &named("new")).await;
    let message = "type with url containerd.types.transfer.WindowUpdate: not found";
    assert_refused(unknown, Code::NotFound, message);
    let long = named(&"x".repeat(2 << 20));
    let error = transfer(&bed, "ns", &named("one"), &long).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.message().starts_with("destination: is 2097"), "{error}");
    let many = vec![ImageReference::default(); 257];
    let many = ImageStore { extra_references: many, ..named("new") };
    let message =
        "destination.extra_references: are 257, at most 256 are allowed: invalid argument";
    let many = transfer(&bed, "ns", &named("one"), &many).await;
    assert_refused(many, Code::InvalidArgument, message);
    assert_eq!(names(&bed, "ns").await, ["one"]);
    bed.server.finish().await;
}
