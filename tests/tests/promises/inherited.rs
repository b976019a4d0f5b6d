//! The names of shims, and what shims and containers inherit from the server.

use std::{fs, os::unix::fs::symlink, path::PathBuf};

use Runtime::{Crun, Runc};
use gantry_tests::{Container, Runtime, Server, eventually, improves, processes, programs};
use rstest::rstest;
use tempfile::TempDir;

/// The server, after a shell has done what `preparation` says.
fn prepared(preparation: &str) -> (TempDir, PathBuf) {
    let work = tempfile::tempdir().unwrap();
    let script = format!("{preparation}\nexec \"$gantryd\" \"$@\"");
    let script = programs::wrapped_server(work.path(), &script);
    (work, script)
}

/// One shim for each process goes by the name, and says whose it is. The one that waits does not.
#[rstest]
#[tokio::test]
async fn shims_are_called_after_the_server(
    #[values("containerd", "docker-containerd", "gantryd")] name: &str,
) {
    if improves("it has no shim that waits") {
        return;
    }
    let links = tempfile::tempdir().unwrap();
    let binary = links.path().join(name);
    symlink(programs::server(), &binary).unwrap();
    let Some(mut server) = Server::setup(Runc).binary(&binary).start().await else { return };
    let name = if name == "gantryd" { "gantry-shim".to_owned() } else { format!("{name}-shim") };
    let container = server.container("c").create().await.unwrap();
    let exec = container.exec("e").args(&["sleep", "1000000"]).start().await.unwrap();
    let own = || processes::belonging_to(&server.service.work, &server.service.cgroup);
    let waiting = || own().into_iter().find(|found| found.is_spare_shim());
    eventually("one waits", || waiting().is_some_and(|spare| spare.comm == "gantry-spare")).await;
    assert_eq!(waiting().unwrap().command, "gantry-spare");

    let line = format!("{name} c {} runc", container.bundle.display());
    let named = || own().into_iter().filter(|found| found.command.starts_with(&name));
    eventually("two say whose they are", || named().count() == 2).await;
    for process in [&container.init, &exec] {
        let shim = process.shim().unwrap();
        assert_eq!(processes::command(shim).unwrap(), line);
        // The kernel cuts it.
        assert_eq!(processes::comm(shim).unwrap(), name[..name.len().min(15)]);
    }
    exec.kill().await;
    container.init.kill().await;
    server.kill().await;
    server.start_again().await;
    server.finish().await;
}

async fn output(container: &Container, args: &[&str]) -> String {
    let mut exec = container.exec("show").args(args).start().await.unwrap();
    let output = exec.pipes().stdout_text().await;
    assert_eq!(exec.exit().await, 0);
    output
}

/// The server takes more descriptors for itself only.
#[rstest]
#[tokio::test]
async fn the_limit_of_open_files_is_passed_on(#[values(Runc, Crun)] runtime: Runtime) {
    if improves("it passes its own on") {
        return;
    }
    let (_work, script) = prepared("ulimit -S -n 777");
    let Some(server) = Server::setup(runtime).binary(&script).start().await else { return };
    let soft = |limits: &str| {
        let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
        line.split_whitespace().next().unwrap().to_owned()
    };
    let of = |pid: u32| soft(&fs::read_to_string(format!("/proc/{pid}/limits")).unwrap());
    assert_ne!(of(server.pid()), "777");
    let container = server.container("c").create().await.unwrap();
    assert_eq!(of(container.init.shim().unwrap()), "777");
    // runc raises its own where it was built with a Go that does (1.19), and passes that on.
    if runtime == Crun {
        assert_eq!(of(container.init.system_pid), "777");
        assert_eq!(soft(&output(&container, &["cat", "/proc/self/limits"]).await), "777");
    }
    container.init.kill().await;
    server.finish().await;
}

/// Neither the server's protection nor its opposite is for containers whose spec says nothing.
#[rstest]
#[tokio::test]
async fn the_oom_score_adj_is_the_specs(#[values(Runc, Crun)] runtime: Runtime) {
    if improves("it passes its own on") {
        return;
    }
    // Less than it has takes a privilege that may not be there, but this is as good.
    let (_work, script) = prepared("echo 500 > /proc/self/oom_score_adj || exit");
    let Some(server) = Server::setup(runtime).binary(&script).start().await else { return };
    let of = |pid: u32| fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap();
    assert_eq!(of(server.pid()), "500\n");
    for (id, spec, expected) in [("none", None, "0\n"), ("some", Some(300), "300\n")] {
        let container = server.container(id).config(|config| {
            if let Some(score) = spec {
                config["process"]["oomScoreAdj"] = score.into();
            }
        });
        let container = container.create().await.unwrap();
        // crun does not wait for its child to come so far.
        let is_so = |pid| eventually("it is the spec's", move || of(pid) == expected);
        is_so(container.init.system_pid).await;
        let exec = container.exec("e").args(&["sleep", "1000000"]).start().await.unwrap();
        is_so(exec.system_pid).await;
        exec.kill().await;
        container.init.kill().await;
    }
    server.finish().await;
}

/// Neither the depth of a directory nor its name is a limit.
#[rstest]
#[tokio::test]
async fn paths_may_be_relative_and_deep_and_no_text(#[values(Runc, Crun)] runtime: Runtime) {
    if improves("a socket's address is short") {
        return;
    }
    let directory = format!("{0}/{0}/{0}", "d".repeat(100));
    // The harness has the socket here.
    let preparation = format!(
        "mkdir -p {directory} && ln -sfn {directory}/sock sock && cd {directory} || exit\n\
         set -- \"$@\" --state-dir \"$(printf '\\377/state')\""
    );
    let (_work, script) = prepared(&preparation);
    let setup = Server::setup(runtime).binary(&script).relative_paths();
    let Some(mut server) = setup.start().await else { return };
    let container = server.container("c").create().await.unwrap();
    assert_eq!(output(&container, &["echo", "here"]).await, "here\n");
    let terminal = server.container("t").terminal().create().await.unwrap();
    server.kill().await;
    server.start_again().await;
    assert_eq!(output(&container, &["echo", "here"]).await, "here\n");
    assert_eq!(terminal.init.kill().await, 137);
    assert_eq!(container.init.kill().await, 137);
    server.finish().await;
}
