//! Records of content.

use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use super::{namespace, open};
use crate::{
    Algorithm, Beginning, Digest, Ingest, Kind, Labels, NewBlob, NewIngest, NodeKind, Resource,
    Store, StoreError,
    engine::FILE,
    filter::Filters,
    tables::{BLOB_FILES, BLOB_OWNERS, BLOBS, INGESTS, SNAPSHOT_CHILDREN, SNAPSHOTS},
};

fn digest(byte: u8) -> Digest {
    Digest::new(Algorithm::Sha256, &[byte; 32])
}

fn labels(labels: &[(&str, &str)]) -> Labels {
    labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn new_ingest(reference: &str) -> NewIngest {
    let reference = reference.to_owned();
    NewIngest { reference, total: 0, expected: None, lease: None, expires_at: at(100) }
}

fn new_blob(reference: &str, byte: u8) -> NewBlob {
    NewBlob {
        reference: reference.to_owned(),
        digest: digest(byte),
        size: 10,
        labels: labels(&[("n", &byte.to_string()), ("empty", "")]),
        lease: None,
        checked: Some(1),
    }
}

async fn begin(store: &Store, ns: &str, new: NewIngest) -> Result<Beginning, StoreError> {
    store.begin_ingest(&namespace(ns), new).await
}

async fn begun(store: &Store, ns: &str, new: NewIngest) -> Ingest {
    match begin(store, ns, new).await.unwrap() {
        Beginning::Begun(ingest) => ingest,
        Beginning::Exists => panic!("it is there"),
    }
}

/// Writes a blob.
async fn write(store: &Store, ns: &str, byte: u8) -> bool {
    begun(store, ns, new_ingest("w")).await;
    store.commit_blob(&namespace(ns), new_blob("w", byte)).await.unwrap()
}

#[track_caller]
fn assert_refused<T: std::fmt::Debug>(result: Result<T, StoreError>, kind: Kind, message: &str) {
    let error = result.unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (kind, message));
}

#[tokio::test]
async fn a_blob_is_its_namespaces_until_it_is_deleted() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let [a, b] = ["a", "b"].map(namespace);
    assert!(write(&store, "a", 1).await && write(&store, "b", 1).await);
    assert!(!write(&store, "a", 1).await, "it is there");
    let blob = store.blob(&a, &digest(1)).await.unwrap();
    assert_eq!((blob.size, &blob.labels), (10, &labels(&[("n", "1")])));
    assert_eq!(blob.created_at, blob.updated_at);

    let mask = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>();
    let new = labels(&[("k.a/b", "v"), ("other", "x")]);
    let updated = store.update_blob(&a, &digest(1), new.clone(), mask(&["labels.k.a/b"])).await;
    assert_eq!(updated.unwrap().labels, labels(&[("k.a/b", "v"), ("n", "1")]));
    let updated = store.update_blob(&a, &digest(1), new.clone(), mask(&["labels.n"])).await;
    assert_eq!(updated.unwrap().labels, labels(&[("k.a/b", "v")]));
    let wrong = store.update_blob(&a, &digest(1), new.clone(), mask(&["size"])).await;
    let message =
        format!("cannot update \"size\" field on content info \"{}\": invalid argument", digest(1));
    assert_refused(wrong, Kind::InvalidArgument, &message);
    let updated = store.update_blob(&a, &digest(1), new.clone(), Vec::new()).await.unwrap();
    assert_eq!(updated.labels, new);
    assert!(updated.updated_at > updated.created_at);
    // The other namespace has labels of its own.
    assert_eq!(store.blob(&b, &digest(1)).await.unwrap().labels, labels(&[("n", "1")]));
    let long = labels(&[("k", &"v".repeat(4096))]);
    let long = store.update_blob(&a, &digest(1), long, Vec::new()).await;
    assert_eq!(long.unwrap_err().kind(), Kind::InvalidArgument);

    let kept = store.delete_namespace(&a).await;
    let message = "namespace \"a\" must be empty, but it still has blobs: failed precondition";
    assert_refused(kept, Kind::FailedPrecondition, message);
    assert!(!store.delete_blob(&a, &digest(1), None).await.unwrap(), "the other one has it");
    let message = format!("content digest {}: not found", digest(1));
    assert_refused(store.blob(&a, &digest(1)).await, Kind::NotFound, &message);
    assert_refused(store.delete_blob(&a, &digest(1), None).await, Kind::NotFound, &message);
    assert_eq!(store.unknown_blobs(vec![digest(1), digest(2)]).await.unwrap(), [digest(2)]);
    assert!(store.delete_blob(&b, &digest(1), None).await.unwrap(), "nobody has it");
    assert_eq!(store.unknown_blobs(vec![digest(1)]).await.unwrap(), [digest(1)]);
    store.delete_namespace(&a).await.unwrap();
}

