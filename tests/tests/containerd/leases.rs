//! Leases, until they are deleted or end.

use std::time::{Duration, SystemTime};

use gantry_api::containerd::leases::{
    AddResourceRequest, CreateRequest, DeleteRequest, DeleteResourceRequest, Lease, ListRequest,
    ListResourcesRequest, Resource,
};
use gantry_tests::patiently;
use tonic::{Code, Request, Status};

use crate::{Bed, assert_refused, of};

const EXPIRE: &str = "containerd.io/gc.expire";

async fn create(bed: &Bed, id: &str, labels: &[(&str, &str)]) -> Result<Lease, Status> {
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let request = CreateRequest { id: id.to_owned(), labels: labels.collect() };
    Ok(bed.leases().create(of("ns", request)).await?.into_inner().lease.unwrap())
}

async fn ids(bed: &Bed, filters: &[&str]) -> Result<Vec<String>, Status> {
    let filters = filters.iter().map(|filter| (*filter).to_owned()).collect();
    let listed = bed.leases().list(of("ns", ListRequest { filters })).await?;
    Ok(listed.into_inner().leases.into_iter().map(|lease| lease.id).collect())
}

async fn delete(bed: &Bed, id: &str) -> Result<(), Status> {
    let request = DeleteRequest { id: id.to_owned(), sync: true };
    bed.leases().delete(of("ns", request)).await.map(drop)
}

fn resource(kind: &str, id: &str) -> Resource {
    Resource { id: id.to_owned(), r#type: kind.to_owned() }
}

async fn add(bed: &Bed, lease: &str, resource: Resource) -> Result<(), Status> {
    let request = AddResourceRequest { id: lease.to_owned(), resource: Some(resource) };
    bed.leases().add_resource(of("ns", request)).await.map(drop)
}

async fn resources(bed: &Bed, lease: &str) -> Result<Vec<Resource>, Status> {
    let request = ListResourcesRequest { id: lease.to_owned() };
    Ok(bed.leases().list_resources(of("ns", request)).await?.into_inner().resources)
}

/// A moment as in RFC 3339, by date(1).
pub(crate) fn rfc3339(moment: SystemTime) -> String {
    let moment = moment.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let moment = format!("@{}.{:09}", moment.as_secs(), moment.subsec_nanos());
    let output = std::process::Command::new("date")
        .args(["--utc", "--date", &moment, "+%Y-%m-%dT%H:%M:%S.%NZ"])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn a_lease_holds_what_it_names() {
    let Some(bed) = Bed::start().await else { return };
    let made = create(&bed, "l", &[("containerd.io/gc.flat", "")]).await.unwrap();
    let chosen = create(&bed, "", &[("x", "1")]).await.unwrap();
    assert!(!chosen.id.is_empty() && made.created_at.is_some());
    let again = create(&bed, "l", &[]).await;
    assert_refused(again, Code::AlreadyExists, r#"lease "l": already exists"#);
    assert_eq!(ids(&bed, &["labels.x==1"]).await.unwrap(), [&*chosen.id]);
    assert_eq!(ids(&bed, &["id==l"]).await.unwrap(), ["l"]);
    assert_eq!(ids(&bed, &["id=="]).await.unwrap_err().code(), Code::InvalidArgument);

    let blob = resource("content", &format!("sha256:{}", "0a".repeat(32)));
    let snapshot = resource("snapshots/overlayfs", "extract-1 sha256:2");
    for added in [&snapshot, &blob, &snapshot] {
        add(&bed, "l", added.clone()).await.unwrap();
    }
    assert_eq!(resources(&bed, "l").await.unwrap(), [blob.clone(), snapshot.clone()]);
    let unknown = add(&bed, "l", resource("leases", "x")).await;
    let words = "resource type leases not supported yet: not implemented";
    assert_refused(unknown, Code::Unimplemented, words);
    for wrong in [resource("content", "x"), resource("snapshots", "x"), Resource::default()] {
        assert_eq!(add(&bed, "l", wrong).await.unwrap_err().code(), Code::InvalidArgument);
    }
    for _ in 0..2 {
        let request = DeleteResourceRequest { id: "l".to_owned(), resource: Some(blob.clone()) };
        bed.leases().delete_resource(of("ns", request)).await.unwrap();
    }
    assert_eq!(resources(&bed, "l").await.unwrap(), [snapshot]);
    delete(&bed, "l").await.unwrap();
    let gone = r#"lease "l": not found"#;
    assert_refused(delete(&bed, "l").await, Code::NotFound, gone);
    assert_refused(add(&bed, "l", blob).await, Code::NotFound, gone);
    assert_refused(resources(&bed, "l").await, Code::NotFound, gone);
    let nowhere = bed.leases().list(Request::new(ListRequest::default())).await;
    let required = "namespace is required: failed precondition";
    assert_refused(nowhere, Code::FailedPrecondition, required);
    bed.server.finish().await;
}

#[tokio::test]
async fn a_lease_ends_when_its_label_says() {
    let Some(mut bed) = Bed::start().await else { return };
    let in_time = |seconds| rfc3339(SystemTime::now() + Duration::from_secs(seconds));
    create(&bed, "for-ever", &[]).await.unwrap();
    create(&bed, "later", &[(EXPIRE, &in_time(86_400))]).await.unwrap();
    create(&bed, "over", &[(EXPIRE, "2001-01-01T00:00:00Z")]).await.unwrap();
    create(&bed, "soon", &[(EXPIRE, &in_time(1))]).await.unwrap();
    only_two_stay(&bed).await;
    // Of one that ends while no server runs.
    create(&bed, "meanwhile", &[(EXPIRE, &in_time(1))]).await.unwrap();
    bed.server.kill().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    bed.server.start_again().await;
    only_two_stay(&bed).await;
    bed.server.finish().await;
}

async fn only_two_stay(bed: &Bed) {
    let ending = async {
        // The end of a lease has no event.
        while ids(bed, &[]).await.unwrap() != ["for-ever", "later"] {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    patiently("leases end", ending).await;
}
