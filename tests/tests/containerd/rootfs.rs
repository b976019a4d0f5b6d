//! Root file systems that the server mounts for tasks: there while the task is, never left on the host, and
//! what they are made of is not removed with them.

use std::{fs, path::Path, time::Duration};

use gantry_api::containerd::{tasks::DeleteTaskRequest, types::Mount};
use serde_json::json;
use tokio::time::timeout;
use tonic::Code;

use crate::{
    Bed, of,
    tasks::{NewTask, finish},
};

/// More than one page of options, in names that are as long as those of snapshots.
const LAYERS: usize = 80;

fn mount(kind: &str, source: &Path, target: &str, options: &[&str]) -> Mount {
    Mount {
        r#type: kind.to_owned(),
        source: source.to_str().expect("UTF-8").to_owned(),
        target: target.to_owned(),
        options: options.iter().map(|option| (*option).to_owned()).collect(),
    }
}

fn bind(bed: &Bed, mode: &str) -> Mount {
    mount("bind", &bed.server.work().join("rootfs"), "", &["rbind", mode])
}

pub(crate) fn tmpfs(target: &str) -> Mount {
    mount("tmpfs", Path::new("tmpfs"), target, &["size=64k", "mode=1777"])
}

/// On the test's root file system, with an upper layer of this name.
pub(crate) fn overlay(bed: &Bed, upper: &str) -> Mount {
    over(bed, upper, &[])
}

/// With more layers between the two.
fn over(bed: &Bed, upper: &str, layers: &[String]) -> Mount {
    let dir = |name: &str| {
        let dir = bed.server.work().join(name);
        fs::create_dir_all(&dir).unwrap();
        dir.to_str().expect("UTF-8").to_owned()
    };
    let mut lower: Vec<String> = layers.iter().map(|layer| dir(layer)).collect();
    lower.push(dir("rootfs"));
    let lower = format!("lowerdir={}", lower.join(":"));
    let (upper, work) = (format!("upperdir={}", dir(upper)), dir(&format!("{upper}-work")));
    mount(
        "overlay",
        Path::new("overlay"),
        "",
        &["index=off", &upper, &lower, &format!("workdir={work}")],
    )
}

/// Whether what all mounts are made of is as it was.
pub(crate) fn assert_whole(bed: &Bed) {
    let rootfs = bed.server.work().join("rootfs");
    for file in ["bin/busybox", "bin/sh", "etc/passwd"] {
        assert!(fs::metadata(rootfs.join(file)).is_ok(), "{file} is gone");
    }
}

/// Mounts of the test, as the host sees them.
fn mounted(bed: &Bed) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let work = bed.server.work().to_str().expect("UTF-8");
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    points.filter(|point| point.starts_with(work)).map(str::to_owned).collect()
}

/// Runs it to its end; what it has written.
async fn output(bed: &Bed, new: NewTask<'_>, mounts: usize) -> String {
    let mut task = new.create().await.unwrap();
    assert_eq!(mounted(bed).len(), mounts);
    task.start("").await.unwrap();
    let written = task.pipes.stdout_text().await;
    assert_eq!(task.wait("").await.unwrap().exit_status, 0, "{written}");
    assert_eq!(mounted(bed).len(), mounts, "it is the task's until it is deleted");
    task.delete().await.unwrap();
    assert_eq!(mounted(bed), [""; 0]);
    written
}

