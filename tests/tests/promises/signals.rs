//! Neither the signal settings that the server was started with nor signals that are sent to it stop it by mistake.

use std::{fs, path::Path};

use Runtime::Runc;
use gantry_tests::{Runtime, Server, eventually, improves, processes, programs};
use rustix::process::Signal;

/// Signals that wake other programs, or come by mistake. Those that end every program, those that
/// stop it, and those that mean a crash are not among them.
const HARMLESS: [Signal; 12] = [
    Signal::HUP,
    Signal::USR1,
    Signal::USR2,
    Signal::PIPE,
    Signal::ALARM,
    Signal::STKFLT,
    Signal::XCPU,
    Signal::XFSZ,
    Signal::VTALARM,
    Signal::PROF,
    Signal::IO,
    Signal::POWER,
];

#[tokio::test]
async fn other_signals_end_nothing() {
    if improves("some end it") {
        return;
    }
    let Some(mut server) = Server::own(Runc).await else { return };
    let container = server.container("c").create().await.unwrap();
    HARMLESS.into_iter().for_each(|signal| processes::signal(server.pid(), signal));
    // Those of real time have numbers only.
    for number in 32..=64 {
        let mut kill = std::process::Command::new("kill");
        kill.arg(format!("-{number}")).arg(server.pid().to_string());
        assert!(kill.status().unwrap().success());
    }
    eventually("SIGHUP is logged", || server.log().contains("was read again")).await;
    let other = server.container("other").args(&["true"]).create().await.unwrap();
    assert_eq!(other.init.exit().await, 0);
    container.init.kill().await;
    let (status, _) = server.end(Signal::TERM).await;
    assert_eq!(status.code(), Some(0));
    server.start_again().await;
    server.finish().await;
}

/// As some parents leave them: blocked, or ignored. Neither is passed on.
#[tokio::test]
async fn signals_that_its_parent_had_blocked_or_ignored() {
    if improves("it is deaf") {
        return;
    }
    let work = tempfile::tempdir().unwrap();
    let script = "exec env --block-signal --ignore-signal \"$gantryd\" \"$@\"";
    let script = programs::wrapped_server(work.path(), script);
    let Some(mut server) = Server::setup(Runc).binary(&script).start().await else { return };
    let none = "0000000000000000";
    assert_eq!(signals(server.pid(), "SigBlk"), none);
    let container = server.container("c").create().await.unwrap();
    let mut exec = container.exec("e").args(&["cat", "/proc/self/status"]).start().await.unwrap();
    let status = exec.pipes().stdout_text().await;
    assert_eq!(exec.exit().await, 0);
    for name in ["SigBlk", "SigIgn"] {
        assert!(status.contains(&format!("{name}:\t{none}")), "{status}");
    }
    // An exit is published, which needs SIGCHLD where no shim reports it.
    processes::kill(container.init.shim().unwrap());
    assert_eq!(container.init.kill().await, 137);
    let (status, _) = server.end(Signal::TERM).await;
    assert_eq!(status.code(), Some(0));
    server.start_again().await;
    server.finish().await;
}

fn signals(pid: u32, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(&format!("{name}:\t")));
    line.unwrap().to_owned()
}

#[tokio::test]
async fn what_can_change_changes_at_sighup() {
    if improves("it ends") {
        return;
    }
    let work = tempfile::tempdir().unwrap();
    let file = work.path().join("gantryd.toml");
    let write = |text: &str| fs::write(&file, text).unwrap();
    write("log_level = \"error\"\n");
    // A flag would win over the file.
    let script = without_level(work.path());
    let setup = Server::setup(Runc).binary(&script);
    let setup = setup.arguments(&["--config", file.to_str().unwrap()]);
    let Some(server) = setup.start().await else { return };
    let hang_up = || processes::signal(server.pid(), Signal::HUP);
    let count = |text: &str| server.log().matches(text).count();

    write("log_level = 5\n");
    hang_up();
    eventually("the mistake is logged", || count("stays as it is") == 1).await;
    server.service.state("unknown-1").await.unwrap_err();
    write("log_level = \"info\"\nretain_count = 7\n");
    hang_up();
    eventually("the change is logged", || count("was read again") == 1).await;
    let log = server.log();
    assert!(log.contains("reloaded=[\"log_level\"]"), "{log}");
    assert!(log.contains("needs_restart=[\"retain_count\"]"), "{log}");
    server.service.state("unknown-2").await.unwrap_err();
    eventually("infos are logged", || count("unknown-2") == 1).await;
    assert_eq!(count("unknown-1"), 0);
    server.finish().await;
}

/// The server, without the level that the harness asks for.
fn without_level(directory: &Path) -> std::path::PathBuf {
    let script = "for argument; do shift; case $argument in\n\
         --log-level|info,gantry=debug) ;; *) set -- \"$@\" \"$argument\";; esac; done\n\
         exec \"$gantryd\" \"$@\"";
    programs::wrapped_server(directory, script)
}
