//! A dockerd of the test's own, on the server under test, and its client.

use std::{
    env,
    fs::{self, File},
    os::unix::{net::UnixStream, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use gantry_tests::{PATIENCE, Runtime, processes};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::{
    host::{self, Host, eventually},
    peer::{self, Peer},
};

/// The image that each dockerd has: busybox.
pub(crate) const IMAGE: &str = "busybox";

/// What prints `ready` and ends with code 5 on SIGTERM, and with code 6 once there is a file /go.
pub(crate) const SERVICE: &str =
    "trap 'exit 5' TERM; echo ready; until [ -e /go ]; do sleep 0.1; done; exit 6";

/// A host with dockerd on it.
#[derive(Debug)]
pub(crate) struct Docker {
    /// Dropped first: what dockerd would restart is not restarted while all is removed.
    dockerd: Dockerd,
    pub(crate) host: Host,
    arguments: Vec<String>,
}

/// The daemon's process, killed when dropped.
#[derive(Debug, Default)]
struct Dockerd(Option<Child>);

impl Drop for Dockerd {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Docker {
    /// Starts one that has no network for containers.
    pub(crate) async fn start() -> Self {
        Self::start_with(&["--bridge=none", "--iptables=false", "--ip6tables=false"]).await
    }

    /// The same, whose containers outlive it.
    pub(crate) async fn start_live() -> Self {
        let no_network = ["--bridge=none", "--iptables=false", "--ip6tables=false"];
        Self::start_with(&[&no_network[..], &["--live-restore"]].concat()).await
    }

    /// Starts one whose containers are run by crun.
    pub(crate) async fn start_on_crun() -> Self {
        const CRUN: &str = "/usr/bin/crun";
        peer::installed(Path::new(CRUN));
        let no_network = ["--bridge=none", "--iptables=false", "--ip6tables=false"];
        let runtime = format!("--add-runtime=crun={CRUN}");
        let arguments = [&no_network[..], &[&runtime, "--default-runtime=crun"]].concat();
        Self::start_at(Host::make_for(Runtime::Crun).await, &arguments).await
    }

    /// Starts one with these arguments, and imports its image.
    pub(crate) async fn start_with(arguments: &[&str]) -> Self {
        Self::start_at(Host::make().await, arguments).await
    }

    async fn start_at(host: Host, arguments: &[&str]) -> Self {
        [dockerd(), client()].iter().for_each(|program| peer::installed(program));
        let (root, tar) = (host.path("rootfs"), host.path("busybox.tar"));
        let mut pack = Command::new("tar");
        pack.arg("-C").arg(root).arg("-cf").arg(&tar).arg(".");
        host::succeeds(pack);
        // Else it is in /etc/docker.
        let key = serde_json::json!({ "deprecated-key-path": host.path("key.json") });
        fs::write(host.path("daemon.json"), key.to_string()).expect("write a configuration");
        let arguments = arguments.iter().map(ToString::to_string).collect();
        let mut docker = Self { dockerd: Dockerd::default(), host, arguments };
        docker.start_dockerd().await;
        docker.ok(&["import", tar.to_str().expect("UTF-8"), IMAGE]);
        docker
    }

    pub(crate) async fn start_dockerd(&mut self) {
        let mut command = self.host.command(dockerd().to_str().expect("UTF-8"));
        for (flag, name) in [
            ("--config-file", "daemon.json"),
            ("--data-root", "data"),
            ("--exec-root", "exec"),
            ("--pidfile", "dockerd.pid"),
        ] {
            command.arg(flag).arg(self.host.path(name));
        }
        command.arg("--containerd").arg(Peer::socket(&self.host.path("")));
        command.args(["--host", &self.address(), "--cgroup-parent", &self.host.cgroup()]);
        command.args(["--storage-driver=overlay2", "--log-level=debug"]).args(&self.arguments);
        command.args(further_arguments().split_whitespace());
        self.dockerd.0 = Some(self.host.spawn(command, "dockerd.log"));
        let begin = Instant::now();
        // It listens before it is ready, and a client then waits.
        while UnixStream::connect(self.host.path("d.sock")).is_err()
            || !self.output(&["version"]).status.success()
        {
            let child = self.dockerd.0.as_mut().expect("a child");
            let ended = child.try_wait().expect("wait for dockerd");
            let waits = ended.is_none() && begin.elapsed() < PATIENCE;
            assert!(waits, "dockerd does not answer, {ended:?}:\n{}", self.host.logs());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) async fn end_dockerd(&mut self, signal: Signal) {
        host::end(self.dockerd.0.take().expect("a dockerd"), signal).await;
    }

    /// The client with these arguments.
    pub(crate) fn docker(&self, arguments: &[&str]) -> Command {
        let mut command = self.host.client(client().to_str().expect("UTF-8"));
        // A configuration of its own, which is empty.
        command.arg("--config").arg(self.host.path("client")).args(["--host", &self.address()]);
        command.args(arguments);
        command
    }

    /// What the client prints, which succeeds; less the newline at the end.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        assert!(output.status.success(), "docker {arguments:?}: {output:?}");
        host::text(output.stdout).trim_end_matches('\n').to_owned()
    }

    /// The exit code of the client, which fails, and what it says.
    pub(crate) fn fails(&self, arguments: &[&str]) -> (i32, String) {
        host::fails(self.docker(arguments))
    }

    pub(crate) fn output(&self, arguments: &[&str]) -> Output {
        self.docker(arguments).stdin(Stdio::null()).output().expect("run docker")
    }

    /// A client whose output goes to a file of this name.
    pub(crate) fn in_background(&self, arguments: &[&str], output: &str) -> Client {
        let file = File::create(self.host.path(output)).expect("a file for the output");
        let mut command = self.docker(arguments);
        command.stdin(Stdio::null()).stdout(file.try_clone().expect("a file")).stderr(file);
        Client::new(command, self.host.path(output))
    }

    /// Starts a container of this name that runs a shell script.
    pub(crate) fn run(&self, name: &str, options: &[&str], script: &str) {
        let run = ["run", "--detach", "--name", name];
        self.ok(&[&run, options, &[IMAGE, "sh", "-c", script]].concat());
    }

    /// Starts a container that runs [`SERVICE`], and waits until it does.
    pub(crate) async fn run_service(&self, name: &str, options: &[&str]) {
        self.run(name, options, SERVICE);
        self.prints(name, "ready").await;
    }

    /// What a template makes of a container.
    pub(crate) fn inspect(&self, name: &str, template: &str) -> String {
        self.ok(&["inspect", "--type=container", "--format", template, name])
    }

    /// The exit code of a container that has ended.
    pub(crate) fn exit_code(&self, name: &str) -> String {
        self.inspect(name, "{{.State.Status}} {{.State.ExitCode}}")
    }

    /// The host's pid of a running container.
    pub(crate) fn pid(&self, name: &str) -> u32 {
        self.inspect(name, "{{.State.Pid}}").parse().expect("a pid")
    }

    /// Waits until a template makes this of a container, and returns how long it took.
    pub(crate) async fn becomes(&self, name: &str, template: &str, value: &str) -> Duration {
        let begin = Instant::now();
        let what = format!("{template} of {name} becomes {value}");
        eventually(&what, || self.inspect(name, template) == value).await;
        begin.elapsed()
    }

    /// Waits until a container has printed something.
    pub(crate) async fn prints(&self, name: &str, text: &str) {
        let follow = ["logs", "--follow", name];
        self.in_background(&follow, &format!("{name}.follow")).prints(text).await;
    }

    /// The names of containers that run.
    pub(crate) fn running(&self) -> Vec<String> {
        let names = self.ok(&["ps", "--format", "{{.Names}}"]);
        let mut names: Vec<_> = names.lines().map(str::to_owned).collect();
        names.sort();
        names
    }

    /// Ends the test: removes all containers and checks that nothing of them is left.
    pub(crate) async fn finish(mut self) {
        let all = self.ok(&["ps", "--all", "--quiet"]);
        let all: Vec<_> = all.lines().collect();
        if !all.is_empty() {
            self.ok(&[&["rm", "--force"], &all[..]].concat());
        }
        self.end_dockerd(Signal::TERM).await;
        self.host.sh("ip link del docker0 2>/dev/null; true").expect("remove the bridge");
        self.host.finish().await;
    }

    fn address(&self) -> String {
        format!("unix://{}", self.host.text("d.sock"))
    }
}

/// A client that runs beside the test; killed when dropped.
#[derive(Debug)]
pub(crate) struct Client {
    child: Child,
    output: PathBuf,
}

impl Client {
    /// Starts one, whose output goes to this file.
    pub(crate) fn new(mut command: Command, output: PathBuf) -> Self {
        let child = command.process_group(0).spawn().expect("run a client");
        Self { child, output }
    }

    /// What it has printed so far.
    pub(crate) fn output(&self) -> String {
        fs::read_to_string(&self.output).expect("read a client's output")
    }

    /// Waits until it has printed something.
    pub(crate) async fn prints(&self, text: &str) {
        let printed = || self.output().contains(text);
        gantry_tests::eventually(&format!("a client prints {text:?}"), printed).await;
    }

    /// Its pid, or that of what passes signals on to it.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its exit code, if it ends within this time.
    pub(crate) async fn code_within(&mut self, time: Duration) -> Option<i32> {
        if !processes::ends_within(self.child.id(), time).await {
            return None;
        }
        self.child.wait().expect("wait for a client").code()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // The client itself is a child of timeout(1).
        if let (Ok(None), Some(group)) =
            (self.child.try_wait(), Pid::from_raw(self.child.id().cast_signed()))
        {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

/// Debian's dockerd, of its package docker.io; or another one.
fn dockerd() -> PathBuf {
    named("GANTRY_TEST_DOCKERD", "/usr/sbin/dockerd")
}

/// What another dockerd is given beside; see main.rs.
fn further_arguments() -> String {
    env::var("GANTRY_TEST_DOCKERD_ARGS").unwrap_or_default()
}

fn client() -> PathBuf {
    named("GANTRY_TEST_DOCKER", "/usr/bin/docker")
}

fn named(variable: &str, default: &str) -> PathBuf {
    env::var_os(variable).map_or_else(|| Path::new(default).to_owned(), PathBuf::from)
}
