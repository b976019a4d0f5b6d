//! Images are created, read, listed and deleted.

use gantry_api::containerd::{
    images::{CreateImageRequest, DeleteImageRequest, GetImageRequest, Image, ListImagesRequest},
    namespaces::DeleteNamespaceRequest,
    types::Descriptor,
};
use prost_types::Timestamp;
use tonic::{Code, Request};

use super::{create, create_by, delete, digest, get, image, labels, names};
use crate::{Bed, assert_refused, of};

#[tokio::test]
async fn an_image_is_kept_as_it_was_created() {
    let Some(bed) = Bed::start().await else { return };
    let mut given = image("docker.io/library/ä b:1", 1);
    // Go's zero time, and a moment that protobuf has and a clock does not.
    given.created_at = Some(Timestamp { seconds: -62_135_596_800, nanos: 0 });
    given.updated_at = Some(Timestamp { seconds: 253_402_300_799, nanos: 999_999_999 });
    let target = given.target.as_mut().unwrap();
    (target.digest, target.size) = (format!("sha512:{}", "0f".repeat(64)), i64::MAX);
    let mut sent = given.clone();
    sent.labels.insert("empty".to_owned(), String::new());
    sent.target.as_mut().unwrap().annotations.insert("empty".to_owned(), String::new());
    let created = create(&bed, "ns", sent).await.unwrap();
    assert_eq!(created.created_at, created.updated_at);
    assert!(created.created_at.as_ref().unwrap().seconds > 1_000_000_000);
    given.created_at = created.created_at;
    given.updated_at = created.updated_at;
    assert_eq!(created, given);
    assert_eq!(get(&bed, "ns", &given.name).await.unwrap(), given);

    let time = Timestamp { seconds: 7, nanos: 8 };
    let request = CreateImageRequest { image: Some(image("x", 1)), source_date_epoch: Some(time) };
    let created = create_by(&bed, of("ns", request.clone())).await.unwrap();
    assert_eq!((created.created_at, created.updated_at), (Some(time), Some(time)));
    let early = Some(Timestamp { seconds: -1, nanos: 0 });
    let early = CreateImageRequest { source_date_epoch: early, ..request };
    let words = "source_date_epoch must not be before 1970: invalid argument";
    assert_refused(create_by(&bed, of("ns", early)).await, Code::InvalidArgument, words);
    bed.server.finish().await;
}

