//! What is kept when the server ends.

use std::collections::BTreeMap;

use gantry_api::containerd::images::{
    CreateImageRequest, DeleteImageRequest, Image, images_client::ImagesClient,
};
use rustix::process::Signal;
use tokio::task::JoinSet;
use tonic::transport::Channel;

use super::{changes, create, delete, digest, get, image, labels, names, update};
use crate::{Bed, of};

#[tokio::test]
async fn images_outlive_a_restart() {
    let Some(mut bed) = Bed::start().await else { return };
    create(&bed, "ns", image("x", 1)).await.unwrap();
    let mut changed = image("x", 2);
    changed.labels = labels(&[("a.b/c", "d")]);
    let changed = update(&bed, "ns", changed, &[]).await.unwrap();
    create(&bed, "ns", image("y", 1)).await.unwrap();
    delete(&bed, "ns", "y").await.unwrap();
    for signal in [Signal::KILL, Signal::TERM] {
        bed.server.end(signal).await;
        bed.server.start_again().await;
        assert_eq!(get(&bed, "ns", "x").await.unwrap(), changed);
        assert_eq!(names(&bed, "ns", &[]).await.unwrap(), ["x"]);
    }
    bed.server.finish().await;
}

/// What was answered is there, and what was not is there whole or not at all.
#[tokio::test]
async fn a_kill_after_an_answer_loses_nothing() {
    let Some(mut bed) = Bed::start().await else { return };
    let mut kept = BTreeMap::new();
    for round in 0..3 {
        let mut writing = JoinSet::new();
        for number in 0..4 {
            writing.spawn(write(bed.images(), format!("r{round}-{number}")));
        }
        // At some moment in the middle of all that.
        while get(&bed, "ns", &format!("r{round}-0-2")).await.is_err() {}
        bed.server.kill().await;
        kept.extend(writing.join_all().await.into_iter().flatten());
        bed.server.start_again().await;
        for (name, digests) in &kept {
            let found = get(&bed, "ns", name).await.ok().map(|image| {
                let digest = image.target.expect("a target").digest;
                assert_eq!(image.labels["digest"], digest, "{name} is half an image");
                digest
            });
            assert!(digests.contains(&found), "{name} is {found:?}, not of {digests:?}");
        }
    }
    assert!(kept.len() > 5, "{kept:?}");
    bed.server.finish().await;
}

/// The digests that an image may have: that which was answered last, and that which was being written. None: the
/// image is deleted.
type Possible = Vec<Option<String>>;

/// Creates images, updates each, and deletes every third, until the server is gone.
async fn write(mut client: ImagesClient<Channel>, prefix: String) -> Vec<(String, Possible)> {
    let mut written = Vec::new();
    for step in 0.. {
        let name = format!("{prefix}-{step}");
        let of_digest = |byte: u8| {
            let labels = labels(&[("digest", &digest(byte))]);
            Image { labels, ..image(&name, byte) }
        };
        let mut possible = vec![None, Some(digest(1))];
        let image = Some(of_digest(1));
        let created = client.create(of("ns", CreateImageRequest { image, ..Default::default() }));
        let mut is_gone = created.await.is_err();
        if !is_gone {
            possible = vec![Some(digest(1)), Some(digest(2))];
            is_gone = client.update(of("ns", changes(of_digest(2), &[]))).await.is_err();
        }
        if !is_gone && step % 3 != 0 {
            possible.remove(0);
        } else if !is_gone {
            possible = vec![Some(digest(2)), None];
            let request = DeleteImageRequest { name: name.clone(), ..Default::default() };
            is_gone = client.delete(of("ns", request)).await.is_err();
            if !is_gone {
                possible.remove(0);
            }
        }
        written.push((name, possible));
        if is_gone {
            break;
        }
    }
    written
}