#[tokio::test]
async fn mounts_of_every_kind_are_there_for_the_task_alone() {
    let Some(bed) = Bed::start().await else { return };
    let work = bed.server.work().to_owned();
    let task = |id: &str, script: &str, mounts| {
        NewTask::new(&bed, "ns", id).sh(&format!("{script} && exit 0")).rootfs(mounts)
    };
    let new = task("bind", "echo a > /tmp/written", vec![bind(&bed, "rw")]);
    output(&bed, new, 1).await;
    assert_eq!(fs::read_to_string(work.join("rootfs/tmp/written")).unwrap(), "a\n");

    let new = task("ro", "! touch /tmp/refused 2>/dev/null", vec![bind(&bed, "ro")]);
    output(&bed, new, 1).await;
    assert!(!work.join("rootfs/tmp/refused").exists());

    let script = "echo b > /tmp/written; rm /etc/group";
    output(&bed, task("overlay", script, vec![overlay(&bed, "upper")]), 1).await;
    assert_eq!(fs::read_to_string(work.join("upper/tmp/written")).unwrap(), "b\n");
    assert_eq!(fs::read_to_string(work.join("rootfs/tmp/written")).unwrap(), "a\n");
    assert!(work.join("rootfs/etc/group").exists());

    let layers: Vec<String> =
        (0..LAYERS).map(|number| format!("layers/{number:0>45}/fs")).collect();
    let many = over(&bed, "on-many", &layers);
    assert!(many.options.join(",").len() > 4096);
    for (number, layer) in layers.iter().enumerate() {
        fs::write(work.join(layer).join(format!("layer-{number}")), "").unwrap();
    }
    let written = output(&bed, task("many", "ls / | grep -c layer-", vec![many]), 1).await;
    assert_eq!(written.trim(), LAYERS.to_string());

    let script = "grep ' /tmp ' /proc/mounts; touch /tmp/in-memory";
    let written =
        output(&bed, task("tmpfs", script, vec![bind(&bed, "rw"), tmpfs("tmp")]), 2).await;
    assert!(written.contains("tmpfs") && written.contains("size=64k"), "{written}");
    assert!(!work.join("rootfs/tmp/in-memory").exists());
    assert_whole(&bed);
    finish(bed).await;
}

/// What was mounted before is unmounted; the same create without the fault then succeeds.
#[tokio::test]
async fn a_mount_that_fails_takes_those_before_with_it() {
    let Some(bed) = Bed::start().await else { return };
    let before = || vec![overlay(&bed, "upper"), tmpfs("tmp")];
    for (bad, words) in [
        (mount("bind", Path::new("/gantry-no-such-source"), "etc", &["rbind"]), "No such file"),
        (tmpfs("nowhere"), "nowhere"),
        (mount("nosuchfs", Path::new("none"), "etc", &[]), "nosuchfs"),
        (mount("tmpfs", Path::new("tmpfs"), "etc", &["nosuchoption=1"]), "etc"),
    ] {
        let mut mounts = before();
        mounts.push(bad);
        let created = NewTask::new(&bed, "ns", "c").rootfs(mounts).create().await;
        let Err(error) = created.map(drop) else { panic!("created with {words}") };
        assert!(error.message().contains(words), "{error:?}");
        assert!(error.message().contains("number 3"), "{error:?}");
        assert_eq!(mounted(&bed), [""; 0]);
    }
    let task = NewTask::new(&bed, "ns", "c").rootfs(before()).create().await.unwrap();
    assert_eq!(mounted(&bed).len(), 2);
    task.end().await;
    assert_eq!(mounted(&bed), [""; 0]);
    assert_whole(&bed);
    finish(bed).await;
}

#[tokio::test]
async fn a_task_that_does_not_come_to_be_has_nothing_mounted() {
    let Some(bed) = Bed::start().await else { return };
    let new =
        |id: &str| NewTask::new(&bed, "ns", id).rootfs(vec![overlay(&bed, "upper"), tmpfs("tmp")]);
    let bad = new("bad").config(|config| config["process"]["args"] = json!(["/no-such-program"]));
    let error = bad.create().await.map(drop).unwrap_err();
    assert!(error.message().contains("no such file or directory"), "{error:?}");
    assert_eq!(mounted(&bed), [""; 0]);
    let task = new("c").create().await.unwrap();
    task.delete().await.unwrap();
    assert_eq!(mounted(&bed), [""; 0], "it was never started");
    assert_whole(&bed);
    finish(bed).await;
}

/// A caller that goes away does not learn whether the task was created.
#[tokio::test]
async fn a_caller_may_go_away() {
    let Some(bed) = Bed::start().await else { return };
    let new = || NewTask::new(&bed, "ns", "c").rootfs(vec![overlay(&bed, "upper"), tmpfs("tmp")]);
    for after in [2, 10, 25, 60, 120] {
        drop(timeout(Duration::from_millis(after), new().create()).await);
        let again = loop {
            match new().create().await {
                Ok(task) => break task,
                Err(error) => assert_eq!(error.code(), Code::AlreadyExists, "{error:?}"),
            }
            // It was created.
            let request = DeleteTaskRequest { container_id: "c".to_owned() };
            let _ = bed.tasks().delete(of("ns", request)).await;
        };
        assert_eq!(mounted(&bed).len(), 2);
        again.end().await;
        assert_eq!(mounted(&bed), [""; 0]);
    }
    assert_whole(&bed);
    finish(bed).await;
}
