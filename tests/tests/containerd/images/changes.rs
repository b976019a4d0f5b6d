//! Changes of images, what keeps an image, and the events of all that.

use gantry_api::containerd::{
    images::{
        CreateImageRequest, DeleteImageRequest, Image, ImageCreate, ImageDelete, ImageUpdate,
    },
    leases::{CreateRequest, ListResourcesRequest},
    to_any,
    types::Descriptor,
};
use prost_types::Timestamp;
use tonic::Code;

use super::{changes, create, create_by, delete, get, image, labels, leased, update, update_by};
use crate::{
    Bed, assert_refused,
    events::{next, subscribe},
    of,
};

#[tokio::test]
async fn a_mask_says_what_is_changed() {
    let Some(bed) = Bed::start().await else { return };
    let first = create(&bed, "ns", image("x", 1)).await.unwrap();
    let (old, mut new) = (first.target.clone().unwrap(), image("x", 2));
    new.labels = labels(&[("b.c/d", "3"), ("new", "4"), ("empty", "")]);
    let target = new.target.as_mut().unwrap();
    target.annotations = labels(&[("b.c/d", "5")]);
    target.media_type = "other".to_owned();
    let target = target.clone();
    let annotated = |annotations: &[(&str, &str)]| Descriptor {
        annotations: labels(annotations),
        ..old.clone()
    };
    for (mask, of_image, of_target) in [
        // A label that is named and not sent is removed.
        (&["labels.b.c/d", "labels.a"][..], &[("b.c/d", "3")][..], old.clone()),
        (&["labels"], &[("b.c/d", "3"), ("new", "4")], old.clone()),
        (
            &["annotations.b.c/d"],
            &[("a", "1"), ("b.c/d", "2")],
            annotated(&[("a", "1"), ("b.c/d", "5")]),
        ),
        (&["annotations"], &[("a", "1"), ("b.c/d", "2")], annotated(&[("b.c/d", "5")])),
        (&["target"], &[("a", "1"), ("b.c/d", "2")], target.clone()),
        (&["labels", "target"], &[("b.c/d", "3"), ("new", "4")], target.clone()),
        (&[], &[("b.c/d", "3"), ("new", "4")], target.clone()),
    ] {
        let updated = update(&bed, "ns", new.clone(), mask).await.unwrap();
        assert_eq!((&updated.labels, &updated.target), (&labels(of_image), &Some(of_target)));
        assert_eq!(updated.created_at, first.created_at);
        assert_eq!(get(&bed, "ns", "x").await.unwrap(), updated);
        update(&bed, "ns", first.clone(), &[]).await.unwrap();
    }
    let time = Some(Timestamp { seconds: 1_000, nanos: 1 });
    let mut request = changes(new.clone(), &["labels.new"]);
    request.source_date_epoch = time;
    let updated = update_by(&bed, of("ns", request)).await.unwrap();
    assert_eq!((updated.created_at, updated.updated_at), (first.created_at, time));

    let wrong = update(&bed, "ns", new.clone(), &["labels", "name"]).await;
    let words = r#"cannot update "name" field on image "x": invalid argument"#;
    assert_refused(wrong, Code::InvalidArgument, words);
    let words = r#"Target.Digest "" invalid: invalid checksum digest format: invalid argument"#;
    let nothing = Image { target: None, ..new.clone() };
    for mask in [&[][..], &["labels", "target"]] {
        let wrong = update(&bed, "ns", nothing.clone(), mask).await;
        assert_refused(wrong, Code::InvalidArgument, words);
    }
    assert_eq!(get(&bed, "ns", "x").await.unwrap(), updated, "nothing was changed");
    let unknown = update(&bed, "ns", image("y", 1), &[]).await;
    assert_refused(unknown, Code::NotFound, r#"image "y": not found"#);
    let nameless = update(&bed, "ns", Image::default(), &[]).await;
    assert_refused(nameless, Code::InvalidArgument, "Image.Name required");
    bed.server.finish().await;
}

#[tokio::test]
async fn changes_are_published() {
    let Some(bed) = Bed::start().await else { return };
    let mut all = subscribe(&bed, &["topic~=|^/images/|"]).await;
    let mut some = subscribe(&bed, &["event.name==x,event.labels.n==2", "event.name==y"]).await;
    let name = || "x".to_owned();
    create(&bed, "ns", Image { labels: labels(&[("n", "1")]), ..image("x", 1) }).await.unwrap();
    let new = Image { labels: labels(&[("n", "2"), ("o", "3")]), ..image("x", 1) };
    update(&bed, "ns", new, &["labels.n"]).await.unwrap();
    // What is refused changes nothing.
    create(&bed, "ns", image("x", 1)).await.unwrap_err();
    update(&bed, "ns", image("y", 1), &[]).await.unwrap_err();
    delete(&bed, "ns", "y").await.unwrap_err();
    delete(&bed, "ns", "x").await.unwrap();
    let created = ImageCreate { name: name(), labels: labels(&[("n", "1")]) };
    let updated = ImageUpdate { name: name(), labels: labels(&[("n", "2")]) };
    for (topic, event) in [
        ("/images/create", to_any(&created)),
        ("/images/update", to_any(&updated)),
        ("/images/delete", to_any(&ImageDelete { name: name() })),
    ] {
        let seen = next(&mut all).await;
        assert_eq!((seen.namespace.as_str(), seen.topic.as_str()), ("ns", topic));
        assert_eq!(seen.event, Some(event));
    }
    assert_eq!(to_any(&created).type_url, "containerd.services.images.v1.ImageCreate");
    create(&bed, "ns", image("y", 1)).await.unwrap();
    assert_eq!(next(&mut some).await.event, Some(to_any(&updated)));
    assert_eq!(next(&mut some).await.topic, "/images/create");
    bed.server.finish().await;
}

/// An image is a lease's only if it would end by itself, as in containerd 2.
#[tokio::test]
async fn a_lease_keeps_an_image_that_would_end() {
    let Some(bed) = Bed::start().await else { return };
    let lease = CreateRequest { id: "l".to_owned(), ..CreateRequest::default() };
    bed.leases().create(of("ns", lease)).await.unwrap();
    let resources = async || {
        let request = ListResourcesRequest { id: "l".to_owned() };
        let listed = bed.leases().list_resources(of("ns", request)).await.unwrap();
        let resources = listed.into_inner().resources.into_iter();
        resources.map(|resource| (resource.r#type, resource.id)).collect::<Vec<_>>()
    };
    let request = |image: Image| CreateImageRequest { image: Some(image), source_date_epoch: None };
    create_by(&bed, leased("none", request(image("plain", 1)))).await.unwrap();
    create_by(&bed, leased("l", request(image("later", 1)))).await.unwrap();
    assert_eq!(resources().await, []);
    let labels = || labels(&[("containerd.io/gc.expire", "2100-01-01T00:00:00Z")]);
    let ends = Image { labels: labels(), ..image("ends", 1) };
    let words = "lease does not exist: not found";
    let unknown = create_by(&bed, leased("none", request(ends.clone()))).await;
    assert_refused(unknown, Code::NotFound, words);
    create_by(&bed, leased("l", request(ends))).await.unwrap();
    let later = changes(Image { labels: labels(), ..image("later", 1) }, &["labels"]);
    let unknown = update_by(&bed, leased("none", later.clone())).await;
    assert_refused(unknown, Code::NotFound, words);
    update_by(&bed, leased("l", later)).await.unwrap();
    let kept = |name: &str| ("images".to_owned(), name.to_owned());
    assert_eq!(resources().await, ["ends", "later"].map(kept));
    let deleted = DeleteImageRequest { name: "ends".to_owned(), ..DeleteImageRequest::default() };
    bed.images().delete(leased("l", deleted)).await.unwrap();
    assert_eq!(resources().await, [kept("later")]);
    bed.server.finish().await;
}
