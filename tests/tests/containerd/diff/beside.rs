//! Beside Debian's containerd: the same layer makes the same tree, and the same trees the same layer.

use std::{process::Child, slice::from_ref};

use gantry_api::containerd::{
    content::{WriteAction, WriteContentRequest, content_client::ContentClient},
    diff::diff_client::DiffClient,
    version::version_client::VersionClient,
};
use gantry_tests::{PATIENCE, patiently, processes, service, skip};
use tonic::transport::Channel;

use super::{apply::tree, *};

/// A containerd that is killed when this is dropped.
struct Peer {
    child: Child,
    channel: Channel,
}

impl Peer {
    /// `None`, after saying so, without Debian's containerd.
    async fn start(work: &Path) -> Option<Self> {
        fs::create_dir_all(work).unwrap();
        let (config, socket) = (work.join("config.toml"), work.join("c.sock"));
        // Some of what is left out would load modules.
        let unused =
            ["grpc.v1.cri", "snapshotter.v1.aufs", "snapshotter.v1.btrfs", "snapshotter.v1.zfs"];
        let unused = unused.map(|name| format!("io.containerd.{name}"));
        let content = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = {unused:?}\n[grpc]\naddress = {socket:?}\n",
            work.join("root"),
            work.join("state"),
        );
        fs::write(&config, content).unwrap();
        let log = fs::File::create(work.join("log")).unwrap();
        let mut command = Command::new("/usr/bin/containerd");
        command.arg("--config").arg(&config).stderr(log);
        let Ok(child) = command.spawn() else {
            skip("Debian's containerd is not installed");
            return None;
        };
        let peer = Self { child, channel: service::channel(&socket) };
        let mut version = VersionClient::new(peer.channel.clone());
        patiently("containerd", async {
            while version.version(()).await.is_err() {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        })
        .await;
        Some(peer)
    }

    async fn put(&self, digest: &str, data: Vec<u8>) {
        let write = WriteContentRequest {
            action: WriteAction::Commit.into(),
            r#ref: digest.to_owned(),
            expected: digest.to_owned(),
            data,
            labels: kept(),
            ..WriteContentRequest::default()
        };
        let mut client = ContentClient::new(self.channel.clone());
        let answers = client.write(of("ns", tokio_stream::iter([write]))).await.unwrap();
        let mut answers = answers.into_inner();
        while answers.message().await.unwrap().is_some() {}
    }

    async fn apply(&self, diff: &Descriptor, mounts: Vec<Mount>) -> Descriptor {
        let request = ApplyRequest { diff: Some(diff.clone()), mounts, ..Default::default() };
        let answer = DiffClient::new(self.channel.clone()).apply(of("ns", request)).await;
        answer.unwrap().into_inner().applied.unwrap()
    }

    /// The layer without compression.
    async fn diff(&self, left: &Mount, right: &Mount) -> Vec<u8> {
        let (left, right) = (vec![left.clone()], vec![right.clone()]);
        let media_type = LAYER.to_owned();
        let request =
            DiffRequest { left, right, media_type, labels: kept(), ..DiffRequest::default() };
        let made = DiffClient::new(self.channel.clone()).diff(of("ns", request)).await.unwrap();
        let digest = made.into_inner().diff.unwrap().digest;
        let request =
            gantry_api::containerd::content::ReadContentRequest { digest, offset: 0, size: 0 };
        let mut client = ContentClient::new(self.channel.clone());
        let mut pieces = client.read(of("ns", request)).await.unwrap().into_inner();
        let mut layer = Vec::new();
        while let Some(piece) = pieces.message().await.unwrap() {
            layer.extend(piece.data);
        }
        layer
    }
}

/// Labels of a blob that nobody collects.
fn kept() -> std::collections::BTreeMap<String, String> {
    std::collections::BTreeMap::from([("containerd.io/gc.root".to_owned(), "yes".to_owned())])
}

impl Drop for Peer {
    fn drop(&mut self) {
        processes::kill(self.child.id());
        let _ = self.child.wait();
    }
}

/// Everything in an archive but the time of what is gone, which containerd takes from its clock.
fn described(bed: &Bed, layer: &[u8]) -> Vec<String> {
    let file = bed.server.work().join("described");
    fs::write(&file, layer).unwrap();
    let arguments = ["--numeric-owner", "--full-time", "--utc", "-tvf"];
    let listed = Command::new("tar").args(arguments).arg(&file).output().unwrap();
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let listed = String::from_utf8(listed.stdout).unwrap();
    let without_time = |line: &str| -> String {
        let words = line.split_whitespace().enumerate();
        let words: Vec<_> =
            words.filter(|(at, _)| ![3, 4].contains(at)).map(|(_, word)| word).collect();
        words.join(" ")
    };
    let lines = listed.lines();
    lines
        .map(|line| if line.contains(".wh.") { without_time(line) } else { line.to_owned() })
        .collect()
}

#[tokio::test]
async fn containerd_makes_the_same_trees_and_layers() {
    let Some(bed) = Bed::start().await else { return };
    let Some(peer) = Peer::start(&directory(&bed, "containerd")).await else { return };
    let tree = tree(&bed);
    let archive = tar(&tree, &["--format=pax", "."]);
    let layer = through("gzip", &archive).await;
    let digest = put(&bed, "ns", &layer).await;
    peer.put(&digest, layer).await;
    let media_type = format!("{LAYER}+gzip");
    let diff_of = Descriptor { digest: digest.clone(), media_type, ..Descriptor::default() };
    let (ours, theirs) = (directory(&bed, "ours"), directory(&bed, "theirs"));
    let by_us =
        apply_digest(&bed, &digest, &diff_of.media_type, &[bind(&ours, "rw")]).await.unwrap();
    let by_them = peer.apply(&diff_of, vec![bind(&theirs, "rw")]).await;
    assert_eq!(by_us, by_them);
    assert_eq!(seen(&ours), seen(&theirs));

    fs::remove_file(theirs.join("fifo")).unwrap();
    fs::remove_dir_all(theirs.join("l".repeat(150))).unwrap();
    fs::write(theirs.join("owned"), "longer").unwrap();
    fs::hard_link(theirs.join("usr/bin/other"), theirs.join("usr/third")).unwrap();
    fs::create_dir_all(theirs.join("new/deep")).unwrap();
    fs::write(theirs.join("new/deep/file"), vec![1; 70_000]).unwrap();
    std::os::unix::fs::symlink("deep", theirs.join("new/link")).unwrap();
    let (left, right) = (bind(&ours, "ro"), bind(&theirs, "ro"));
    let by_us = diff(&bed, from_ref(&left), from_ref(&right), LAYER).await.unwrap();
    let by_us = crate::content::read(&bed, "ns", &by_us.digest, 0, 0).await.unwrap();
    let by_them = tokio::time::timeout(PATIENCE, peer.diff(&left, &right)).await.unwrap();
    assert_eq!(described(&bed, &by_us), described(&bed, &by_them));
    drop(peer);
    bed.server.finish().await;
}
