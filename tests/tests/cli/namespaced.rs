//! Commands about containers of a namespace of containerd's API.

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use gantry_api::containerd::tasks::{GetRequest, tasks_client::TasksClient};
use gantry_tests::{Runtime::Runc, processes, reading::Reading, terminal::Terminal};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    Bed,
    bed::LEFT,
    image::NewImage,
    json_lines, output,
    run_image::{finish, gantry, has_container, namespace, of, run, snapshots},
    stderr, stdout, succeeds, with_input,
};

#[tokio::test]
async fn containers_of_a_namespace_are_worked_with_as_all_are() {
    let Some(bed) = Bed::make(Runc).await else { return };
    let image = NewImage::busybox(&bed).set("StopSignal", json!("SIGUSR1"));
    image.put(&bed, &namespace(&bed), "box").await;
    let script = "trap 'exit 33' USR1; while :; do sleep 0.02; done";
    succeeds(&run(&bed, &["-d", "--name", "web", "-e", "A=1", "box", "sh", "-c", script]));
    succeeds(&run(&bed, &["--name", "done", "box", "true"]));
    succeeds(&bed.run(&["-d"], "own", &["sleep", "1000000"]));

    let of = |command: &str, words: &[&str]| succeeds(&gantry(&bed, command, words));
    assert_eq!(of("ps", &["-q"]), "done\nweb\n");
    assert_eq!(of("ps", &["-q", "--filter", "status=running"]), "web\n");
    assert_eq!(of("ps", &["-q", "--filter", "id=do", "--filter", "image=box"]), "done\n");
    let all = succeeds(&bed.gantry(&["ps", "-A", "-q"]));
    assert_eq!(all, format!("{}\ndone\nweb\n", bed.id("own")));
    assert_eq!(succeeds(&bed.gantry(&["ps", "-q"])), format!("{}\n", bed.id("own")));
    let table = of("ps", &[]);
    let row: Vec<_> = table.lines().last().unwrap().split_whitespace().collect();
    assert_eq!((row[0], row[1], row[2]), ("web", &*namespace(&bed), "running"), "{table}");
    let rows = json_lines(&of("ps", &["--json"]));
    assert_eq!((&rows[0]["status"], &rows[0]["pids"]), (&"stopped".into(), &json!([])));
    assert_eq!(rows[1]["image"], "box");
    assert!(of("ps", &["web"]).contains("init"));

    let seen: Value = serde_json::from_str(&of("inspect", &["web"])).unwrap();
    assert_eq!((&seen["status"], &seen["snapshotter"]), (&"running".into(), &"overlayfs".into()));
    assert_eq!(seen["config"]["process"]["args"][0], "sh");
    let own = bed.gantry(&["inspect", "@own", "nobody"]);
    let seen = output(&own);
    assert_eq!(seen.status.code(), Some(1), "{seen:?}");
    assert!(stderr(&seen).contains("container not found"), "{seen:?}");
    let seen: Value = serde_json::from_str(stdout(&seen)).unwrap();
    assert_eq!(seen["config"]["process"]["args"][0], "sleep");

    let exec = |words: &[&str]| output(&gantry(&bed, "exec", words));
    let other = exec(&[
        "-e",
        "A=2",
        "-u",
        "7:8",
        "--cwd",
        "/bin",
        "web",
        "sh",
        "-c",
        "pwd; id -u; echo $A $FROM; exit 5",
    ]);
    assert_eq!((other.status.code(), stdout(&other)), (Some(5), "/bin\n7\n2 image\n"), "{other:?}");
    let missing = exec(&["web", "no-such-program"]);
    assert_eq!(missing.status.code(), Some(127), "{missing:?}");
    assert_eq!(stderr(&missing).matches("gantry: ").count(), 1, "{missing:?}");
    assert_eq!(exec(&["done", "true"]).status.code(), Some(125));
    let copied = with_input(gantry(&bed, "exec", &["-i", "web", "cat"]), b"through".to_vec());
    assert_eq!(stdout(&copied), "through", "{copied:?}");
    let mut terminal = Terminal::run(&gantry(&bed, "exec", &["-it", "web", "sh"]), 70, 20);
    terminal.type_in("stty size; exit 6\n").await;
    terminal.until("20 70\r\n").await;
    assert_eq!(terminal.end().await.code(), Some(6));
    of("exec", &["-d", "--pid", "side", "web", "sleep", "1000000"]);
    of("kill", &["-9", "--pid", "side", "web"]);
    assert_eq!(of("wait", &["--pid", "side", "web"]), "137\n");
    // The next one deletes it, and may have its name.
    assert!(has_process(&bed, "web", "side").await);
    of("exec", &["web", "true"]);
    assert!(!has_process(&bed, "web", "side").await);
    of("exec", &["-d", "--pid", "side", "web", "sleep", "1000000"]);
    let taken = exec(&["--pid", "side", "web", "true"]);
    assert_eq!(taken.status.code(), Some(125), "{taken:?}");
    assert!(has_process(&bed, "web", "side").await);
    let missing = exec(&["--pid", "bad", "web", "no-such-program"]);
    assert_eq!(missing.status.code(), Some(127), "{missing:?}");
    assert!(!has_process(&bed, "web", "bad").await);
    let notes = Path::new(LEFT).join(namespace(&bed));
    assert!(notes.exists());

    of("pause", &["web"]);
    assert_eq!(of("ps", &["-q", "--filter", "status=paused"]), "web\n");
    of("resume", &["web"]);
    // As the image wants it.
    of("kill", &["web"]);
    assert_eq!(of("wait", &["web"]), "33\n");
    let gone = output(&gantry(&bed, "kill", &["web"]));
    assert_eq!(gone.status.code(), Some(1), "{gone:?}");
    let gone = output(&gantry(&bed, "wait", &["done"]));
    assert!(stderr(&gone).contains("nothing runs in container done"), "{gone:?}");
    for words in [&["ps"][..], &["kill", "nobody"]] {
        let words = bed.gantry(words);
        let mut command = Command::new("env");
        command.arg("CONTAINERD_NAMESPACE=a b").arg(words.get_program()).args(words.get_args());
        let bad = output(&command);
        assert_eq!(bad.status.code(), Some(1), "{bad:?}");
        assert!(stderr(&bad).contains("\"a b\""), "{bad:?}");
    }
    let gone = output(&gantry(&bed, "kill", &["nobody"]));
    assert!(stderr(&gone).contains("has no container nobody"), "{gone:?}");
    of("rm", &["web", "done"]);
    assert!(!notes.exists());
    succeeds(&bed.gantry(&["kill", "-KILL", "@own"]));
    assert_eq!(succeeds(&bed.gantry(&["wait", "@own"])), "137\n");
    finish(bed).await;
}

