//! Inspecting and changing running containers.

use std::fs;

use gantry_tests::cgroup;

use crate::{dockerd::Docker, host::eventually};

#[tokio::test]
async fn logs_follow_a_container_to_its_end() {
    let docker = Docker::start().await;
    docker.run_service("service", &[]).await;
    let mut logs = docker.in_background(&["logs", "--follow", "service"], "logs");
    logs.prints("ready").await;
    docker.ok(&["exec", "service", "sh", "-c", "echo more > /proc/1/fd/1"]);
    // The container ends once there is the file, and may end the exec with it.
    docker.output(&["exec", "service", "touch", "/go"]);
    assert_eq!(logs.code_within(gantry_tests::PATIENCE).await, Some(0));
    assert_eq!(logs.output(), "ready\nmore\n");
    assert_eq!(docker.exit_code("service"), "exited 6");
    docker.finish().await;
}

#[tokio::test]
async fn top_lists_all_processes() {
    let docker = Docker::start().await;
    docker.run_service("service", &[]).await;
    docker.ok(&["exec", "--detach", "service", "sleep", "7777777"]);
    let top = docker.ok(&["top", "service"]);
    assert!(top.contains("until [ -e /go ]") && top.contains("sleep 7777777"), "{top}");
    let pid = docker.pid("service").to_string();
    let line = top.lines().find(|line| line.contains("until [ -e /go ]")).expect("init");
    assert_eq!(line.split_whitespace().nth(1), Some(&pid[..]), "the host's pid: {top}");
    docker.finish().await;
}

#[tokio::test]
async fn stats_are_those_of_the_cgroup() {
    let docker = Docker::start().await;
    docker.run(
        "eats",
        &["--memory=64m", "--pids-limit=77"],
        "head -c 20m /dev/zero > /dev/shm/x; \
               echo full; while :; do :; done",
    );
    docker.prints("eats", "full").await;
    let format = "{{.Name}} {{.MemUsage}} {{.PIDs}} {{.CPUPerc}}";
    let stats = docker.ok(&["stats", "--no-stream", "--format", format, "eats"]);
    let words: Vec<_> = stats.split(' ').collect();
    let ["eats", used, "/", "64MiB", "1", busy] = words[..] else { panic!("{stats}") };
    let number = |text: &str, unit| text.strip_suffix(unit).and_then(|n| n.parse::<f64>().ok());
    assert!(number(used, "MiB").is_some_and(|used| (20.0..40.0).contains(&used)), "{stats}");
    assert!(number(busy, "%").is_some_and(|busy| (1.0..=210.0).contains(&busy)), "{stats}");
    docker.finish().await;
}

#[tokio::test]
async fn update_sets_the_limits_of_a_running_container() {
    let docker = Docker::start().await;
    docker.run_service("service", &["--memory=64m", "--memory-swap=64m"]).await;
    let update = ["update", "--memory=96m", "--memory-swap=96m", "--cpus=0.5", "--pids-limit=55"];
    docker.ok(&[&update[..], &["service"]].concat());
    let cgroup = format!("{}/{}", docker.host.cgroup(), docker.inspect("service", "{{.Id}}"));
    let read = |v1: &str, v2: &str| {
        cgroup::read(&cgroup, if cgroup::is_v2() { v2 } else { v1 }).expect("a control file")
    };
    assert_eq!(read("memory.limit_in_bytes", "memory.max"), (96 << 20).to_string());
    assert_eq!(read("pids.max", "pids.max"), "55");
    let cpu = read("cpu.cfs_quota_us", "cpu.max");
    assert_eq!(cpu.split(' ').next(), Some("50000"));
    docker.finish().await;
}

#[tokio::test]
async fn a_paused_container_stands_still() {
    let docker = Docker::start().await;
    docker.run("counts", &[], "while :; do echo x; sleep 0.02; done");
    let status = "{{.State.Status}}";
    docker.ok(&["pause", "counts"]);
    assert_eq!(docker.inspect("counts", status), "paused");
    let lines = || docker.ok(&["logs", "counts"]).len();
    let (_, text) = docker.fails(&["exec", "counts", "true"]);
    assert!(text.contains("is paused"), "{text}");
    // What was in the pipe may still arrive.
    let mut before = lines();
    eventually("no more lines", || std::mem::replace(&mut before, lines()) == before).await;
    let (_, text) = docker.fails(&["pause", "counts"]);
    assert!(text.contains("already paused"), "{text}");
    assert_eq!(lines(), before, "a paused one prints nothing");
    docker.ok(&["unpause", "counts"]);
    assert_eq!(docker.inspect("counts", status), "running");
    eventually("it prints again", || lines() > before).await;
    // A paused one can be killed too.
    docker.ok(&["pause", "counts"]);
    docker.ok(&["rm", "--force", "counts"]);
    docker.finish().await;
}

#[tokio::test]
async fn cp_copies_into_a_container_and_out_of_it() {
    let docker = Docker::start().await;
    docker
        .run_service("service", &["--volume", &format!("{}:/rw", docker.host.text("rootfs"))])
        .await;
    let (there, back) = (docker.host.text("there"), docker.host.text("back"));
    fs::write(&there, "contents").expect("write a file");
    docker.ok(&["cp", &there, "service:/root/file"]);
    assert_eq!(docker.ok(&["exec", "service", "cat", "/root/file"]), "contents");
    docker.ok(&["exec", "service", "sh", "-c", "echo more >> /root/file"]);
    docker.ok(&["cp", "service:/root/file", &back]);
    assert_eq!(fs::read_to_string(&back).expect("read a file"), "contentsmore\n");
    assert_eq!(
        docker.ok(&["diff", "service"]).lines().filter(|l| l.contains("/root/file")).count(),
        1
    );
    docker.ok(&["exec", "service", "touch", "/rw/bound"]);
    assert!(docker.host.path("rootfs/bound").exists(), "a volume is the host's directory");
    docker.finish().await;
}
