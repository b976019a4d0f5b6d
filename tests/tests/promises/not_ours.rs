//! A container that another has made, by hand or with another server, is never touched.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use Runtime::{Crun, Runc};
use gantry_tests::{
    PATIENCE, Runtime, Server, cgroup, improves, processes, runtime::wrapper, status::assert_error,
};
use rstest::rstest;
use tonic::Code;

/// Somebody who calls the runtime without a server.
struct Hand {
    runtime: Runtime,
    root: PathBuf,
    id: String,
}

impl Hand {
    fn new(server: &Server, runtime: Runtime, id: &str) -> Self {
        let (root, id) = (server.service.runtime_root(runtime), id.to_owned());
        Self { runtime, root, id }
    }

    fn call(&self, args: &[&str]) {
        let mut command = if self.runtime.needs_pure_v1() {
            let mut command = Command::new("unshare");
            let script = r#"umount /sys/fs/cgroup/unified && exec "$@""#;
            command.args(["--mount", "sh", "-c", script, "sh", self.runtime.name()]);
            command
        } else {
            Command::new(self.runtime.name())
        };
        command.args(self.runtime.arguments(&self.root)).args(args);
        // A terminal or pipe of the test's would be the container's.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        assert!(command.status().unwrap().success(), "{args:?}");
    }

    /// Makes the container; its pid.
    fn make(&self, verb: &[&str], bundle: &Path) -> u32 {
        let pid_file = bundle.with_extension("pid");
        let (bundle, pid_path) = (bundle.to_str().unwrap(), pid_file.to_str().unwrap());
        self.call(&[verb, &["--bundle", bundle, "--pid-file", pid_path, &self.id]].concat());
        fs::read_to_string(pid_file).unwrap().trim().parse().unwrap()
    }

    fn run(&self, bundle: &Path) -> u32 {
        self.make(&["run", "--detach"], bundle)
    }

    fn delete(&self) {
        self.call(&["delete", "--force", &self.id]);
    }
}

fn lives(pid: u32) -> bool {
    processes::command(pid).is_some_and(|command| !command.is_empty())
}

#[rstest]
#[tokio::test]
async fn what_was_made_by_hand_is_left_alone(#[values(Runc, Crun)] runtime: Runtime) {
    if improves("the original deletes it") {
        return;
    }
    let Some(server) = Server::own(runtime).await else { return };
    for verb in [&["run", "--detach"][..], &["create"]] {
        let id = format!("by-hand-{}", verb[0]);
        let bundle = server.container(&id).bundle();
        let hand = Hand::new(&server, runtime, &id);
        let pid = hand.make(verb, &bundle);
        let words = [id.as_str(), bundle.to_str().unwrap(), &pid.to_string()];
        let taken = server.container(&id).create().await;
        assert_error(taken, Code::AlreadyExists, &words);
        // What fails for another reason leaves it alone, too.
        let broken = server.container(&id).config(|config| config["root"]["path"] = "/no".into());
        broken.create().await.unwrap_err();
        assert!(lives(pid));
        hand.delete();
        let container = server.container(&id).create().await.unwrap();
        container.init.kill().await;
    }
    server.finish().await;
}

#[tokio::test]
async fn what_the_runtime_cannot_report_is_left_alone() {
    if improves("the original deletes it") {
        return;
    }
    let Some(server) = Server::setup(Runc).arguments(&["--runtime-timeout", "2s"]).start().await
    else {
        return;
    };
    let bundle = server.container("c").bundle();
    let hand = Hand::new(&server, Runc, "c");
    let pid = hand.run(&bundle);
    for answer in [
        r#"echo '{"level":"error","msg":"open /run: too many open files"}' >&2; exit 1"#,
        "exit 1",
        "echo '{\"bundle\":'; exit 0",
        "exit 0",
        "kill -9 $$",
        "exec sleep 1000000",
    ] {
        let script = format!("case $command in state) {answer};; esac");
        let wrapper = wrapper(server.work(), Runc, &script);
        let container = server.container("c").runtime(Runc);
        let container = container.request(|r| r.runtime = wrapper.to_str().unwrap().to_owned());
        assert_error(container.create().await, Code::AlreadyExists, &["cannot say"]);
        assert!(lives(pid), "{answer}");
    }
    hand.delete();
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_left_over_is_recognised_through_links(#[values(Runc, Crun)] runtime: Runtime) {
    if improves("the original needs the same path") {
        return;
    }
    let Some(server) = Server::own(runtime).await else { return };
    let bundle = server.container("c").bundle();
    let link = server.work().join("link");
    symlink(&bundle, &link).unwrap();
    let hand = Hand::new(&server, runtime, "c");
    let pid = hand.run(&link);
    processes::kill(pid);
    assert!(processes::ends_within(pid, PATIENCE).await);
    let container = server.container("c").create().await.unwrap();
    container.init.kill().await;
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn what_was_made_again_while_no_server_was_there(#[values(Runc, Crun)] runtime: Runtime) {
    if improves("the original deletes it") {
        return;
    }
    let Some(mut server) = Server::own(runtime).await else { return };
    let container = server.container("c").create().await.unwrap();
    let half_made = server.container("other").create().await.unwrap();
    server.kill().await;
    let hand = Hand::new(&server, runtime, "c");
    hand.delete();
    let pid = hand.run(&container.bundle);
    server.start_again().await;
    container.init.exit().await;
    assert!(lives(pid));
    assert_error(server.container("c").create().await, Code::AlreadyExists, &["not this server's"]);
    assert!(lives(pid));
    assert!(!cgroup::directories(&container.cgroup).is_empty());
    hand.delete();
    half_made.init.kill().await;
    server.finish().await;
}

#[tokio::test]
async fn an_exec_does_not_enter_what_was_made_again() {
    if improves("the original enters it") {
        return;
    }
    let Some(server) = Server::own(Runc).await else { return };
    let container = server.container("c").create().await.unwrap();
    let hand = Hand::new(&server, Runc, "c");
    // The container lives, and the runtime knows another one by its id.
    let kept = hand.root.join("c");
    let aside = server.work().join("aside");
    fs::rename(&kept, &aside).unwrap();
    let other = server.container("other").bundle();
    let pid = hand.run(&other);
    let exec = container.exec("e").sh("true").start().await;
    assert_error(exec, Code::FailedPrecondition, &["replaced"]);
    assert_error(container.set_status("paused").await, Code::FailedPrecondition, &["replaced"]);
    container.init.kill().await;
    assert!(lives(pid), "left alone when the container has ended");
    hand.delete();
    server.finish().await;
}

/// Two servers on one host, with a runtime root in common.
#[tokio::test]
async fn what_another_server_made_is_left_alone() {
    if improves("the original deletes it") {
        return;
    }
    let Some(server) = Server::own(Runc).await else { return };
    let Some(second) = Server::own(Runc).await else { return };
    let container = server.container("c").create().await.unwrap();
    let root = server.service.runtime_root(Runc);
    let create = second.container("c").without_pipes().runtime(Runc).request(|request| {
        request.bundle_path = container.bundle.to_str().unwrap().to_owned();
        request.runtime_args = Runc.arguments(&root);
    });
    assert_error(create.create().await, Code::AlreadyExists, &["not this server's"]);
    assert_eq!(container.state().await.unwrap().status, "running");
    assert!(lives(container.init.system_pid));
    container.init.kill().await;
    second.finish().await;
    server.finish().await;
}
