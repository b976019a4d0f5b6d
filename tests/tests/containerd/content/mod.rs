//! Content: blobs, and writes of blobs under way.

mod failpoints;
mod lists;
mod service;
pub(crate) mod session;
mod write;

use gantry_api::containerd::{
    LEASE_METADATA,
    content::{Info, InfoRequest, ReadContentRequest, StatusRequest},
    leases::CreateRequest,
};
use session::{Session, commit, stat, write_at};
use tonic::{Request, Status};

use crate::{Bed, of};

/// Digests of `abc` and of nothing, by sha256sum(1).
const ABC: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
const NOTHING: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// That of `abc` by sha512sum(1).
const LONG_ABC: &str = "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
                        2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f";

/// A lease that keeps what tests write: all else is collected at some time.
pub(crate) const KEEPER: &str = "keeper";

/// Makes that lease, unless it is there. What needs it fails if that fails.
pub(crate) async fn keep(bed: &Bed, namespace: &str) {
    let request = CreateRequest { id: KEEPER.to_owned(), ..CreateRequest::default() };
    let _ = bed.leases().create(of(namespace, request)).await;
}

/// Writes a blob, and tells its digest.
pub(crate) async fn put(bed: &Bed, namespace: &str, data: &[u8]) -> String {
    let mut session = Session::begin(bed, namespace, "put").await;
    session.ask(commit(0, "", data)).await.unwrap().digest
}

pub(crate) async fn info(bed: &Bed, namespace: &str, digest: &str) -> Result<Info, Status> {
    let request = InfoRequest { digest: digest.to_owned() };
    let found = bed.content().info(of(namespace, request)).await?;
    Ok(found.into_inner().info.expect("an info"))
}

/// A part of a blob.
pub(crate) async fn read(
    bed: &Bed,
    namespace: &str,
    digest: &str,
    offset: i64,
    size: i64,
) -> Result<Vec<u8>, Status> {
    let request = ReadContentRequest { digest: digest.to_owned(), offset, size };
    let mut stream = bed.content().read(of(namespace, request)).await?.into_inner();
    let mut data = Vec::new();
    while let Some(message) = stream.message().await? {
        assert_eq!(message.offset, i64::try_from(data.len()).unwrap());
        data.extend(message.data);
    }
    Ok(data)
}

/// How many bytes of a write there are.
pub(crate) async fn offset(bed: &Bed, namespace: &str, reference: &str) -> Result<i64, Status> {
    let request = StatusRequest { r#ref: reference.to_owned() };
    let found = bed.content().status(of(namespace, request)).await?;
    Ok(found.into_inner().status.expect("a status").offset)
}

/// A request that names a lease.
pub(crate) fn leased<T>(namespace: &str, lease: &str, message: T) -> Request<T> {
    let mut request = of(namespace, message);
    request.metadata_mut().insert(LEASE_METADATA, lease.parse().expect("ASCII"));
    request
}
