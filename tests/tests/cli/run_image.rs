//! `gantry run IMAGE`.

use std::{
    fs,
    io::Write,
    os::unix::fs::symlink,
    path::PathBuf,
    process::{Command, Stdio},
};

use gantry_api::containerd::{
    NAMESPACE_METADATA,
    containers::{GetContainerRequest, containers_client::ContainersClient},
    leases::{ListRequest, leases_client::LeasesClient},
    snapshots::{ListSnapshotsRequest, snapshots_client::SnapshotsClient},
    tasks::{WaitRequest, tasks_client::TasksClient},
};
use gantry_tests::{Runtime::Runc, processes, reading::Reading, terminal::Terminal};
use rustix::process::Signal;
use serde_json::json;
use tonic::Request;

use crate::{
    Bed,
    bed::{self, TASKS},
    image::NewImage,
    output, stderr, stdout, succeeds, with_input,
};

/// The test's own namespace.
pub(crate) fn namespace(bed: &Bed) -> String {
    bed::namespace(&bed.server.service.cgroup)
}

/// A command about the test's namespace.
pub(crate) fn gantry(bed: &Bed, command: &str, arguments: &[&str]) -> Command {
    let namespace = namespace(bed);
    bed.gantry(&[&[command, "--namespace", &namespace], arguments].concat())
}

/// Runs the image `box` in a cgroup of the test's.
pub(crate) fn run(bed: &Bed, arguments: &[&str]) -> Command {
    let cgroup = format!("{}/image-{}", bed.server.service.cgroup, fastrand::u64(..));
    gantry(bed, "run", &[&["--cgroup-path", &cgroup], arguments].concat())
}

fn directory(bed: &Bed) -> PathBuf {
    PathBuf::from(TASKS).join(namespace(bed))
}

/// How many snapshots the namespace has.
pub(crate) async fn snapshots(bed: &Bed) -> usize {
    let request = ListSnapshotsRequest { snapshotter: "overlayfs".to_owned(), filters: Vec::new() };
    let mut client = SnapshotsClient::new(bed.server.service.channel());
    let mut stream = client.list(of(bed, request)).await.unwrap().into_inner();
    let mut count = 0;
    while let Some(message) = stream.message().await.unwrap() {
        count += message.info.len();
    }
    count
}

/// Ends a test: nothing but the empty directory of its namespace may be left of its containers.
pub(crate) async fn finish(bed: Bed) {
    let dir = directory(&bed);
    if dir.exists() {
        fs::remove_dir(&dir).unwrap();
    }
    bed.finish().await;
}

/// A request about the test's namespace.
pub(crate) fn of<T>(bed: &Bed, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(NAMESPACE_METADATA, namespace(bed).parse().unwrap());
    request
}

pub(crate) async fn has_container(bed: &Bed, id: &str) -> bool {
    let request = of(bed, GetContainerRequest { id: id.to_owned() });
    ContainersClient::new(bed.server.service.channel()).get(request).await.is_ok()
}

pub(crate) async fn leases(bed: &Bed) -> usize {
    let request = of(bed, ListRequest::default());
    let listed = LeasesClient::new(bed.server.service.channel()).list(request).await.unwrap();
    listed.into_inner().leases.len()
}

