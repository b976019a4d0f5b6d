//! A host of the test's own: namespaces for network and mounts, with gantryd and the daemon inside.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use gantry_daemon::proto::{
    self, ContainerConfig, Networking, daemon_service_client::DaemonServiceClient,
    networking::Mode, root_filesystem::Source,
};
use gantry_tests::{PATIENCE, Runtime, bundle, cgroup, processes, programs, runtime, skip};
use rustix::process::Signal;
use tempfile::TempDir;
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

const NETAVARK: &str = "/usr/lib/podman/netavark";

/// Runs netavark. Files in the test's directory make a setup fail, at once (`fail-before`) or after
/// all was set up (`fail-after`), or hang then until there is a file `go`
/// (`hang`, which is removed).
const NETAVARK_WRAPPER: &str = r#"#!/bin/sh
fail() { echo '{"error":"sabotage"}'; exit 1; }
await() { until [ -e WORK/go ]; do sleep 0.01; done; exit 0; }
if [ "$3" = setup ] && [ -e WORK/fail-before ]; then fail; fi
if [ "$3" = setup ] && [ -e WORK/fail-after ]; then NETAVARK "$@" >&2; fail; fi
if [ "$3" = setup ] && [ -e WORK/hang ]; then NETAVARK "$@" >&2; rm WORK/hang; await; fi
exec NETAVARK "$@"
"#;

/// A host. Dropping it kills and removes all that is on it.
pub(crate) struct Bed {
    runtime: Runtime,
    /// Holds the namespaces, as long as its stdin is open.
    holder: Child,
    server: Option<Child>,
    daemon: Option<Child>,
    channel: Channel,
    work: TempDir,
}

impl Bed {
    /// Makes one. `None`, after saying so, when that is not possible here.
    pub(crate) async fn make(runtime: Runtime) -> Option<Bed> {
        if programs::is_incumbent() || std::env::var_os("GANTRY_TEST_ADDRESS").is_some() {
            skip("needs a server of its own, which is Gantry");
            return None;
        }
        if !runtime.is_installed() || !Path::new(NETAVARK).exists() {
            skip(&format!("{} or {NETAVARK} is not installed", runtime.name()));
            return None;
        }
        // A short name, as a socket's path has at most 107 bytes.
        let work = tempfile::Builder::new().prefix("gantry-test-").tempdir().expect("a directory");
        bundle::make_rootfs(&work.path().join("layer"));
        let text = NETAVARK_WRAPPER.replace("NETAVARK", NETAVARK);
        let text = text.replace("WORK", work.path().to_str().expect("UTF-8"));
        runtime::write_script(&work.path().join("netavark"), &text);
        let channel = connect(&work.path().join("d.sock"));
        let holder = hold_namespaces(runtime.needs_pure_v1());
        let mut bed = Bed { runtime, holder, server: None, daemon: None, channel, work };
        bed.start_server().await;
        bed.start_daemon().await;
        Some(bed)
    }

    pub(crate) async fn start_server(&mut self) {
        let mut command = self.command(&programs::server());
        command.arg("-l").arg(self.path("g.sock")).arg("--state-dir").arg(self.path("state"));
        command.arg("--root").arg(self.path("root"));
        command.args(["--runtime", self.runtime.name(), "--log-level", "debug"]);
        for argument in self.runtime.arguments(&self.path(self.runtime.name())) {
            command.args(["--runtime-args", &argument]);
        }
        if let Some(shim) = programs::shim() {
            command.arg("--shim-binary").arg(shim);
        }
        self.server = Some(self.spawn(command, "server.log"));
        self.answers("g.sock").await;
    }

    pub(crate) async fn start_daemon(&mut self) {
        self.daemon = Some(self.spawn(self.daemon_command("d.sock"), "daemon.log"));
        self.answers("d.sock").await;
    }

    /// The daemon, to be started on this socket.
    pub(crate) fn daemon_command(&self, socket: &str) -> Command {
        let beside = programs::server().with_file_name("gantry-daemon");
        let program = std::env::var_os("GANTRY_DAEMON").map_or(beside, PathBuf::from);
        assert!(program.exists(), "no {}: build it or set GANTRY_DAEMON", program.display());
        let mut command = self.command(&program);
        for (flag, name) in [
            ("--listen", socket),
            ("--server", "g.sock"),
            ("--root", "lib"),
            ("--run-dir", "run"),
            ("--netavark", "netavark"),
        ] {
            command.arg(flag).arg(self.path(name));
        }
        command.args(["--cgroup-parent", &self.cgroup()]);
        command
    }

