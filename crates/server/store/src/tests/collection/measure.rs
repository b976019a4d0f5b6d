//! How long a collection of many blobs takes, and how long others wait for it.

use std::time::{Duration, Instant, SystemTime};

use tempfile::TempDir;

use crate::{
    Algorithm, Digest, Labels, NewBlob, NewIngest, Store,
    tests::{namespace, open},
};

const BLOBS: u32 = 10_000;

/// As the server.
const PIECE: usize = 256;

async fn put(store: Store, number: u32) {
    let ns = namespace("ns");
    let mut hash = [0; 32];
    hash[..4].copy_from_slice(&number.wrapping_mul(2_654_435_761).to_be_bytes());
    let reference = format!("w{number}");
    let new = NewIngest {
        reference: reference.clone(),
        total: 0,
        expected: None,
        lease: None,
        expires_at: SystemTime::now() + Duration::from_secs(3600),
    };
    store.begin_ingest(&ns, new).await.unwrap();
    let label = ("containerd.io/distribution.source.docker.io", "library/busybox");
    let blob = NewBlob {
        reference,
        digest: Digest::new(Algorithm::Sha256, &hash),
        size: 1,
        labels: Labels::from([(label.0.to_owned(), label.1.to_owned())]),
        lease: None,
        checked: Some(1),
    };
    store.commit_blob(&ns, blob).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures; run by hand, with --release"]
async fn many_blobs() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    for start in (0..BLOBS).step_by(100) {
        let writing = (start..start + 100).map(|number| tokio::spawn(put(store.clone(), number)));
        for one in writing.collect::<Vec<_>>() {
            one.await.unwrap();
        }
    }
    let began = Instant::now();
    let other = tokio::spawn(waits(store.clone()));
    let mut collection = store.collect(SystemTime::now()).await.unwrap().unwrap();
    let marked = began.elapsed();
    let mut removed = 0;
    loop {
        let nodes = collection.next_piece(PIECE);
        if nodes.is_empty() {
            break;
        }
        removed += collection.remove(nodes).await.unwrap().len();
    }
    collection.end().await.unwrap();
    let all = began.elapsed();
    other.abort();
    store.delete_lease(&namespace("ns"), "over").await.ok();
    eprintln!("{removed} removed: marked after {marked:?}, all after {all:?}");
}

/// How long a change takes, again and again.
async fn waits(store: Store) {
    let (ns, mut longest) = (namespace("ns"), Duration::ZERO);
    for number in 0.. {
        let began = Instant::now();
        store.create_lease(&ns, &format!("l{number}"), Labels::new()).await.unwrap();
        if began.elapsed() > longest {
            longest = began.elapsed();
            eprintln!("change {number} took {longest:?}");
        }
    }
}
