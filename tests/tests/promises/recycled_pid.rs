//! A signal never reaches a process that has got the pid of one that ended.

use std::{
    fs,
    process::{Child, Command},
    time::Duration,
};

use gantry_tests::{PATIENCE, Runtime, Server, improves, processes, skip};
use rustix::process::Signal;

/// The kernel hands out the pid after the one in this file, see proc(5).
const LAST_PID: &str = "/proc/sys/kernel/ns_last_pid";

/// A process with this very pid.
fn with_pid(pid: u32) -> Option<Child> {
    for _ in 0..1000 {
        fs::write(LAST_PID, (pid - 1).to_string()).ok()?;
        let mut child = Command::new("sleep").arg("1000000").spawn().expect("run sleep");
        if child.id() == pid {
            return Some(child);
        }
        // Another process was faster.
        let _ = child.kill();
        let _ = child.wait();
    }
    None
}

#[tokio::test]
async fn a_recycled_pid_is_left_alone() {
    if improves("the original signals by pid") {
        return;
    }
    let Some(mut server) = Server::own(Runtime::Runc).await else { return };
    let container = server.container("c").create().await.unwrap();
    let other = server.container("other").create().await.unwrap();
    let exec = other.exec("e").args(&["sleep", "1000000"]).start().await.unwrap();
    server.kill().await;
    let mut victims = Vec::new();
    for process in [&container.init, &exec] {
        let shim = process.shim().expect("a shim");
        processes::signal(shim, Signal::KILL);
        assert!(processes::ends_within(shim, PATIENCE).await);
        processes::signal(process.system_pid, Signal::KILL);
        assert!(process.ends_within(PATIENCE).await);
        // Its pid is free once its new parent has taken note of its end.
        let stat = format!("/proc/{}", process.system_pid);
        gantry_tests::eventually("the pid is free", || !fs::exists(&stat).unwrap_or(true)).await;
        match with_pid(process.system_pid) {
            Some(victim) => victims.push(victim),
            None => return skip("cannot choose a pid"),
        }
    }
    server.start_again().await;
    // Nobody knows how they ended: not 137, and not what the process with the pid does.
    assert_eq!(exec.exit().await, 255);
    assert_eq!(container.init.exit().await, 255);
    for process in [&container.init, &exec] {
        process.signal(9).await.expect_err("a process that has ended");
    }
    assert_eq!(other.init.kill().await, 137);
    tokio::time::sleep(Duration::from_millis(100)).await;
    for victim in &mut victims {
        assert!(victim.try_wait().unwrap().is_none(), "the wrong process was killed");
        victim.kill().unwrap();
        victim.wait().unwrap();
    }
    server.finish().await;
}