#[tokio::test]
async fn an_image_is_run_as_it_says() {
    let Some(bed) = Bed::make(Runc).await else { return };
    let namespace = namespace(&bed);
    let image = NewImage::busybox(&bed)
        .layer(&bed, |dir| {
            fs::create_dir_all(dir.join("real")).unwrap();
            fs::create_dir_all(dir.join("etc")).unwrap();
            fs::create_dir_all(dir.join("work")).unwrap();
            fs::write(dir.join("real/passwd"), "web:x:33:34::/srv:/bin/sh\n").unwrap();
            fs::write(dir.join("etc/group"), "web:x:34:\nlogs:x:40:web\n").unwrap();
            // A link of the image's leads nowhere but into the image.
            symlink("/real/passwd", dir.join("etc/passwd")).unwrap();
        })
        .set("User", json!("web"))
        .set("WorkingDir", json!("/work"))
        .set("Entrypoint", json!(["sh", "-c"]))
        .set("Cmd", json!(["pwd; id -u; id -G; echo $FROM $A"]));
    image.put(&bed, &namespace, "docker.io/library/box:latest").await;

    let by_default = output(&run(&bed, &["--rm", "-e", "A=b", "box"]));
    assert_eq!(stdout(&by_default), "/work\n33\n34 40\nimage b\n", "{by_default:?}");
    let options = ["--rm", "-e", "FROM=option", "--cwd", "/real", "-u", "12:13"];
    let chosen =
        output(&run(&bed, &[&options[..], &["box", "pwd; id -u; id -g; echo $FROM"]].concat()));
    assert_eq!(stdout(&chosen), "/real\n12\n13\noption\n", "{chosen:?}");
    let other = run(&bed, &["--rm", "--entrypoint", "echo", "box", "-n", "said"]);
    assert_eq!(stdout(&output(&other)), "said");
    // All that is left are the image's two layers.
    assert_eq!(snapshots(&bed).await, 2);
    assert_eq!(leases(&bed).await, 0);
    for (arguments, code, words) in [
        (&["--entrypoint", "no-such-program", "box"][..], 127, "no-such-program"),
        (&["--entrypoint", "/etc", "box"], 126, ""),
        (&["-u", "nobody", "box"], 125, "no user \"nobody\""),
        (&["--platform", "linux/s390x", "box"], 125, "is not there: pull or import"),
        (&["--platform", "plan9/386", "box"], 125, "is not for plan9/386, but for linux/s390x"),
        (&["no-such-image"], 125, "has no image"),
        (&["--snapshotter", "none", "box"], 125, "snapshotter not loaded: none"),
    ] {
        let refused = output(&run(&bed, &[&["--name", "refused"], arguments].concat()));
        assert_eq!(refused.status.code(), Some(code), "{refused:?}");
        assert_eq!(stderr(&refused).matches("gantry: ").count(), 1, "{refused:?}");
        assert!(stderr(&refused).contains(words), "{refused:?}");
        assert!(!has_container(&bed, "refused").await);
    }
    // The collection keeps the layers as long as the image is there.
    succeeds(&gantry(&bed, "rmi", &["box"]));
    assert_eq!(snapshots(&bed).await, 0);
    finish(bed).await;
}

#[tokio::test]
async fn streams_and_statuses_go_through() {
    let Some(bed) = Bed::make(Runc).await else { return };
    NewImage::busybox(&bed).put(&bed, &namespace(&bed), "box").await;
    let script = "echo out; echo err >&2; exit 42";
    let both = output(&run(&bed, &["--rm", "box", "sh", "-c", script]));
    assert_eq!((both.status.code(), stdout(&both), stderr(&both)), (Some(42), "out\n", "err\n"));
    let input: Vec<u8> = (0..=255).cycle().take(1_000_000).collect();
    let copied = with_input(run(&bed, &["--rm", "-i", "box", "cat"]), input.clone());
    assert!(copied.status.success(), "{}", stderr(&copied));
    assert!(copied.stdout == input, "{} of {} bytes", copied.stdout.len(), input.len());
    // A child that holds the output does not hold up the end.
    let left = output(&run(&bed, &["--rm", "box", "sh", "-c", "sleep 1000000 & echo done"]));
    assert_eq!((left.status.code(), stdout(&left)), (Some(0), "done\n"));

    let script = "trap 'exit 33' TERM; echo ready; while :; do sleep 0.02; done";
    let mut command = run(&bed, &["--rm", "box", "sh", "-c", script]);
    let mut trapped = Reading::of(command.stdout(Stdio::piped()).spawn().unwrap());
    trapped.until("ready\n").await;
    processes::signal(trapped.pid(), Signal::TERM);
    assert_eq!(trapped.end().await, Some(33));

    let mut terminal = Terminal::run(&run(&bed, &["--rm", "-it", "box", "sh"]), 123, 45);
    terminal.type_in("stty size; tty\n").await;
    terminal.until("45 123\r\n").await;
    terminal.until("/dev/pts/0\r\n").await;
    terminal.resize(99, 33);
    let changed = "until [ \"$(stty size)\" = '33 99' ]; do sleep 0.02; done; echo re''sized\n";
    terminal.type_in(changed).await;
    terminal.until("resized\r\n").await;
    terminal.type_in("exit 5\n").await;
    assert_eq!(terminal.end().await.code(), Some(5));
    assert_eq!(snapshots(&bed).await, 1);
    finish(bed).await;
}

