//! Has a server traced by `syscall-faults`, or not.

use std::{
    fs,
    os::{fd::OwnedFd, unix::net::UnixListener},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use gantry_tests::{programs, runtime::write_script};
use tempfile::TempDir;

const HELPER: &str = env!("CARGO_BIN_EXE_syscall-faults");

/// What a life's servers are called.
pub(crate) const SERVERS: [&str; 2] = ["server", "restarted"];

/// The tracers of a life. Dropping it kills them, and whatever they still trace.
pub(crate) struct Tracing {
    directory: TempDir,
    /// The one call that fails; otherwise calls are recorded.
    point: Option<String>,
    tracers: Vec<Child>,
}

impl Tracing {
    pub(crate) fn new(point: Option<String>) -> Self {
        let directory = tempfile::Builder::new().prefix("gantry-faults-").tempdir();
        Self { directory: directory.expect("make a directory"), point, tracers: Vec::new() }
    }

    /// A script that becomes the server, once there is a tracer if there is to be one.
    pub(crate) fn script(&self) -> PathBuf {
        let (script, socket) = (self.path("run"), self.path("sock"));
        let (server, socket) = (programs::server(), socket.display());
        let text = format!(
            "#!/bin/sh\n\
             [ -e {socket} ] && exec {HELPER} run {socket} {server} \"$@\"\n\
             exec {server} \"$@\"\n",
            server = server.display()
        );
        write_script(&script, &text);
        script
    }

    /// To be called before a server is started.
    pub(crate) fn begin(&mut self, server: &str) {
        let socket = self.path("sock");
        let _ = fs::remove_file(&socket);
        let program = self.point.as_ref().and_then(|point| point.split([' ', '/']).next());
        if program.is_some_and(|program| program != server) {
            return;
        }
        let listener = UnixListener::bind(&socket).expect("listen for the server");
        let mut command = Command::new(HELPER);
        command.arg("trace").arg(server).arg(self.path(server)).args(&self.point);
        let tracer = command.stdin(Stdio::from(OwnedFd::from(listener))).spawn();
        self.tracers.push(tracer.expect("start a tracer"));
    }

    /// The next server is not traced.
    pub(crate) fn end(&self) {
        let _ = fs::remove_file(self.path("sock"));
    }

    /// The points that were reached.
    pub(crate) fn reached(&self) -> Vec<String> {
        let records = SERVERS.map(|server| fs::read_to_string(self.path(server)));
        let records = records.map(Result::unwrap_or_default);
        records.iter().flat_map(|record| record.lines().map(str::to_owned)).collect()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

impl Drop for Tracing {
    fn drop(&mut self) {
        for tracer in &mut self.tracers {
            let _ = tracer.kill();
            let _ = tracer.wait();
        }
    }
}
