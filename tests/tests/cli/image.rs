//! Images that a test makes and puts into the server.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use gantry_api::containerd::{
    LEASE_METADATA, NAMESPACE_METADATA,
    content::{WriteAction, WriteContentRequest, content_client::ContentClient},
    images::{CreateImageRequest, Image, images_client::ImagesClient},
    leases::{CreateRequest, DeleteRequest, leases_client::LeasesClient},
    types::Descriptor,
};
use serde_json::{Value, json};
use tonic::Request;

use crate::Bed;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

const LEASE: &str = "test";

/// An image that is to be made.
pub(crate) struct NewImage {
    /// Archives, the lowest first.
    layers: Vec<Vec<u8>>,
    pub(crate) config: Value,
}

impl NewImage {
    /// Of busybox in one layer.
    pub(crate) fn busybox(bed: &Bed) -> Self {
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let config = json!({
            "os": "linux",
            "architecture": architecture,
            "config": { "Env": ["PATH=/bin", "FROM=image"], "Cmd": ["sh", "-c", "echo by default"] },
        });
        Self { layers: vec![tar(&bed.server.work().join("rootfs"))], config }
    }

    /// Adds a layer of what a function writes into a directory.
    pub(crate) fn layer(mut self, bed: &Bed, write: impl FnOnce(&Path)) -> Self {
        let dir = directory(bed);
        write(&dir);
        self.layers.push(tar(&dir));
        fs::remove_dir_all(&dir).unwrap();
        self
    }

    /// Sets a part of the configuration that says how the program is run.
    pub(crate) fn set(mut self, name: &str, value: Value) -> Self {
        self.config["config"][name] = value;
        self
    }

    /// Puts it into a namespace, with an index above its manifest. The second layer and those above are compressed.
    pub(crate) async fn put(self, bed: &Bed, namespace: &str, name: &str) {
        let store = Store { bed, namespace };
        store.lease().await;
        let (manifest, size) = self.blobs(&store).await;
        let platform = json!({ "os": "linux", "architecture": self.config["architecture"] });
        // The second one is not there.
        let missing = format!("sha256:{}", "0".repeat(64));
        let index = json!({
            "schemaVersion": 2,
            "mediaType": INDEX,
            "manifests": [
                { "mediaType": MANIFEST, "digest": missing, "size": 1,
                  "platform": { "os": "linux", "architecture": "s390x" } },
                { "mediaType": MANIFEST, "digest": manifest, "size": size, "platform": platform },
            ],
        });
        let index = index.to_string();
        let digest = store.put(index.as_bytes(), &[manifest]).await;
        store.name(name, INDEX, digest, index.len()).await;
    }

    /// Puts it into a namespace, without an index.
    pub(crate) async fn put_whole(self, bed: &Bed, namespace: &str, name: &str) {
        let store = Store { bed, namespace };
        store.lease().await;
        let (manifest, size) = self.blobs(&store).await;
        store.name(name, MANIFEST, manifest, size).await;
    }

    /// Writes all but the index; digest and size of the manifest.
    async fn blobs(&self, store: &Store<'_>) -> (String, usize) {
        let mut diff_ids = Vec::new();
        let mut layers = Vec::new();
        let mut refers = Vec::new();
        for (number, layer) in self.layers.iter().enumerate() {
            diff_ids.push(format!("sha256:{}", &through("sha256sum", layer)[..64]));
            let (data, media_type) = match number {
                0 => (layer.clone(), LAYER.to_owned()),
                _ => (bytes_through("gzip", layer), format!("{LAYER}+gzip")),
            };
            let digest = store.put(&data, &[]).await;
            layers.push(json!({ "mediaType": media_type, "digest": digest, "size": data.len() }));
            refers.push(digest);
        }
        let mut config = self.config.clone();
        config["rootfs"] = json!({ "type": "layers", "diff_ids": diff_ids });
        let config = config.to_string();
        let digest = store.put(config.as_bytes(), &[]).await;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": { "mediaType": CONFIG, "digest": digest, "size": config.len() },
            "layers": layers,
        });
        refers.push(digest);
        let manifest = manifest.to_string();
        (store.put(manifest.as_bytes(), &refers).await, manifest.len())
    }
}

