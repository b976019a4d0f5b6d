//! The restart monitor and a container whose root file system is a snapshot, as nerdctl makes it.

use std::{fs, path::Path, time::Duration};

use gantry_api::containerd::{
    containers::DeleteContainerRequest,
    tasks::{DeleteTaskRequest, KillRequest},
};
use gantry_tests::eventually;
use tonic::Code;

use super::{Snapshots, layers::copy, own_files};
use crate::{
    Bed, of,
    tasks::{NewTask, finish},
};

fn runs(file: &Path) -> usize {
    fs::read_to_string(file).unwrap_or_default().lines().count()
}

#[tokio::test]
async fn a_container_is_restarted_on_its_snapshot() {
    let Some(mut bed) = Bed::start().await else { return };
    let sn = Snapshots::overlayfs(&bed);
    let base = sn.prepare("base", "").await.unwrap();
    copy(&bed.server.work().join("rootfs"), &own_files(&base));
    sn.commit("base", "image").await.unwrap();
    let mounts = sn.prepare("c", "image").await.unwrap();
    let file = own_files(&mounts).join("runs");

    let mut new = NewTask::new(&bed, "ns", "c").sh("echo run >> /runs").rootfs(mounts);
    new.container.snapshotter = "overlayfs".to_owned();
    new.container.snapshot_key = "c".to_owned();
    for (name, value) in [("status", "running"), ("policy", "always")] {
        let label = format!("containerd.io/restart.{name}");
        new.container.labels.insert(label, value.to_owned());
    }
    let task = new.create().await.unwrap();
    task.start("").await.unwrap();
    eventually("it runs again", || runs(&file) >= 2).await;
    bed.server.kill().await;
    let before = runs(&file);
    bed.server.start_again().await;
    eventually("the next server runs it, too", || runs(&file) > before).await;

    // Until the monitor does not start it meanwhile.
    loop {
        let (container_id, exec_id) = ("c".to_owned(), String::new());
        let kill = KillRequest { container_id, exec_id, signal: 9, all: true };
        let _ = bed.tasks().kill(of("ns", kill)).await;
        let delete = DeleteTaskRequest { container_id: "c".to_owned() };
        let _ = bed.tasks().delete(of("ns", delete)).await;
        let delete = DeleteContainerRequest { id: "c".to_owned() };
        match bed.containers().delete(of("ns", delete)).await {
            Ok(_) => break,
            Err(error) => assert_eq!(error.code(), Code::FailedPrecondition, "{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let sn = Snapshots::overlayfs(&bed);
    for key in ["c", "image"] {
        sn.remove(key).await.unwrap();
    }
    finish(bed).await;
}
