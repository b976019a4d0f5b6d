//! Archives that become images.

use gantry_api::containerd::{
    snapshots::{Info, StatSnapshotRequest, ViewSnapshotRequest},
    to_any,
    types::transfer::{ImageImportStream, ImageReference, ImageStore},
};
use tonic::Status;

use super::{
    any_name, archive, images, import, left, names, own_platform, request, stream::Stream, target,
    unpacked,
};
use crate::{
    Bed,
    content::{info, read},
    of,
};

async fn snapshot(bed: &Bed, key: &str) -> Result<Info, Status> {
    let (snapshotter, key) = ("overlayfs".to_owned(), key.to_owned());
    let found = bed.snapshots().stat(of("ns", StatSnapshotRequest { snapshotter, key })).await?;
    Ok(found.into_inner().info.expect("an info"))
}

/// What the layers of a committed snapshot have, the nearest first.
async fn layers(bed: &Bed, parent: &str) -> Vec<String> {
    let (snapshotter, parent) = ("overlayfs".to_owned(), parent.to_owned());
    let request = ViewSnapshotRequest {
        snapshotter,
        key: "view".to_owned(),
        parent,
        ..ViewSnapshotRequest::default()
    };
    let made = bed.snapshots().view(of("ns", request)).await.unwrap();
    let mounts = made.into_inner().mounts;
    let lower = mounts[0].options.iter().find_map(|option| option.strip_prefix("lowerdir="));
    let lower = lower.expect("lower directories").split(':').zip(archive::LAYERS.iter().rev());
    lower
        .map(|(directory, (name, _))| {
            std::fs::read_to_string(format!("{directory}/{name}")).unwrap()
        })
        .collect()
}

/// Labels of a blob whose keys begin so, without that.
async fn labels(bed: &Bed, digest: &str, prefix: &str) -> Vec<(String, String)> {
    let labels = info(bed, "ns", digest).await.unwrap().labels.into_iter();
    let rest = |(key, value): (String, String)| Some((key.strip_prefix(prefix)?.to_owned(), value));
    labels.filter_map(rest).collect()
}

#[tokio::test]
async fn an_archive_of_docker_becomes_an_unpacked_image() {
    let Some(bed) = Bed::start().await else { return };
    let archive = archive::docker(bed.server.work(), &["busybox", "other/name:v1"]);
    let layers_of = archive::layers(bed.server.work());
    let stream = Stream::open(&bed, "ns", "bytes").await.unwrap();
    let progress = Stream::open(&bed, "ns", "progress").await.unwrap();
    let from = ImageImportStream { stream: "bytes".to_owned(), ..ImageImportStream::default() };
    let store = unpacked(any_name(true));
    let request = request("ns", to_any(&from), to_any(&store), "progress");
    let mut client = bed.transfer();
    let (done, (), told) =
        tokio::join!(client.transfer(request), stream.send_bytes(&archive), progress.progress());
    done.unwrap();

    let image = "docker.io/library/busybox:latest";
    let manifest = target(&bed, "ns", image).await.unwrap();
    let by_digest = format!("import@{}", manifest.digest);
    let found = names(&bed, "ns").await;
    // The index has a name by its digest, too.
    assert_eq!(found.len(), 4, "{found:?}");
    assert_eq!(found[..2], [image, "docker.io/other/name:v1"]);
    assert!(found.contains(&by_digest), "{found:?}");
    let named = |event: &str, name: &str| (event.to_owned(), name.to_owned());
    let (first, last) = (named("Importing", ""), named("Completed import", ""));
    assert_eq!((&told[0], told.last().unwrap()), (&first, &last));
    assert!(told.contains(&named("saved", image)), "{told:?}");

    // What the manifest refers to is kept, and so are the layers that were unpacked.
    let refers = labels(&bed, &manifest.digest, "containerd.io/gc.ref.content.").await;
    let diff_ids: Vec<_> = layers_of.iter().map(|layer| archive::sha256(layer)).collect();
    let config = archive::sha256(&archive::config(&layers_of));
    let wanted = [("config", &config), ("l.0", &diff_ids[0]), ("l.1", &diff_ids[1])];
    assert_eq!(refers, wanted.map(|(key, value)| named(key, value)));
    let top = archive::chain_id(&layers_of);
    let unpacked = labels(&bed, &config, "containerd.io/gc.ref.snapshot.").await;
    assert_eq!(unpacked, [named("overlayfs", &top)]);
    for diff_id in &diff_ids {
        let label = labels(&bed, diff_id, "containerd.io/uncompressed").await;
        assert_eq!(label, [named("", diff_id)]);
    }
    let snapshot = snapshot(&bed, &top).await.unwrap();
    assert_eq!(snapshot.parent, diff_ids[0]);
    assert_eq!(snapshot.labels["containerd.io/snapshot.ref"], top);
    assert_eq!(layers(&bed, &top).await, ["above", "below"]);
    assert_eq!(left(&bed, "ns").await, Vec::<String>::new());
    bed.server.finish().await;
}