#[tokio::test]
async fn blobs_are_listed_page_by_page() {
    const MANY: u64 = 1100;
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let ns = namespace("ns");
    let name = |number: u64| {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&number.to_be_bytes());
        Digest::new(Algorithm::Sha256, &hash)
    };
    let write = async |number| {
        begun(&store, "ns", new_ingest(&format!("w{number}"))).await;
        let blob = NewBlob { digest: name(number), ..new_blob(&format!("w{number}"), 7) };
        store.commit_blob(&ns, blob).await.unwrap();
    };
    // Those that wait together are made durable together.
    for start in (0..MANY).step_by(100) {
        let writing = (start..start + 100).map(write);
        futures(writing.collect()).await;
    }
    let pages = async |filter: &str| {
        let filters = Filters::parse(&[filter]).unwrap();
        let (mut blobs, mut pages, mut after) = (Vec::new(), 0, None);
        loop {
            let page = store.blob_page(&ns, &filters, after).await.unwrap();
            blobs.extend(page.blobs.into_iter().map(|blob| blob.digest));
            (pages, after) = (pages + 1, page.after);
            if after.is_none() {
                return (blobs, pages);
            }
        }
    };
    let (all, count) = pages("").await;
    assert_eq!(all, (0..MANY).map(name).collect::<Vec<_>>());
    assert!(count > 1);
    assert_eq!(pages(&format!("digest=={}", name(3))).await.0, [name(3)]);
    assert_eq!(pages("labels.n==7,digest~=/0a0{48}$/").await.0.len(), 5);
    assert_eq!(pages("labels.n==8").await.0, []);
}

/// Has all of them done at the same time.
async fn futures<F: Future<Output = ()>>(futures: Vec<F>) {
    let mut waiting: Vec<_> = futures.into_iter().map(Box::pin).collect();
    std::future::poll_fn(move |cx| {
        waiting.retain_mut(|future| future.as_mut().poll(cx).is_pending());
        if waiting.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

#[tokio::test]
async fn a_write_is_shared_when_another_namespace_has_the_blob() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    write(&store, "a", 1).await;
    let expecting = |total| NewIngest { expected: Some(digest(1)), total, ..new_ingest("w") };
    let ingest = begun(&store, "b", expecting(0)).await;
    assert_eq!((ingest.is_shared, ingest.total), (true, 10));
    let ingest = begun(&store, "b", expecting(11)).await;
    assert_eq!((ingest.is_shared, ingest.total), (false, 11), "that is another size");
    assert_eq!(begin(&store, "a", expecting(0)).await.unwrap(), Beginning::Exists);

    begun(&store, "b", NewIngest { reference: "v".to_owned(), ..expecting(10) }).await;
    let shared = NewBlob { checked: None, ..new_blob("v", 1) };
    assert!(store.commit_blob(&namespace("b"), shared.clone()).await.unwrap());
    // When the other one is gone, so is what could be shared.
    store.drop_blob(&digest(1)).await.unwrap();
    for ns in ["a", "b"] {
        let gone = store.blob(&namespace(ns), &digest(1)).await;
        assert_eq!(gone.unwrap_err().kind(), Kind::NotFound);
    }
    begun(&store, "b", new_ingest("v")).await;
    let gone = store.commit_blob(&namespace("b"), shared).await;
    assert_eq!(gone.unwrap_err().kind(), Kind::NotFound);
    assert!(store.ingest(&namespace("b"), "v").await.is_ok(), "and nothing has changed");
}

#[tokio::test]
async fn leases_keep_writes_and_what_comes_of_them() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let ns = namespace("ns");
    let leased = |lease: &str| NewIngest { lease: Some(lease.to_owned()), ..new_ingest("leased") };
    let none = begin(&store, "ns", leased("l")).await;
    assert_refused(none, Kind::NotFound, "lease does not exist: not found");
    store.create_lease(&ns, "l", Labels::new()).await.unwrap();
    let ingest = begun(&store, "ns", leased("l")).await;
    assert_eq!((ingest.lease.as_str(), ingest.expires_at), ("l", None));
    begun(&store, "ns", new_ingest("other")).await;
    let resource = |kind: &str, id: &str| Resource { kind: kind.to_owned(), id: id.to_owned() };
    let kept = [resource("ingests", "leased")];
    assert_eq!(store.resource_page(&ns, "l", None).await.unwrap().resources, kept);

    let stale = async |seconds| {
        let Some(mut found) = store.collect(at(seconds)).await.unwrap() else { return Vec::new() };
        let nodes = found.next_piece(10).into_iter();
        nodes.filter(|node| node.kind == NodeKind::Ingest).map(|node| node.key).collect::<Vec<_>>()
    };
    assert_eq!(stale(99).await, [""; 0]);
    assert_eq!(stale(100).await, ["other"]);
    let blob = NewBlob { lease: Some("l".to_owned()), ..new_blob("leased", 1) };
    store.commit_blob(&ns, blob).await.unwrap();
    let kept = [resource("content", digest(1).as_str())];
    assert_eq!(store.resource_page(&ns, "l", None).await.unwrap().resources, kept);
    // A lease of a caller that wants to write an existing blob keeps that.
    store.create_lease(&ns, "m", Labels::new()).await.unwrap();
    let again = NewIngest { expected: Some(digest(1)), ..leased("m") };
    assert_eq!(begin(&store, "ns", again).await.unwrap(), Beginning::Exists);
    assert_eq!(store.resource_page(&ns, "m", None).await.unwrap().resources, kept);

    let lease = |id: &str| Some(id.to_owned());
    assert!(store.lease_blob(&ns, &digest(1), lease("l")).await.unwrap());
    let unknown = store.lease_blob(&ns, &digest(1), lease("none")).await;
    assert_refused(unknown, Kind::NotFound, "lease does not exist: not found");
    assert!(!store.lease_blob(&ns, &digest(2), lease("l")).await.unwrap());
    assert_eq!(store.resource_page(&ns, "l", None).await.unwrap().resources, kept);
    assert!(store.lease_blob(&ns, &digest(1), None).await.unwrap());
    // The lease of who deletes it keeps it no longer, and others do: it may come again.
    store.delete_blob(&ns, &digest(1), lease("m")).await.unwrap();
    assert_eq!(store.resource_page(&ns, "m", None).await.unwrap().resources, []);
    assert_eq!(store.resource_page(&ns, "l", None).await.unwrap().resources, kept);

    begun(&store, "ns", leased("l")).await;
    store.delete_lease(&ns, "l").await.unwrap();
    assert_eq!(stale(0).await, ["leased"]);
    store.delete_ingest(&ns, "leased").await.unwrap();
    let gone = store.delete_ingest(&ns, "leased").await;
    assert_refused(gone, Kind::NotFound, "reference leased: not found");
}

#[tokio::test]
async fn what_was_said_of_a_write_is_kept() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let ns = namespace("ns");
    let first = begun(&store, "ns", NewIngest { total: 7, ..new_ingest("w") }).await;
    let again = begun(&store, "ns", new_ingest("w")).await;
    assert_eq!((again.total, again.started_at), (7, first.started_at));
    let lies = begin(&store, "ns", NewIngest { total: 8, ..new_ingest("w") }).await;
    let message = "provided total differs from status: 8 != 7: failed precondition";
    assert_refused(lies, Kind::FailedPrecondition, message);
    let long = begin(&store, "ns", new_ingest(&"r".repeat(4097))).await;
    assert_eq!(long.unwrap_err().kind(), Kind::InvalidArgument);
    let late = NewIngest { total: 9, ..new_ingest(&"r".repeat(4096)) };
    begun(&store, "ns", NewIngest { total: 0, ..late.clone() }).await;
    assert_eq!(begun(&store, "ns", late).await.total, 0, "it was not said when it began");
    let page = store.ingest_page(&ns, &Filters::parse(&["ref==w"]).unwrap(), None).await.unwrap();
    assert_eq!(page.ingests, [again]);
    assert_eq!(store.ingest_names(|_, reference| reference.len()).await.unwrap(), [4096, 1]);
}