#[tokio::test]
async fn what_is_wrong_is_named_in_the_words_of_containerd() {
    let Some(bed) = Bed::start().await else { return };
    create(&bed, "ns", image("x", 1)).await.unwrap();
    let again = create(&bed, "ns", image("x", 1)).await;
    assert_refused(again, Code::AlreadyExists, r#"image "x": already exists"#);
    let of_target = |change: &dyn Fn(&mut Descriptor)| {
        let mut image = image("y", 1);
        change(image.target.as_mut().unwrap());
        image
    };
    let of_digest = |digest: &str| of_target(&|target| target.digest = digest.to_owned());
    let format = "invalid: invalid checksum digest format: invalid argument";
    let upper = digest(1).replace("01", "0A");
    for (wrong, words) in [
        (Image::default(), "Image.Name required".to_owned()),
        (Image { target: None, ..image("y", 1) }, format!(r#"Target.Digest "" {format}"#)),
        (of_digest("foo"), format!(r#"Target.Digest "foo" {format}"#)),
        (of_digest("foo:"), format!(r#"Target.Digest "foo:" {format}"#)),
        (of_digest(&upper), format!(r#"Target.Digest "{upper}" {format}"#)),
        (
            of_digest("md5:0a"),
            r#"Target.Digest "md5:0a" invalid: unsupported digest algorithm: invalid argument"#
                .to_owned(),
        ),
        (
            of_target(&|target| target.size = 0),
            "Target.Size must be greater than zero: invalid argument".to_owned(),
        ),
        (
            of_target(&|target| target.size = i64::MIN),
            "Target.Size must be greater than zero: invalid argument".to_owned(),
        ),
        (
            of_target(&|target| target.media_type.clear()),
            "Target.MediaType must be set: invalid argument".to_owned(),
        ),
        (
            Image { labels: labels(&[("k", &"v".repeat(4096))]), ..image("y", 1) },
            "image.Labels: label key and value length (4097 bytes) greater than maximum size \
             (4096 bytes), key: k: invalid argument"
                .to_owned(),
        ),
    ] {
        assert_refused(create(&bed, "ns", wrong).await, Code::InvalidArgument, &words);
    }
    // A name of this length is one; a longer one is refused before it is read.
    let long = image(&"n".repeat(4096), 1);
    create(&bed, "ns", long.clone()).await.unwrap();
    let longer = create(&bed, "ns", Image { name: long.name.clone() + "n", ..long }).await;
    let longer = longer.unwrap_err();
    assert_eq!(longer.code(), Code::InvalidArgument, "{longer:?}");
    assert!(longer.message().contains("image.name"), "{longer:?}");
    for name in ["", "y"] {
        let words = format!("image {name:?}: not found");
        assert_refused(get(&bed, "ns", name).await, Code::NotFound, &words);
        assert_refused(delete(&bed, "ns", name).await, Code::NotFound, &words);
    }
    let nowhere = GetImageRequest { name: "x".to_owned() };
    let required = "namespace is required: failed precondition";
    let nowhere = bed.images().get(Request::new(nowhere)).await;
    assert_refused(nowhere, Code::FailedPrecondition, required);
    let nowhere = bed.images().list(Request::new(ListImagesRequest::default())).await;
    assert_refused(nowhere, Code::FailedPrecondition, required);
    bed.server.finish().await;
}

#[tokio::test]
async fn filters_say_which_are_listed() {
    let Some(bed) = Bed::start().await else { return };
    for (name, byte) in [("b", 2), ("a", 1), ("c", 3)] {
        let mut image = image(name, byte);
        image.labels.insert("n.o/p".to_owned(), name.to_owned());
        let target = image.target.as_mut().unwrap();
        target.annotations.insert("q.r/s".to_owned(), name.to_owned());
        target.media_type = format!("application/vnd.{name}+json");
        create(&bed, "ns", image).await.unwrap();
    }
    create(&bed, "other", image("z", 1)).await.unwrap();
    // As Docker asks for the images of a digest.
    let by_digest = format!("target.digest=={},labels.\"n.o/p\"", digest(2));
    for (filters, expected) in [
        (&[][..], &["a", "b", "c"][..]),
        (&[""], &["a", "b", "c"]),
        (&["name==b"], &["b"]),
        (&[&by_digest], &["b"]),
        (&["name~=|^[ab]$|, target.mediatype!=application/vnd.a+json"], &["b"]),
        (&["labels.\"n.o/p\"==a", "annotations.\"q.r/s\"==c"], &["a", "c"]),
        (&["annotations.none"], &[]),
        (&["target.size==10"], &[]),
        (&["name==z"], &[]),
    ] {
        assert_eq!(names(&bed, "ns", filters).await.unwrap(), expected, "{filters:?}");
    }
    assert_eq!(names(&bed, "nobody", &[]).await.unwrap(), [""; 0]);
    let error = names(&bed, "ns", &["name=="]).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.message().ends_with(": invalid argument"), "{error:?}");
    bed.server.finish().await;
}

#[tokio::test]
async fn an_image_is_its_namespaces_until_it_is_deleted() {
    let Some(bed) = Bed::start().await else { return };
    for (namespace, byte) in [("moby", 1), ("k8s.io", 2)] {
        create(&bed, namespace, image("x", byte)).await.unwrap();
    }
    let request = |byte: u8, sync: bool| DeleteImageRequest {
        name: "x".to_owned(),
        sync,
        target: Some(Descriptor { digest: digest(byte), ..Descriptor::default() }),
    };
    let words = format!("image \"x\" has target {}, not {}: not found", digest(1), digest(2));
    let other = bed.images().delete(of("moby", request(2, false))).await;
    assert_refused(other, Code::NotFound, &words);
    let full = DeleteNamespaceRequest { name: "moby".to_owned() };
    let words = r#"namespace "moby" must be empty, but it still has images: failed precondition"#;
    let full = bed.namespaces().delete(full).await;
    assert_refused(full, Code::FailedPrecondition, words);
    // Of the target only the digest counts.
    bed.images().delete(of("moby", request(1, true))).await.unwrap();
    let gone = r#"image "x": not found"#;
    assert_refused(get(&bed, "moby", "x").await, Code::NotFound, gone);
    let again = bed.images().delete(of("moby", request(1, false))).await;
    assert_refused(again, Code::NotFound, gone);
    assert_eq!(get(&bed, "k8s.io", "x").await.unwrap().target.unwrap().digest, digest(2));
    // A target without a digest is none.
    let any = DeleteImageRequest { target: Some(Descriptor::default()), ..request(0, false) };
    bed.images().delete(of("k8s.io", any)).await.unwrap();
    assert_eq!(names(&bed, "k8s.io", &[]).await.unwrap(), [""; 0]);
    bed.server.finish().await;
}
