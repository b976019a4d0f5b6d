//! Containers with the same cgroup, or one inside the other's: when one ends, the others go on.

use std::{fs, path::PathBuf, process::Command, process::Stdio};

use Runtime::{Crun, Runc};
use gantry_tests::{Runtime, Server, cgroup, improves, processes};
use rstest::rstest;
use serde_json::{Value, json};

fn lives(pid: u32) -> bool {
    processes::command(pid).is_some_and(|command| !command.is_empty())
}

fn in_cgroup(path: &str, own_namespace: bool) -> impl FnOnce(&mut Value) {
    let path = path.to_owned();
    move |config| {
        config["linux"]["cgroupsPath"] = json!(path);
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| own_namespace || namespace["type"] != "pid");
    }
}

/// A first process that leaves another one behind, without a pid namespace.
const TWO: &str = "setsid sleep 1000000 & echo $!; exec sleep 1000000";

#[rstest]
#[tokio::test]
async fn the_end_of_one_spares_the_others(
    #[values(Runc, Crun)] runtime: Runtime,
    #[values(true, false)] own_namespace: bool,
    #[values("", "/inside")] below: &str,
    #[values(true, false)] older_first: bool,
) {
    if improves("the original's runtime kills both without a pid namespace") {
        return;
    }
    let Some(server) = Server::own(runtime).await else { return };
    let around = format!("{}/shared", server.service.cgroup);
    let path = format!("{around}{below}");
    let start = async |id: &str, path: &str| {
        let container = server.container(id).config(in_cgroup(path, own_namespace)).sh(TWO);
        let mut container = container.create().await.unwrap();
        let said = container.init.pipes().stdout_until("\n").await;
        let child = said.trim().parse::<u32>().unwrap();
        (container, child)
    };
    let older = start("older", &around).await;
    let younger = start("younger", &path).await;
    let (first, second) = if older_first { (older, younger) } else { (younger, older) };
    assert_eq!(first.0.init.kill().await, 137);
    if !own_namespace {
        assert!(!lives(first.1), "what the first has left");
        assert!(lives(second.1));
    }
    assert!(lives(second.0.init.system_pid));
    assert_eq!(second.0.state().await.unwrap().status, "running");
    let exec = second.0.exec("e").sh("exit 5").start().await.unwrap();
    assert_eq!(exec.exit().await, 5);
    assert_eq!(second.0.init.kill().await, 137);
    if !own_namespace {
        assert!(!lives(second.1));
    }
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn the_last_to_leave_removes_it_also_after_a_restart(
    #[values(Runc, Crun)] runtime: Runtime,
    #[values(true, false)] while_away: bool,
) {
    if improves("the original leaves it") {
        return;
    }
    let Some(mut server) = Server::own(runtime).await else { return };
    let around = format!("{}/shared", server.service.cgroup);
    let start = async |id: &str, path: &str| {
        server.container(id).config(in_cgroup(path, true)).create().await.unwrap()
    };
    let older = start("older", &around).await;
    let younger = start("younger", &format!("{around}/inside")).await;
    assert_eq!(older.init.kill().await, 137);
    assert!(!cgroup::directories(&around).is_empty());
    server.kill().await;
    if while_away {
        processes::kill(younger.init.system_pid);
    }
    server.start_again().await;
    let status = if while_away { younger.init.exit().await } else { younger.init.kill().await };
    assert_eq!(status, 137);
    assert_eq!(cgroup::directories(&around), [""; 0].map(PathBuf::from));
    // Nothing of it is left to remember either.
    let noted = server.state_dir().join("left_cgroups.json");
    assert_eq!(fs::read_to_string(noted).unwrap(), "[]");
    server.finish().await;
}

/// What daemonizes there becomes a child of the other container's first process.
#[rstest]
#[tokio::test]
async fn what_is_left_in_a_pid_namespace_that_was_joined_ends_too(
    #[values(Runc, Crun)] runtime: Runtime,
) {
    if improves("the original's runtime kills both") {
        return;
    }
    let Some(server) = Server::own(runtime).await else { return };
    let host = server.container("host").create().await.unwrap();
    let namespace = format!("/proc/{}/ns/pid", host.init.system_pid);
    let path = format!("{}/guest", server.service.cgroup);
    let guest = server.container("guest").sh(TWO).config(|config| {
        config["linux"]["cgroupsPath"] = json!(path);
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "pid");
        namespaces.push(json!({ "type": "pid", "path": namespace }));
    });
    let mut guest = guest.create().await.unwrap();
    guest.init.pipes().stdout_until("\n").await;
    let members = cgroup::read(&path, "cgroup.procs").unwrap();
    let all: Vec<u32> = members.lines().map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(all.len(), 2, "{members}");
    assert_eq!(guest.init.kill().await, 137);
    assert!(!all.into_iter().any(lives), "what the guest has left");
    assert!(lives(host.init.system_pid));
    assert_eq!(host.init.kill().await, 137);
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn what_was_made_by_hand_is_spared(
    #[values(true, false)] own_namespace: bool,
    #[values(false, true)] elsewhere: bool,
) {
    if improves("the original's runtime kills both without a pid namespace") {
        return;
    }
    let Some(server) = Server::own(Runc).await else { return };
    let path = format!("{}/shared", server.service.cgroup);
    let container = server.container("c").config(in_cgroup(&path, own_namespace)).sh(TWO);
    let mut container = container.create().await.unwrap();
    let said = container.init.pipes().stdout_until("\n").await;
    let child = said.trim().parse::<u32>().unwrap();
    // A runtime's state that the server does not look at is known by its pid namespace only.
    let in_namespace = own_namespace || elsewhere;
    let bundle = server.container("by-hand").config(in_cgroup(&path, in_namespace)).bundle();
    let pid_file = server.work().join("by-hand.pid");
    let root: PathBuf = match elsewhere {
        true => server.work().join("elsewhere"),
        false => server.service.runtime_root(Runc),
    };
    let call = |args: &[&str]| {
        let mut runc = Command::new("runc");
        runc.args(Runc.arguments(&root)).args(args);
        runc.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        assert!(runc.status().unwrap().success());
    };
    let (bundle, pid_path) = (bundle.to_str().unwrap(), pid_file.to_str().unwrap());
    call(&["run", "--detach", "--bundle", bundle, "--pid-file", pid_path, "by-hand"]);
    let by_hand: u32 = fs::read_to_string(&pid_file).unwrap().trim().parse().unwrap();
    assert_eq!(container.init.kill().await, 137);
    assert!(lives(by_hand));
    if !own_namespace {
        assert!(!lives(child), "what the container has left");
    }
    assert!(!cgroup::directories(&path).is_empty());
    call(&["delete", "--force", "by-hand"]);
    server.finish().await;
}
