//! Garbage collection: what is kept, what goes, and when.

mod chaos;
mod failpoints;
mod failures;
mod reasons;

use std::{fs, path::Path};

use gantry_api::containerd::{
    content::{Info, UpdateRequest},
    leases::{AddResourceRequest, CreateRequest, DeleteRequest, Resource},
};
use tonic::{Code, Status};

use crate::{
    Bed,
    content::{
        info, leased,
        session::{Session, commit},
    },
    of,
};

const EXPIRE: &str = "containerd.io/gc.expire";

/// Makes a lease.
async fn lease(bed: &Bed, namespace: &str, id: &str, labels: &[(&str, &str)]) {
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let request = CreateRequest { id: id.to_owned(), labels: labels.collect() };
    bed.leases().create(of(namespace, request)).await.unwrap();
}

async fn keep(bed: &Bed, namespace: &str, lease: &str, kind: &str, id: &str) {
    let resource = Some(Resource { r#type: kind.to_owned(), id: id.to_owned() });
    let request = AddResourceRequest { id: lease.to_owned(), resource };
    bed.leases().add_resource(of(namespace, request)).await.unwrap();
}

/// Deletes a lease; what it alone has kept is gone then.
async fn release(bed: &Bed, namespace: &str, id: &str) -> Result<(), Status> {
    let request = DeleteRequest { id: id.to_owned(), sync: true };
    bed.leases().delete(of(namespace, request)).await.map(drop)
}

/// Writes a blob under a lease, with labels that refer to these; its digest.
async fn put(
    bed: &Bed,
    namespace: &str,
    lease: &str,
    data: &[u8],
    refers_to: &[&str],
) -> Result<String, Status> {
    let to = |stream| leased(namespace, lease, stream);
    let mut session = Session::try_begin(bed.content(), to, &format!("put {data:?}")).await?;
    let mut request = commit(0, "", data);
    let label = |(number, digest): (usize, &&str)| {
        (format!("containerd.io/gc.ref.content.{number}"), (*digest).to_owned())
    };
    request.labels = refers_to.iter().enumerate().map(label).collect();
    Ok(session.ask(request).await?.digest)
}

/// Sets all labels of a blob.
async fn relabel(bed: &Bed, namespace: &str, digest: &str, labels: &[(&str, &str)]) {
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let info = Info { digest: digest.to_owned(), labels: labels.collect(), ..Info::default() };
    let request = UpdateRequest { info: Some(info), update_mask: None };
    bed.content().update(of(namespace, request)).await.unwrap();
}

/// Which of these the namespace has.
async fn there(bed: &Bed, namespace: &str, digests: &[&str]) -> Vec<bool> {
    let mut there = Vec::new();
    for digest in digests {
        let found = info(bed, namespace, digest).await;
        assert!(found.as_ref().err().is_none_or(|error| error.code() == Code::NotFound));
        there.push(found.is_ok());
    }
    there
}

/// How many files of blobs and of writes there are.
fn files(bed: &Bed) -> usize {
    let count = |dir: &Path| fs::read_dir(dir).unwrap().count();
    let content = bed.server.root().join("content");
    count(&content.join("blobs/sha256")) + count(&content.join("ingest"))
}
