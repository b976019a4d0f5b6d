//! Files that are not what they were.

use std::{fs, io::Read};

use gantry_domain::Kind;
use gantry_store::Labels;

use super::{Bed, namespace};

#[tokio::test]
async fn damage_is_found_after_an_end_that_nobody_saw() {
    let mut bed = Bed::new().await;
    let [sound, damaged] = [bed.put(b"sound").await, bed.put(b"damaged").await];
    let ns = namespace("other");
    let other = bed.content.writer(&ns, "w".to_owned(), 0, Some(damaged.clone()), None);
    other.await.unwrap().commit(0, None, Labels::new()).await.unwrap();
    bed.restart(false, 1).await;
    fs::write(bed.blob(&damaged), b"damagEd").unwrap();
    // Nobody is given it, and nobody has it any more.
    let error = bed.get(&damaged).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound, "{error}");
    assert!(error.to_string().contains("was damaged"), "{error}");
    for ns in ["ns", "other"] {
        assert!(bed.content.store().blob(&namespace(ns), &damaged).await.is_err());
    }
    assert!(!bed.blob(&damaged).exists());
    assert_eq!(bed.get(&sound).await.unwrap(), b"sound");
    assert_eq!(bed.put(b"damaged").await, damaged);
    assert_eq!(bed.get(&damaged).await.unwrap(), b"damaged");
}

#[tokio::test]
async fn a_file_is_looked_at_once() {
    let mut bed = Bed::new().await;
    let blob = bed.put(b"sound").await;
    bed.restart(false, 1).await;
    assert!(!bed.content.store().is_blob_checked(&blob, bed.content.0.epoch).await.unwrap());
    assert_eq!(bed.get(&blob).await.unwrap(), b"sound");
    for in_order in [true, false] {
        let checked = bed.content.store().is_blob_checked(&blob, bed.content.0.epoch).await;
        assert!(checked.unwrap());
        bed.restart(in_order, 1).await;
    }
    // After an orderly close, a file that was not checked still has to be.
    bed.restart(true, 1).await;
    fs::write(bed.blob(&blob), b"wrong").unwrap();
    assert_eq!(bed.get(&blob).await.unwrap_err().kind(), Kind::NotFound);
}

#[tokio::test]
async fn a_file_of_another_size_is_never_read() {
    let bed = Bed::new().await;
    for (number, damage) in [Some("abc"), Some("longer than it was"), None].into_iter().enumerate()
    {
        let data = format!("a blob, {number}");
        let blob = bed.put(data.as_bytes()).await;
        match damage {
            Some(damage) => fs::write(bed.blob(&blob), damage).unwrap(),
            None => fs::remove_file(bed.blob(&blob)).unwrap(),
        }
        assert_eq!(bed.get(&blob).await.unwrap_err().kind(), Kind::NotFound);
        assert!(!bed.blob(&blob).exists());
        assert_eq!(bed.put(data.as_bytes()).await, blob);
        assert_eq!(bed.get(&blob).await.unwrap(), data.as_bytes());
    }
}

#[tokio::test]
async fn what_is_damaged_is_not_shared() {
    let mut bed = Bed::new().await;
    let blob = bed.put(b"sound").await;
    bed.restart(false, 1).await;
    fs::write(bed.blob(&blob), b"wrong").unwrap();
    let other = async |total| {
        let expected = Some(blob.clone());
        bed.content
            .writer(&namespace("other"), "w".to_owned(), total, expected, None)
            .await
            .unwrap()
    };
    let error = other(0).await.commit(0, None, Labels::new()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound, "{error}");
    let mut writer = other(5).await;
    assert_eq!(writer.offset(), 0);
    writer.write(b"sound".to_vec()).await.unwrap();
    writer.commit(5, None, Labels::new()).await.unwrap();
}

#[tokio::test]
async fn a_commit_mends_a_damaged_file() {
    let mut bed = Bed::new().await;
    let blob = bed.put(b"sound").await;
    bed.restart(false, 1).await;
    fs::write(bed.blob(&blob), b"wrong").unwrap();
    let mut writer = bed.writer("w").await.unwrap();
    writer.write(b"sound".to_vec()).await.unwrap();
    let exists = writer.commit(0, None, Labels::new()).await.unwrap_err();
    assert_eq!(exists.kind(), Kind::AlreadyExists);
    assert_eq!(bed.get(&blob).await.unwrap(), b"sound");
}

#[tokio::test]
async fn a_whole_blob_is_compared_with_its_digest_while_it_is_read() {
    let bed = Bed::new().await;
    let mut data = vec![7; 300_000];
    let digest = bed.put(&data).await;
    let (content, ns) = (&bed.content, namespace("ns"));
    let mut read = Vec::new();
    content.read_blocking(&ns, &digest).await.unwrap().read_to_end(&mut read).unwrap();
    assert!(read == data);
    content.check(&ns, &digest).await.unwrap();

    data[150_000] ^= 1;
    fs::write(bed.blob(&digest), data).unwrap();
    let mut blob = content.read_blocking(&ns, &digest).await.unwrap();
    let error = blob.read_to_end(&mut read).unwrap_err();
    assert!(error.to_string().contains(digest.as_str()), "{error}");
    let error = content.check(&ns, &digest).await.unwrap_err();
    assert!(error.to_string().contains("was damaged"), "{error}");
    assert!(content.read_blocking(&ns, &digest).await.is_err());
}
