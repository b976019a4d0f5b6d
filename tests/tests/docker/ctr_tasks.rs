//! `ctr tasks`.

use rustix::process::Signal;
use serde_json::Value;

use crate::{
    ctr_containers::create,
    host::{Host, code, eventually, fails, succeeds},
};

/// What a shell script is that ends with code 5 on SIGTERM.
pub(crate) const WAITS: &str = "trap 'exit 5' TERM; while :; do sleep 0.05; done";

/// Creates a container and starts its task.
pub(crate) fn start(host: &Host, id: &str, script: &str) {
    create(host, id, &[], script);
    succeeds(host.ctr(&["tasks", "start", "--detach", id]));
}

/// Pid and status of a task.
pub(crate) fn task(host: &Host, id: &str) -> Option<(u32, String)> {
    let list = succeeds(host.ctr(&["tasks", "ls"]));
    list.lines().find_map(|line| match line.split_whitespace().collect::<Vec<_>>()[..] {
        [listed, pid, status] if listed == id => {
            Some((pid.parse().expect("a pid"), status.to_owned()))
        }
        _ => None,
    })
}

/// Waits for a task's status.
pub(crate) async fn becomes(host: &Host, id: &str, status: &str) {
    let is = || task(host, id).is_some_and(|(_, is)| is == status);
    eventually(&format!("{id} becomes {status}"), is).await;
}

/// Ends a task and removes it with its container.
pub(crate) async fn remove(host: &Host, id: &str) {
    if task(host, id).is_some_and(|(_, status)| status != "STOPPED") {
        succeeds(host.ctr(&["tasks", "kill", "--signal", "SIGKILL", id]));
        becomes(host, id, "STOPPED").await;
    }
    succeeds(host.ctr(&["tasks", "rm", id]));
    succeeds(host.ctr(&["containers", "rm", id]));
}

#[tokio::test]
async fn a_task_is_started_signalled_and_deleted() {
    let host = Host::make().await;
    start(&host, "one", WAITS);
    let (pid, status) = task(&host, "one").expect("a task");
    assert_eq!(status, "RUNNING");
    let command = gantry_tests::processes::command(pid);
    assert_eq!(command.as_deref(), Some("sh /one.sh"), "the host's pid");
    let (_, text) = fails(host.ctr(&["tasks", "start", "--detach", "one"]));
    assert!(text.contains("already exists"), "{text}");
    let (_, text) = fails(host.ctr(&["tasks", "rm", "one"]));
    assert!(text.contains("task must be stopped before deletion: running"), "{text}");
    let (_, text) = fails(host.ctr(&["containers", "rm", "one"]));
    assert!(text.contains("cannot delete a non stopped container"), "{text}");
    succeeds(host.ctr(&["tasks", "kill", "one"]));
    becomes(&host, "one", "STOPPED").await;
    let (_, text) = fails(host.ctr(&["tasks", "kill", "one"]));
    assert!(text.contains("process already finished: not found"), "{text}");
    let removed = host.ctr(&["tasks", "rm", "one"]).output().expect("run ctr");
    let text = String::from_utf8_lossy(&removed.stderr).into_owned();
    assert!(removed.status.success() && text.contains("non-zero exit code 5"), "{text}");
    let (_, text) = fails(host.ctr(&["tasks", "rm", "one"]));
    assert!(text.contains("task one not found: not found"), "{text}");
    // The container can have another one.
    succeeds(host.ctr(&["tasks", "start", "--detach", "one"]));
    remove(&host, "one").await;
    host.finish().await;
}

