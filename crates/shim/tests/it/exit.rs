//! The exit is known whatever happens.

use std::time::Duration;

use gantry_shim_proto::{FromShim, Identity, LaunchError, ToShim, WaitStatus};
use rustix::process::Signal;

use crate::harness::{Shim, detached, ends, eventually, script};

#[test]
fn codes_and_signals() {
    for (command, status) in [
        ("exit 0", WaitStatus::Code(0)),
        ("exit 42", WaitStatus::Code(42)),
        ("exit 255", WaitStatus::Code(255)),
        ("kill -9 $(exec sh -c 'echo $PPID')", WaitStatus::Signal(9)),
        ("kill -40 $(exec sh -c 'echo $PPID')", WaitStatus::Signal(40)),
    ] {
        let mut shim = Shim::launch(detached(command));
        let (pid, pidfd) = shim.server.hear_launched();
        assert!(ends(&pidfd));
        assert_eq!(shim.server.hear_exited(), status, "{command}");
        assert_eq!(shim.exit_file().status, status, "{command}");
        let started = std::fs::read_to_string(shim.path("started.json")).unwrap();
        let identity = Identity::from_json(&started).unwrap();
        assert_eq!(identity.pid, pid);
        assert_eq!(identity.pidfd_inode, rustix::fs::fstat(&pidfd).unwrap().st_ino);
        assert_ne!(identity.start_time, 0);
        shim.ack();
        shim.assert_leaves();
    }
}