    /// Ends gantryd.
    pub(crate) async fn end_server(&mut self, signal: Signal) {
        end(self.server.take().expect("a server"), signal).await;
    }

    /// Ends the daemon.
    pub(crate) async fn end_daemon(&mut self, signal: Signal) {
        end(self.daemon.take().expect("a daemon"), signal).await;
    }

    fn spawn(&self, mut command: Command, log: &str) -> Child {
        let log = File::options().create(true).append(true).open(self.path(log)).expect("a log");
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a log")).stderr(log);
        command.process_group(0).spawn().expect("start a program")
    }

    async fn answers(&self, socket: &str) {
        let socket = self.path(socket);
        let begin = std::time::Instant::now();
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            assert!(
                begin.elapsed() < PATIENCE,
                "{} does not answer:\n{}",
                socket.display(),
                self.logs()
            );
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    fn logs(&self) -> String {
        ["server.log", "daemon.log"]
            .map(|name| fs::read_to_string(self.path(name)).unwrap_or_default())
            .join("\n")
    }

    /// A program that will run on this host.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.holder.id().to_string(), "--net", "--mount", "--"]);
        command.arg(program);
        command
    }

    /// What a shell script prints on this host, if it succeeds.
    pub(crate) fn sh(&self, script: &str) -> Option<String> {
        let output = self.command(Path::new("sh")).args(["-c", script]).output().expect("run sh");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        output.status.success().then_some(text)
    }

