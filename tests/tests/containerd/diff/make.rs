//! Diff: layers and the content that is made of them.

use std::{collections::BTreeMap, slice::from_ref};

use gantry_api::containerd::{
    content::StatusRequest, diff::DiffRequest, leases, leases::ListResourcesRequest,
};
use prost_types::Timestamp;
use tonic::{Code, Request};

use super::*;
use crate::{
    assert_refused,
    content::{leased, read},
};

fn trees(bed: &Bed) -> (Mount, Mount) {
    let (left, right) = (directory(bed, "left"), directory(bed, "right"));
    fs::write(left.join("gone"), "1").unwrap();
    fs::create_dir_all(right.join("p/q")).unwrap();
    fs::write(right.join("new"), "n").unwrap();
    fs::write(right.join("p/q/f"), "x".repeat(1 << 20)).unwrap();
    (bind(&left, "ro"), bind(&right, "ro"))
}

/// The names in an archive, by tar(1).
fn listed(bed: &Bed, layer: &[u8]) -> Vec<String> {
    let file = bed.server.work().join("layer");
    fs::write(&file, layer).unwrap();
    let listed = Command::new("tar").arg("-tf").arg(&file).output().unwrap();
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    String::from_utf8(listed.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn a_layer_is_content_with_the_digest_of_its_archive() {
    let Some(bed) = Bed::start().await else { return };
    let (left, right) = trees(&bed);
    let (left, right) = (&[left][..], &[right][..]);
    let plain = diff(&bed, left, right, LAYER).await.unwrap();
    let archive = read(&bed, "ns", &plain.digest, 0, 0).await.unwrap();
    assert_eq!(listed(&bed, &archive), [".wh.gone", "new", "p/", "p/q/", "p/q/f"]);
    assert_eq!(plain.size, i64::try_from(archive.len()).unwrap());
    assert!(info(&bed, "ns", &plain.digest).await.unwrap().labels.is_empty());
    let uncompressed = "containerd.io/uncompressed";
    for (asked, media_type) in [
        ("", format!("{LAYER}+gzip")),
        (&*format!("{LAYER}+gzip"), format!("{LAYER}+gzip")),
        (&*format!("{LAYER}+zstd"), format!("{LAYER}+zstd")),
    ] {
        let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        let (left, right, media) = (left.to_vec(), right.to_vec(), asked.to_owned());
        let request =
            DiffRequest { left, right, media_type: media, labels, ..DiffRequest::default() };
        let made = ask(&bed, request.clone()).await.unwrap();
        assert_eq!(made.media_type, media_type);
        assert_eq!(listed(&bed, &read(&bed, "ns", &made.digest, 0, 0).await.unwrap()).len(), 5);
        let labels = info(&bed, "ns", &made.digest).await.unwrap().labels;
        assert_eq!(labels[uncompressed], plain.digest);
        // The first one's labels stay; the same trees make the same layer.
        if !asked.is_empty() && asked.ends_with("zstd") {
            assert_eq!(labels["a"], "b");
        }
        assert_eq!(ask(&bed, request).await.unwrap(), made);
    }
    assert_eq!(mounts_of(&bed), [""; 0]);
    bed.server.finish().await;
}

/// What an overlay has on top is the layer; the thorough walk finds the same.
#[tokio::test]
async fn an_overlay_is_compared_with_what_is_below() {
    let Some(bed) = Bed::start().await else { return };
    let work = bed.server.work().to_owned();
    for name in ["a/old", "gone"] {
        let path = work.join("lower").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "1").unwrap();
    }
    let changes = directory(&bed, "changes");
    fs::create_dir(changes.join("a")).unwrap();
    fs::write(changes.join("a/new"), "2").unwrap();
    fs::write(changes.join(".wh.gone"), "").unwrap();
    let right = overlay(&work, "upper", &["lower"], &[]);
    apply(&bed, &tar(&changes, &["a/new", ".wh.gone"]), LAYER, from_ref(&right)).await.unwrap();
    let left = [bind(&work.join("lower"), "ro")];
    let mounted = overlay(&work, "upper", &["lower"], &["noatime"]);
    let quick = diff(&bed, &left, &[right], LAYER).await.unwrap();
    let thorough = diff(&bed, &left, &[mounted], LAYER).await.unwrap();
    for made in [&quick, &thorough] {
        let mut names = listed(&bed, &read(&bed, "ns", &made.digest, 0, 0).await.unwrap());
        names.sort();
        assert_eq!(names, [".wh.gone", "a/", "a/new"]);
    }
    assert_eq!(mounts_of(&bed), [""; 0]);
    bed.server.finish().await;
}

#[tokio::test]
async fn errors_are_those_of_containerd_and_leave_no_write() {
    let Some(bed) = Bed::start().await else { return };
    let (left, right) = trees(&bed);
    for bad in ["application/x", "application/vnd.docker.image.rootfs.diff.tar.gzip"] {
        let refused = diff(&bed, from_ref(&left), from_ref(&right), bad).await;
        let words = format!("unsupported diff media type: {bad}: not implemented");
        assert_refused(refused, Code::Unimplemented, &words);
    }
    let nowhere = bed.diff().diff(Request::new(DiffRequest::default())).await;
    let words = "namespace is required: failed precondition";
    assert_refused(nowhere, Code::FailedPrecondition, words);
    let missing = [bind(&bed.server.work().join("missing"), "ro")];
    let error = diff(&bed, &missing, from_ref(&right), "").await.unwrap_err();
    assert_eq!(error.code(), Code::Unknown);
    assert!(error.message().contains("No such file or directory"), "{error:?}");
    let writes = bed.content().list_statuses(of("ns", Default::default())).await.unwrap();
    assert_eq!(writes.into_inner().statuses, []);
    assert_eq!(mounts_of(&bed), [""; 0]);
    bed.server.finish().await;
}

#[tokio::test]
async fn a_lease_a_reference_and_a_time_are_the_callers() {
    let Some(bed) = Bed::start().await else { return };
    let (left, right) = trees(&bed);
    let lease = leases::CreateRequest { id: "lease".to_owned(), ..Default::default() };
    bed.leases().create(of("ns", lease)).await.unwrap();
    let request = DiffRequest {
        left: vec![left],
        right: vec![right],
        media_type: LAYER.to_owned(),
        r#ref: "mine".to_owned(),
        source_date_epoch: Some(Timestamp { seconds: 1_000_000, nanos: 0 }),
        ..DiffRequest::default()
    };
    let made = bed.diff().diff(leased("ns", "lease", request)).await.unwrap();
    let digest = made.into_inner().diff.unwrap().digest;
    let asked = ListResourcesRequest { id: "lease".to_owned() };
    let held = bed.leases().list_resources(of("ns", asked)).await.unwrap().into_inner();
    assert_eq!(held.resources[0].id, digest);
    let archive = read(&bed, "ns", &digest, 0, 0).await.unwrap();
    let target = directory(&bed, "target");
    apply_digest(&bed, &digest, LAYER, &[bind(&target, "rw")]).await.unwrap();
    for name in ["new", "p/q/f", "p"] {
        let time = std::os::unix::fs::MetadataExt::mtime(&fs::metadata(target.join(name)).unwrap());
        assert_eq!(time, 1_000_000, "{name}");
    }
    assert!(!archive.is_empty());
    let status = StatusRequest { r#ref: "mine".to_owned() };
    assert_eq!(bed.content().status(of("ns", status)).await.unwrap_err().code(), Code::NotFound);
    bed.server.finish().await;
}
