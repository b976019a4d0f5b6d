//! Whole transfers.

use gantry_api::containerd::{snapshots::StatSnapshotRequest, to_any};
use gantry_tests::patiently;
use tonic::Code;

use super::{
    super::{left, request, stream::Stream, target},
    Kind, Registry, any_name, archive, import, named, pull, reference, transfer,
};
use crate::{Bed, content::info, of};

#[tokio::test]
async fn what_is_pushed_is_the_same_when_it_is_pulled() {
    let work = tempfile::tempdir().unwrap();
    let Some(registry) = Registry::start(work.path(), Kind::Plain).await else { return };
    let Some(bed) = Bed::start().await else { return };
    let saved = archive::docker(bed.server.work(), &["a:1"]);
    import(&bed, "ns", &saved, &any_name(false)).await.unwrap();
    let to = reference(&registry.host(), "one/a:v1");
    let progress = Stream::open(&bed, "ns", "progress").await.unwrap();
    let from = named("docker.io/library/a:1");
    let mut client = bed.transfer();
    let request = request("ns", to_any(&from), to_any(&to), "progress");
    let (done, told) = tokio::join!(client.transfer(request), progress.progress());
    done.unwrap();
    let shown = format!("OCI Registry ({})", to.reference);
    assert_eq!(told[0].0, format!("Pushing to {shown}"));
    assert_eq!(told.last().unwrap().0, format!("Completed push to {shown}"));
    let count = |event: &str| told.iter().filter(|(told, _)| told == event).count();
    // A manifest, a configuration, and two layers.
    assert_eq!((count("waiting"), count("complete"), count("pushed content")), (4, 4, 1));

    // Another repository has it by mounting.
    transfer(&bed, "ns", &from, &reference(&registry.host(), "one/b:v1")).await.unwrap();
    let mounted = registry.answered("from=one/a");
    assert_eq!(mounted.len(), 3, "{mounted:?}");
    assert!(mounted.iter().all(|line| line.ends_with(" 201")), "{mounted:?}");
    // What is there is not sent again.
    let before = registry.answered("PUT ").len();
    transfer(&bed, "ns", &from, &to).await.unwrap();
    assert_eq!(registry.answered("PUT ").len(), before);
    let pushed = target(&bed, "ns", "docker.io/library/a:1").await.unwrap();
    assert_eq!(left(&bed, "ns").await, Vec::<String>::new());
    bed.server.finish().await;

    let Some(bed) = Bed::start().await else { return };
    let progress = Stream::open(&bed, "ns", "progress").await.unwrap();
    let store = super::unpacked(named(&to.reference));
    let mut client = bed.transfer();
    let request = super::super::request("ns", to_any(&to), to_any(&store), "progress");
    let (done, told) = tokio::join!(client.transfer(request), progress.progress());
    done.unwrap();
    assert_eq!(told[0].0, format!("Resolving from {shown}"));
    assert_eq!(told[1].0, format!("Pulling from {shown}"));
    let count = |event: &str| told.iter().filter(|(told, _)| told == event).count();
    assert_eq!((count("complete"), count("extracted"), count("saved")), (4, 2, 1));
    assert_eq!(told.last().unwrap().0, format!("Completed pull from {shown}"));
    let pulled = target(&bed, "ns", &to.reference).await.unwrap();
    assert_eq!(
        (&pulled.digest, pulled.size, &pulled.media_type),
        (&pushed.digest, pushed.size, &pushed.media_type)
    );
    let labels = info(&bed, "ns", &pulled.digest).await.unwrap().labels;
    assert_eq!(labels["containerd.io/distribution.source.127.0.0.1"], "one/a");
    let layers = archive::layers(work.path());
    assert_eq!(labels["containerd.io/gc.ref.content.l.0"], archive::sha256(&layers[0]));
    let config = info(&bed, "ns", &labels["containerd.io/gc.ref.content.config"]).await.unwrap();
    let chain_id = archive::chain_id(&layers);
    assert_eq!(config.labels["containerd.io/gc.ref.snapshot.overlayfs"], chain_id);
    let stat = StatSnapshotRequest { snapshotter: "overlayfs".to_owned(), key: chain_id };
    bed.snapshots().stat(of("ns", stat)).await.unwrap();
    assert_eq!(left(&bed, "ns").await, Vec::<String>::new());
    // Once more there is nothing to do.
    let before = registry.answered("GET ").len();
    pull(&bed, "ns", &to).await.unwrap();
    assert_eq!(registry.answered("GET ").len(), before);
    bed.server.finish().await;
}

