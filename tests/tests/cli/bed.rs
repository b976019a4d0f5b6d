//! A server and the command to talk to it.

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
};

use gantry_tests::{PATIENCE, Runtime, Server, programs};
use serde_json::Value;

/// Where `gantry run` keeps the bundles of root's containers.
pub(crate) const BUNDLES: &str = "/run/gantry-cli/containers";

/// Where the pipes of root's containers of images are, by namespace.
pub(crate) const TASKS: &str = "/run/gantry-cli/tasks";

/// Where processes of root's `gantry exec` are written down that may be left in containers, by namespace.
pub(crate) const LEFT: &str = "/run/gantry-cli/left";

/// A server and the command to talk to it. The bundles of all `gantry run` on a host are in one
/// directory: ids are made unique by the test's own name.
pub(crate) struct Bed {
    pub(crate) server: Server,
    bundles: Bundles,
}

/// The test's part of the directory of bundles, removed at the end.
struct Bundles {
    prefix: String,
}

impl Bed {
    pub(crate) async fn make(runtime: Runtime) -> Option<Self> {
        let server = Server::own(runtime).await?;
        let prefix = server.service.cgroup.trim_start_matches('/').to_owned();
        Some(Self { server, bundles: Bundles { prefix } })
    }

    pub(crate) fn id(&self, name: &str) -> String {
        format!("{}-{name}", self.bundles.prefix)
    }

    /// The command with these arguments, in which `@x` is the id of container x.
    pub(crate) fn gantry(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(programs::cli());
        command.arg("--address").arg(&self.server.service.socket);
        for argument in arguments {
            match argument.strip_prefix('@') {
                Some(name) => command.arg(self.id(name)),
                None => command.arg(argument),
            };
        }
        command
    }

    /// `gantry run` with options, then id and program.
    pub(crate) fn run(&self, options: &[&str], id: &str, program: &[&str]) -> Command {
        let rootfs = self.server.work().join("rootfs");
        let cgroup = format!("{}/{}", self.server.service.cgroup, self.id(id));
        let fixed = ["run", "--rootfs", text(&rootfs), "--cgroup-path", &cgroup];
        let id = format!("@{id}");
        self.gantry(&[&fixed, options, &[id.as_str()], program].concat())
    }

    pub(crate) async fn finish(self) {
        self.server.finish().await;
    }
}

impl Drop for Bundles {
    fn drop(&mut self) {
        let bundles = fs::read_dir(BUNDLES).into_iter().flatten().flatten();
        let own = bundles.filter(|b| b.file_name().to_string_lossy().starts_with(&self.prefix));
        own.for_each(|bundle| drop(fs::remove_dir_all(bundle.path())));
        for base in [TASKS, LEFT] {
            let _ = fs::remove_dir_all(Path::new(base).join(namespace(&self.prefix)));
        }
    }
}

/// A namespace of the test's own, as the directories of all tests are in one.
pub(crate) fn namespace(prefix: &str) -> String {
    prefix.chars().filter(char::is_ascii_alphanumeric).collect()
}

pub(crate) fn output(command: &Command) -> Output {
    let mut bounded = Command::new("timeout");
    bounded.arg(PATIENCE.as_secs().to_string()).arg(command.get_program()).args(command.get_args());
    bounded.stdin(Stdio::null()).output().unwrap()
}

pub(crate) fn succeeds(command: &Command) -> String {
    let output = output(command);
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn with_input(mut command: Command, input: Vec<u8>) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // It may not want it.
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    let _ = writer.join().unwrap();
    output
}

pub(crate) fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

pub(crate) fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

pub(crate) fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
