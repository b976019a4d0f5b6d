//! Images made of files of this machine, with tar(1), gzip(1), zstd(1) and sha256sum(1).

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Programs, libraries and documents: what images are made of.
const FROM: [&str; 3] = ["usr/bin", "usr/lib", "usr/share"];

/// Files above this are left out, of which there are few in images.
const LARGE: u64 = 64 << 20;

/// How a layer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    Gzip,
    Zstd,
}

/// A layer.
#[derive(Debug, Clone)]
pub(crate) struct Blob {
    pub(crate) path: PathBuf,
    pub(crate) media_type: String,
    pub(crate) digest: String,
    pub(crate) size: u64,
    /// Of the archive without compression.
    pub(crate) diff_id: String,
}

/// An archive that `ctr images import` takes.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) archive: PathBuf,
}

impl Compression {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// As images name it.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Archives of this machine's files, `count` of `size` bytes each or a little less, none in two of them.
pub(crate) fn layers(work: &Path, count: usize, size: u64) -> Result<Vec<PathBuf>> {
    let mut find = Command::new("find");
    find.current_dir("/").args(FROM).args(["-xdev", "(", "-type", "f", "-o", "-type", "l", ")"]);
    let found = find.args(["-printf", "%s %p\\n"]).output().context("run find")?;
    let found = String::from_utf8_lossy(&found.stdout).into_owned();
    let mut files: Vec<(u64, &str)> = found
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(size, name)| Some((size.parse().ok()?, name)))
        .filter(|(size, _)| *size <= LARGE)
        .collect();
    // In no order of the directories, and in the same order in each run.
    files.sort_by_key(|(_, name)| scattered(name));
    let mut files = files.into_iter();
    (0..count)
        .map(|number| {
            let (mut names, mut sum) = (Vec::new(), 0);
            for (size_of_file, name) in files.by_ref() {
                // With its header.
                sum += size_of_file.next_multiple_of(512) + 512;
                names.push(name);
                if sum >= size {
                    break;
                }
            }
            ensure!(!names.is_empty(), "this machine has too few files for {count} layers");
            names.sort_unstable();
            let (list, archive) =
                (work.join(format!("list-{number}")), work.join(format!("layer-{number}.tar")));
            fs::write(&list, names.join("\n")).context("write a list of files")?;
            let mut tar = Command::new("tar");
            tar.args(["-C", "/", "-cf"]).arg(&archive).arg("-T").arg(&list);
            run(tar.stderr(Stdio::null()))?;
            Ok(archive)
        })
        .collect()
}

/// FNV-1a of a name.
fn scattered(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// A layer of an archive.
pub(crate) fn layer(archive: &Path, compression: Compression) -> Result<Blob> {
    let path = archive.with_extension(format!("tar.{}", compression.name()));
    let output = File::create(&path).context("make a layer")?;
    // With the levels that builders of images use.
    let mut command = Command::new(compression.name());
    command.arg(match compression {
        Compression::Gzip => "-6",
        Compression::Zstd => "-3",
    });
    run(command.arg("-c").arg(archive).stdout(output))?;
    Ok(Blob {
        media_type: format!("{LAYER}+{}", compression.name()),
        digest: digest(&path)?,
        size: fs::metadata(&path).context("look at a layer")?.len(),
        diff_id: digest(archive)?,
        path,
    })
}

impl Image {
    /// An image of these layers, which is called `name`.
    pub(crate) fn new(work: &Path, name: &str, layers: &[Blob]) -> Result<Self> {
        let root = work.join("layout");
        fs::create_dir_all(root.join("blobs/sha256")).context("make a layout")?;
        let diff_ids: Vec<_> = layers.iter().map(|layer| &layer.diff_id).collect();
        let config = json!({
            "architecture": architecture(),
            "os": "linux",
            "config": { "Env": ["PATH=/bin"], "Cmd": ["true"] },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let config = put(&root, CONFIG, &config)?;
        let layers = layers.iter().map(|layer| {
            fs::rename(&layer.path, blob(&root, &layer.digest)).context("place a layer")?;
            Ok(json!({ "mediaType": layer.media_type, "digest": layer.digest, "size": layer.size }))
        });
        let layers = layers.collect::<Result<Vec<Value>>>()?;
        let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers });
        let mut manifest = put(&root, MANIFEST, &manifest)?;
        manifest["annotations"] = json!({ "io.containerd.image.name": name });
        let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
        fs::write(root.join("index.json"), index.to_string()).context("write an index")?;
        let layout = json!({ "imageLayoutVersion": "1.0.0" });
        fs::write(root.join("oci-layout"), layout.to_string()).context("write a layout")?;
        let archive = work.join("image.tar");
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(&root).arg("-cf").arg(&archive);
        run(tar.args(["oci-layout", "index.json", "blobs"]))?;
        fs::remove_dir_all(&root).context("remove a layout")?;
        Ok(Self { archive })
    }
}

/// Puts a document into a layout; its descriptor.
fn put(root: &Path, media_type: &str, document: &Value) -> Result<Value> {
    let (text, path) = (document.to_string(), root.join("document"));
    File::create(&path).and_then(|mut file| file.write_all(text.as_bytes())).context("write")?;
    let digest = digest(&path)?;
    fs::rename(&path, blob(root, &digest)).context("place a document")?;
    Ok(json!({ "mediaType": media_type, "digest": digest, "size": text.len() }))
}

fn blob(root: &Path, digest: &str) -> PathBuf {
    root.join("blobs").join(digest.replace(':', "/"))
}

/// Of a file, as sha256sum(1) computes it.
pub(crate) fn digest(path: &Path) -> Result<String> {
    let sum = Command::new("sha256sum").arg(path).output().context("run sha256sum")?;
    let sum = String::from_utf8_lossy(&sum.stdout).into_owned();
    let hex = sum.split(' ').next().filter(|hex| hex.len() == 64);
    Ok(format!("sha256:{}", hex.with_context(|| format!("sha256sum {}", path.display()))?))
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("run {command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}
