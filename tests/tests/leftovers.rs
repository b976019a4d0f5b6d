//! Nothing is left: every test here ends with `Server::finish`, which looks for processes, mounts,
//! cgroups, runtime state, descriptors and files of the state directory.

use std::{fs, time::Duration};

use Runtime::{Crun, Runc};
use gantry_api::types::Event;
use gantry_tests::{
    Runtime, Server,
    events::{self, is_exit},
    eventually, improves, leftovers, processes,
    runtime::wrapper,
    service::connect,
};
use rstest::rstest;
use serde_json::json;
use tokio::task::JoinSet;

#[rstest]
#[tokio::test]
async fn many_containers_of_one_id_leave_nothing(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(server) = Server::start(runtime).await else { return };
    for _ in 0..20 {
        let container = server.container("c").sh("sleep 1000000 & sleep 1000000 & exit 0");
        let container = container.create().await.unwrap();
        container.init.exit().await;
        leftovers::assert_no_cgroup(&server.service);
        assert_eq!(Runtime::list(&server.service.runtime_root(runtime)), [""; 0]);
    }
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn failures_of_every_kind_leave_nothing(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(server) = Server::own(runtime).await else { return };
    if improves("the original keeps a directory of some") {
        return;
    }
    let alive = server.container("alive").create().await.unwrap();
    for _ in 0..3 {
        let container = || server.container("c");
        container().args(&["no-such-program"]).create().await.unwrap_err();
        container().config(|c| c["root"]["path"] = json!("/no")).create().await.unwrap_err();
        container().config(|c| c["process"]["cwd"] = json!("/bin/sh")).create().await.unwrap_err();
        container()
            .config(|c| c["mounts"][0]["type"] = json!("none-such"))
            .create()
            .await
            .unwrap_err();
        container().config(|c| *c = json!({})).create().await.unwrap_err();
        container().request(|r| r.runtime = "/no".to_owned()).create().await.unwrap_err();
        container().terminal().args(&["no-such-program"]).create().await.unwrap_err();
        alive.exec("e").args(&["no-such-program"]).start().await.unwrap_err();
        alive.exec("e").terminal(None).args(&["no-such-program"]).start().await.unwrap_err();
    }
    assert_eq!(alive.state().await.unwrap().pids, [alive.init.system_pid]);
    let is_other = |process: &processes::Found| {
        ![server.pid(), alive.init.system_pid].contains(&process.pid)
            && !process.is_spare_shim()
            && Some(process.pid) != alive.init.shim()
    };
    let own = || processes::belonging_to(&server.state_dir(), &server.service.cgroup);
    // A shim exits a moment after its report.
    eventually("no shim of any is left", || !own().iter().any(is_other)).await;
    alive.init.kill().await;
    let all = server.service.events.all();
    assert_eq!(all.len(), 2, "failures have no events:\n{}", events::listing(&all));
    server.finish().await;
}

/// A caller that goes away in the middle of CreateContainer: either the container exists and its start is
/// published, or nothing of it remains.
#[rstest]
#[tokio::test]
async fn a_caller_that_vanishes_leaves_nothing(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(server) = Server::own(runtime).await else { return };
    if improves("the original creates it for nobody") {
        return;
    }
    let reached = server.work().join("reached");
    let script =
        format!("case $command in create|run) echo > {}; sleep 0.2;; esac", reached.display());
    let wrapper = wrapper(server.work(), runtime, &script);
    for round in 0..5 {
        let _ = fs::remove_file(&reached);
        let id = format!("c{round}");
        let container = server.container(&id).runtime(runtime).without_pipes();
        let container = container.request(|r| r.runtime = wrapper.to_str().unwrap().to_owned());
        let create = tokio::spawn(container.create());
        eventually("the runtime is called", || reached.exists()).await;
        create.abort();
        assert!(create.await.unwrap_err().is_cancelled());
        // Whatever has become of it, the same id can be had soon, by killing what is there.
        let container = loop {
            if server.service.state(&id).await.is_ok() {
                let mut api = server.service.api();
                let pid = "init".to_owned();
                let request = gantry_api::types::SignalRequest { id: id.clone(), pid, signal: 9 };
                let _ = api.signal(request).await;
            }
            match server.container(&id).without_pipes().sh("exit 5").create().await {
                Ok(container) => break container,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        // The id is free a moment before the exit of the first one is published.
        let own = |event: &Event| is_exit(event, &container.id, "init") && event.status == 5;
        server.service.events.wait(0, &format!("exit of {id} with 5"), own).await;
    }
    server.finish().await;
}

#[tokio::test]
async fn subscribers_that_go_leave_nothing() {
    let Some(server) = Server::own(Runc).await else { return };
    let mut subscribers = JoinSet::new();
    for _ in 0..50 {
        let mut api = connect(&server.service.socket);
        subscribers.spawn(async move {
            let request = gantry_api::types::EventsRequest {
                timestamp: Some(events::BEGINNING),
                ..<_>::default()
            };
            let mut stream = api.events(request).await.unwrap().into_inner();
            stream.message().await.unwrap();
        });
    }
    let container = server.container("c").sh("exit 0").create().await.unwrap();
    container.init.exit().await;
    subscribers.join_all().await;
    let sockets = || {
        let fds = fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap().flatten();
        fds.filter_map(|fd| fs::read_link(fd.path()).ok())
            .filter(|target| target.to_string_lossy().starts_with("socket:"))
            .count()
    };
    eventually("their connections are closed", || sockets() < 20).await;
    server.finish().await;
}

/// Processes that leave their session, their parent and their namespace's init behind.
#[rstest]
#[tokio::test]
async fn processes_that_hide_are_killed(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(server) = Server::start(runtime).await else { return };
    for own_namespace in [true, false] {
        let container = server.container("c").config(|config| {
            let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
            namespaces.retain(|namespace| own_namespace || namespace["type"] != "pid");
        });
        let script = "for i in 1 2 3; do (setsid sh -c 'trap : TERM HUP INT; sleep 1000000' &); done; \
            echo ready; sleep 1000000";
        let mut container = container.sh(script).create().await.unwrap();
        container.init.pipes().stdout_until("ready").await;
        assert_eq!(container.init.kill().await, 137);
        leftovers::assert_no_cgroup(&server.service);
    }
    server.finish().await;
}

/// A cgroup that a container has made below its own goes with it.
#[rstest]
#[tokio::test]
async fn nested_cgroups_are_removed(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(server) = Server::start(runtime).await else { return };
    let container = server.container("c").create().await.unwrap();
    let directories = gantry_tests::cgroup::directories(&container.cgroup);
    let nested = directories.first().expect("a cgroup").join("nested");
    fs::create_dir(&nested).unwrap();
    let exec = container.exec("e").args(&["sleep", "1000000"]).start().await.unwrap();
    fs::write(nested.join("cgroup.procs"), exec.system_pid.to_string()).unwrap();
    container.init.kill().await;
    leftovers::assert_no_cgroup(&server.service);
    server.finish().await;
}