#[tokio::test]
async fn a_layout_is_imported_for_the_platforms_that_are_wanted() {
    let Some(bed) = Bed::start().await else { return };
    let archive = archive::layout(bed.server.work(), "v1");
    let packed = archive::through(&["gzip"], &archive);
    let prefix = ImageReference {
        name: "example.org/image".to_owned(),
        is_prefix: true,
        ..ImageReference::default()
    };
    let store = ImageStore {
        platforms: vec![own_platform()],
        extra_references: vec![prefix],
        ..unpacked(ImageStore::default())
    };
    import(&bed, "ns", &packed, &store).await.unwrap();
    assert_eq!(names(&bed, "ns").await, ["example.org/image:v1"]);
    let top = archive::chain_id(&archive::layers(bed.server.work()));
    assert_eq!(layers(&bed, &top).await, ["above", "below"]);
    // Again, with everything there; the index has a name this time, with which the other ones go.
    let store = ImageStore { name: "index".to_owned(), ..store };
    import(&bed, "ns", &archive, &store).await.unwrap();
    let images = images(&bed, "ns").await;
    assert_eq!(
        images.iter().map(|image| &*image.name).collect::<Vec<_>>(),
        ["example.org/image:v1", "index"]
    );
    assert_eq!(images[0].labels["containerd.io/gc.bref.image"], "index");
    // Of all platforms there is not everything.
    let all = ImageStore { platforms: Vec::new(), ..store };
    let missing = import(&bed, "ns", &archive, &all).await.unwrap_err();
    let digest = archive::sha256(b"missing");
    assert_eq!(missing.message(), format!("content digest {digest}: not found"));
    assert_eq!(left(&bed, "ns").await, Vec::<String>::new());
    bed.server.finish().await;
}

/// Two at a time unpack the same layers, and both find them unpacked.
#[tokio::test]
async fn imports_of_the_same_do_not_hinder_each_other() {
    let Some(bed) = Bed::start().await else { return };
    let archive = archive::layout(bed.server.work(), "v1");
    let store = ImageStore { platforms: vec![own_platform()], ..unpacked(any_name(false)) };
    let one = async |id: &str| {
        let stream = Stream::open(&bed, "ns", id).await.unwrap();
        let from = ImageImportStream { stream: id.to_owned(), ..ImageImportStream::default() };
        let request = request("ns", to_any(&from), to_any(&store), "");
        let mut client = bed.transfer();
        let (done, ()) = tokio::join!(client.transfer(request), stream.send_bytes(&archive));
        done
    };
    let (a, b, c) = tokio::join!(one("a"), one("b"), one("c"));
    for done in [a, b, c] {
        done.unwrap();
    }
    assert_eq!(names(&bed, "ns").await, ["import:v1"]);
    assert_eq!(left(&bed, "ns").await, Vec::<String>::new());
    bed.server.finish().await;
}

#[tokio::test]
async fn layers_of_docker_are_compressed_if_that_is_asked_for() {
    let Some(bed) = Bed::start().await else { return };
    let archive = archive::docker(bed.server.work(), &["a"]);
    let stream = Stream::open(&bed, "ns", "bytes").await.unwrap();
    let from = ImageImportStream {
        stream: "bytes".to_owned(),
        media_type: "application/x-tar".to_owned(),
        force_compress: true,
    };
    let store = unpacked(any_name(false));
    let request = request("ns", to_any(&from), to_any(&store), "");
    let mut client = bed.transfer();
    let (done, ()) = tokio::join!(client.transfer(request), stream.send_bytes(&archive));
    done.unwrap();
    let manifest = target(&bed, "ns", "docker.io/library/a:latest").await.unwrap();
    let document = read(&bed, "ns", &manifest.digest, 0, 0).await.unwrap();
    let document: serde_json::Value = serde_json::from_slice(&document).unwrap();
    let layers = archive::layers(bed.server.work());
    for (layer, plain) in document["layers"].as_array().unwrap().iter().zip(&layers) {
        assert_eq!(layer["mediaType"], "application/vnd.docker.image.rootfs.diff.tar.gzip");
        let data = read(&bed, "ns", layer["digest"].as_str().unwrap(), 0, 0).await.unwrap();
        assert_eq!(&archive::through(&["gzip", "-d"], &data), plain);
    }
    assert!(snapshot(&bed, &archive::chain_id(&layers)).await.is_ok());
    // Without that, the compressed layers that are there are found all the same.
    import(&bed, "ns", &archive, &any_name(false)).await.unwrap();
    assert_eq!(target(&bed, "ns", "docker.io/library/a:latest").await.unwrap(), manifest);
    bed.server.finish().await;
}
