//! Real containers of runc.

use gantry_shim_proto::{ToShim, WaitStatus};

use crate::bundle::Bundle;
use crate::harness::{Pipe, Shim, is_not_ours, read_all};

#[test]
fn a_container_writes_and_exits() {
    let bundle = Bundle::new("cat; echo out; echo err >&2; exit 7", false);
    let (stdin, stdout, stderr) = (Pipe::new(), Pipe::new(), Pipe::new());
    let launch = gantry_shim_proto::Launch {
        stdin: stdin.name(),
        stdout: stdout.name(),
        stderr: stderr.name(),
        ..bundle.run(None)
    };
    let (out, err) = (stdout.reader(), stderr.reader());
    let mut shim = Shim::launch(launch);
    let (_, pidfd) = shim.server.hear_launched();
    assert!(is_not_ours(&pidfd));
    std::io::Write::write_all(&mut stdin.writer(), b"in\n").unwrap();
    shim.server.say(&ToShim::CloseStdin);
    assert_eq!(shim.server.hear_exited(), WaitStatus::Code(7));
    shim.ack();
    shim.assert_leaves();
    assert_eq!(read_all(out), b"in\nout\n");
    assert_eq!(read_all(err), b"err\n");
}
