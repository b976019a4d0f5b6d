//! Layers that are applied to trees, and made of what differs between two.

mod apply;
mod beside;
mod bounds;
mod interrupted;
mod make;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use gantry_api::containerd::{
    diff::{ApplyRequest, DiffRequest},
    types::{Descriptor, Mount},
};
use tokio::io::AsyncWriteExt;
use tonic::Status;

use crate::{
    Bed,
    content::{KEEPER, info, keep, leased, put},
    of,
};

/// A layer's media type, without compression.
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// A new directory of the test.
fn directory(bed: &Bed, name: &str) -> PathBuf {
    let path = bed.server.work().join(name);
    fs::create_dir_all(&path).unwrap();
    path
}

fn bind(path: &Path, access: &str) -> Mount {
    Mount {
        r#type: "bind".to_owned(),
        source: path.to_str().expect("UTF-8").to_owned(),
        target: String::new(),
        options: vec!["rbind".to_owned(), access.to_owned()],
    }
}

/// An overlay of directories below `work`, the upper one first; with more options.
fn overlay(work: &Path, upper: &str, lower: &[&str], further: &[&str]) -> Mount {
    let at = |name: &str| {
        fs::create_dir_all(work.join(name)).unwrap();
        work.join(name).to_str().expect("UTF-8").to_owned()
    };
    let lower: Vec<String> = lower.iter().map(|name| at(name)).collect();
    let mut options = vec![
        format!("workdir={}", at(&format!("{upper}-work"))),
        format!("upperdir={}", at(upper)),
        format!("lowerdir={}", lower.join(":")),
    ];
    options.extend(further.iter().map(|option| (*option).to_owned()));
    let (kind, source, target) = ("overlay".to_owned(), "overlay".to_owned(), String::new());
    Mount { r#type: kind, source, target, options }
}

/// An archive of a directory, made by tar(1).
fn tar(directory: &Path, arguments: &[&str]) -> Vec<u8> {
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(directory).args(["-cf", "-"]).args(arguments);
    let archive = tar.output().unwrap();
    assert!(archive.status.success(), "{}", String::from_utf8_lossy(&archive.stderr));
    archive.stdout
}

/// What a program makes of data.
async fn through(program: &str, data: &[u8]) -> Vec<u8> {
    let mut command = tokio::process::Command::new(program);
    command.arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let (written, output) = tokio::join!(
        async move {
            input.write_all(data).await.unwrap();
            drop(input);
        },
        child.wait_with_output()
    );
    let () = written;
    output.unwrap().stdout
}

async fn apply_digest(
    bed: &Bed,
    digest: &str,
    media_type: &str,
    mounts: &[Mount],
) -> Result<Descriptor, Status> {
    let (digest, media_type) = (digest.to_owned(), media_type.to_owned());
    let diff = Some(Descriptor { digest, media_type, ..Descriptor::default() });
    let mounts = mounts.to_vec();
    let request = ApplyRequest { diff, mounts, sync_fs: true, ..ApplyRequest::default() };
    let answer = bed.diff().apply(of("ns", request)).await?;
    Ok(answer.into_inner().applied.expect("a descriptor"))
}

/// Writes the layer, and applies it.
async fn apply(
    bed: &Bed,
    layer: &[u8],
    media_type: &str,
    mounts: &[Mount],
) -> Result<Descriptor, Status> {
    let mut digest = sha256(bed, layer).await;
    if info(bed, "ns", &digest).await.is_err() {
        digest = put(bed, "ns", layer).await;
    }
    apply_digest(bed, &digest, media_type, mounts).await
}

/// As sha256sum(1) computes it.
async fn sha256(bed: &Bed, data: &[u8]) -> String {
    let file = bed.server.work().join("to-hash");
    fs::write(&file, data).unwrap();
    let mut sum = tokio::process::Command::new("sha256sum");
    let sum = sum.arg(&file).output().await.unwrap();
    let hex = String::from_utf8(sum.stdout).unwrap();
    format!("sha256:{}", hex.split(' ').next().unwrap())
}

async fn diff(
    bed: &Bed,
    left: &[Mount],
    right: &[Mount],
    media_type: &str,
) -> Result<Descriptor, Status> {
    let (left, right, media_type) = (left.to_vec(), right.to_vec(), media_type.to_owned());
    ask(bed, DiffRequest { left, right, media_type, ..DiffRequest::default() }).await
}

async fn ask(bed: &Bed, request: DiffRequest) -> Result<Descriptor, Status> {
    // Without something that refers to it, the layer is collected.
    keep(bed, "ns").await;
    let answer = bed.diff().diff(leased("ns", KEEPER, request)).await?;
    Ok(answer.into_inner().diff.expect("a descriptor"))
}

/// What a directory has: names with types, modes, owners, sizes and targets, by find(1).
fn seen(directory: &Path) -> String {
    let format = "%P %y %m %U:%G %s %n %l\\n";
    let mut find = Command::new("find");
    let found = find.arg(directory).args(["-mindepth", "1", "-printf", format]).output().unwrap();
    assert!(found.status.success());
    let mut lines: Vec<_> =
        String::from_utf8(found.stdout).unwrap().lines().map(str::to_owned).collect();
    // The size of a directory is its file system's affair.
    for line in &mut lines {
        let mut words: Vec<_> = line.split(' ').collect();
        if words[1] == "d" {
            words[4] = "-";
            words[5] = "-";
        }
        *line = words.join(" ");
    }
    lines.sort();
    lines.join("\n")
}

/// Mounts of the test, as the host and the server see them.
fn mounts_of(bed: &Bed) -> Vec<String> {
    let work = bed.server.work().to_str().expect("UTF-8");
    let mut found = Vec::new();
    for process in ["self".to_owned(), bed.server.pid().to_string()] {
        let table = fs::read_to_string(format!("/proc/{process}/mountinfo")).unwrap();
        found.extend(table.lines().filter(|line| line.contains(work)).map(str::to_owned));
    }
    found
}
