//! Tasks with a user namespace: their root is nobody on the host.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    process::Command,
};

use gantry_api::containerd::{
    diff::DiffRequest,
    introspection::PluginsRequest,
    runc::Options,
    snapshots::{CommitSnapshotRequest, PrepareSnapshotRequest, UsageRequest, ViewSnapshotRequest},
    to_any,
    types::Mount,
};
use serde_json::json;

use super::{NewTask, finish};
use crate::{
    Bed,
    content::{KEEPER, keep, leased, read},
    of,
};

/// Of root in there.
const HOST_ID: u32 = 100_000;

/// On the bundle's root file system.
fn in_user_namespace(config: &mut serde_json::Value) {
    let mappings = json!([{ "containerID": 0, "hostID": HOST_ID, "size": 65_536 }]);
    config["root"] = json!({ "path": "rootfs" });
    let namespaces = config["linux"]["namespaces"].as_array_mut().expect("a list");
    namespaces.push(json!({ "type": "user" }));
    config["linux"]["uidMappings"] = mappings.clone();
    config["linux"]["gidMappings"] = mappings;
}

#[tokio::test]
async fn root_reaches_its_root_file_system_and_can_open_its_output_again() {
    let Some(bed) = Bed::start().await else { return };
    // A user's own directories are closed to others, and a host's are not.
    fs::set_permissions(bed.server.work(), fs::Permissions::from_mode(0o711)).unwrap();
    let mut new = NewTask::new(&bed, "ns", "c")
        .sh("echo out >/proc/self/fd/1; echo err >/proc/self/fd/2; read line; echo $line")
        .config(in_user_namespace);
    new.request.rootfs = vec![Mount {
        r#type: "bind".to_owned(),
        source: bed.server.work().join("rootfs").to_str().expect("UTF-8").to_owned(),
        options: vec!["rbind".to_owned(), "ro".to_owned()],
        ..Mount::default()
    }];
    let options = Options { io_uid: HOST_ID, io_gid: HOST_ID, ..Options::default() };
    new.request.options = Some(to_any(&options));
    let mut task = new.create().await.unwrap();
    task.start("").await.unwrap();
    task.pipes.stdout_until("out").await;
    let mut exec = task.exec("e", "echo exec >/proc/self/fd/1").await.unwrap();
    task.start("e").await.unwrap();
    assert_eq!(exec.stdout_text().await, "exec\n");
    assert_eq!(task.wait("e").await.unwrap().exit_status, 0);
    task.pipes.write(b"line\n").await;
    assert_eq!(task.pipes.stdout_text().await, "line\n");
    assert_eq!(task.pipes.stderr().await, b"err\n");
    assert_eq!(task.wait("").await.unwrap().exit_status, 0);
    task.delete().await.unwrap();
    finish(bed).await;
}

async fn remaps_ids(bed: &Bed) -> bool {
    let filters = vec!["type==io.containerd.snapshotter.v1,id==overlayfs".to_owned()];
    let plugins = bed.introspection().plugins(of("ns", PluginsRequest { filters })).await;
    let plugins = plugins.unwrap().into_inner().plugins;
    plugins[0].capabilities == ["remap-ids"]
}

/// An active snapshot, with or without mapped ids.
async fn prepare(bed: &Bed, key: &str, parent: &str, is_mapped: bool) -> Vec<Mount> {
    let mut request = PrepareSnapshotRequest {
        snapshotter: "overlayfs".to_owned(),
        key: key.to_owned(),
        parent: parent.to_owned(),
        ..PrepareSnapshotRequest::default()
    };
    for ids in ["uid", "gid"].into_iter().filter(|_| is_mapped) {
        let label = format!("containerd.io/snapshot/{ids}mapping");
        request.labels.insert(label, format!("0:{HOST_ID}:65536"));
    }
    let made = bed.snapshots().prepare(leased("ns", KEEPER, request)).await.unwrap();
    made.into_inner().mounts
}