    /// A path in the test's directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.work.path().join(name)
    }

    /// The directory of a container.
    pub(crate) fn directory(&self, id: &str) -> PathBuf {
        self.path("lib/containers").join(id)
    }

    /// The cgroup below which all containers are.
    pub(crate) fn cgroup(&self) -> String {
        format!("/{}", self.work.path().file_name().expect("a name").to_str().expect("UTF-8"))
    }

    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub(crate) fn api(&self) -> DaemonServiceClient<Channel> {
        DaemonServiceClient::new(self.channel())
    }

    /// A shell script to be run in a container of its own network.
    pub(crate) fn script(&self, script: &str) -> ContainerConfig {
        let directories = vec![self.path("layer").to_str().expect("UTF-8").to_owned()];
        ContainerConfig {
            args: ["sh", "-c", script].map(str::to_owned).into(),
            env: vec!["PATH=/bin".to_owned()],
            root: Some(proto::RootFilesystem {
                source: Some(Source::Layers(proto::Layers { directories })),
                read_only: false,
            }),
            networking: networking(Mode::None(proto::NoneMode {})),
            stop_timeout_seconds: Some(0),
            ..ContainerConfig::default()
        }
    }

    /// Creates a container and returns its id.
    pub(crate) async fn create(&self, name: &str, config: ContainerConfig) -> String {
        let request = proto::CreateContainerRequest { name: name.into(), config: Some(config) };
        self.api().create_container(request).await.expect("create").into_inner().id
    }

    pub(crate) async fn start(&self, reference: &str) -> Result<(), Status> {
        let reference = reference.to_owned();
        let request = proto::StartContainerRequest { reference, ..Default::default() };
        self.api().start_container(request).await.map(drop)
    }

    /// Creates a container, starts it and returns its id.
    pub(crate) async fn run(&self, name: &str, config: ContainerConfig) -> String {
        let id = self.create(name, config).await;
        if let Err(error) = self.start(&id).await {
            panic!("start {name}: {error}");
        }
        id
    }

    pub(crate) async fn stop(&self, reference: &str) {
        let request =
            proto::StopContainerRequest { reference: reference.to_owned(), timeout_seconds: None };
        self.api().stop_container(request).await.expect("stop");
    }

    pub(crate) async fn wait(&self, reference: &str) -> u32 {
        let request = proto::WaitContainerRequest { reference: reference.to_owned() };
        self.api().wait_container(request).await.expect("wait").into_inner().exit_code
    }

    pub(crate) async fn remove(&self, reference: &str, force: bool) -> Result<(), Status> {
        let request = proto::RemoveContainerRequest { reference: reference.to_owned(), force };
        self.api().remove_container(request).await.map(drop)
    }

    pub(crate) async fn inspect(&self, reference: &str) -> Result<proto::Container, Status> {
        let request = proto::InspectContainerRequest { reference: reference.to_owned() };
        let response = self.api().inspect_container(request).await?.into_inner();
        Ok(response.container.expect("a container"))
    }

    /// What a container has printed so far.
    pub(crate) fn output(&self, id: &str) -> String {
        fs::read_to_string(self.directory(id).join("output.log")).unwrap_or_default()
    }

    /// Waits until a container has printed something.
    pub(crate) async fn prints(&self, id: &str, text: &str) {
        let what = format!("{id} prints {text:?}");
        gantry_tests::eventually(&what, || self.output(id).contains(text)).await;
    }

    /// Checks that no mount, interface, firewall rule, namespace, process, cgroup or file of any
    /// container is left but what is stored.
    pub(crate) async fn assert_clean(&self) {
        let work = self.work.path().to_str().expect("UTF-8");
        let mounts = format!("/proc/{}/mountinfo", self.holder.id());
        let mounts = fs::read_to_string(mounts).expect("read mountinfo");
        let left: Vec<_> = mounts.lines().filter(|line| line.contains(work)).collect();
        assert!(left.is_empty(), "mounts are left: {left:?}");
        let links = self.sh("ip -brief link").expect("list interfaces");
        assert_eq!(links.lines().count(), 1, "interfaces are left: {links}");
        let rules = self.sh("iptables-save").expect("list rules");
        let left: Vec<_> = rules.lines().filter(|line| line.contains("10.90.")).collect();
        assert!(left.is_empty(), "rules are left: {left:?}");
        assert_eq!(names(&self.path("run/netns")), [""; 0], "namespaces are left");
        assert_eq!(
            cgroup::children(&self.cgroup()),
            [""; 0].map(PathBuf::from),
            "cgroups are left"
        );
        let runtime_state = Runtime::list(&self.path(self.runtime.name()));
        assert_eq!(runtime_state, [""; 0], "the runtime knows containers");
        let known = ["container.json", "output.log", "upper", "work"];
        for id in names(&self.path("lib/containers")) {
            let left = names(&self.directory(&id));
            let left: Vec<_> = left.iter().filter(|name| !known.contains(&name.as_str())).collect();
            assert!(left.is_empty(), "files of {id} are left: {left:?}");
        }
        // Shims exit after the last event; an idle one stays with the server.
        for process in self.processes().into_iter().filter(|process| !process.is_spare_shim()) {
            let gone = processes::ends_within(process.pid, PATIENCE).await;
            assert!(gone, "a process is left: {process:?}");
        }
    }

    /// Those of containers.
    fn processes(&self) -> Vec<processes::Found> {
        let mut found = processes::belonging_to(self.work.path(), &self.cgroup());
        let children = [&self.server, &self.daemon].map(|child| child.as_ref().map(Child::id));
        found.retain(|process| !children.contains(&Some(process.pid)));
        found
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", self.logs());
        }
        for child in [&mut self.daemon, &mut self.server].into_iter().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
        for _ in 0..100 {
            let left = self.processes();
            left.iter().for_each(|process| processes::kill(process.pid));
            if left.is_empty() {
                break;
            }
            // This is no test any more, and there may be nobody to run a task.
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        cgroup::remove(&self.cgroup());
        // The namespaces go with their holder, and all mounts and interfaces with them.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// Connects when the first call is made.
pub(crate) fn connect(socket: &Path) -> Channel {
    let endpoint = Endpoint::try_from(format!("unix://{}", socket.display())).expect("a URI");
    endpoint.timeout(PATIENCE).connect_lazy()
}

pub(crate) fn networking(mode: Mode) -> Option<Networking> {
    Some(Networking { mode: Some(mode) })
}

/// Connected to these networks.
pub(crate) fn bridge(networks: &[&str]) -> Option<Networking> {
    let networks = networks.iter().map(ToString::to_string).collect();
    networking(Mode::Bridge(proto::BridgeMode { networks, ..Default::default() }))
}

fn hold_namespaces(without_unified: bool) -> Child {
    let umount = if without_unified { "umount /sys/fs/cgroup/unified" } else { "true" };
    let script = format!("ip link set lo up && {umount} && echo ready && exec cat > /dev/null");
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "sh", "-c", &script]);
    let mut holder = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("unshare");
    let mut line = String::new();
    BufReader::new(holder.stdout.take().expect("a pipe")).read_line(&mut line).expect("read");
    assert_eq!(line, "ready\n", "namespaces of the test's own");
    holder
}

async fn end(mut child: Child, signal: Signal) {
    processes::signal(child.id(), signal);
    assert!(processes::ends_within(child.id(), PATIENCE).await, "it ends on {signal:?}");
    let status = child.wait().expect("wait");
    assert!(signal == Signal::KILL || status.success(), "on {signal:?}: {status}");
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}
