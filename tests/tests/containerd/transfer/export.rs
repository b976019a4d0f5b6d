//! Images that become archives.

use gantry_api::containerd::{
    from_any,
    images::DeleteImageRequest,
    to_any,
    types::{
        Platform,
        transfer::{Data, ImageExportStream, ImageReference, ImageStore, WindowUpdate},
    },
};
use gantry_tests::patiently;
use tonic::Code;

use super::{
    any_name, archive, export, import, left, own_platform, request, stream::Stream, target,
    transfer, unpacked,
};
use crate::{Bed, assert_refused, of};

/// Names of an archive's files, and one of them.
fn list(archive: &[u8]) -> Vec<String> {
    let listed = String::from_utf8(archive::through(&["tar", "-t"], archive)).unwrap();
    listed.lines().map(str::to_owned).collect()
}

fn document(archive: &[u8], name: &str) -> serde_json::Value {
    let document = archive::through(&["tar", "-x", "-O", name], archive);
    serde_json::from_slice(&document).unwrap()
}

#[tokio::test]
async fn what_is_exported_is_the_same_when_it_is_imported() {
    let Some(bed) = Bed::start().await else { return };
    let saved = archive::docker(bed.server.work(), &["a:1", "b:2"]);
    import(&bed, "ns", &saved, &any_name(false)).await.unwrap();
    let names = ["docker.io/library/a:1", "docker.io/library/b:2"];
    let archive = export(&bed, "ns", &names, ImageExportStream::default()).await.unwrap();

    let manifest = target(&bed, "ns", names[0]).await.unwrap();
    let hex = manifest.digest.strip_prefix("sha256:").unwrap();
    let files = list(&archive);
    assert_eq!(files[..2], ["blobs/", "blobs/sha256/"]);
    assert!(files.contains(&format!("blobs/sha256/{hex}")), "{files:?}");
    assert_eq!(files[files.len() - 3..], ["index.json", "manifest.json", "oci-layout"]);
    assert_eq!(files.len(), 2 + 4 + 3);
    assert_eq!(
        document(&archive, "manifest.json")[0]["RepoTags"],
        serde_json::json!(["a:1", "b:2"])
    );
    let index = document(&archive, "index.json");
    let annotations = &index["manifests"][1]["annotations"];
    assert_eq!(annotations["io.containerd.image.name"], names[1]);
    assert_eq!(annotations["org.opencontainers.image.ref.name"], "2");

    import(&bed, "other", &archive, &unpacked(any_name(false))).await.unwrap();
    for name in names {
        let again = target(&bed, "other", name).await.unwrap();
        assert_eq!((again.digest, again.size), (manifest.digest.clone(), manifest.size));
    }
    let again = export(&bed, "other", &names, ImageExportStream::default()).await.unwrap();
    assert!(again == archive, "another archive");
    for namespace in ["ns", "other"] {
        assert_eq!(left(&bed, namespace).await, Vec::<String>::new());
    }
    bed.server.finish().await;
}

#[tokio::test]
async fn of_an_index_the_platforms_are_exported_that_are_wanted() {
    let Some(bed) = Bed::start().await else { return };
    let layout = archive::layout(bed.server.work(), "v1");
    let store = ImageStore { platforms: vec![own_platform()], ..any_name(false) };
    import(&bed, "ns", &layout, &store).await.unwrap();
    let of = async |to| export(&bed, "ns", &["import:v1"], to).await;
    let own = of(ImageExportStream::default()).await.unwrap();
    // An index, a manifest, a configuration and two layers.
    assert_eq!(list(&own).len(), 2 + 5 + 3);
    let to = ImageExportStream { skip_compatibility_manifest: true, ..Default::default() };
    assert!(!list(&of(to).await.unwrap()).contains(&"manifest.json".to_owned()));
    let all = of(ImageExportStream { all_platforms: true, ..Default::default() }).await;
    let missing = archive::sha256(b"missing");
    let message = format!("content digest {missing}: not found");
    assert_refused(all, Code::NotFound, &message);
    let (os, architecture) = ("plan9".to_owned(), "386".to_owned());
    let platforms = vec![Platform { os, architecture, ..Platform::default() }];
    let none = of(ImageExportStream { platforms, ..Default::default() }).await;
    let index = target(&bed, "ns", "import:v1").await.unwrap().digest;
    let message = format!("no match for platform in manifest {index}: not found");
    assert_refused(none, Code::NotFound, &message);
    let unknown = export(&bed, "ns", &["none"], ImageExportStream::default()).await;
    assert_refused(unknown, Code::NotFound, "image \"none\": not found");
    assert_eq!(left(&bed, "ns").await, Vec::<String>::new());
    bed.server.finish().await;
}

/// An archive of an image with two layers, neither of which fits into a stream's window.
fn two_large_layers(bed: &Bed) -> Vec<u8> {
    let layers = ["one", "two"].map(|name| {
        let files = archive::Files::new(bed.server.work().join(name));
        let data: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(512 << 10).collect();
        files.put("data", &data);
        files.tar()
    });
    let files = archive::Files::new(bed.server.work().join("image"));
    files.put("config.json", &archive::config(&layers));
    files.put("one.tar", &layers[0]);
    files.put("two.tar", &layers[1]);
    let image = serde_json::json!([{ "Config": "config.json", "RepoTags": ["large"], "Layers": ["one.tar", "two.tar"] }]);
    files.put("manifest.json", image.to_string().as_bytes());
    files.tar()
}

