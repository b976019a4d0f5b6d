//! Tasks whose root file systems are snapshots, each on top of the one before.

use std::{
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::Path,
    process::Command,
};

use gantry_api::containerd::types::Mount;

use super::{Snapshots, own_files};
use crate::{
    Bed,
    tasks::{NewTask, finish},
};

/// Runs a script with this as its root file system; what it has written.
async fn run(bed: &Bed, id: &str, mounts: Vec<Mount>, script: &str) -> String {
    let new = NewTask::new(bed, "ns", id).sh(&format!("{{ {script}; }} && exit 0"));
    let mut task = new.rootfs(mounts).create().await.unwrap();
    task.start("").await.unwrap();
    let written = task.pipes.stdout_text().await;
    assert_eq!(task.wait("").await.unwrap().exit_status, 0, "{written}");
    task.delete().await.unwrap();
    written
}

/// Copies all of a directory.
pub(super) fn copy(from: &Path, to: &Path) {
    let mut copy = Command::new("cp");
    let status = copy.arg("-a").arg(from.join(".")).arg(to).status().expect("run cp");
    assert!(status.success());
}

async fn through_three_layers(snapshotter: &'static str) {
    let Some(bed) = Bed::start().await else { return };
    let sn = Snapshots { snapshotter, ..Snapshots::overlayfs(&bed) };
    let base = sn.prepare("base", "").await.unwrap();
    let top = own_files(&base);
    copy(&bed.server.work().join("rootfs"), &top);
    fs::create_dir_all(top.join("replaced/inner")).unwrap();
    for file in ["removed", "kept", "replaced/old", "replaced/inner/old"] {
        fs::write(top.join(file), "base").unwrap();
    }
    sn.commit("base", "one").await.unwrap();

    let second = sn.prepare("second", "one").await.unwrap();
    let script = "rm /removed && rm -r /replaced && mkdir /replaced && echo new > /replaced/new \
                  && echo two > /two";
    run(&bed, "second", second.clone(), script).await;
    if snapshotter == "overlayfs" {
        let upper = own_files(&second);
        let whiteout = fs::symlink_metadata(upper.join("removed")).unwrap();
        assert!(whiteout.file_type().is_char_device() && whiteout.rdev() == 0);
        let mut opaque = [0; 8];
        let length =
            rustix::fs::lgetxattr(upper.join("replaced"), "trusted.overlay.opaque", &mut opaque);
        assert_eq!(&opaque[..length.unwrap()], b"y");
        assert!(!upper.join("kept").exists());
    }
    sn.commit("second", "two").await.unwrap();

    let third = sn.prepare("third", "two").await.unwrap();
    let script = "test ! -e /removed && cat /kept /two && ls /replaced \
                  && echo back > /removed && echo three > /kept";
    assert_eq!(run(&bed, "third", third, script).await, "basetwo\nnew\n");
    sn.commit("third", "three").await.unwrap();

    let view = sn.view("view", "three").await.unwrap();
    let script = "cat /removed /kept /replaced/new && ! touch /refused 2>/dev/null";
    assert_eq!(run(&bed, "view", view, script).await, "back\nthree\nnew\n");
    // The layers below are as they were.
    let old = sn.view("old", "one").await.unwrap();
    assert_eq!(
        run(&bed, "old", old, "cat /removed /kept && ls /replaced").await,
        "basebaseinner\nold\n"
    );
    for key in ["old", "view", "three", "two", "one"] {
        sn.remove(key).await.unwrap();
    }
    finish(bed).await;
}

#[tokio::test]
async fn overlays_are_mounted_through_three_layers() {
    through_three_layers("overlayfs").await;
}

#[tokio::test]
async fn copies_are_made_through_three_layers() {
    through_three_layers("native").await;
}
