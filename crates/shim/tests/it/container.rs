//! Real containers of runc.

use std::io::Write;

use gantry_shim_proto::{FromShim, Launch, LaunchError, ToShim, WaitStatus};
use rustix::process::{Signal, pidfd_send_signal};

use crate::bundle::Bundle;
use crate::harness::{Pipe, Shim, read_all, read_exact};

#[test]
fn a_container_reads_writes_and_exits() {
    let bundle = Bundle::new("cat; echo out; echo err >&2; exit 7", false);
    let (stdin, stdout, stderr) = (Pipe::new(), Pipe::new(), Pipe::new());
    let (out, err) = (stdout.reader(), stderr.reader());
    let mut shim = Shim::start();
    shim.order(Launch {
        stdin: stdin.name(),
        stdout: stdout.name(),
        stderr: stderr.name(),
        ..bundle.run(&shim)
    });
    shim.server.hear_launched();
    stdin.writer().write_all(b"in\n").unwrap();
    shim.server.say(&ToShim::CloseStdin);
    assert_eq!(shim.server.hear_exited(), WaitStatus::Code(7));
    shim.ack();
    assert_eq!(read_all(out), b"in\nout\n");
    assert_eq!(read_all(err), b"err\n");
    shim.assert_leaves();
}

#[test]
fn a_container_that_is_killed() {
    let bundle = Bundle::new("exec sleep 1000", false);
    let shim = Shim::start();
    shim.order(bundle.run(&shim));
    let (_, pidfd) = shim.server.hear_launched();
    pidfd_send_signal(&pidfd, Signal::KILL).unwrap();
    assert_eq!(shim.server.hear_exited(), WaitStatus::Signal(9));
}

#[test]
fn a_container_gets_no_signals_of_the_shim() {
    let bundle = Bundle::new("exec grep -E '^Sig(Blk|Ign|Cgt)' /proc/self/status", false);
    let stdout = Pipe::new();
    let reader = stdout.reader();
    let shim = Shim::start();
    shim.order(Launch { stdout: stdout.name(), ..bundle.run(&shim) });
    shim.server.hear_launched();
    assert_eq!(shim.server.hear_exited(), WaitStatus::Code(0));
    drop(shim);
    let none = "0000000000000000";
    let expected = format!("SigBlk:\t{none}\nSigIgn:\t{none}\nSigCgt:\t{none}\n");
    assert_eq!(String::from_utf8(read_all(reader)).unwrap(), expected);
}

#[test]
fn more_processes_in_a_container() {
    let bundle = Bundle::new("exec sleep 1000", false);
    let init = Shim::start();
    init.order(bundle.run(&init));
    let (_, init_pidfd) = init.server.hear_launched();
    let (stdin, stdout) = (Pipe::new(), Pipe::new());
    let mut reader = stdout.reader();
    let mut exec = Shim::start();
    exec.order(Launch {
        stdin: stdin.name(),
        stdout: stdout.name(),
        ..bundle.exec(&exec, "sleep 1000 & cat; exit 3")
    });
    exec.server.hear_launched();
    stdin.writer().write_all(b"to the second").unwrap();
    assert_eq!(read_exact(&mut reader, 13), b"to the second");
    exec.server.say(&ToShim::CloseStdin);
    // Its background child still holds the output.
    assert_eq!(exec.server.hear_exited(), WaitStatus::Code(3));
    exec.ack();
    exec.assert_leaves();
    pidfd_send_signal(&init_pidfd, Signal::KILL).unwrap();
    assert_eq!(init.server.hear_exited(), WaitStatus::Signal(9));
    assert_eq!(read_all(reader), b"");
}

#[test]
fn a_container_whose_program_does_not_exist() {
    let bundle = Bundle::new("", false);
    bundle.set_args(&["/no/such/program"]);
    let mut shim = Shim::start();
    shim.order(bundle.run(&shim));
    match shim.server.hear() {
        Some((FromShim::LaunchFailed(error), None)) => {
            let status = WaitStatus::Code(1);
            let as_reported = matches!(&error, LaunchError::Runtime { status: reported, .. } if *reported == status);
            assert!(as_reported, "{error:?}");
        }
        other => panic!("{other:?}"),
    }
    shim.ack();
    shim.assert_leaves();
}
