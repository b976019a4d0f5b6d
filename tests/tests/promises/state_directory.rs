//! A state directory that is full, read-only or damaged: the server starts, says what it cannot
//! read, serves the rest, and harms no container.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use gantry_tests::{
    Runtime, Server, eventually, improves, processes, programs, server::Setup, status::assert_error,
};
use tempfile::TempDir;
use tonic::Code;

/// A small file system for the state directory alone.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Self {
        let directory = tempfile::Builder::new().prefix("gantry-disk-").tempdir().unwrap();
        let disk = Self(directory);
        disk.run("mount", &["-t", "tmpfs", "-o", "size=2m,mode=700", "gantry-test"]);
        disk
    }

    fn state(&self) -> PathBuf {
        self.0.path().join("state")
    }

    fn setup(&self) -> Setup {
        let state = self.state();
        Server::setup(Runtime::Runc).arguments(&["--state-dir", state.to_str().unwrap()])
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let status = Command::new(program).args(arguments).arg(self.0.path()).status();
        assert!(status.unwrap().success(), "{program} {arguments:?}");
    }

    /// Leaves room for nothing, not even for a directory.
    fn fill(&self) {
        let ballast = vec![0; 4096];
        let mut number = 0;
        while fs::write(self.0.path().join(format!("ballast-{number}")), &ballast).is_ok() {
            number += 1;
        }
    }

    fn empty(&self) {
        for entry in fs::read_dir(self.0.path()).unwrap().flatten() {
            if entry.file_name().to_string_lossy().starts_with("ballast") {
                fs::remove_file(entry.path()).unwrap();
            }
        }
    }

    /// Ends the test: no process is left that works on the disk, or it would be busy.
    async fn finish(self) {
        let unmount = || Command::new("umount").arg(self.0.path()).output().unwrap();
        eventually("nobody on the disk", || unmount().status.success()).await;
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn a_full_disk_stops_no_kill_and_no_exit() {
    if improves("the original ends") {
        return;
    }
    let disk = SmallDisk::mount();
    let Some(mut server) = disk.setup().start().await else { return };
    let first = server.container("first").create().await.unwrap();
    let second = server.container("second").create().await.unwrap();
    let exec = first.exec("e").args(&["sleep", "1000000"]).start().await.unwrap();

    disk.fill();
    let refused = server.container("third").create().await;
    assert_error(refused, Code::ResourceExhausted, &["no space left"]);
    assert_error(
        first.exec("f").sh("exit 0").start().await,
        Code::ResourceExhausted,
        &["no space left"],
    );
    assert_eq!(exec.kill().await, 137);
    assert_eq!(first.init.kill().await, 137);
    disk.fill();
    // A server that starts there works as well, and publishes no event twice.
    server.kill().await;
    server.start_again().await;
    assert_eq!(second.state().await.unwrap().status, "running");
    assert_eq!(second.init.kill().await, 137);

    disk.empty();
    let third = server.container("third").sh("exit 5").create().await.unwrap();
    assert_eq!(third.init.exit().await, 5);
    assert_eq!(server.service.events.all().len(), 8);
    server.finish().await;
    disk.finish().await;
}

#[tokio::test]
async fn a_read_only_state_directory_stops_no_server() {
    if improves("the original ends") {
        return;
    }
    let disk = SmallDisk::mount();
    let Some(mut server) = disk.setup().start().await else { return };
    let container = server.container("c").create().await.unwrap();
    let exec = container.exec("e").args(&["sleep", "1000000"]).start().await.unwrap();
    server.kill().await;
    disk.run("mount", &["-o", "remount,ro"]);
    server.start_again().await;
    assert_eq!(container.state().await.unwrap().processes.len(), 2);
    assert!(server.create_fails("other").await.contains("read-only file system"));
    assert_eq!(exec.kill().await, 137);
    assert_eq!(container.init.kill().await, 137);
    let log = || server.log().to_lowercase();
    eventually("it says so", || log().contains("read-only file system")).await;

    // Published events are journalled with the next event for which there is room, and not published again.
    disk.run("mount", &["-o", "remount,rw"]);
    let other = server.container("other").sh("exit 5").create().await.unwrap();
    assert_eq!(other.init.exit().await, 5);
    server.kill().await;
    server.start_again().await;
    let other = server.container("other").sh("exit 6").create().await.unwrap();
    assert_eq!(other.init.exit().await, 6);
    assert_eq!(server.service.events.all().len(), 8);
    server.finish().await;
    disk.finish().await;
}

trait CreateFails {
    async fn create_fails(&self, id: &str) -> String;
}

impl CreateFails for Server {
    /// The error for a container that cannot be created.
    async fn create_fails(&self, id: &str) -> String {
        let error = self.container(id).create().await.expect_err("no room for it");
        error.message().to_lowercase()
    }
}

/// What is to become of the content of a file.
type Damage = fn(&[u8]) -> Vec<u8>;

fn damages() -> [(&'static str, Damage); 3] {
    [
        ("empty", |_| Vec::new()),
        ("torn", |content| content[..content.len() / 2].to_vec()),
        ("zeroed", |content| vec![0; content.len()]),
    ]
}

/// A container whose record is damaged goes on, and its exit is published; only its id is known.
#[tokio::test]
async fn a_damaged_record_harms_no_container() {
    if improves("the original ends") {
        return;
    }
    let Some(mut server) = Server::own(Runtime::Runc).await else { return };
    for file in ["container.json", "processes/init/process.json", "processes/e/process.json"] {
        for (kind, damage) in damages() {
            let container = server.container("c").create().await.unwrap();
            let exec = container.exec("e").args(&["sleep", "1000000"]).start().await.unwrap();
            let other = server.container("other").create().await.unwrap();
            server.kill().await;
            let path = server.state_dir().join("containers/types/c").join(file);
            fs::write(&path, damage(&fs::read(&path).unwrap())).unwrap();
            server.start_again().await;
            assert_eq!(other.state().await.unwrap().status, "running");
            assert_eq!(other.init.kill().await, 137);
            server.logs(path.to_str().unwrap()).await;
            for process in [&exec, &container.init] {
                let alive = !process.ends_within(std::time::Duration::ZERO).await;
                assert!(alive, "{file} {kind}: {} lives", process.id);
                assert_eq!(process.kill().await, 137, "{file} {kind}");
            }
        }
    }
    server.finish().await;
}

/// Whatever happens to the files beside the records, the container goes on, and its exit is published
/// with its true status, or as unknown.
#[tokio::test]
async fn damaged_files_of_a_shim_cost_a_status_at_most() {
    if improves("the original ends") {
        return;
    }
    let Some(mut server) = Server::own(Runtime::Runc).await else { return };
    for file in ["started.json", "exit.json", "pid"] {
        for (kind, damage) in damages() {
            let container = server.container("c").create().await.unwrap();
            let exec = container.exec("e").sh("read line; exit 6").start().await.unwrap();
            server.kill().await;
            let processes = server.state_dir().join("containers/types/c/processes");
            if file == "exit.json" {
                processes::kill(exec.system_pid);
                let path = processes.join("e").join(file);
                gantry_tests::eventually("the shim leaves", || path.exists()).await;
                wait_for_shim(&processes.join("e")).await;
            }
            for process in ["init", "e"] {
                let path = processes.join(process).join(file);
                if let Ok(content) = fs::read(&path) {
                    fs::write(&path, damage(&content)).unwrap();
                }
            }
            server.start_again().await;
            if file != "exit.json" {
                assert_eq!(exec.kill().await, 137, "{file} {kind}");
            }
            let status = exec.exit().await;
            assert!(status == 137 || status == 255, "{file} {kind}: {status}");
            assert_eq!(container.init.kill().await, 137, "{file} {kind}");
        }
    }
    server.finish().await;
}

/// Until nothing works in the process's directory any more.
async fn wait_for_shim(directory: &Path) {
    gantry_tests::eventually("the shim is gone", || {
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let mut cwds = entries.filter_map(|entry| fs::read_link(entry.path().join("cwd")).ok());
        !cwds.any(|cwd| cwd == directory)
    })
    .await;
}

/// What a later version wrote is read by this one.
#[tokio::test]
async fn fields_of_a_later_version_are_passed_over() {
    if improves("there is no later version of the original") {
        return;
    }
    let Some(mut server) = Server::own(Runtime::Runc).await else { return };
    let container = server.container("c").create().await.unwrap();
    let before = container.state().await.unwrap();
    server.kill().await;
    let directory = server.state_dir().join("containers/types/c");
    for file in ["container.json", "processes/init/process.json", "processes/init/started.json"] {
        let path = directory.join(file);
        let text = fs::read_to_string(&path).unwrap();
        let later = text.replacen("\"version\":1", "\"version\":2,\"later\":7", 1);
        assert_ne!(later, text, "{file} has a version");
        fs::write(&path, later).unwrap();
    }
    server.start_again().await;
    assert_eq!(container.state().await.unwrap(), before);
    assert_eq!(container.init.kill().await, 137);
    server.finish().await;
}

#[test]
fn a_state_directory_that_others_can_write_is_refused() {
    if improves("it takes any directory") {
        return;
    }
    let work = tempfile::tempdir().unwrap();
    let (state, socket) = (work.path().join("state"), work.path().join("sock"));
    fs::create_dir(&state).unwrap();
    let refused = |why: &str| {
        let mut server = Command::new(programs::server());
        server.arg("-l").arg(&socket).arg("--state-dir").arg(&state);
        server.arg("--root").arg(work.path().join("root"));
        let output = server.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{said}");
        assert!(said.contains(why) && said.contains(state.to_str().unwrap()), "{said}");
        assert_eq!(fs::read_dir(&state).unwrap().count(), 0, "nothing was put there");
        assert!(!socket.exists());
    };
    fs::set_permissions(&state, fs::Permissions::from_mode(0o1777)).unwrap();
    refused("everybody can write");
    fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::chown(&state, Some(12345), None).unwrap();
    refused("belongs to user 12345");
}
