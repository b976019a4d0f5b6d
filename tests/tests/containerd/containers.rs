//! One container: how it is created, changed and deleted.

use std::time::{Duration, SystemTime};

use gantry_api::containerd::{
    containers::{
        Container, DeleteContainerRequest, GetContainerRequest, ListContainersRequest,
        UpdateContainerRequest,
    },
    namespaces::{CreateNamespaceRequest, Namespace},
};
use prost_types::{FieldMask, Timestamp};
use tonic::{Code, Request};

use crate::{Bed, any, assert_refused, container, of};

async fn update(
    bed: &Bed,
    container: Container,
    paths: &[&str],
) -> Result<Container, tonic::Status> {
    let paths: Vec<_> = paths.iter().map(|path| (*path).to_owned()).collect();
    // Go's clients send none for all.
    let update_mask = (!paths.is_empty()).then_some(FieldMask { paths });
    let request = UpdateContainerRequest { container: Some(container), update_mask };
    let updated = bed.containers().update(of("ns", request)).await?;
    Ok(updated.into_inner().container.unwrap())
}

async fn delete(bed: &Bed, namespace: &str, id: &str) -> Result<(), tonic::Status> {
    let request = DeleteContainerRequest { id: id.to_owned() };
    bed.containers().delete(of(namespace, request)).await.map(drop)
}

fn time(timestamp: Option<Timestamp>) -> SystemTime {
    timestamp.unwrap().try_into().unwrap()
}

#[tokio::test]
async fn a_container_is_kept_as_it_was_created() {
    let Some(bed) = Bed::start().await else { return };
    let before = SystemTime::now();
    let zero = Timestamp { seconds: -62_135_596_800, nanos: 0 };
    let mut given = container("web-1");
    given.labels.insert("a.b/c".to_owned(), "1".to_owned());
    given.image = "docker.io/library/busybox:latest".to_owned();
    given.snapshotter = "overlayfs".to_owned();
    given.snapshot_key = "web-1".to_owned();
    given.sandbox = "pod".to_owned();
    // Go's zero time, and a moment that protobuf has and a clock does not.
    given.created_at = Some(zero);
    given.updated_at = Some(Timestamp { seconds: 253_402_300_799, nanos: 999_999_999 });
    // Of types that nobody here knows, and no message at all.
    given.runtime.as_mut().unwrap().options = Some(any("a/b", b"\xff\x00\x80"));
    given.extensions.insert("x".to_owned(), any("", b""));
    given.extensions.insert("y.z".to_owned(), any("types.example/unknown", &[0xff; 300]));
    let created = bed.create("ns", given.clone()).await.unwrap();
    let (created_at, updated_at) = (time(created.created_at), time(created.updated_at));
    assert_eq!(created_at, updated_at);
    let margin = Duration::from_secs(1);
    assert!(created_at > before - margin && created_at < SystemTime::now() + margin);
    given.created_at = created.created_at;
    given.updated_at = created.updated_at;
    assert_eq!(created, given);
    assert_eq!(bed.get("ns", "web-1").await.unwrap(), given);
    bed.server.finish().await;
}

#[tokio::test]
async fn a_namespace_names_the_runtime_of_who_names_none() {
    let Some(bed) = Bed::start().await else { return };
    let nameless = |id: &str| Container { runtime: None, ..container(id) };
    let none = bed.create("ns", nameless("a")).await.unwrap_err();
    assert_eq!(none.code(), Code::InvalidArgument);
    let name = "io.containerd.runc.v1".to_owned();
    let labels = [("containerd.io/defaults/runtime".to_owned(), name.clone())].into();
    let namespace = Some(Namespace { name: "ns".to_owned(), labels });
    bed.namespaces().create(CreateNamespaceRequest { namespace }).await.unwrap();
    let runtime = |container: Container| container.runtime.unwrap().name;
    assert_eq!(runtime(bed.create("ns", nameless("a")).await.unwrap()), name);
    assert_eq!(runtime(bed.get("ns", "a").await.unwrap()), name);
    // Who names one has that.
    let named = bed.create("ns", container("b")).await.unwrap();
    assert_eq!(runtime(named), "io.containerd.runc.v2");
    assert!(bed.create("other", nameless("a")).await.is_err());
    bed.server.finish().await;
}

#[tokio::test]
async fn a_spec_of_a_mebibyte_and_ten_thousand_labels_fit() {
    let Some(bed) = Bed::start().await else { return };
    let mut given = container("large");
    given.spec = Some(any("s", &vec![b'x'; 5 << 20]));
    given.labels = (0..10_000).map(|n| (format!("label-{n}"), "v".repeat(100))).collect();
    let created = bed.create("ns", given.clone()).await.unwrap();
    assert_eq!((&created.spec, &created.labels), (&given.spec, &given.labels));
    assert_eq!(bed.get("ns", "large").await.unwrap(), created);
    given.id = "larger".to_owned();
    given.spec = Some(any("s", &vec![b'x'; 17 << 20]));
    let error = bed.create("ns", given).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument, "{error:?}");
    assert!(error.message().contains("container.spec.value"), "{error:?}");
    assert_refused(
        bed.get("ns", "larger").await,
        Code::NotFound,
        r#"container "larger" in namespace "ns": not found"#,
    );
    bed.server.finish().await;
}

