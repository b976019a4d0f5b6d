//! What gantryd.service asks of a server, without a service manager.

use std::{
    collections::HashSet,
    fs,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    thread::sleep,
    time::Duration,
};

use gantry_tests::{PATIENCE, Runtime, Server, improves, programs, server::Setup, skip};

const MEMORY: &str = "/sys/fs/cgroup/memory";

/// A memory cgroup of version 1, as a service manager makes one for a service.
struct ServiceGroup {
    name: String,
}

impl ServiceGroup {
    fn new() -> Option<Self> {
        if !Path::new(MEMORY).join("memory.limit_in_bytes").exists() {
            skip("the memory controller is not in version 1 here");
            return None;
        }
        let group = Self { name: format!("/gantry-unit-{}", std::process::id()) };
        fs::create_dir(group.path()).expect("make a cgroup");
        Some(group)
    }

    fn path(&self) -> PathBuf {
        format!("{MEMORY}{}", self.name).into()
    }

    /// A server that is started in it.
    fn start(&self, directory: &Path) -> Setup {
        let group = self.path();
        let script =
            format!("echo $$ >{}/cgroup.procs && exec \"$gantryd\" \"$@\"", group.display());
        let script = programs::wrapped_server(directory, &script);
        Server::setup(Runtime::Runc).binary(&script)
    }

    /// A limit of the server's.
    fn limit(&self, name: &str) -> u64 {
        let text = fs::read_to_string(self.path().join("server").join(name)).expect("a limit");
        text.trim().parse().expect("a number")
    }
}

impl Drop for ServiceGroup {
    fn drop(&mut self) {
        // Killed processes may not have ended yet.
        for _ in 0..200 {
            let _ = fs::remove_dir(self.path().join("server"));
            if fs::remove_dir(self.path()).is_ok() {
                return;
            }
            sleep(Duration::from_millis(20));
        }
    }
}

/// The memory cgroup of a process.
fn memory_group(pid: u32) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("a living process");
    let line = text.lines().find_map(|line| line.split_once(":memory:"));
    line.expect("a memory cgroup").1.to_owned()
}

#[tokio::test]
async fn a_limit_of_memory_is_the_servers_alone() {
    if improves("the original has no limits of its own") {
        return;
    }
    let Some(group) = ServiceGroup::new() else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let setup = group.start(directory.path());
    let setup = setup.arguments(&["--memory-max", "1G", "--memory-high", "512M"]);
    let Some(mut server) = setup.start().await else { return };
    let relative = format!("gantry-unit-relative-{}", std::process::id());
    let mut containers = Vec::new();
    for round in 0..2 {
        let id = |name: &str| format!("{name}{round}");
        let absolute = server.container(&id("a")).without_pipes().create().await.unwrap();
        let inside = server.container(&id("r")).without_pipes().config(|config| {
            config["linux"]["cgroupsPath"] = format!("{relative}{round}").into();
        });
        let inside = inside.create().await.unwrap();
        let exec =
            absolute.exec("e").without_pipes().args(&["sleep", "1000"]).start().await.unwrap();

        let own = format!("{}/server", group.name);
        assert_eq!(memory_group(server.pid()), own);
        assert_eq!(group.limit("memory.limit_in_bytes"), 1 << 30);
        assert_eq!(group.limit("memory.soft_limit_in_bytes"), 512 << 20);
        assert_eq!(memory_group(absolute.init.system_pid), absolute.cgroup);
        assert_eq!(
            memory_group(inside.init.system_pid),
            format!("{}/{relative}{round}", group.name)
        );
        let shims = [&absolute.init, &inside.init, &exec].map(|process| process.shim().unwrap());
        let groups: HashSet<_> = shims.into_iter().map(memory_group).collect();
        assert_eq!(groups, HashSet::from([group.name.clone()]));
        containers.extend([absolute, inside]);
        if round == 0 {
            server.kill().await;
            server.start_again().await;
        }
    }
    for container in containers {
        assert_eq!(container.init.kill().await, 137);
    }
    server.finish().await;
}

#[tokio::test]
async fn the_service_manager_is_notified_of_progress() {
    if improves("the original knows no watchdog") {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("notify");
    let manager = UnixDatagram::bind(&path).expect("a service manager's socket");
    manager.set_read_timeout(Some(PATIENCE)).expect("set a timeout");
    let setup = Server::setup(Runtime::Runc)
        .variable("NOTIFY_SOCKET", path.to_str().expect("UTF-8"))
        .variable("WATCHDOG_USEC", "300000");
    let Some(server) = setup.start().await else { return };
    let messages = tokio::task::spawn_blocking(move || {
        let mut messages = Vec::new();
        while messages.iter().filter(|text| *text == "WATCHDOG=1\n").count() < 4 {
            let mut buffer = [0; 256];
            let length = manager.recv(&mut buffer).expect("a message in time");
            messages.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
        messages
    });
    assert_eq!(messages.await.expect("no panic")[0], "READY=1\n");
    server.finish().await;
}