#[tokio::test]
async fn an_image_that_is_deleted_meanwhile_is_exported_to_its_end() {
    let Some(bed) = Bed::start().await else { return };
    import(&bed, "ns", &two_large_layers(&bed), &any_name(false)).await.unwrap();
    let name = "docker.io/library/large:latest";
    let whole = export(&bed, "ns", &[name], ImageExportStream::default()).await.unwrap();
    let mut stream = Stream::open(&bed, "ns", "bytes").await.unwrap();
    let to = ImageExportStream { stream: "bytes".to_owned(), ..ImageExportStream::default() };
    let from = ImageStore { name: name.to_owned(), ..ImageStore::default() };
    let mut client = bed.transfer();
    let exporting = client.transfer(request("ns", to_any(&from), to_any(&to), ""));
    let receiving = async {
        let window = to_any(&WindowUpdate { update: 64 << 10 });
        stream.outgoing.send(window).await.unwrap();
        let first = stream.incoming.message().await.unwrap().expect("data");
        let Data { data: mut archive } = from_any(&first).unwrap().expect("data");
        // At least one of the layers is not opened yet.
        let delete = DeleteImageRequest { name: name.to_owned(), sync: true, target: None };
        bed.images().delete(of("ns", delete)).await.unwrap();
        archive.extend(stream.receive_bytes().await);
        archive
    };
    let both = async { tokio::join!(exporting, receiving) };
    let (exported, archive) = patiently("the archive", Box::pin(both)).await;
    exported.unwrap();
    assert!(archive == whole, "{} bytes of {}", archive.len(), whole.len());
    assert_eq!(left(&bed, "ns").await, Vec::<String>::new());
    bed.server.finish().await;
}

/// The transfer waits as long as its caller does.
#[tokio::test]
async fn an_archive_that_nobody_takes_waits_for_its_caller() {
    let Some(bed) = Bed::start().await else { return };
    let saved = archive::docker(bed.server.work(), &["a"]);
    import(&bed, "ns", &saved, &any_name(false)).await.unwrap();
    let mut stream = Stream::open(&bed, "ns", "bytes").await.unwrap();
    let progress = Stream::open(&bed, "ns", "progress").await.unwrap();
    let to = ImageExportStream { stream: "bytes".to_owned(), ..ImageExportStream::default() };
    let name = "docker.io/library/a:latest".to_owned();
    let from = ImageStore { name, ..ImageStore::default() };
    let mut request = request("ns", to_any(&from), to_any(&to), "progress");
    request.set_timeout(std::time::Duration::from_millis(300));
    let error = bed.transfer().transfer(request).await.unwrap_err();
    assert!(matches!(error.code(), Code::Cancelled | Code::DeadlineExceeded), "{error}");
    // Both streams are closed, and the ids are free.
    patiently("the bytes end", async {
        while let Ok(Some(_)) = stream.incoming.message().await {}
    })
    .await;
    let told = patiently("the progress ends", progress.progress()).await;
    assert_eq!(told[0].0, "Exporting");
    let again = async { while Stream::open(&bed, "ns", "bytes").await.is_err() {} };
    patiently("the id is free", again).await;
    let gone = async { while !left(&bed, "ns").await.is_empty() {} };
    patiently("nothing is left", gone).await;
    bed.server.finish().await;
}

#[tokio::test]
async fn what_cannot_be_exported_is_refused() {
    let Some(bed) = Bed::start().await else { return };
    let _from = Stream::open(&bed, "ns", "from").await.unwrap();
    let from = gantry_api::containerd::types::transfer::ImageImportStream {
        stream: "from".to_owned(),
        ..Default::default()
    };
    let reference = "localhost:1/image:1".to_owned();
    let to = gantry_api::containerd::types::transfer::OciRegistry { reference, resolver: None };
    let error = transfer(&bed, "ns", &from, &to).await.unwrap_err();
    assert_eq!(error.code(), Code::Unimplemented);
    let _to = Stream::open(&bed, "ns", "other").await.unwrap();
    let prefix = ImageReference { is_prefix: true, ..ImageReference::default() };
    let from = ImageStore { extra_references: vec![prefix], ..ImageStore::default() };
    let to = ImageExportStream { stream: "other".to_owned(), ..ImageExportStream::default() };
    let message = "prefix lookup on export not implemented: not implemented";
    assert_refused(transfer(&bed, "ns", &from, &to).await, Code::Unimplemented, message);
    bed.server.finish().await;
}

/// ctr imports an archive itself, as clients did before there were transfers.
async fn import_by_ctr(bed: &Bed, namespace: &str, archive: &[u8]) {
    let file = bed.server.work().join(format!("{namespace}.tar"));
    std::fs::write(&file, archive).unwrap();
    let mut ctr = tokio::process::Command::new("/usr/bin/ctr");
    ctr.arg("--address").arg(&bed.server.service.socket).args(["--namespace", namespace]);
    let done = ctr.args(["images", "import", "--no-unpack"]).arg(&file).output().await.unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[tokio::test]
async fn containerds_client_makes_the_same_images() {
    let Some(bed) = Bed::start().await else { return };
    let saved = archive::docker(bed.server.work(), &["a:1"]);
    import(&bed, "ns", &saved, &any_name(false)).await.unwrap();
    let name = "docker.io/library/a:1";
    let wanted = target(&bed, "ns", name).await.unwrap();
    import_by_ctr(&bed, "saved", &saved).await;
    assert_eq!(target(&bed, "saved", name).await.unwrap().digest, wanted.digest);
    let archive = export(&bed, "ns", &[name], ImageExportStream::default()).await.unwrap();
    import_by_ctr(&bed, "exported", &archive).await;
    assert_eq!(target(&bed, "exported", name).await.unwrap().digest, wanted.digest);
    bed.server.finish().await;
}
