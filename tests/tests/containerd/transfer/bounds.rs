//! Images that are larger than what they may take, or than the disk.

use std::{fs, path::Path};

use gantry_tests::{Runtime, Server, disk::Disk, eventually};
use serde_json::json;
use tonic::Code;

use super::{any_name, archive, archive::Files, import, left, names, unpacked};
use crate::Bed;

/// An archive of an image with a small layer, and above it a file of so many zeros.
fn bomb(work: &Path, zeros: usize) -> Vec<u8> {
    let large = Files::new(work.join("large-layer"));
    large.put("zeros", &vec![0; zeros]);
    let layers = [archive::layers(work).remove(0), large.tar()];
    let files = Files::new(work.join("bomb"));
    files.put("config.json", &archive::config(&layers));
    files.put("0.tar", &layers[0]);
    files.put("1.tar", &archive::through(&["gzip"], &layers[1]));
    let image =
        json!([{ "Config": "config.json", "RepoTags": ["bomb"], "Layers": ["0.tar", "1.tar"] }]);
    files.put("manifest.json", image.to_string().as_bytes());
    files.tar()
}

/// Neither an image, a write, a lease, nor what was unpacked.
async fn assert_nothing_left(bed: &Bed, root: &Path) {
    assert_eq!(names(bed, "ns").await, Vec::<String>::new());
    assert_eq!(left(bed, "ns").await, Vec::<String>::new());
    let entries = |path: &str| fs::read_dir(root.join(path)).unwrap().count();
    eventually("nothing is left", || {
        entries("content/blobs/sha256") == 0
            && entries("snapshots/overlayfs/snapshots") == 0
            && entries("snapshots/overlayfs/trash") == 0
    })
    .await;
}

#[tokio::test]
async fn an_image_with_a_bomb_leaves_nothing() {
    let setup = Server::setup(Runtime::Runc).arguments(&["--layer-max-size", "1M"]);
    let Some(bed) = Bed::start_with(setup).await else { return };
    let archive = bomb(bed.server.work(), 8 << 20);
    let error = import(&bed, "ns", &archive, &unpacked(any_name(false))).await.unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted, "{error:?}");
    let message = r#"entry "zeros" makes the layer larger than layer_max_size, 1048576 bytes"#;
    assert!(error.message().contains(message), "{error:?}");
    assert_nothing_left(&bed, &bed.server.root()).await;
    bed.server.finish().await;
}

#[tokio::test]
async fn a_disk_that_is_full_is_told_by_the_name_of_a_file_and_is_empty_again() {
    let Some(disk) = Disk::mount() else { return };
    let root = disk.path().join("root");
    let setup = Server::setup(Runtime::Runc).arguments(&["--root", root.to_str().unwrap()]);
    let Some(bed) = Bed::start_with(setup).await else { return };
    let store = unpacked(any_name(false));
    let archive = bomb(bed.server.work(), 96 << 20);
    let error = import(&bed, "ns", &archive, &store).await.unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted, "{error:?}");
    assert!(error.message().contains(r#"cannot write "zeros""#), "{error:?}");
    assert_nothing_left(&bed, &root).await;
    let small = bomb(bed.server.work(), 1 << 20);
    import(&bed, "ns", &small, &store).await.unwrap();
    assert_eq!(names(&bed, "ns").await, ["docker.io/library/bomb:latest"]);
    bed.server.finish().await;
    disk.finish().await;
}
