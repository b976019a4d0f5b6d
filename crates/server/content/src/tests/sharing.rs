//! Blobs of several namespaces.

use gantry_domain::Kind;
use gantry_store::{Digest, Labels};

use super::{Bed, digest, namespace, read};
use crate::{ContentError, Writer};

async fn other(bed: &Bed, total: u64, expected: Option<&Digest>) -> Result<Writer, ContentError> {
    let expected = expected.cloned();
    bed.content.writer(&namespace("other"), "w".to_owned(), total, expected, None).await
}

#[tokio::test]
async fn a_blob_of_another_namespace_is_there_at_once() {
    let bed = Bed::new().await;
    let blob = bed.put(b"abc").await;
    let hidden = read(&bed.content, "other", &blob, 0, None).await;
    assert_eq!(hidden.unwrap_err().kind(), Kind::NotFound);

    let writer = other(&bed, 0, Some(&blob)).await.unwrap();
    assert_eq!((writer.offset(), writer.digest()), (3, blob.clone()));
    let status = bed.content.status(&namespace("other"), "w").await.unwrap();
    assert_eq!((status.offset, status.ingest.total), (3, 3));
    let wrong = writer.commit(4, None, Labels::new()).await.unwrap_err();
    assert_eq!(wrong.to_string(), "\"w\" failed size validation: 3 != 4: failed precondition");
    let writer = other(&bed, 3, Some(&blob)).await.unwrap();
    writer.commit(3, Some(blob.clone()), Labels::new()).await.unwrap();
    assert_eq!(read(&bed.content, "other", &blob, 0, None).await.unwrap(), b"abc");

    // Its file goes with the last one.
    bed.content.delete(&namespace("ns"), &blob, None).await.unwrap();
    assert_eq!(bed.get(&blob).await.unwrap_err().kind(), Kind::NotFound);
    assert_eq!(read(&bed.content, "other", &blob, 0, None).await.unwrap(), b"abc");
    bed.content.delete(&namespace("other"), &blob, None).await.unwrap();
    assert!(!bed.blob(&blob).exists());
    let gone = bed.content.delete(&namespace("other"), &blob, None).await.unwrap_err();
    assert_eq!(gone.to_string(), format!("content digest {blob}: not found"));
}

#[tokio::test]
async fn a_client_may_write_it_all_the_same() {
    let bed = Bed::new().await;
    let blob = bed.put(b"abc").await;
    // Behind what counts as written it is another blob.
    let mut writer = other(&bed, 0, Some(&blob)).await.unwrap();
    writer.write(b"d".to_vec()).await.unwrap();
    assert_eq!((writer.offset(), writer.digest()), (4, digest(b"abcd")));
    let wrong = writer.commit(0, Some(blob.clone()), Labels::new()).await.unwrap_err();
    assert!(matches!(wrong, ContentError::Digest { .. }), "{wrong}");
    // From the beginning it is the same. What the last one left does not count.
    let mut writer = other(&bed, 0, Some(&blob)).await.unwrap();
    assert_eq!(writer.offset(), 3);
    writer.truncate().await.unwrap();
    writer.write(b"abc".to_vec()).await.unwrap();
    writer.commit(3, Some(blob.clone()), Labels::new()).await.unwrap();
    assert_eq!(read(&bed.content, "other", &blob, 0, None).await.unwrap(), b"abc");
    assert_eq!(bed.get(&blob).await.unwrap(), b"abc");
    // One that says another size begins with nothing.
    let third = namespace("third");
    let writer = bed.content.writer(&third, "w".to_owned(), 9, Some(blob), None);
    assert_eq!(writer.await.unwrap().offset(), 0);
}

#[tokio::test]
async fn what_is_deleted_meanwhile_is_not_shared() {
    let bed = Bed::new().await;
    let blob = bed.put(b"abc").await;
    let writer = other(&bed, 0, Some(&blob)).await.unwrap();
    bed.content.delete(&namespace("ns"), &blob, None).await.unwrap();
    let gone = writer.commit(0, None, Labels::new()).await.unwrap_err();
    assert_eq!(gone.kind(), Kind::NotFound, "{gone}");
    let mut writer = other(&bed, 0, Some(&blob)).await.unwrap();
    assert_eq!(writer.offset(), 0);
    writer.write(b"abc".to_vec()).await.unwrap();
    writer.commit(0, Some(blob), Labels::new()).await.unwrap();
}

#[tokio::test]
async fn a_blob_that_is_deleted_is_read_to_its_end() {
    let bed = Bed::new().await;
    let blob = bed.put(b"abc").await;
    let mut reader = bed.content.read(&namespace("ns"), &blob, 0, None).await.unwrap();
    bed.content.delete(&namespace("ns"), &blob, None).await.unwrap();
    assert_eq!(reader.next().await.unwrap(), Some(b"abc".to_vec()));
    assert_eq!(reader.next().await.unwrap(), None);
    // Somebody who has found its record before finds no file, which is no damage.
    let gone = bed.content.whole_file(&blob, 3).await.unwrap_err();
    assert_eq!(gone.to_string(), format!("content digest {blob}: not found"));
}