#[tokio::test]
async fn an_index_is_transferred_for_the_platforms_that_are_wanted() {
    let work = tempfile::tempdir().unwrap();
    let Some(registry) = Registry::start(work.path(), Kind::Plain).await else { return };
    let Some(bed) = Bed::start().await else { return };
    let layout = archive::layout(bed.server.work(), "v1");
    let own = |mut store: gantry_api::containerd::types::transfer::ImageStore| {
        store.platforms = vec![super::super::own_platform()];
        store
    };
    import(&bed, "ns", &layout, &own(any_name(false))).await.unwrap();
    let to = reference(&registry.host(), "index:v1");
    let all = transfer(&bed, "ns", &named("import:v1"), &to).await.unwrap_err();
    assert_eq!(all.code(), Code::NotFound, "{all}");
    // The registry wants what an index refers to.
    let some = transfer(&bed, "ns", &own(named("import:v1")), &to).await.unwrap_err();
    assert!(some.message().contains("MANIFEST_BLOB_UNKNOWN"), "{some}");
    assert_eq!(registry.answered("PUT /v2/index/manifests/sha256:").len(), 1);
    bed.server.finish().await;
}

/// Of the other platforms only the documents are here. The registry has the rest, also for another repository.
#[tokio::test]
async fn what_was_pulled_for_one_platform_is_pushed_as_a_whole() {
    let work = tempfile::tempdir().unwrap();
    let Some(registry) = Registry::start(work.path(), Kind::Plain).await else { return };
    let Some(bed) = Bed::start().await else { return };
    let layout = archive::layout_of_two(bed.server.work(), "v1");
    import(&bed, "ns", &layout, &any_name(false)).await.unwrap();
    let whole = reference(&registry.host(), "whole:v1");
    transfer(&bed, "ns", &named("import:v1"), &whole).await.unwrap();
    let mut part = named("part:v1");
    part.platforms = vec![super::super::own_platform()];
    part.all_metadata = true;
    transfer(&bed, "other", &whole, &part).await.unwrap();
    let sent = registry.answered("PATCH ").len() + registry.answered("PUT /v2/whole/blobs").len();
    for again in ["whole:v2", "elsewhere:v1"] {
        let to = reference(&registry.host(), again);
        transfer(&bed, "other", &named("part:v1"), &to).await.unwrap();
    }
    let now = registry.answered("PATCH ").len() + registry.answered("PUT /v2/whole/blobs").len();
    assert_eq!(now, sent);
    assert_eq!(registry.answered("PUT /v2/elsewhere/blobs"), Vec::<String>::new());
    bed.server.finish().await;
}

#[tokio::test]
async fn what_is_not_there_is_told() {
    let work = tempfile::tempdir().unwrap();
    let Some(registry) = Registry::start(work.path(), Kind::Plain).await else { return };
    let Some(bed) = Bed::start().await else { return };
    let from = reference(&registry.host(), "none:v1");
    let error = pull(&bed, "ns", &from).await.unwrap_err();
    assert_eq!(error.code(), Code::NotFound, "{error}");
    let words = format!("failed to resolve image: {}: not found", from.reference);
    assert_eq!(error.message(), words);
    let host = registry.host();
    drop(registry);
    let error =
        patiently("an error", pull(&bed, "ns", &reference(&host, "none:v1"))).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    assert_eq!(left(&bed, "ns").await, Vec::<String>::new());
    bed.server.finish().await;
}

/// Each layer is unpacked on those below, also one that is there twice; the content is fetched once.
#[tokio::test]
async fn a_layer_that_an_image_has_twice_is_fetched_once() {
    let work = tempfile::tempdir().unwrap();
    let Some(registry) = Registry::start(work.path(), Kind::Plain).await else { return };
    let Some(bed) = Bed::start().await else { return };
    let [lower, upper] = archive::layers(work.path()).try_into().unwrap();
    let layers = [lower.clone(), upper, lower];
    let files = archive::Files::new(work.path().join("twice"));
    files.put("config.json", &archive::config(&layers));
    files.put("lower.tar", &layers[0]);
    files.put("upper.tar", &layers[1]);
    let names = ["lower.tar", "upper.tar", "lower.tar"];
    let image =
        serde_json::json!([{ "Config": "config.json", "RepoTags": ["a"], "Layers": names }]);
    files.put("manifest.json", image.to_string().as_bytes());
    import(&bed, "ns", &files.tar(), &any_name(false)).await.unwrap();
    let to = reference(&registry.host(), "twice:v1");
    transfer(&bed, "ns", &named("docker.io/library/a:latest"), &to).await.unwrap();
    bed.server.finish().await;

    let Some(bed) = Bed::start().await else { return };
    let progress = Stream::open(&bed, "ns", "progress").await.unwrap();
    let store = super::unpacked(named(&to.reference));
    let mut client = bed.transfer();
    let request = request("ns", to_any(&to), to_any(&store), "progress");
    let (done, told) = tokio::join!(client.transfer(request), progress.progress());
    done.unwrap();
    let count = |event: &str| told.iter().filter(|(told, _)| told == event).count();
    // A manifest, a configuration, and two layers, of which three are made.
    assert_eq!((count("complete"), count("already exists"), count("extracted")), (4, 0, 3));
    let asked = registry.answered(&format!("GET /v2/twice/blobs/{}", archive::sha256(&layers[0])));
    assert_eq!(asked.len(), 1, "{asked:?}");
    let key = archive::chain_id(&layers);
    let stat = StatSnapshotRequest { snapshotter: "overlayfs".to_owned(), key };
    bed.snapshots().stat(of("ns", stat)).await.unwrap();
    bed.server.finish().await;
}