async fn commit(bed: &Bed, key: &str, name: &str) {
    let request = CommitSnapshotRequest {
        snapshotter: "overlayfs".to_owned(),
        key: key.to_owned(),
        name: name.to_owned(),
        ..CommitSnapshotRequest::default()
    };
    bed.snapshots().commit(leased("ns", KEEPER, request)).await.unwrap();
}

#[tokio::test]
async fn files_of_a_mapped_snapshot_are_roots_inside_and_nobodys_on_the_disk() {
    let Some(bed) = Bed::start().await else { return };
    if !remaps_ids(&bed).await {
        // The server says so, and clients change owners themselves.
        let mounts = prepare(&bed, "c", "", true).await;
        assert!(mounts[0].options.iter().all(|option| !option.contains("map=")), "{mounts:?}");
        eprintln!("skipped: no id-mapped mounts here");
        finish(bed).await;
        return;
    }
    fs::set_permissions(bed.server.work(), fs::Permissions::from_mode(0o711)).unwrap();
    keep(&bed, "ns").await;
    let base = prepare(&bed, "base", "", false).await;
    let mut copy = Command::new("cp");
    copy.arg("-a").arg(bed.server.work().join("rootfs/.")).arg(&base[0].source);
    assert!(copy.status().unwrap().success());
    fs::write(Path::new(&base[0].source).join("below"), "below").unwrap();
    commit(&bed, "base", "layer").await;

    let mounts = prepare(&bed, "c", "layer", true).await;
    let upper = mounts[0].options.iter().find_map(|option| option.strip_prefix("upperdir="));
    let upper = Path::new(upper.unwrap()).to_owned();
    let script = "stat -c %u:%g / /below; echo >>/below; echo new >/new; stat -c %u:%g /below /new";
    let mut task = NewTask::new(&bed, "ns", "c")
        .sh(script)
        .rootfs(mounts.clone())
        .config(in_user_namespace)
        .create()
        .await
        .unwrap();
    task.start("").await.unwrap();
    assert_eq!(task.pipes.stdout_text().await, "0:0\n".repeat(4));
    assert_eq!(task.wait("").await.unwrap().exit_status, 0);
    task.delete().await.unwrap();
    for name in ["", "below", "new"] {
        let found = upper.join(name).metadata().unwrap();
        assert_eq!((found.uid(), found.gid()), (HOST_ID, HOST_ID), "{name}");
    }
    let below = Path::new(&base[0].source).join("below").metadata().unwrap();
    assert_eq!((below.uid(), below.gid()), (0, 0));

    let (snapshotter, key) = ("overlayfs".to_owned(), "c".to_owned());
    let used = bed.snapshots().usage(of("ns", UsageRequest { snapshotter, key })).await.unwrap();
    assert!(used.into_inner().inodes >= 3);
    let view = ViewSnapshotRequest {
        snapshotter: "overlayfs".to_owned(),
        key: "view".to_owned(),
        parent: "layer".to_owned(),
        ..ViewSnapshotRequest::default()
    };
    let left = bed.snapshots().view(leased("ns", KEEPER, view)).await.unwrap().into_inner().mounts;
    let media_type = "application/vnd.oci.image.layer.v1.tar".to_owned();
    let request = DiffRequest { left, right: mounts, media_type, ..DiffRequest::default() };
    let made = bed.diff().diff(leased("ns", KEEPER, request)).await.unwrap().into_inner().diff;
    let layer = read(&bed, "ns", &made.unwrap().digest, 0, 0).await.unwrap();
    let archive = bed.server.work().join("layer.tar");
    fs::write(&archive, layer).unwrap();
    let listed = Command::new("tar").args(["--numeric-owner", "-tvf"]).arg(archive).output();
    let listed = String::from_utf8(listed.unwrap().stdout).unwrap();
    // As in containerd, a layer has what is on the disk; and nothing that is only below.
    for name in ["below", "new"] {
        let line = listed.lines().find(|line| line.ends_with(&format!(" {name}")));
        assert!(line.is_some_and(|line| line.contains(" 100000/100000 ")), "{listed}");
    }
    assert!(!listed.contains("busybox"), "{listed}");
    commit(&bed, "c", "changed").await;
    finish(bed).await;
}