/// Whether the server knows a further process of a container, which may have ended.
async fn has_process(bed: &Bed, container: &str, process: &str) -> bool {
    let (container_id, exec_id) = (container.to_owned(), process.to_owned());
    let request = of(bed, GetRequest { container_id, exec_id });
    TasksClient::new(bed.server.service.channel()).get(request).await.is_ok()
}

/// Starts a command whose input stays open as long as the second is kept.
fn start(mut command: Command) -> (Reading, std::process::ChildStdin) {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let stdin = child.stdin.take().unwrap();
    (Reading::of(child), stdin)
}

#[tokio::test]
async fn a_container_of_an_image_is_attached_to() {
    let Some(bed) = Bed::make(Runc).await else { return };
    NewImage::busybox(&bed).put(&bed, &namespace(&bed), "box").await;
    let script = "echo ready; while read line; do [ $line = end ] && exit 7; echo got $line; done";
    succeeds(&run(&bed, &["-d", "-i", "--rm", "--name", "c", "box", "sh", "-c", script]));
    let mut awaited = "ready\n";
    for line in ["a", "b"] {
        let (mut attach, mut stdin) = start(gantry(&bed, "attach", &["c"]));
        attach.until(awaited).await;
        awaited = "";
        writeln!(stdin, "{line}").unwrap();
        attach.until(&format!("got {line}\n")).await;
        let second = output(&gantry(&bed, "attach", &["c"]));
        assert!(stderr(&second).contains("another gantry command is attached"), "{second:?}");
        processes::signal(attach.pid(), Signal::HUP);
        assert_eq!(attach.end().await, Some(129));
    }
    let (mut attach, mut stdin) = start(gantry(&bed, "attach", &["c"]));
    writeln!(stdin, "end").unwrap();
    assert_eq!(attach.end().await, Some(7));
    // It was to be removed at its end, which attach has seen.
    assert!(!has_container(&bed, "c").await);
    assert_eq!(snapshots(&bed).await, 1);
    succeeds(&run(&bed, &["-d", "--name", "silent", "box", "sleep", "1000000"]));
    let refused = output(&gantry(&bed, "attach", &["silent"]));
    assert!(stderr(&refused).contains("no streams to attach to"), "{refused:?}");
    succeeds(&gantry(&bed, "rm", &["-f", "silent"]));
    finish(bed).await;
}
