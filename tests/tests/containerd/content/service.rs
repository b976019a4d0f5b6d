//! The calls about blobs.

use gantry_api::containerd::{
    content::{DeleteContentRequest, Info, InfoRequest, ListContentRequest, UpdateRequest},
    event_types::ContentDelete,
    events::SubscribeRequest,
    from_any,
    introspection::PluginsRequest,
    namespaces::DeleteNamespaceRequest,
};
use gantry_tests::patiently;
use prost_types::FieldMask;
use tonic::{Code, Request, Status};

use super::{ABC, NOTHING, info, put, read};
use crate::{Bed, assert_refused, of};

async fn update(bed: &Bed, labels: &[(&str, &str)], paths: &[&str]) -> Result<Info, Status> {
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let info = Info { digest: ABC.to_owned(), labels: labels.collect(), ..Info::default() };
    let paths = paths.iter().map(|path| (*path).to_owned()).collect();
    let request = UpdateRequest { info: Some(info), update_mask: Some(FieldMask { paths }) };
    let updated = bed.content().update(of("ns", request)).await?;
    Ok(updated.into_inner().info.unwrap())
}

#[tokio::test]
async fn a_blob_has_labels_in_each_namespace() {
    let Some(mut bed) = Bed::start().await else { return };
    for namespace in ["ns", "other"] {
        put(&bed, namespace, b"abc").await;
    }
    let before = info(&bed, "ns", ABC).await.unwrap();
    assert_eq!((before.size, &before.labels), (3, &[].into()));
    assert!(before.created_at.is_some() && before.created_at == before.updated_at);
    let made = update(&bed, &[("a.b/c", "1"), ("d", "2")], &[]).await.unwrap();
    let [c, d] =
        [("a.b/c", "1"), ("d", "2")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(made.labels, [c.clone(), d].into());
    assert_eq!(made.created_at, before.created_at);
    assert_ne!(made.updated_at, before.updated_at);
    let made = update(&bed, &[("d", ""), ("x", "y")], &["labels.d"]).await.unwrap();
    assert_eq!(made.labels, [c.clone()].into());
    let wrong = update(&bed, &[], &["size"]).await;
    let words = format!("cannot update \"size\" field on content info \"{ABC}\": invalid argument");
    assert_refused(wrong, Code::InvalidArgument, &words);
    let long = update(&bed, &[("k", &"v".repeat(4096))], &[]).await.unwrap_err();
    assert_eq!(long.code(), Code::InvalidArgument, "{long}");
    assert_eq!(info(&bed, "other", ABC).await.unwrap().labels, [].into());
    bed.server.kill().await;
    bed.server.start_again().await;
    assert_eq!(info(&bed, "ns", ABC).await.unwrap(), made);
    bed.server.finish().await;
}

#[tokio::test]
async fn wrong_digests_are_refused_in_containerds_words() {
    let Some(bed) = Bed::start().await else { return };
    let wrong = info(&bed, "ns", "abc").await;
    assert_refused(wrong, Code::InvalidArgument, r#""abc" failed validation: invalid argument"#);
    let wrong = read(&bed, "ns", "md5:00", 0, 0).await;
    let words = "md5:00: unsupported digest algorithm: invalid argument";
    assert_refused(wrong, Code::InvalidArgument, words);
    let request = DeleteContentRequest { digest: "sha256:00".to_owned() };
    let wrong = bed.content().delete(of("ns", request)).await;
    let words = "invalid checksum digest length: invalid argument";
    assert_refused(wrong, Code::InvalidArgument, words);
    let words = format!("content digest {ABC}: not found");
    assert_refused(info(&bed, "ns", ABC).await, Code::NotFound, &words);
    assert_refused(read(&bed, "ns", ABC, 0, 0).await, Code::NotFound, &words);
    assert_refused(update(&bed, &[], &[]).await, Code::NotFound, &words);
    let request = DeleteContentRequest { digest: ABC.to_owned() };
    assert_refused(bed.content().delete(of("ns", request)).await, Code::NotFound, &words);
    let request = ListContentRequest { filters: vec!["digest==".to_owned()] };
    let wrong = bed.content().list(of("ns", request)).await.unwrap_err();
    assert_eq!(wrong.code(), Code::InvalidArgument);
    let nowhere = bed.content().info(Request::new(InfoRequest { digest: ABC.to_owned() })).await;
    assert_eq!(nowhere.unwrap_err().code(), Code::FailedPrecondition);
    bed.server.finish().await;
}

#[tokio::test]
async fn a_part_of_a_blob_is_read() {
    let Some(bed) = Bed::start().await else { return };
    // More than a message has.
    let data: Vec<u8> =
        (0..1_000_003_u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[2]).collect();
    let digest = put(&bed, "ns", &data).await;
    assert_eq!(read(&bed, "ns", &digest, 0, 0).await.unwrap(), data);
    assert_eq!(read(&bed, "ns", &digest, 700_000, 200_000).await.unwrap(), data[700_000..900_000]);
    assert_eq!(read(&bed, "ns", &digest, -5, 7).await.unwrap(), data[..7]);
    assert_eq!(read(&bed, "ns", &digest, 1_000_000, i64::MAX).await.unwrap(), data[1_000_000..]);
    assert_eq!(read(&bed, "ns", &digest, 1_000_003, -1).await.unwrap(), b"");
    let past = read(&bed, "ns", &digest, 1_000_004, 0).await;
    assert_refused(past, Code::OutOfRange, "read past object length 1000003 bytes");
    assert_eq!(put(&bed, "ns", b"").await, NOTHING);
    assert_eq!(read(&bed, "ns", NOTHING, 0, 0).await.unwrap(), b"");
    bed.server.finish().await;
}

#[tokio::test]
async fn a_blob_is_deleted_and_told() {
    let Some(bed) = Bed::start().await else { return };
    for namespace in ["ns", "other"] {
        put(&bed, namespace, b"abc").await;
    }
    let request = SubscribeRequest {
        filters: vec![format!("topic==\"/content/delete\",event.digest==\"{ABC}\"")],
    };
    let mut events = bed.events().subscribe(request).await.unwrap().into_inner();
    let request = DeleteNamespaceRequest { name: "ns".to_owned() };
    let kept = bed.namespaces().delete(Request::new(request)).await;
    let words = "namespace \"ns\" must be empty, but it still has blobs: failed precondition";
    assert_refused(kept, Code::FailedPrecondition, words);
    let request = DeleteContentRequest { digest: ABC.to_owned() };
    bed.content().delete(of("ns", request)).await.unwrap();
    let event = patiently("the event", events.message()).await.unwrap().unwrap();
    assert_eq!(event.namespace, "ns");
    let told = from_any::<ContentDelete>(&event.event.unwrap()).unwrap().unwrap();
    assert_eq!(told.digest, ABC);
    assert_eq!(info(&bed, "ns", ABC).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(read(&bed, "other", ABC, 0, 0).await.unwrap(), b"abc");

    let request = PluginsRequest { filters: vec!["id~=content".to_owned()] };
    let plugins = bed.introspection().plugins(of("ns", request)).await.unwrap().into_inner();
    let names: Vec<_> =
        plugins.plugins.iter().map(|plugin| format!("{}/{}", plugin.r#type, plugin.id)).collect();
    let wanted = [
        "io.containerd.content.v1/content",
        "io.containerd.service.v1/content-service",
        "io.containerd.grpc.v1/content",
    ];
    assert_eq!(names, wanted);
    bed.server.finish().await;
}
