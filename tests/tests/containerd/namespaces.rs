//! Namespaces, which come with their first object.

use std::collections::BTreeMap;

use gantry_api::containerd::{
    containers::DeleteContainerRequest,
    namespaces::{
        CreateNamespaceRequest, DeleteNamespaceRequest, GetNamespaceRequest, ListNamespacesRequest,
        Namespace, UpdateNamespaceRequest,
    },
};
use prost_types::FieldMask;
use tonic::{Code, Status};

use crate::{Bed, assert_refused, container, of};

type Labels = BTreeMap<String, String>;

fn labels(labels: &[(&str, &str)]) -> Labels {
    labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn namespace(name: &str, of: &[(&str, &str)]) -> Option<Namespace> {
    Some(Namespace { name: name.to_owned(), labels: labels(of) })
}

async fn create(bed: &Bed, namespace: Option<Namespace>) -> Result<Option<Namespace>, Status> {
    let created = bed.namespaces().create(CreateNamespaceRequest { namespace }).await?;
    Ok(created.into_inner().namespace)
}

async fn get(bed: &Bed, name: &str) -> Option<Namespace> {
    let request = GetNamespaceRequest { name: name.to_owned() };
    bed.namespaces().get(request).await.unwrap().into_inner().namespace
}

async fn names(bed: &Bed) -> Vec<String> {
    let listed = bed.namespaces().list(ListNamespacesRequest::default()).await.unwrap();
    listed.into_inner().namespaces.into_iter().map(|namespace| namespace.name).collect()
}

async fn update(
    bed: &Bed,
    namespace: Option<Namespace>,
    paths: &[&str],
) -> Result<Option<Namespace>, Status> {
    let paths = paths.iter().map(|path| (*path).to_owned()).collect();
    let request = UpdateNamespaceRequest { namespace, update_mask: Some(FieldMask { paths }) };
    Ok(bed.namespaces().update(request).await?.into_inner().namespace)
}

async fn delete(bed: &Bed, name: &str) -> Result<(), Status> {
    let request = DeleteNamespaceRequest { name: name.to_owned() };
    bed.namespaces().delete(request).await.map(drop)
}

#[tokio::test]
async fn a_namespace_has_labels() {
    let Some(bed) = Bed::start().await else { return };
    let runtime = [("containerd.io/defaults/runtime", "io.containerd.runc.v2")];
    let made = create(&bed, namespace("made", &runtime)).await.unwrap();
    assert_eq!(made, namespace("made", &runtime));
    assert_eq!(get(&bed, "made").await, made);
    let again = create(&bed, namespace("made", &[])).await;
    assert_refused(again, Code::AlreadyExists, r#"namespace "made": already exists"#);
    let updated = update(&bed, namespace("made", &[("a", "1"), ("b", "2")]), &["labels.a"]).await;
    let both = namespace("made", &[("a", "1"), runtime[0]]);
    assert_eq!(updated.unwrap(), both);
    assert_eq!(get(&bed, "made").await, both);
    let wrong = update(&bed, namespace("made", &[]), &["name"]).await;
    assert_refused(wrong, Code::InvalidArgument, r#"cannot update "name" field: invalid argument"#);
    let replaced = update(&bed, namespace("made", &[("c", "3")]), &[]).await.unwrap();
    assert_eq!(replaced, namespace("made", &[("c", "3")]));
    // As in containerd, an update makes it.
    update(&bed, namespace("new", &[("c", "3")]), &[]).await.unwrap();
    assert_eq!(names(&bed).await, ["made", "new"]);
    for wrong in [namespace("a/b", &[]), namespace("", &[]), None] {
        let error = create(&bed, wrong).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{error:?}");
        assert!(error.message().starts_with("identifier "), "{error:?}");
    }
    let long = create(&bed, namespace("n", &[("k", &"v".repeat(5000))])).await.unwrap_err();
    assert_eq!(long.code(), Code::InvalidArgument);
    bed.server.finish().await;
}

#[tokio::test]
async fn a_namespace_comes_with_its_first_object_and_goes_when_it_is_empty() {
    let Some(bed) = Bed::start().await else { return };
    // No name is unknown to Get.
    assert_eq!(get(&bed, "moby").await, namespace("moby", &[]));
    assert_eq!(get(&bed, "a/b").await, namespace("a/b", &[]));
    assert_eq!(names(&bed).await, [""; 0]);
    bed.create("moby", container("c")).await.unwrap();
    assert_eq!(names(&bed).await, ["moby"]);
    let full =
        r#"namespace "moby" must be empty, but it still has containers: failed precondition"#;
    assert_refused(delete(&bed, "moby").await, Code::FailedPrecondition, full);
    let request = DeleteContainerRequest { id: "c".to_owned() };
    bed.containers().delete(of("moby", request)).await.unwrap();
    assert_eq!(names(&bed).await, ["moby"], "it stays without objects");
    delete(&bed, "moby").await.unwrap();
    assert_eq!(names(&bed).await, [""; 0]);
    for unknown in ["moby", "a/b"] {
        let gone = format!("namespace {unknown:?}: not found");
        assert_refused(delete(&bed, unknown).await, Code::NotFound, &gone);
    }
    bed.server.finish().await;
}
