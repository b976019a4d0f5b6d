//! Apply, with layers of tar(1), gzip(1) and zstd(1).

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use gantry_api::containerd::{diff::ApplyRequest, introspection::PluginsRequest};
use tonic::{Code, Request};

use super::*;
use crate::assert_refused;

/// A tree with what layers have.
pub(super) fn tree(bed: &Bed) -> PathBuf {
    let root = directory(bed, "tree");
    fs::create_dir_all(root.join("usr/bin")).unwrap();
    fs::write(root.join("usr/bin/program"), "x".repeat(100_000)).unwrap();
    fs::set_permissions(root.join("usr/bin/program"), PermissionsExt::from_mode(0o4755)).unwrap();
    fs::hard_link(root.join("usr/bin/program"), root.join("usr/bin/other")).unwrap();
    symlink("usr/bin", root.join("bin")).unwrap();
    let long = format!("{}/{}", "l".repeat(150), "n".repeat(150));
    fs::create_dir(root.join("l".repeat(150))).unwrap();
    fs::write(root.join(long), "long").unwrap();
    let fifo = Command::new("mkfifo").arg(root.join("fifo")).status().unwrap();
    assert!(fifo.success());
    let owned = root.join("owned");
    fs::write(&owned, "").unwrap();
    let _ = std::os::unix::fs::chown(&owned, Some(12_345), Some(54));
    root
}

#[tokio::test]
async fn layers_of_each_compression_and_format_make_the_same_tree() {
    let Some(bed) = Bed::start().await else { return };
    let tree = tree(&bed);
    let expected = seen(&tree);
    for format in ["gnu", "pax"] {
        let archive = tar(&tree, &["--format", format, "."]);
        let digest = sha256(&bed, &archive).await;
        let (gzip, zstd) = (through("gzip", &archive).await, through("zstd", &archive).await);
        let docker = ["gzip", "zstd"]
            .map(|extension| format!("application/vnd.docker.image.rootfs.diff.tar.{extension}"));
        let oci = ["", "+gzip", "+zstd"].map(|extension| format!("{LAYER}{extension}"));
        let types = oci.iter().chain(&docker);
        for (number, (layer, media_type)) in
            [&archive, &gzip, &zstd, &archive, &zstd].into_iter().zip(types).enumerate()
        {
            let target = directory(&bed, &format!("{format}-{number}"));
            let applied = apply(&bed, layer, media_type, &[bind(&target, "rw")]).await.unwrap();
            assert_eq!(applied.media_type, LAYER);
            assert_eq!(applied.digest, digest, "{format} {media_type}");
            assert_eq!(applied.size, i64::try_from(archive.len()).unwrap());
            assert_eq!(seen(&target), expected, "{format} {media_type}");
            let time = |root: &Path| fs::metadata(root.join("usr/bin/program")).unwrap().mtime();
            assert_eq!(time(&target), time(&tree));
        }
    }
    assert_eq!(mounts_of(&bed), [""; 0]);
    bed.server.finish().await;
}

/// The upper directory directly, the mounted overlay, and a bind that has to be mounted.
#[tokio::test]
async fn what_is_gone_is_gone_in_every_kind_of_tree() {
    let Some(bed) = Bed::start().await else { return };
    let work = bed.server.work().to_owned();
    let changes = directory(&bed, "changes");
    fs::create_dir(changes.join("opaque")).unwrap();
    for name in [".wh.gone", "opaque/.wh..wh..opq", "opaque/new", "new"] {
        fs::write(changes.join(name), "").unwrap();
    }
    let layer = tar(&changes, &["."]);
    let old = |root: &Path| {
        fs::create_dir_all(root.join("opaque")).unwrap();
        for name in ["gone", "opaque/old", "kept"] {
            fs::write(root.join(name), "").unwrap();
        }
    };
    old(&directory(&bed, "lower"));
    old(&directory(&bed, "plain"));
    old(&directory(&bed, "mounted"));
    let mut part = bind(&work.join("mounted"), "rw");
    part.options = vec!["bind".to_owned()];
    let trees = [
        vec![overlay(&work, "upper", &["lower"], &["index=off"])],
        vec![overlay(&work, "other", &["lower"], &["noatime"])],
        vec![bind(&work.join("plain"), "rw")],
        vec![part],
    ];
    for mounts in &trees {
        apply(&bed, &layer, LAYER, mounts).await.unwrap();
    }
    // As a container sees them: by the layer that makes them of nothing.
    for mounts in &trees {
        let made = diff(&bed, &[], mounts, LAYER).await.unwrap();
        let target = directory(&bed, &made.digest);
        apply_digest(&bed, &made.digest, LAYER, &[bind(&target, "rw")]).await.unwrap();
        let names = seen(&target).replace('\n', " ");
        let found: Vec<_> =
            names.split(' ').filter(|word| word.contains(['e', 'o', 'n'])).collect();
        assert_eq!(found, ["kept", "new", "opaque", "opaque/new"]);
    }
    assert_eq!(mounts_of(&bed), [""; 0]);
    bed.server.finish().await;
}