#[tokio::test]
async fn an_end_without_a_close_begins_an_epoch() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let first = store.open_content(1).await.unwrap();
    assert_eq!((first.was_closed, first.has_strays, first.is_same_boot), (false, true, false));
    write(&store, "ns", 1).await;
    assert!(store.is_blob_checked(&digest(1), first.epoch).await.unwrap());
    assert!(!store.is_blob_checked(&digest(2), first.epoch).await.unwrap());
    for has_strays in [true, false] {
        store.close_content(has_strays).await.unwrap();
        let second = store.open_content(1).await.unwrap();
        assert_eq!((second.was_closed, second.has_strays), (true, has_strays));
        assert_eq!((second.is_same_boot, second.epoch), (true, first.epoch));
    }
    let third = store.open_content(2).await.unwrap();
    assert_eq!((third.was_closed, third.is_same_boot), (false, false));
    assert!(!store.is_blob_checked(&digest(1), third.epoch).await.unwrap());
    store.set_blob_checked(&digest(1), third.epoch).await.unwrap();
    store.set_blob_checked(&digest(2), third.epoch).await.unwrap();
    assert!(store.is_blob_checked(&digest(1), third.epoch).await.unwrap());
    assert_eq!(store.unknown_blobs(vec![digest(2)]).await.unwrap(), [digest(2)]);
}

#[tokio::test]
async fn a_file_of_an_earlier_version_has_no_content() {
    let dir = TempDir::new().unwrap();
    let ns = namespace("ns");
    let store = open(dir.path());
    store.create_lease(&ns, "l", Labels::new()).await.unwrap();
    store.close().await;
    drop(store);
    let database = redb::Database::open(dir.path().join(FILE)).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.delete_table(BLOBS).unwrap();
    transaction.delete_table(BLOB_OWNERS).unwrap();
    transaction.delete_table(BLOB_FILES).unwrap();
    transaction.delete_table(INGESTS).unwrap();
    transaction.delete_table(SNAPSHOTS).unwrap();
    transaction.delete_table(SNAPSHOT_CHILDREN).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let store = open(dir.path());
    assert_eq!(store.lease_page(&ns, &Filters::default(), None).await.unwrap().leases.len(), 1);
    assert!(write(&store, "ns", 1).await);
    assert_eq!(store.snapshot_directories("overlayfs").await.unwrap(), []);
}
