//! What containers in the background have written.

use std::{fs, process::Stdio};

use Runtime::{Crun, Runc};
use gantry_tests::{Runtime, reading::Reading};
use rstest::rstest;

use crate::{
    Bed,
    image::NewImage,
    output,
    run_image::{finish, gantry, namespace, run},
    stderr, succeeds,
};

/// Prints a line for each one that it reads from a pipe at /p/in, until the end.
const ECHO: &str =
    "echo ready; echo wrong >&2; while read line; do echo got $line; done < /p/in; echo over";

#[rstest]
#[tokio::test]
async fn a_log_is_followed_across_a_restart(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(mut bed) = Bed::make(runtime).await else { return };
    let dir = bed.server.work().join("pipes");
    fs::create_dir(&dir).unwrap();
    let volume = format!("{}:/p", dir.display());
    let log = bed.server.work().join("log");
    let options = ["-d", "--log", log.to_str().unwrap(), "-v", &volume];
    let script = format!("mkfifo /p/in; {ECHO}");
    succeeds(&bed.run(&options, "c", &["sh", "-c", &script]));

    let mut command = bed.gantry(&["logs", "-f", "@c"]);
    let mut follower = Reading::of(command.stdout(Stdio::piped()).spawn().unwrap());
    follower.until("ready\nwrong\n").await;
    let mut input = fs::File::options().write(true).open(dir.join("in")).unwrap();
    let mut write = |line: &str| std::io::Write::write_all(&mut input, line.as_bytes()).unwrap();
    write("a\n");
    follower.until("got a\n").await;
    bed.server.kill().await;
    // The server has no part in it.
    write("b\n");
    follower.until("got b\n").await;
    bed.server.start_again().await;
    assert_eq!(succeeds(&bed.gantry(&["logs", "--tail", "2", "@c"])), "got a\ngot b\n");
    // As logrotate's copytruncate does.
    fs::File::options().write(true).open(&log).unwrap().set_len(0).unwrap();
    write("c\n");
    drop(input);
    follower.until("over\n").await;
    assert_eq!(follower.end().await, Some(0));
    // The bundle stays, and knows.
    assert_eq!(succeeds(&bed.gantry(&["logs", "@c"])), "got c\nover\n");
    succeeds(&bed.gantry(&["rm", "@c"]));
    assert!(log.exists());
    bed.finish().await;
}

#[tokio::test]
async fn a_run_that_fails_changes_no_log() {
    let Some(bed) = Bed::make(Runc).await else { return };
    let (log, other) = (bed.server.work().join("log"), bed.server.work().join("other"));
    let of = |log: &std::path::Path| ["-d", "--log", log.to_str().unwrap()].map(str::to_owned);
    let run = |log: &std::path::Path, program: &[&str]| {
        let options = of(log);
        bed.run(&options.each_ref().map(String::as_str), "c", program)
    };
    succeeds(&run(&log, &["sh", "-c", "echo mine; exec sleep 1000000"]));
    assert_eq!(output(&run(&other, &["true"])).status.code(), Some(125));
    assert!(!other.exists());
    let mut follower = bed.gantry(&["logs", "-f", "@c"]);
    let mut follower = Reading::of(follower.stdout(Stdio::piped()).spawn().unwrap());
    follower.until("mine\n").await;
    succeeds(&bed.gantry(&["kill", "-9", "@c"]));
    assert_eq!(follower.end().await, Some(0));
    // Its end takes no log either.
    assert_eq!(succeeds(&bed.gantry(&["logs", "@c"])), "mine\n");
    succeeds(&bed.gantry(&["rm", "@c"]));
    bed.finish().await;
}

#[tokio::test]
async fn an_image_has_a_log_until_it_is_removed() {
    let Some(bed) = Bed::make(Runc).await else { return };
    NewImage::busybox(&bed).put(&bed, &namespace(&bed), "box").await;
    let log = bed.server.work().join("a?log");
    let log = log.to_str().unwrap();
    let script = "seq 1 3; echo e >&2; exit 4";
    let options = ["-d", "--name", "c", "--log", log, "box", "sh", "-c", script];
    succeeds(&run(&bed, &options));
    assert_eq!(succeeds(&gantry(&bed, "logs", &["-f", "c"])), "1\n2\n3\ne\n");
    assert_eq!(succeeds(&gantry(&bed, "wait", &["c"])), "4\n");
    assert_eq!(succeeds(&gantry(&bed, "logs", &["-n", "1", "c"])), "e\n");
    succeeds(&gantry(&bed, "rm", &["c"]));
    // With a terminal, too; what was there stays.
    let options = ["-d", "-t", "--rm", "--name", "t", "--log", log, "box", "sh", "-c", "tty"];
    succeeds(&run(&bed, &options));
    assert_eq!(succeeds(&gantry(&bed, "logs", &["-f", "-n", "1", "t"])), "/dev/pts/0\r\n");
    assert_eq!(fs::read_to_string(log).unwrap(), "1\n2\n3\ne\n/dev/pts/0\r\n");

    succeeds(&run(&bed, &["-d", "--name", "silent", "box", "sleep", "1000000"]));
    let none = output(&gantry(&bed, "logs", &["silent"]));
    assert!(stderr(&none).starts_with("gantry: silent has no log: "), "{none:?}");
    succeeds(&gantry(&bed, "rm", &["-f", "silent"]));
    for bad in [&["--log", log, "box", "true"][..], &["-d", "-i", "--log", log, "box", "true"]] {
        assert_eq!(output(&run(&bed, bad)).status.code(), Some(125));
    }
    let nowhere = output(&run(&bed, &["-d", "--log", "/no/such/log", "box", "true"]));
    assert!(stderr(&nowhere).starts_with("gantry: --log: /no/such/log: "), "{nowhere:?}");
    finish(bed).await;
}
