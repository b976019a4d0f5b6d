//! Every exit is published, at once and with its true status, whatever fails meanwhile.

use std::{
    fs,
    path::{Path, PathBuf},
};

use gantry_api::event_type;
use gantry_tests::{Runtime, Server, eventually, improves, processes, runtime::wrapper, skip};
use rstest::rstest;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use Runtime::{Crun, Runc};

/// The first real-time signal that glibc leaves to programs, and three more: what systemd is halted by.
const SIGRTMIN_PLUS_3: u32 = 34 + 3;
const STATUS: u32 = 128 + SIGRTMIN_PLUS_3;

#[rstest]
#[tokio::test]
async fn a_death_by_a_real_time_signal_is_reported(#[values(Runc, Crun)] runtime: Runtime) {
    if improves("the original reports no such status") {
        return;
    }
    let Some(server) = Server::own(runtime).await else { return };
    let die = format!("kill -{SIGRTMIN_PLUS_3} $$; sleep 1000000");
    let container = server.container("c").create().await.unwrap();
    let exec = container.exec("e").sh(&die).start().await.unwrap();
    assert_eq!(exec.exit().await, STATUS);
    assert_eq!(container.init.kill().await, 137);
    // Init of a pid namespace of its own gets no signal that it does not handle.
    let shared = server.container("shared").sh(&die).config(|config| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "pid");
    });
    assert_eq!(shared.create().await.unwrap().init.exit().await, STATUS);
    server.finish().await;
}

/// The end of a container is not held back by a process that a runtime never finishes to start in it.
#[rstest]
#[tokio::test]
async fn a_hanging_exec_holds_no_exit_back(#[values(false, true)] terminal: bool) {
    if improves("the original waits for its shim's timeout") {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory for the runtime");
    let reached = directory.path().join("reached");
    let script =
        format!("if [ $command = exec ]; then touch {}; exec sleep 1000000; fi", reached.display());
    let runtime = wrapper(directory.path(), Runc, &script);
    // Longer than the test waits for anything.
    let setup = Server::setup(Runc).runtime_path(&runtime).arguments(&["--start-timeout", "60m"]);
    let Some(server) = setup.start().await else { return };
    let container = server.container("c").create().await.unwrap();
    let exec = container.exec("e").sh("exit 0");
    let exec = if terminal { exec.terminal(None) } else { exec };
    let (exec, ()) = tokio::join!(exec.start(), async {
        eventually("the runtime is called", || reached.exists()).await;
        assert_eq!(container.init.kill().await, 137);
    });
    let error = exec.expect_err("there is no container any more");
    assert!(error.message().contains("stopped"), "{error}");
    server.finish().await;
}

/// Sets how many files the server may open; `None`: as many as before.
fn limit_files(server: &Server, limit: Option<u64>) {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit { current: limit.or(maximum), maximum };
    let pid = Pid::from_raw(server.pid().cast_signed()).unwrap();
    prlimit(Some(pid), Resource::Nofile, limit).expect("limit the server's files");
}

/// Exits of containers that end while nothing can be opened are published, and everything of them is removed as soon as
/// possible:
/// by the same server or the next, and without harm to a new container of the same id.
#[rstest]
#[tokio::test]
async fn nothing_remains_of_what_ends_without_descriptors(
    #[values(Runc, Crun)] runtime: Runtime,
    #[values(false, true)] restart: bool,
) {
    const CONTAINERS: usize = 10;
    if improves("the original leaves it") {
        return;
    }
    let Some(mut server) = Server::own(runtime).await else { return };
    let mut containers = Vec::new();
    for n in 0..CONTAINERS {
        let container = server.container(&format!("c{n}")).args(&["sleep", "1000000"]);
        containers.push(container.without_pipes().create().await.unwrap());
    }
    // What is open stays open, and nothing more can be.
    limit_files(&server, Some(3));
    for container in &containers {
        processes::kill(container.init.system_pid);
    }
    for container in &containers {
        assert_eq!(container.init.exit().await, 137);
    }
    if restart {
        server.kill().await;
        server.start_again().await;
    } else {
        limit_files(&server, None);
    }
    let again = server.container("c0").args(&["sleep", "1000000"]).create().await.unwrap();
    for directory in ["removed", "remains", "trash"] {
        let directory = server.state_dir().join(directory);
        let is_empty = || fs::read_dir(&directory).unwrap().count() == 0;
        eventually(&format!("{} is empty", directory.display()), is_empty).await;
    }
    assert_eq!(again.state().await.unwrap().status, "running");
    assert_eq!(again.init.kill().await, 137);
    let events = server.service.events.all();
    let exits = events.iter().filter(|event| event.r#type == event_type::EXIT);
    assert_eq!(exits.count(), CONTAINERS + 1, "none is published twice");
    server.finish().await;
}

/// A cgroup of the `pids` controller for the server and what it starts.
struct PidsCgroup(PathBuf);

impl PidsCgroup {
    /// `None` on a host without version 1 of the controller.
    fn new(name: &str) -> Option<Self> {
        let path = Path::new("/sys/fs/cgroup/pids").join(name);
        fs::create_dir(&path).ok()?;
        Some(Self(path))
    }

    fn write(&self, file: &str, value: &str) {
        fs::write(self.0.join(file), value).expect("write to a cgroup");
    }
}

impl Drop for PidsCgroup {
    fn drop(&mut self) {
        let processes = fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default();
        for process in processes.lines() {
            let _ = fs::write("/sys/fs/cgroup/pids/cgroup.procs", process);
        }
        let _ = fs::remove_dir(&self.0);
    }
}

/// At the host's limit of processes no thread and no process can be started. An exit is published all the
/// same, its id is free, and the server goes on.
#[tokio::test]
async fn an_exit_is_published_where_no_process_can_be_made() {
    if improves("the original does not") {
        return;
    }
    let Some(server) = Server::own(Runc).await else { return };
    let Some(pids) = PidsCgroup::new(&format!("gantry-pids-{}", server.pid())) else {
        return skip("needs version 1 of the pids controller");
    };
    let container = server.container("c").without_pipes().create().await.unwrap();
    let other = server.container("other").without_pipes().create().await.unwrap();
    pids.write("cgroup.procs", &server.pid().to_string());
    pids.write("pids.max", "1");

    // Its shim can start the runtime, as it was there before; the server has no thread for the next.
    for n in 0..3 {
        let exec = other.exec(&format!("e{n}")).without_pipes().sh("exit 5").start().await;
        if let Ok(exec) = exec {
            assert_eq!(exec.exit().await, 5);
        }
    }
    processes::kill(container.init.system_pid);
    assert_eq!(container.init.exit().await, 137);
    assert_eq!(other.state().await.unwrap().status, "running");

    pids.write("pids.max", "max");
    let again = server.container("c").without_pipes().sh("exit 7").create().await.unwrap();
    assert_eq!(again.init.exit().await, 7);
    assert_eq!(other.init.kill().await, 137);
    let remains = server.state_dir().join("remains");
    eventually("nothing remains", || fs::read_dir(&remains).unwrap().count() == 0).await;
    assert!(!server.log().contains("panicked"), "{}", server.log());
    server.finish().await;
}
