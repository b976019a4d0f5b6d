//! From CreateContainer to the exit of init.

use std::{fs, time::Duration};

use Runtime::{Crun, Runc};
use gantry_api::{
    INIT, event_type,
    types::{GetServerVersionRequest, StateRequest},
};
use gantry_tests::{
    Runtime, Server, cgroup, improves, processes, programs, runtime, status::assert_error,
};
use rstest::rstest;
use serde_json::json;
use tonic::Code;

#[rstest]
#[tokio::test]
async fn create_returns_a_started_process(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(server) = Server::start(runtime).await else { return };
    let container = server.container("c").create().await.unwrap();
    let pid = container.init.system_pid;
    container.init.runs("sleep 1000000").await;

    let state = container.state().await.unwrap();
    assert_eq!(state.id, container.id);
    assert_eq!(state.status, "running");
    assert_eq!(state.bundle_path, container.bundle.to_str().unwrap());
    assert_eq!(state.runtime, runtime.name());
    assert_eq!(state.pids, [pid]);
    let [init] = state.processes.as_slice() else { panic!("one process: {state:?}") };
    assert_eq!((init.pid.as_str(), init.system_pid), (INIT, pid));
    assert_eq!(init.args, ["sleep", "1000000"]);
    assert_eq!(init.env, ["PATH=/bin", "HOME=/root", "FROM=config"]);
    assert_eq!(init.cwd, "/");

    container.init.kill().await;
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn exit_status_is_the_process_own(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(server) = Server::start(runtime).await else { return };
    for status in [0, 1, 42, 255] {
        let container = server.container(&format!("exit-{status}"));
        let container = container.sh(&format!("exit {status}")).create().await.unwrap();
        assert_eq!(container.init.exit().await, status);
    }
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn exit_status_of_a_signal_is_128_and_more(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(server) = Server::start(runtime).await else { return };
    for signal in [9, 11, 15] {
        // The first process of a pid namespace is spared all signals but SIGKILL.
        let container = server.container(&format!("signal-{signal}"));
        let container = container.config(without_pid_namespace).create().await.unwrap();
        container.init.runs("sleep 1000000").await;
        container.init.signal(signal).await.unwrap();
        assert_eq!(container.init.exit().await, 128 + signal);
    }
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_signal_reaches_the_process_handler(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(server) = Server::start(runtime).await else { return };
    let script = "trap 'echo got; exit 7' USR1; echo ready; while :; do sleep 0.01; done";
    let mut container = server.container("c").sh(script).create().await.unwrap();
    container.init.pipes().stdout_until("ready\n").await;
    container.init.signal(10).await.unwrap();
    assert_eq!(container.init.exit().await, 7);
    assert_eq!(container.init.pipes().stdout_text().await, "got\n");
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn an_id_is_free_when_its_exit_is_published(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(server) = Server::start(runtime).await else { return };
    for round in 0..10 {
        let container = server.container("again").sh(&format!("exit {round}"));
        let container = container.create().await.unwrap();
        assert_eq!(container.init.exit().await, round);
        gantry_tests::leftovers::assert_no_cgroup(&server.service);
        assert_error(container.state().await, Code::NotFound, &["container not found"]);
    }
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn what_is_left_without_a_pid_namespace_is_killed(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(server) = Server::start(runtime).await else { return };
    let script = "setsid sleep 1000000 & echo $!; exit 3";
    let container = server.container("c").config(without_pid_namespace).sh(script);
    let mut container = container.create().await.unwrap();
    let child = container.init.pipes().stdout_until("\n").await.trim().parse().unwrap();
    assert_eq!(container.init.exit().await, 3);
    assert_eq!(processes::command(child).filter(|command| !command.is_empty()), None);
    server.finish().await;
}

#[tokio::test]
async fn state_lists_all_containers_and_the_machine() {
    let Some(server) = Server::start(Runc).await else { return };
    let labels = ["a=b".to_owned(), "z".to_owned(), "a=b".to_owned()];
    let first = server.container("first").request(|request| request.labels = labels.to_vec());
    let first = first.create().await.unwrap();
    let second = server.container("second").create().await.unwrap();

    let response = server.service.api().state(StateRequest::default()).await.unwrap().into_inner();
    let mut ids: Vec<_> = response.containers.iter().map(|c| c.id.as_str()).collect();
    ids.sort_unstable();
    ids.retain(|id| [&first.id, &second.id].iter().any(|own| own == id));
    assert_eq!(ids, [first.id.as_str(), second.id.as_str()]);
    assert_eq!(first.state().await.unwrap().labels, labels, "in order, repeats included");

    let machine = response.machine.unwrap();
    let cpus = std::thread::available_parallelism().unwrap().get();
    assert_eq!(usize::try_from(machine.cpus).unwrap(), cpus);
    let total = fs::read_to_string("/proc/meminfo").unwrap();
    let total: u64 = total.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(machine.memory.abs_diff(total / 1024) <= 1, "{} MiB of {total} KiB", machine.memory);

    first.init.kill().await;
    second.init.kill().await;
    server.finish().await;
}

#[tokio::test]
async fn state_counts_processes_of_the_whole_container() {
    let Some(server) = Server::start(Runc).await else { return };
    let script = "sleep 1000000 & echo started; wait";
    let mut container = server.container("c").sh(script).create().await.unwrap();
    container.init.pipes().stdout_until("started\n").await;
    let exec = container.exec("e").args(&["sleep", "1000000"]).start().await.unwrap();
    let pids = container.state().await.unwrap().pids;
    assert_eq!(pids.len(), 3, "{pids:?}");
    assert!(pids.contains(&container.init.system_pid) && pids.contains(&exec.system_pid));
    container.init.kill().await;
    server.finish().await;
}

#[tokio::test]
async fn runtime_is_chosen_per_container() {
    let Some(server) = Server::start(Crun).await else { return };
    let runc = server.container("on-runc").runtime(Runc).create().await.unwrap();
    let crun = server.container("on-crun").create().await.unwrap();
    assert_eq!(Runtime::list(&server.service.runtime_root(Runc)), ["on-runc"]);
    assert_eq!(Runtime::list(&server.service.runtime_root(Crun)), ["on-crun"]);
    assert_eq!(runc.state().await.unwrap().runtime, "runc");
    assert_eq!(crun.state().await.unwrap().runtime, "crun");
    for container in [&runc, &crun] {
        let exec = container.exec("e").sh("exit 5").start().await.unwrap();
        assert_eq!(exec.exit().await, 5);
        container.pause().await;
        container.resume().await;
        container.init.kill().await;
    }
    server.finish().await;
}

#[tokio::test]
async fn arguments_of_the_runtime_come_first() {
    let Some(server) = Server::start(Runc).await else { return };
    let seen = server.work().join("calls");
    let record = format!("echo \"$@\" >> {}", seen.display());
    let wrapper = runtime::wrapper(server.work(), Runc, &record);
    let container = server.container("c").runtime(Runc).request(|request| {
        request.runtime = wrapper.to_str().unwrap().to_owned();
        request.no_pivot_root = true;
    });
    let container = container.create().await.unwrap();
    assert_eq!(container.state().await.unwrap().runtime, wrapper.to_str().unwrap());
    container.init.kill().await;

    let calls = fs::read_to_string(seen).unwrap();
    let root = server.service.runtime_root(Runc);
    let first = format!("--root {}", root.display());
    for call in calls.lines() {
        let (before, _) = call.split_once(&first).expect("the arguments");
        let is_global = before.split(' ').all(|word| word.is_empty() || !COMMANDS.contains(&word));
        assert!(is_global, "behind the sub-command: {call}");
    }
    assert!(calls.lines().next().unwrap().contains("--no-pivot"), "{calls}");
    server.finish().await;
}

#[tokio::test]
async fn a_spec_of_an_old_version_is_the_runtimes_affair() {
    if improves("each release of the original reads the one form of its day") {
        return;
    }
    let Some(server) = Server::start(Runc).await else { return };
    // A runtime of 2017, for which capabilities are a plain list: this one converts them to today's
    // form for today's runc.
    let bundle = server.work().join("bundles/old");
    let convert = format!(
        "case $command in create|run) jq '.process.capabilities |= \
         {{bounding: ., effective: ., permitted: .}}' {0} > {0}.new && mv {0}.new {0};; esac",
        bundle.join("config.json").display()
    );
    let wrapper = runtime::wrapper(server.work(), Runc, &convert);
    let container = server.container("old").runtime(Runc);
    let container = container.request(|r| r.runtime = wrapper.to_str().unwrap().to_owned());
    let container = container.config(|config| {
        config["ociVersion"] = json!("1.0.0-rc2-dev");
        config["platform"] = json!({ "os": "linux", "arch": "amd64" });
        config["process"]["capabilities"] = json!(["CAP_KILL", "CAP_CHOWN"]);
        config["linux"]["resources"]["unknownToday"] = json!({ "deep": [1, 2, 3] });
    });
    let container = container.create().await.unwrap();
    let state = container.state().await.unwrap();
    assert_eq!(state.processes[0].capabilities, ["CAP_KILL", "CAP_CHOWN"]);
    container.init.kill().await;
    server.finish().await;
}

#[tokio::test]
async fn the_callers_config_is_left_as_it_is() {
    let Some(server) = Server::start(Runc).await else { return };
    let container = server.container("c").create().await.unwrap();
    let path = container.bundle.join("config.json");
    let (before, written) =
        (fs::read(&path).unwrap(), fs::metadata(&path).unwrap().modified().unwrap());
    container.exec("e").sh("true").start().await.unwrap().exit().await;
    container.init.kill().await;
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), written);
    let files = fs::read_dir(&container.bundle).unwrap().count();
    assert_eq!(files, 1, "nothing was put into the bundle");
    server.finish().await;
}

#[tokio::test]
async fn a_dead_container_is_stopped_until_its_exit_is_published() {
    if improves("the original says that a dead container runs") {
        return;
    }
    let Some(server) = Server::start(Runc).await else { return };
    let gate = server.work().join("gate");
    let wait = format!("[ $command != delete ] || cat {} > /dev/null", gate.display());
    let wrapper = runtime::wrapper(server.work(), Runc, &wait);
    let status = std::process::Command::new("mkfifo").arg(&gate).status().unwrap();
    assert!(status.success());
    let container = server.container("c").runtime(Runc);
    let container = container.request(|r| r.runtime = wrapper.to_str().unwrap().to_owned());
    let container = container.create().await.unwrap();
    container.init.signal(9).await.unwrap();
    assert!(container.init.ends_within(gantry_tests::PATIENCE).await);
    // Opening the pipe waits until the runtime is at its delete.
    let gate = tokio::task::spawn_blocking(move || fs::File::options().write(true).open(gate));
    let gate = gate.await.unwrap().unwrap();
    assert_eq!(container.state().await.unwrap().status, "stopped");
    assert!(!container.init.has_exited(), "the exit is published once the runtime has deleted it");
    let signal = container.init.signal(15).await;
    assert_error(signal, Code::FailedPrecondition, &["no such process"]);
    let exec = container.exec("late").sh("true").start().await;
    assert_error(exec, Code::FailedPrecondition, &[]);
    drop(gate);
    assert_eq!(container.init.exit().await, 137);
    server.finish().await;
}

#[tokio::test]
async fn version_is_reported() {
    let Some(server) = Server::start(Runc).await else { return };
    let version = server.service.api().get_server_version(GetServerVersionRequest {}).await;
    let version = version.unwrap().into_inner();
    assert!(version.major + version.minor + version.patch > 0, "{version:?}");
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn pause_and_resume_are_published(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(server) = Server::start(runtime).await else { return };
    let container = server.container("c").create().await.unwrap();
    container.pause().await;
    let paused = if programs::is_incumbent() { "running" } else { "paused" };
    assert_eq!(container.state().await.unwrap().status, paused, "as the contract has it");
    container.resume().await;
    assert_eq!(container.state().await.unwrap().status, "running");
    container.init.kill().await;
    let events = server.service.events.all();
    let types: Vec<_> = events.iter().map(|event| event.r#type.as_str()).collect();
    use event_type::{EXIT, PAUSE, RESUME, START_CONTAINER};
    assert_eq!(types, [START_CONTAINER, PAUSE, RESUME, EXIT]);
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_paused_container_can_be_killed(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(server) = Server::start(runtime).await else { return };
    let container = server.container("c").create().await.unwrap();
    container.pause().await;
    container.init.signal(9).await.unwrap();
    // Version 2 lets the signal through to what is frozen, the original does not thaw on version 1.
    if programs::is_incumbent() && !cgroup::is_v2() {
        container.resume().await;
        assert_eq!(container.init.exit().await, 137);
        return server.finish().await;
    }
    assert_eq!(container.init.exit().await, 137);
    assert!(container.init.ends_within(Duration::ZERO).await);
    let events = server.service.events.all();
    let types: Vec<_> = events.iter().map(|event| event.r#type.as_str()).collect();
    assert_eq!(types, [event_type::START_CONTAINER, event_type::PAUSE, event_type::EXIT]);
    server.finish().await;
}

const COMMANDS: [&str; 8] = ["create", "run", "start", "state", "kill", "delete", "ps", "exec"];

fn without_pid_namespace(config: &mut serde_json::Value) {
    let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != "pid");
}
