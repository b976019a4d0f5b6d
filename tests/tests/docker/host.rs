//! A host of the test's own: namespaces for network and mounts, with the server under test inside.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    os::unix::{net::UnixStream, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use gantry_tests::{PATIENCE, Runtime, bundle, cgroup, leftovers, patiently, processes};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::peer::{self, Peer};

/// How long one command of a client may take.
const COMMAND: &str = "100";

/// A host. Dropping it kills and removes all that is on it.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) peer: Peer,
    /// Holds the namespaces, as long as its stdin is open.
    holder: Child,
    server: Option<Child>,
    work: TempDir,
}

impl Host {
    /// Makes one, with a server that answers.
    pub(crate) async fn make() -> Self {
        Self::make_for(Runtime::Runc).await
    }

    /// Makes one on which this runtime works.
    pub(crate) async fn make_for(runtime: Runtime) -> Self {
        peer::installed(Path::new(CTR));
        // A short name, as a socket's path has at most 107 bytes.
        let work = tempfile::Builder::new().prefix("gantry-test-").tempdir().expect("a directory");
        bundle::make_rootfs(&work.path().join("rootfs"));
        let holder = hold_namespaces(runtime);
        let mut host = Self { peer: Peer::chosen(), holder, server: None, work };
        host.start_server().await;
        host
    }

    pub(crate) async fn start_server(&mut self) {
        assert!(self.server.is_none(), "a server runs already");
        let line = self.peer.command(self.work.path());
        let mut command = self.command(&line[0]);
        command.args(&line[1..]);
        self.server = Some(self.spawn(command, "server.log"));
        let begin = Instant::now();
        // What a dead server has left of its socket answers nobody.
        while UnixStream::connect(Peer::socket(self.work.path())).is_err() {
            let child = self.server.as_mut().expect("a child");
            let ended = child.try_wait().expect("wait for the server");
            let waits = ended.is_none() && begin.elapsed() < PATIENCE;
            assert!(waits, "the server does not answer, {ended:?}:\n{}", self.logs());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Ends the server.
    pub(crate) async fn end_server(&mut self, signal: Signal) {
        end(self.server.take().expect("a server"), signal).await;
    }

    /// Starts a program on this host, whose output goes to a file.
    pub(crate) fn spawn(&self, mut command: Command, log: &str) -> Child {
        let log = File::options().create(true).append(true).open(self.path(log)).expect("a log");
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a log")).stderr(log);
        // Signals that a terminal sends to the tests are not for it.
        command.process_group(0).spawn().expect("start a program")
    }

    /// What the programs have logged.
    pub(crate) fn logs(&self) -> String {
        ["server.log", "dockerd.log"]
            .map(|name| {
                let log = fs::read_to_string(self.path(name)).unwrap_or_default();
                format!("{name}:\n{log}")
            })
            .join("\n")
    }

    /// A program that will run on this host.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.holder.id().to_string(), "--net", "--mount", "--"]);
        command.arg(program);
        command
    }

    /// A client on this host, which is killed if it hangs.
    pub(crate) fn client(&self, program: &str) -> Command {
        let mut command = Command::new("timeout");
        // In the foreground, or a client cannot use its terminal.
        command.args(["--foreground", "--kill-after=20", COMMAND, "nsenter", "--target"]);
        command.args([&self.holder.id().to_string(), "--net", "--mount", "--", program]);
        command
    }

    /// What a shell script prints on this host, if it succeeds.
    pub(crate) fn sh(&self, script: &str) -> Option<String> {
        let output = self.client("sh").args(["-c", script]).output().expect("run sh");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        output.status.success().then_some(text)
    }

    /// A path in the test's directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.work.path().join(name)
    }