#[tokio::test]
async fn errors_are_those_of_containerd() {
    let Some(bed) = Bed::start().await else { return };
    let tree = directory(&bed, "tree");
    fs::write(tree.join("file"), "1").unwrap();
    let target = directory(&bed, "target");
    let mounts = [bind(&target, "rw")];
    let archive = tar(&tree, &["."]);
    let digest = put(&bed, "ns", &archive).await;
    let store = "failed to get reader from content store: ";
    let unknown = format!("sha256:{}", "0".repeat(64));
    let not_found = |digest: &str| format!("{store}content digest {digest}: not found");
    let missing = apply_digest(&bed, &unknown, LAYER, &mounts).await;
    assert_refused(missing, Code::NotFound, &not_found(&unknown));
    let bad = apply_digest(&bed, "x", LAYER, &mounts).await;
    assert_refused(bad, Code::NotFound, &not_found("x"));
    for media_type in ["application/x", ""] {
        let refused = apply_digest(&bed, &digest, media_type, &mounts).await;
        let words =
            format!("failed to get stream processor for {media_type}: no processor for media-type");
        assert_refused(refused, Code::Unknown, &words);
    }
    let nowhere = bed.diff().apply(Request::new(ApplyRequest::default())).await;
    let words = format!("{store}namespace is required: failed precondition");
    assert_refused(nowhere, Code::FailedPrecondition, &words);
    let nothing = bed.diff().apply(of("ns", ApplyRequest::default())).await;
    assert_eq!(nothing.unwrap_err().code(), Code::InvalidArgument);
    let nowhere = apply_digest(&bed, &digest, LAYER, &[]).await;
    assert_eq!(nowhere.unwrap_err().code(), Code::InvalidArgument);
    let missing = [bind(&bed.server.work().join("missing"), "ro")];
    let error = apply_digest(&bed, &digest, LAYER, &missing).await.unwrap_err();
    assert_eq!(error.code(), Code::Unknown);
    assert!(error.message().contains("No such file or directory"), "{error:?}");
    let read_only = apply_digest(&bed, &digest, LAYER, &[bind(&target, "ro")]).await.unwrap_err();
    assert!(read_only.message().contains("Read-only file system"), "{read_only:?}");
    assert_eq!(seen(&target), "");
    assert_eq!(mounts_of(&bed), [""; 0]);
    bed.server.finish().await;
}

/// As from an evil registry.
#[tokio::test]
async fn a_layer_that_leads_out_is_refused_by_name() {
    let Some(bed) = Bed::start().await else { return };
    let tree = directory(&bed, "tree");
    fs::write(tree.join("evil"), "1").unwrap();
    symlink("../..", tree.join("link")).unwrap();
    let outer = directory(&bed, "outer");
    let target = directory(&bed, "outer/a/target");
    for (transform, name) in [
        ("s,evil,../evil,", "../evil"),
        ("s,evil,/evil,", "/evil"),
        ("s,evil,a/../../evil,", "a/../../evil"),
        ("s,evil,link/evil,", "link/evil"),
    ] {
        let archive = tar(&tree, &["-P", "--transform", transform, "link", "evil"]);
        let error = apply(&bed, &archive, LAYER, &[bind(&target, "rw")]).await.unwrap_err();
        assert_eq!(error.code(), Code::Unknown, "{error:?}");
        assert!(error.message().contains(&format!("{name:?}")), "{error:?}");
    }
    assert_eq!(fs::read_dir(&outer).unwrap().count(), 1);
    assert_eq!(fs::read_dir(outer.join("a")).unwrap().count(), 1);
    bed.server.finish().await;
}

/// It is dropped, so that it can be fetched again.
#[tokio::test]
async fn a_blob_that_is_damaged_on_the_disk_is_told_and_dropped() {
    let Some(bed) = Bed::start().await else { return };
    let tree = tree(&bed);
    let target = directory(&bed, "target");
    let plain = tar(&tree, &["."]);
    let gzip = through("gzip", &plain).await;
    for (layer, media_type) in [(plain, LAYER), (gzip, &*format!("{LAYER}+gzip"))] {
        let digest = put(&bed, "ns", &layer).await;
        let hex = digest.split_once(':').unwrap().1;
        let file = bed.server.root().join("content/blobs/sha256").join(hex);
        // In the middle of a file's data, where nothing but the digest tells it.
        let mut damaged = fs::read(&file).unwrap();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 1;
        fs::write(&file, damaged).unwrap();
        let mounts = [bind(&target, "rw")];
        let error = apply_digest(&bed, &digest, media_type, &mounts).await.unwrap_err();
        assert_eq!(error.code(), Code::NotFound, "{error:?}");
        assert!(error.message().contains(&digest), "{error:?}");
        assert!(info(&bed, "ns", &digest).await.is_err());
        assert_eq!(put(&bed, "ns", &layer).await, digest);
        apply_digest(&bed, &digest, media_type, &mounts).await.unwrap();
    }
    assert_eq!(seen(&target), seen(&tree));
    bed.server.finish().await;
}

/// buildkit and nerdctl look for it.
#[tokio::test]
async fn the_differ_is_a_plugin_with_a_platform() {
    let Some(bed) = Bed::start().await else { return };
    for (filter, requires, platforms) in [
        ("type==io.containerd.differ.v1,id==walking", "io.containerd.metadata.v1", 1),
        ("type==io.containerd.service.v1,id==diff-service", "io.containerd.differ.v1", 0),
        ("type==io.containerd.grpc.v1,id==diff", "io.containerd.service.v1", 0),
    ] {
        let asked = PluginsRequest { filters: vec![filter.to_owned()] };
        let found = bed.introspection().plugins(asked).await.unwrap().into_inner().plugins;
        assert_eq!((found.len(), &*found[0].requires), (1, &[requires.to_owned()][..]));
        assert_eq!(found[0].platforms.len(), platforms, "{filter}");
    }
    bed.server.finish().await;
}
