//! The server under test: gantryd, or the original containerd as a reference.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use gantry_tests::programs;

/// Debian's containerd, with its own shims.
const CONTAINERD: &str = "/usr/bin/containerd";

/// Which server serves containerd's API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    Gantry,
    /// With `GANTRY_TEST_PEER=containerd`: what passes with it too is a fact about clients.
    Containerd,
}

impl Peer {
    /// The one that the environment names.
    pub(crate) fn chosen() -> Self {
        match std::env::var("GANTRY_TEST_PEER").as_deref() {
            Err(_) | Ok("gantryd") => Self::Gantry,
            Ok("containerd") => Self::Containerd,
            Ok(other) => panic!("GANTRY_TEST_PEER={other}: neither gantryd nor containerd"),
        }
    }

    /// The program and its arguments, with all paths below `work`.
    pub(crate) fn command(self, work: &Path) -> Vec<String> {
        match self {
            Self::Gantry => gantryd(work),
            Self::Containerd => containerd(work),
        }
    }

    /// Where a client finds it.
    pub(crate) fn socket(work: &Path) -> PathBuf {
        work.join("c.sock")
    }
}

fn gantryd(work: &Path) -> Vec<String> {
    let mut line = vec![text(&programs::server()), "-l".to_owned()];
    line.push(format!("unix://{}", text(&Peer::socket(work))));
    line.extend(["--state-dir".to_owned(), text(&work.join("state"))]);
    line.extend(["--root".to_owned(), text(&work.join("root"))]);
    line.extend(["--log-level".to_owned(), "info,gantry=debug".to_owned()]);
    if let Some(shim) = programs::shim() {
        line.extend(["--shim-binary".to_owned(), text(&shim)]);
    }
    line
}

fn containerd(work: &Path) -> Vec<String> {
    // The others want devices, or load modules.
    let snapshotters = ["aufs", "btrfs", "devmapper", "zfs"];
    let unused = snapshotters.map(|name| format!("io.containerd.snapshotter.v1.{name}"));
    let unused = [unused.as_slice(), &["io.containerd.grpc.v1.cri".to_owned()]].concat();
    let config = format!(
        "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = {unused:?}\n[grpc]\naddress = {:?}\n\
         [debug]\nlevel = \"debug\"\n",
        work.join("root"),
        work.join("state"),
        Peer::socket(work),
    );
    let path = work.join("containerd.toml");
    fs::write(&path, config).expect("write containerd's configuration");
    [CONTAINERD, "--config", &text(&path)].map(str::to_owned).into()
}

/// The version of a program, or the test fails: the clients are what is tested with.
pub(crate) fn installed(program: &Path) {
    let output = Command::new(program).arg("--version").output();
    let found = output.is_ok_and(|output| output.status.success());
    assert!(found, "{} is missing: run .ci/install test", program.display());
}

fn text(path: &Path) -> String {
    path.to_str().expect("UTF-8").to_owned()
}