#[tokio::test]
async fn a_container_stays_until_it_is_removed() {
    let Some(bed) = Bed::make(Runc).await else { return };
    NewImage::busybox(&bed).put(&bed, &namespace(&bed), "box").await;
    succeeds(&run(&bed, &["--name", "kept", "box", "true"]));
    assert!(has_container(&bed, "kept").await);
    assert_eq!(snapshots(&bed).await, 2);
    let again = output(&run(&bed, &["--name", "kept", "box", "true"]));
    assert_eq!(again.status.code(), Some(125), "{again:?}");
    assert!(stderr(&again).contains("`gantry rm kept` removes it"), "{again:?}");
    let twice = output(&gantry(&bed, "rm", &["kept", "kept"]));
    assert_eq!((twice.status.code(), stdout(&twice)), (Some(1), "kept\n"), "{twice:?}");
    assert!(stderr(&twice).contains("there is no container kept"), "{twice:?}");
    assert_eq!(snapshots(&bed).await, 1);

    assert_eq!(succeeds(&run(&bed, &["-d", "--name", "bg", "box", "sleep", "1000000"])), "bg\n");
    let running = output(&gantry(&bed, "rm", &["bg"]));
    assert_eq!(running.status.code(), Some(1), "{running:?}");
    assert!(stderr(&running).contains("container bg runs: -f kills it"), "{running:?}");
    succeeds(&gantry(&bed, "rm", &["-f", "bg"]));
    assert!(!has_container(&bed, "bg").await);

    // With -d, --rm takes effect when a later command looks.
    let names = succeeds(&run(&bed, &["-d", "--rm", "--name", "short", "box", "true"]));
    assert_eq!(names, "short\n");
    let wait = WaitRequest { container_id: "short".to_owned(), ..WaitRequest::default() };
    TasksClient::new(bed.server.service.channel()).wait(of(&bed, wait)).await.unwrap();
    succeeds(&run(&bed, &["--rm", "box", "true"]));
    assert!(!has_container(&bed, "short").await);
    assert_eq!(snapshots(&bed).await, 1);
    // The bundle of a container with --rootfs, too.
    succeeds(&bed.run(&[], "bundle", &["true"]));
    succeeds(&bed.gantry(&["rm", "@bundle"]));
    let gone = output(&bed.gantry(&["rm", "@bundle"]));
    assert_eq!(gone.status.code(), Some(1), "{gone:?}");
    finish(bed).await;
}

#[tokio::test]
async fn a_run_survives_a_restart_of_the_server() {
    let Some(mut bed) = Bed::make(Runc).await else { return };
    NewImage::busybox(&bed).put(&bed, &namespace(&bed), "box").await;
    let script = "echo before; read line; echo \"after $line\"; exit 9";
    let mut command = run(&bed, &["--rm", "-i", "box", "sh", "-c", script]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut reading = Reading::of(child);
    reading.until("before\n").await;
    bed.server.kill().await;
    stdin.write_all(b"the restart\n").unwrap();
    reading.until("after the restart\n").await;
    bed.server.start_again().await;
    assert_eq!(reading.end().await, Some(9));
    assert_eq!(snapshots(&bed).await, 1);
    finish(bed).await;
}