struct Store<'a> {
    bed: &'a Bed,
    namespace: &'a str,
}

impl Store<'_> {
    fn of<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert(NAMESPACE_METADATA, self.namespace.parse().unwrap());
        request.metadata_mut().insert(LEASE_METADATA, LEASE.parse().unwrap());
        request
    }

    fn leases(&self) -> LeasesClient<tonic::transport::Channel> {
        LeasesClient::new(self.bed.server.service.channel())
    }

    /// Keeps what is written until the image does.
    async fn lease(&self) {
        let request = CreateRequest { id: LEASE.to_owned(), ..CreateRequest::default() };
        self.leases().create(self.of(request)).await.unwrap();
    }

    /// Writes a blob that refers to others.
    async fn put(&self, data: &[u8], refers: &[String]) -> String {
        let label = |(number, digest): (usize, &String)| {
            (format!("containerd.io/gc.ref.content.{number}"), digest.clone())
        };
        let labels: BTreeMap<_, _> = refers.iter().enumerate().map(label).collect();
        let pieces: Vec<_> = data.chunks(1 << 20).collect();
        let mut offset = 0;
        let mut messages: Vec<WriteContentRequest> = Vec::new();
        for piece in pieces {
            messages.push(WriteContentRequest {
                action: WriteAction::Write.into(),
                r#ref: "put".to_owned(),
                offset,
                data: piece.to_vec(),
                ..WriteContentRequest::default()
            });
            offset += i64::try_from(piece.len()).unwrap();
        }
        messages.push(WriteContentRequest {
            action: WriteAction::Commit.into(),
            r#ref: "put".to_owned(),
            offset,
            labels: labels.clone(),
            ..WriteContentRequest::default()
        });
        let request = self.of(tokio_stream::iter(messages));
        let mut client = ContentClient::new(self.bed.server.service.channel());
        let mut answers = client.write(request).await.unwrap().into_inner();
        let mut digest = String::new();
        loop {
            match answers.message().await {
                Ok(Some(answer)) if !answer.digest.is_empty() => digest = answer.digest,
                Ok(Some(_)) => {}
                Ok(None) => return digest,
                // Two images have it.
                Err(status) if status.code() == tonic::Code::AlreadyExists => {
                    return format!("sha256:{}", &through("sha256sum", data)[..64]);
                }
                Err(status) => panic!("{status:?}"),
            }
        }
    }

    /// Gives content a name, which keeps it from then on.
    async fn name(&self, name: &str, media_type: &str, digest: String, size: usize) {
        let size = i64::try_from(size).unwrap();
        let (name, media_type) = (name.to_owned(), media_type.to_owned());
        let target = Some(Descriptor { media_type, digest, size, ..Descriptor::default() });
        let image = Some(Image { name, target, ..Image::default() });
        let request = CreateImageRequest { image, source_date_epoch: None };
        let mut images = ImagesClient::new(self.bed.server.service.channel());
        images.create(self.of(request)).await.unwrap();
        let request = DeleteRequest { id: LEASE.to_owned(), sync: true };
        self.leases().delete(self.of(request)).await.unwrap();
    }
}

fn directory(bed: &Bed) -> PathBuf {
    let path = bed.server.work().join("layer");
    fs::create_dir(&path).unwrap();
    path
}

/// An archive of a directory, by tar(1).
fn tar(directory: &Path) -> Vec<u8> {
    let mut tar = Command::new("tar");
    let archive = tar.arg("-C").arg(directory).args(["-cf", "-", "."]).output().unwrap();
    assert!(archive.status.success(), "{}", String::from_utf8_lossy(&archive.stderr));
    archive.stdout
}

fn through(program: &str, data: &[u8]) -> String {
    String::from_utf8(bytes_through(program, data)).unwrap()
}

/// What a program makes of data.
fn bytes_through(program: &str, data: &[u8]) -> Vec<u8> {
    let mut command = Command::new(program);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut stdin, data) = (child.stdin.take().unwrap(), data.to_vec());
    let writer = std::thread::spawn(move || stdin.write_all(&data));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    output.stdout
}