#[tokio::test]
async fn what_is_wrong_is_named_in_the_words_of_containerd() {
    let Some(bed) = Bed::start().await else { return };
    bed.create("ns", container("c")).await.unwrap();
    let again = bed.create("ns", container("c")).await;
    assert_refused(again, Code::AlreadyExists, r#"container "c": already exists"#);
    let no_spec = Container { spec: None, ..container("d") };
    for (wrong, words) in [
        (
            container(""),
            "create container failed validation: container.ID: identifier must not be empty: invalid argument",
        ),
        (
            container("a/b"),
            r#"create container failed validation: container.ID: identifier "a/b" must match ^[A-Za-z0-9]+(?:[._-](?:[A-Za-z0-9]+))*$: invalid argument"#,
        ),
        (
            no_spec,
            "create container failed validation: container.Spec must be set: invalid argument",
        ),
        (
            Container { runtime: None, ..container("d") },
            "create container failed validation: container.Runtime.Name must be set: invalid argument",
        ),
        (
            Container { snapshot_key: "k".into(), ..container("d") },
            "create container failed validation: container.Snapshotter must be set if container.SnapshotKey is set: invalid argument",
        ),
    ] {
        assert_refused(bed.create("ns", wrong).await, Code::InvalidArgument, words);
    }
    let missing = r#"container "x" in namespace "ns": not found"#;
    assert_refused(bed.get("ns", "x").await, Code::NotFound, missing);
    let unknown = update(&bed, container("x"), &[]).await;
    assert_refused(unknown, Code::NotFound, r#"container "x": not found"#);
    assert_refused(delete(&bed, "ns", "x").await, Code::NotFound, missing);
    delete(&bed, "ns", "c").await.unwrap();
    let gone = r#"container "c" in namespace "ns": not found"#;
    assert_refused(delete(&bed, "ns", "c").await, Code::NotFound, gone);
    bed.server.finish().await;
}

#[tokio::test]
async fn a_mask_says_what_is_changed() {
    let Some(bed) = Bed::start().await else { return };
    let mut given = container("c");
    given.labels = [("a", "1"), ("b.c/d", "2")].map(|(k, v)| (k.into(), v.into())).into();
    given.image = "old".to_owned();
    let created = bed.create("ns", given).await.unwrap();
    let mut new = container("c");
    // As Go's clients do it with a mask.
    new.runtime = Some(Default::default());
    new.labels.insert("b.c/d".to_owned(), "3".to_owned());
    new.image = "new".to_owned();
    let updated = update(&bed, new.clone(), &["labels.b.c/d", "labels.a"]).await.unwrap();
    assert_eq!(updated.labels, new.labels, "a label that is named and not sent is removed");
    assert_eq!((&*updated.image, updated.created_at), ("old", created.created_at));
    assert!(time(updated.updated_at) >= time(created.updated_at));
    assert_eq!(updated.runtime, created.runtime);
    let updated = update(&bed, new.clone(), &["image"]).await.unwrap();
    assert_eq!(updated.image, "new");
    let refused = update(&bed, new.clone(), &["image", "runtime.options"]).await;
    let words = r#"cannot update "runtime.options" field on "c": invalid argument"#;
    assert_refused(refused, Code::InvalidArgument, words);
    let words = "container.Runtime.Name field is immutable: invalid argument";
    assert_refused(update(&bed, new.clone(), &[]).await, Code::InvalidArgument, words);
    new.runtime.clone_from(&created.runtime);
    new.extensions.insert("x".to_owned(), any("t", b"v"));
    new.labels.clear();
    let all = update(&bed, new.clone(), &[]).await.unwrap();
    assert_eq!((&all.labels, &all.extensions), (&new.labels, &new.extensions));
    assert_eq!(bed.get("ns", "c").await.unwrap(), all);
    bed.server.finish().await;
}

#[tokio::test]
async fn two_namespaces_may_have_the_same_id() {
    let Some(bed) = Bed::start().await else { return };
    for namespace in ["moby", "k8s.io", "types"] {
        let image = namespace.to_owned();
        bed.create(namespace, Container { image, ..container("c") }).await.unwrap();
    }
    delete(&bed, "moby", "c").await.unwrap();
    let gone = r#"container "c" in namespace "moby": not found"#;
    assert_refused(bed.get("moby", "c").await, Code::NotFound, gone);
    assert_eq!(bed.get("types", "c").await.unwrap().image, "types");
    // Those of types.API have a namespace that nobody can name.
    assert!(bed.server.service.state("c").await.is_err());
    bed.server.finish().await;
}

#[tokio::test]
async fn a_namespace_is_required() {
    let Some(bed) = Bed::start().await else { return };
    let required = "namespace is required: failed precondition";
    let get = || GetContainerRequest { id: "c".to_owned() };
    let got = bed.containers().get(Request::new(get())).await;
    assert_refused(got, Code::FailedPrecondition, required);
    assert_refused(bed.containers().get(of("", get())).await, Code::FailedPrecondition, required);
    let list = ListContainersRequest::default();
    let listed = bed.containers().list_stream(Request::new(list)).await;
    assert_refused(listed.map(drop), Code::FailedPrecondition, required);
    let wrong = bed.containers().get(of("a..b", get())).await;
    let words = r#"namespace validation: identifier "a..b" must match ^[A-Za-z0-9]+(?:[._-](?:[A-Za-z0-9]+))*$: invalid argument"#;
    assert_refused(wrong, Code::InvalidArgument, words);
    bed.server.finish().await;
}
