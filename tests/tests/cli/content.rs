//! `gantry content`.

use std::{fs, path::PathBuf};

use gantry_api::containerd::{
    NAMESPACE_METADATA,
    content::{WriteAction, WriteContentRequest, content_client::ContentClient},
};
use gantry_tests::Runtime;
use rustix::process::Signal;
use tonic::Request;

use crate::{Bed, output, stderr, stdout, succeeds};

/// Digests of `abc` and of `abd`, by sha256sum(1).
const ABC: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
const ABD: &str = "sha256:a52d159f262b2c6ddb724a61840befc36eb30c88877a4030b65cbe86298449c9";

async fn put(bed: &Bed, namespace: &str, data: &str) {
    let message = WriteContentRequest {
        action: WriteAction::Commit.into(),
        r#ref: "put".to_owned(),
        data: data.as_bytes().to_vec(),
        // It is kept, though no image names it.
        labels: [("containerd.io/gc.root".to_owned(), "1".to_owned())].into(),
        ..WriteContentRequest::default()
    };
    let mut request = Request::new(tokio_stream::once(message));
    request.metadata_mut().insert(NAMESPACE_METADATA, namespace.parse().unwrap());
    let mut client = ContentClient::new(bed.server.service.channel());
    let mut answers = client.write(request).await.unwrap().into_inner();
    while answers.message().await.unwrap().is_some() {}
}

fn file(bed: &Bed, digest: &str) -> PathBuf {
    bed.server.root().join("content/blobs").join(digest.replace(':', "/"))
}

#[tokio::test]
async fn damaged_content_is_found() {
    let Some(mut bed) = Bed::make(Runtime::Runc).await else { return };
    let verify = ["content", "verify"];
    assert_eq!(succeeds(&bed.gantry(&verify)), "0 blobs, 0B: all are whole\n");
    for (namespace, data) in [("a", "abc"), ("b", "abc"), ("b", "abd"), ("c", "")] {
        put(&bed, namespace, data).await;
    }
    assert_eq!(succeeds(&bed.gantry(&verify)), "3 blobs, 6B: all are whole\n");
    // Of the same size: a server that knows the file from before does not see that.
    fs::write(file(&bed, ABC), "abx").unwrap();
    let found = output(&bed.gantry(&verify));
    assert_eq!(found.status.code(), Some(1), "{found:?}");
    assert!(
        stdout(&found).starts_with(&format!("{ABC}  a,b  its 3 bytes have the digest ")),
        "{found:?}"
    );
    assert_eq!(stderr(&found), "gantry: 1 of 3 blobs are damaged\n");
    let other = [&verify[..], &["--namespace", "c"]].concat();
    assert_eq!(succeeds(&bed.gantry(&other)), "1 blobs, 0B: all are whole\n");
    // Namespace b has the same file, so that it is deleted there, too.
    let remove = [&verify[..], &["--remove", "--namespace", "a"]].concat();
    let removed = output(&bed.gantry(&remove));
    assert_eq!(removed.status.code(), Some(1), "{removed:?}");
    assert!(stdout(&removed).starts_with(&format!("{ABC}  a  its 3 bytes have ")), "{removed:?}");
    assert_eq!(succeeds(&bed.gantry(&verify)), "2 blobs, 3B: all are whole\n");
    // A server that was killed compares files itself.
    bed.server.end(Signal::KILL).await;
    fs::write(file(&bed, ABD), "abx").unwrap();
    bed.server.start_again().await;
    let found = output(&bed.gantry(&verify));
    assert_eq!(found.status.code(), Some(1), "{found:?}");
    assert!(stdout(&found).starts_with(&format!("{ABD}  b  ")), "{found:?}");
    assert!(stdout(&found).contains("its file was damaged, and is removed"), "{found:?}");
    put(&bed, "b", "abd").await;
    assert_eq!(succeeds(&bed.gantry(&verify)), "2 blobs, 3B: all are whole\n");
    bed.finish().await;
}
