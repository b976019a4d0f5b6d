//! `ctr snapshots`.

use std::{fs, path::PathBuf};

use rustix::process::Signal;

use crate::{
    ctr_containers,
    host::{Host, fails, succeeds},
};

fn snapshots(host: &Host, arguments: &[&str]) -> String {
    succeeds(host.ctr(&[&["snapshots"], arguments].concat()))
}

fn refused(host: &Host, arguments: &[&str]) -> String {
    fails(host.ctr(&[&["snapshots"], arguments].concat())).1
}

/// Does something in what `ctr` says is to be mounted, mounted as it says.
fn mounted(host: &Host, key: &str, script: &str) -> String {
    let target = host.text("mounted");
    fs::create_dir_all(&target).expect("make a directory");
    let command = snapshots(host, &["mounts", &target, key]);
    let script =
        format!("set -e; {command}\ntrap 'umount {target}' EXIT\ncd {target}\n{script}\ncd /");
    host.sh(&script).unwrap_or_else(|| panic!("{script}"))
}

#[tokio::test]
async fn snapshots_are_made_mounted_committed_and_removed() {
    let mut host = Host::make().await;
    // Without something that refers to them, they are collected.
    let label = |key: &str| format!("containerd.io/gc.ref.snapshot.overlayfs/{key}={key}");
    let labels: Vec<_> = ["a", "b", "v", "A", "B"].into_iter().map(label).collect();
    let options: Vec<_> = labels.iter().flat_map(|label| ["--label", label.as_str()]).collect();
    ctr_containers::create(&host, "keeper", &options, "");
    // As ctr does without --mounts: what mount(8) would be called with.
    let command = snapshots(&host, &["prepare", "--target", "/m", "a"]);
    let words: Vec<_> = command.split_whitespace().collect();
    assert_eq!(
        (words[..3].join(" "), words[4..].join(" ")),
        ("mount -t bind".into(), "/m -o rw,rbind".into())
    );
    fs::write(PathBuf::from(words[3]).join("removed"), "a").expect("write a file");
    assert!(refused(&host, &["commit", "b", "x"]).contains("snapshot x does not exist: not found"));
    snapshots(&host, &["commit", "A", "a"]);
    snapshots(&host, &["prepare", "--target", "/m", "b", "A"]);
    mounted(&host, "b", "cat removed; rm removed; mkdir dir; echo b > dir/file");
    snapshots(&host, &["commit", "B", "b"]);
    host.end_server(Signal::KILL).await;
    host.start_server().await;
    snapshots(&host, &["view", "--mounts", "v", "B"]);
    let seen = mounted(&host, "v", "ls; cat dir/file; ! touch new 2>/dev/null");
    assert_eq!(seen, "dir\nb\n");

    let list = snapshots(&host, &["ls"]);
    let rows: Vec<Vec<_>> = list.lines().map(|row| row.split_whitespace().collect()).collect();
    assert_eq!(
        rows,
        [
            vec!["KEY", "PARENT", "KIND"],
            vec!["A", "Committed"],
            vec!["B", "A", "Committed"],
            vec!["v", "B", "View"],
        ]
    );
    assert_eq!(snapshots(&host, &["tree"]), " A\n  \\_ B\n    \\_ v\n");
    let usage = snapshots(&host, &["usage", "B"]);
    // The top, a whiteout, a directory and a file.
    assert!(
        usage.lines().any(|row| row.starts_with("B ") && row.trim().ends_with(" 4")),
        "{usage}"
    );
    snapshots(&host, &["label", "B", "k.a/b=v"]);
    let info = snapshots(&host, &["info", "B"]);
    for says in ["\"Kind\": \"Committed\"", "\"Parent\": \"A\"", "\"k.a/b\": \"v\""] {
        assert!(info.contains(says), "{info}");
    }
    let says = "cannot remove snapshot with child: failed precondition";
    assert!(refused(&host, &["rm", "A"]).contains(says));
    snapshots(&host, &["rm", "v", "B", "A"]);
    assert_eq!(snapshots(&host, &["ls"]).lines().count(), 1);
    let says = "snapshotter not loaded: nope: invalid argument";
    assert!(refused(&host, &["--snapshotter", "nope", "ls"]).contains(says));
    let plugins = succeeds(host.ctr(&["plugins", "ls", "-d", "id==overlayfs"]));
    assert!(plugins.contains("root") && !plugins.contains("Error"), "{plugins}");
    succeeds(host.ctr(&["containers", "rm", "keeper"]));
    host.finish().await;
}