    /// The same as text.
    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("UTF-8").to_owned()
    }

    /// The name of the test's directory, which no other test has.
    pub(crate) fn name(&self) -> &str {
        self.work.path().file_name().expect("a name").to_str().expect("UTF-8")
    }

    /// The cgroup below which all containers are.
    pub(crate) fn cgroup(&self) -> String {
        format!("/{}", self.name())
    }

    /// ctr in this test's default namespace. Its containers are in the test's cgroup, as a cgroup
    /// path made of ctr begins with the namespace.
    pub(crate) fn ctr(&self, arguments: &[&str]) -> Command {
        self.ctr_in(self.name(), arguments)
    }

    pub(crate) fn ctr_in(&self, namespace: &str, arguments: &[&str]) -> Command {
        let mut command = self.client(CTR);
        let socket = Peer::socket(self.work.path());
        command.arg("--address").arg(socket).args(["--namespace", namespace]).args(arguments);
        command
    }

    /// Ends the test: checks that nothing of any container is left, and that the server ends properly.
    pub(crate) async fn finish(mut self) {
        self.assert_clean().await;
        self.end_server(Signal::TERM).await;
    }

    /// Checks that no container, task, mount, cgroup, state or process is left.
    async fn assert_clean(&self) {
        let namespaces = succeeds(self.ctr(&["namespaces", "ls", "-q"]));
        for namespace in namespaces.lines() {
            for kind in ["tasks", "containers"] {
                let list = || succeeds(self.ctr_in(namespace, &[kind, "ls", "-q"]));
                eventually(&format!("{kind} of {namespace} are gone"), || list().is_empty()).await;
            }
        }
        let mounts = format!("/proc/{}/mountinfo", self.holder.id());
        let mounts = fs::read_to_string(mounts).expect("read mountinfo");
        let work = self.work.path().to_str().expect("UTF-8");
        // A dockerd that was killed leaves its own, which it makes of the directory of its data.
        let own = self.text("data");
        let left: Vec<_> = mounts
            .lines()
            .filter(|line| line.contains(work) && line.split(' ').nth(4) != Some(&own))
            .collect();
        assert!(left.is_empty(), "mounts are left: {left:?}");
        let left = cgroup::children(&self.cgroup());
        assert!(left.is_empty(), "cgroups are left: {left:?}");
        for namespace in namespaces.lines() {
            let docker = ["exec/runtime-runc", "exec/runtime-crun"].map(|root| self.path(root));
            for root in docker.into_iter().chain([self.inside("/run/containerd/runc")]) {
                let left = Runtime::list(&root.join(namespace));
                assert!(left.is_empty(), "containers that a runtime still knows: {left:?}");
            }
        }
        // Shims exit after the last event; an idle one of Gantry's stays with the server.
        for process in self.processes().into_iter().filter(|process| !process.is_spare_shim()) {
            let gone = processes::ends_within(process.pid, PATIENCE).await;
            assert!(gone, "a process is left: {process:?}");
        }
        if self.peer == Peer::Gantry {
            let left = || leftovers::in_state(&self.path("state"), 1);
            eventually("the state directory is empty", || left().is_empty()).await;
        }
    }

    /// A file of this host as it is seen from outside.
    pub(crate) fn inside(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.holder.id()))
    }

    /// The pid of a container's process with these arguments.
    pub(crate) fn pid_of(&self, command: &str) -> Option<u32> {
        let found = self.processes().into_iter().find(|process| process.command == command);
        found.map(|process| process.pid)
    }

    /// Processes other than the server and the holder.
    fn processes(&self) -> Vec<processes::Found> {
        let mut found = processes::belonging_to(self.work.path(), &self.cgroup());
        let server = self.server.as_ref().map(Child::id);
        found.retain(|process| Some(process.pid) != server);
        found
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", self.logs());
        }
        if let Some(server) = &mut self.server {
            let _ = server.kill();
            let _ = server.wait();
        }
        for _ in 0..100 {
            cgroup::thaw(&self.cgroup());
            let left = self.processes();
            left.iter().for_each(|process| processes::kill(process.pid));
            if left.is_empty() {
                break;
            }
            // This is no test any more, and there may be nobody to run a task.
            std::thread::sleep(Duration::from_millis(20));
        }
        cgroup::remove(&self.cgroup());
        // The namespaces go with their holder, and all mounts and interfaces with them.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// Debian's, of its package containerd.
pub(crate) const CTR: &str = "/usr/bin/ctr";

/// Namespaces in which /run is empty: containerd's shims and clients have fixed paths there.
fn hold_namespaces(runtime: Runtime) -> Child {
    let hide = if runtime.needs_pure_v1() { "umount /sys/fs/cgroup/unified &&" } else { "" };
    // Docker's client of today warns of a host that does not forward.
    let script = format!(
        "{hide} ip link set lo up && echo 1 >/proc/sys/net/ipv4/ip_forward && \
         mount -t tmpfs -o mode=755 tmpfs /run && mkdir /run/lock && echo ready && exec cat > /dev/null"
    );
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "sh", "-c", &script]);
    let mut holder = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("unshare");
    let mut line = String::new();
    BufReader::new(holder.stdout.take().expect("a pipe")).read_line(&mut line).expect("read");
    assert_eq!(line, "ready\n", "namespaces of the test's own");
    holder
}

/// Waits until a client reports a condition. There are pauses between the calls, as each
/// starts processes.
pub(crate) async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let asking = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    patiently(what, asking).await;
}

/// Ends a program with a signal.
pub(crate) async fn end(mut child: Child, signal: Signal) {
    processes::signal(child.id(), signal);
    if !processes::ends_within(child.id(), PATIENCE).await {
        let _ = child.kill();
        panic!("it does not end on {signal:?}");
    }
    let status = child.wait().expect("wait");
    assert!(signal == Signal::KILL || status.success(), "on {signal:?}: {status}");
}

/// What a client prints, which succeeds.
pub(crate) fn succeeds(mut command: Command) -> String {
    let output = command.stdin(Stdio::null()).output().expect("run a client");
    assert!(output.status.success(), "{command:?}: {output:?}");
    text(output.stdout)
}

/// The exit code of a client that fails, and what it says.
pub(crate) fn fails(mut command: Command) -> (i32, String) {
    let output = command.stdin(Stdio::null()).output().expect("run a client");
    assert!(!output.status.success(), "{command:?}: {output:?}");
    (code(&output), text(output.stderr))
}

/// A client's exit code.
pub(crate) fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("it was killed: {output:?}"))
}

/// What a client has written.
pub(crate) fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("UTF-8")
}
