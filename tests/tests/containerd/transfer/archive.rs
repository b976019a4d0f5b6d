//! Archives of images that are made by hand, with tar(1), gzip(1) and sha256sum(1).

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::{Value, json};

/// What the layers have, one file each.
pub(super) const LAYERS: [(&str, &str); 2] = [("lower", "below"), ("upper", "above")];

/// The machine's processor, as Go names it.
pub(super) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Files of an archive.
pub(super) struct Files(PathBuf);

impl Files {
    pub(super) fn new(directory: PathBuf) -> Self {
        fs::create_dir_all(&directory).unwrap();
        Self(directory)
    }

    pub(super) fn put(&self, name: &str, data: &[u8]) {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, data).unwrap();
    }

    /// Puts a blob where a layout has it; gives a descriptor.
    pub(super) fn put_blob(&self, media_type: &str, data: &[u8]) -> Value {
        let digest = sha256(data);
        self.put(&format!("blobs/sha256/{}", &digest["sha256:".len()..]), data);
        json!({ "mediaType": media_type, "digest": digest, "size": data.len() })
    }

    /// The archive of all of them.
    pub(super) fn tar(&self) -> Vec<u8> {
        tar(&self.0)
    }
}

/// An archive of what is in a directory, by names without `./`, which containerd does not take from links.
fn tar(directory: &Path) -> Vec<u8> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(directory).args(["--sort=name", "--mtime=@0", "-cf", "-"]).args(names);
    let tar = tar.output().unwrap();
    assert!(tar.status.success(), "{}", String::from_utf8_lossy(&tar.stderr));
    tar.stdout
}

/// What a program makes of data.
pub(super) fn through(program: &[&str], data: &[u8]) -> Vec<u8> {
    let mut command = Command::new(program[0]);
    command.args(&program[1..]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let data = data.to_vec();
    let writing = std::thread::spawn(move || input.write_all(&data));
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap().unwrap();
    assert!(output.status.success());
    output.stdout
}

pub(super) fn sha256(data: &[u8]) -> String {
    let sum = String::from_utf8(through(&["sha256sum"], data)).unwrap();
    format!("sha256:{}", sum.split(' ').next().unwrap())
}

/// Archives of the layers, without compression.
pub(super) fn layers(work: &Path) -> Vec<Vec<u8>> {
    let layer = |(name, text): (&str, &str)| {
        let files = Files::new(work.join(format!("layer-{name}")));
        files.put(name, text.as_bytes());
        files.tar()
    };
    LAYERS.map(layer).into()
}

pub(super) fn config(layers: &[Vec<u8>]) -> Vec<u8> {
    let diff_ids: Vec<_> = layers.iter().map(|layer| sha256(layer)).collect();
    let rootfs = json!({ "type": "layers", "diff_ids": diff_ids });
    let config = json!({ "architecture": architecture(), "os": "linux", "rootfs": rootfs });
    config.to_string().into_bytes()
}

/// The name of the snapshot of all layers.
pub(super) fn chain_id(layers: &[Vec<u8>]) -> String {
    let ids = layers.iter().map(|layer| sha256(layer));
    ids.reduce(|below, id| sha256(format!("{below} {id}").as_bytes())).unwrap()
}

/// As `docker save` wrote it before it wrote layouts: the second layer is a link to a file.
pub(super) fn docker(work: &Path, tags: &[&str]) -> Vec<u8> {
    let files = Files::new(work.join("docker"));
    let layers = layers(work);
    files.put("config.json", &config(&layers));
    files.put("1/layer.tar", &layers[0]);
    files.put("2/data.tar", &layers[1]);
    std::os::unix::fs::symlink("data.tar", files.0.join("2/layer.tar")).unwrap();
    let names = ["1/layer.tar", "2/layer.tar"];
    let image = json!({ "Config": "config.json", "RepoTags": tags, "Layers": names });
    files.put("manifest.json", json!([image]).to_string().as_bytes());
    files.tar()
}

/// A layout with an image for this machine, and one for another whose parts it lacks.
pub(super) fn layout(work: &Path, name: &str) -> Vec<u8> {
    let files = Files::new(work.join("layout"));
    let layers = layers(work);
    let own = manifest(&files, &config(&layers), &layers, architecture());
    let other = json!({
        "mediaType": MANIFEST,
        "digest": sha256(b"missing"),
        "size": 7,
        "platform": { "os": "linux", "architecture": "riscv64" },
    });
    of_index(&files, &[other, own], name)
}

/// A layout with an image for this machine, and one for another.
pub(super) fn layout_of_two(work: &Path, name: &str) -> Vec<u8> {
    let files = Files::new(work.join("layout-of-two"));
    let layers = layers(work);
    let own = manifest(&files, &config(&layers), &layers, architecture());
    let layers = [b"another's layer, which nobody unpacks".to_vec()];
    let mut config: Value = serde_json::from_slice(&config(&layers)).unwrap();
    config["architecture"] = "riscv64".into();
    let other = manifest(&files, config.to_string().as_bytes(), &layers, "riscv64");
    of_index(&files, &[other, own], name)
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Adds an image; its descriptor.
fn manifest(files: &Files, config: &[u8], layers: &[Vec<u8>], architecture: &str) -> Value {
    let config = files.put_blob("application/vnd.oci.image.config.v1+json", config);
    let gzip = |layer: &Vec<u8>| {
        let packed = through(&["gzip", "-n"], layer);
        files.put_blob("application/vnd.oci.image.layer.v1.tar+gzip", &packed)
    };
    let layers: Vec<_> = layers.iter().map(gzip).collect();
    let manifest =
        json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers });
    let mut image = files.put_blob(MANIFEST, manifest.to_string().as_bytes());
    image["platform"] = json!({ "os": "linux", "architecture": architecture });
    image
}

/// The archive, with an index of these images.
fn of_index(files: &Files, images: &[Value], name: &str) -> Vec<u8> {
    let kind = "application/vnd.oci.image.index.v1+json";
    let index = json!({ "schemaVersion": 2, "mediaType": kind, "manifests": images });
    let mut index = files.put_blob(kind, index.to_string().as_bytes());
    index["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
    let top = json!({ "schemaVersion": 2, "manifests": [index] });
    files.put("index.json", top.to_string().as_bytes());
    files.put("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
    files.tar()
}
