//! Output that nobody has read when its container ends stays readable, of however many containers.

use std::fs;

use gantry_tests::{Container, Runtime, Server, eventually, improves, patiently, processes};
use tokio::task::JoinSet;

/// More than a user may have inotify instances (128 by default).
const COUNT: u32 = 250;

fn ended_unread(server: &Server, number: u32) -> impl Future<Output = (u32, Container)> + use<> {
    let script =
        format!("echo line of {number}; echo error of {number} >&2; exit {}", number % 256);
    let container = server.container(&format!("c{number}")).sh(&script);
    async move {
        let mut container = container.create().await.unwrap();
        assert_eq!(container.init.exit().await, number % 256);
        // As a daemon that was killed: from now on only the shim holds the pipes.
        container.init.pipes().hang_up();
        (number, container)
    }
}

/// Shims that are there although their process has ended.
fn shims(server: &Server) -> usize {
    let found = processes::belonging_to(server.work(), &server.service.cgroup);
    found.iter().filter(|found| found.comm == "gantry-shim" && !found.is_spare_shim()).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unread_output_of_hundreds_is_kept() {
    if improves("it is lost with the container") {
        return;
    }
    let setup = Server::setup(Runtime::Crun).arguments(&["--linger", "10m"]);
    let Some(server) = setup.start().await else { return };
    let instances = fs::read_to_string("/proc/sys/fs/inotify/max_user_instances").unwrap();
    println!("{COUNT} shims, {} inotify instances a user", instances.trim());
    let mut lives = JoinSet::new();
    for number in 0..COUNT {
        lives.spawn(ended_unread(&server, number));
    }
    let ended = patiently("they end", lives.join_all()).await;
    eventually("all shims stay", || shims(&server) == COUNT as usize).await;
    for (number, mut container) in ended {
        let mut pipes = container.init.pipes().paths.clone().open();
        assert_eq!(pipes.stdout_text().await, format!("line of {number}\n"));
        assert_eq!(pipes.stderr().await, format!("error of {number}\n").into_bytes());
    }
    eventually("all shims leave", || shims(&server) == 0).await;
    server.finish().await;
}