#[tokio::test]
async fn execs_have_output_and_exit_codes() {
    let host = Host::make().await;
    start(&host, "one", WAITS);
    let exec = |id: &str, words: &[&str]| {
        let fixed = ["tasks", "exec", "--exec-id", id, "one"];
        host.ctr(&[&fixed[..], words].concat()).output().expect("run ctr")
    };
    let output = exec("first", &["sh", "-c", "echo out; echo err >&2; exit 3"]);
    assert_eq!(code(&output), 3);
    assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"out\n"[..], &b"err\n"[..]));
    let output = exec("missing", &["nosuch"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(code(&output), 1);
    assert!(text.contains("OCI runtime exec failed: exec failed"), "{text}");
    assert!(text.contains("\"nosuch\": executable file not found in $PATH"), "{text}");
    // Both ids are free again.
    assert_eq!(code(&exec("first", &["true"])), 0);
    assert_eq!(code(&exec("missing", &["true"])), 0);
    remove(&host, "one").await;
    host.finish().await;
}

#[tokio::test]
async fn a_paused_task_stands_still_until_it_is_resumed() {
    let host = Host::make().await;
    start(&host, "one", WAITS);
    succeeds(host.ctr(&["tasks", "pause", "one"]));
    becomes(&host, "one", "PAUSED").await;
    fails(host.ctr(&["tasks", "exec", "--exec-id", "none", "one", "true"]));
    fails(host.ctr(&["tasks", "pause", "one"]));
    succeeds(host.ctr(&["tasks", "resume", "one"]));
    becomes(&host, "one", "RUNNING").await;
    fails(host.ctr(&["tasks", "resume", "one"]));
    succeeds(host.ctr(&["tasks", "exec", "--exec-id", "one", "one", "true"]));
    // Paused again, it can be killed: with containerd and cgroup v1, it ends when it is resumed.
    succeeds(host.ctr(&["tasks", "pause", "one"]));
    succeeds(host.ctr(&["tasks", "kill", "--signal", "SIGKILL", "one"]));
    host.ctr(&["tasks", "resume", "one"]).output().expect("run ctr");
    becomes(&host, "one", "STOPPED").await;
    remove(&host, "one").await;
    host.finish().await;
}

#[tokio::test]
async fn processes_and_metrics_are_those_of_the_cgroup() {
    let host = Host::make().await;
    create(&host, "one", &["--memory-limit", "33554432"], "sleep 7000001 & wait");
    succeeds(host.ctr(&["tasks", "start", "--detach", "one"]));
    let pids = || {
        let list = succeeds(host.ctr(&["tasks", "ps", "one"]));
        let pids =
            list.lines().skip(1).filter_map(|line| line.split_whitespace().next()?.parse().ok());
        pids.collect::<Vec<u32>>()
    };
    eventually("two processes", || pids().len() == 2).await;
    assert!(pids().contains(&task(&host, "one").expect("a task").0));
    let sleeps = || host.pid_of("sleep 7000001").is_some_and(|pid| pids().contains(&pid));
    eventually("one of them sleeps", sleeps).await;
    let metrics = succeeds(host.ctr(&["tasks", "metrics", "--format", "json", "one"]));
    let metrics: Value = serde_json::from_str(&metrics).expect("JSON");
    assert_eq!(metrics["pids"]["current"], 2, "{metrics}");
    if !gantry_tests::cgroup::is_v2() {
        assert_eq!(metrics["memory"]["usage"]["limit"], 32 << 20, "{metrics}");
        assert!(metrics["cpu"]["usage"]["total"].as_u64() > Some(0), "{metrics}");
    }
    remove(&host, "one").await;
    host.finish().await;
}

#[tokio::test]
async fn two_namespaces_can_have_the_same_ids() {
    let host = Host::make().await;
    start(&host, "one", WAITS);
    let (rootfs, cgroup) = (host.text("rootfs"), format!("{}/other-one", host.cgroup()));
    let run = ["run", "--detach", "--env", "PATH=/bin", "--cgroup", &cgroup, "--rootfs", &rootfs];
    succeeds(host.ctr_in("other", &[&run[..], &["one", "sleep", "7000001"]].concat()));
    let list = succeeds(host.ctr_in("other", &["tasks", "ls"]));
    assert!(
        list.lines().any(|line| line.starts_with("one ") && line.ends_with("RUNNING")),
        "{list}"
    );
    succeeds(host.ctr_in("other", &["tasks", "kill", "--signal", "SIGKILL", "one"]));
    let ended = || succeeds(host.ctr_in("other", &["tasks", "ls"])).contains("STOPPED");
    eventually("the other ends", ended).await;
    assert_eq!(task(&host, "one").expect("a task").1, "RUNNING");
    succeeds(host.ctr_in("other", &["tasks", "rm", "one"]));
    succeeds(host.ctr_in("other", &["containers", "rm", "one"]));
    remove(&host, "one").await;
    host.finish().await;
}

#[tokio::test]
async fn tasks_outlive_the_server() {
    let mut host = Host::make().await;
    for signal in [Signal::KILL, Signal::TERM] {
        start(&host, "stays", WAITS);
        start(&host, "ends", WAITS);
        let [stays, ends] = ["stays", "ends"].map(|id| task(&host, id).expect("a task"));
        host.end_server(signal).await;
        gantry_tests::processes::signal(ends.0, Signal::TERM);
        assert!(gantry_tests::processes::ends_within(ends.0, gantry_tests::PATIENCE).await);
        host.start_server().await;
        assert_eq!(task(&host, "stays"), Some(stays));
        becomes(&host, "ends", "STOPPED").await;
        let removed = host.ctr(&["tasks", "rm", "ends"]).output().expect("run ctr");
        let text = String::from_utf8_lossy(&removed.stderr).into_owned();
        assert!(text.contains("non-zero exit code 5"), "{text}");
        succeeds(host.ctr(&["containers", "rm", "ends"]));
        succeeds(host.ctr(&["tasks", "exec", "--exec-id", "after", "stays", "true"]));
        remove(&host, "stays").await;
    }
    host.finish().await;
}
