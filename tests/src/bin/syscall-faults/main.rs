//! Fails one system call of a server, or of a shim that the server starts, by ptrace(2): the helper of
//! the test `syscalls`. `docs/faults.md` says how it works.
//!
//! ```text
//! syscall-faults run SOCKET PROGRAM ARGUMENT...    waits for its tracer and becomes PROGRAM
//! syscall-faults trace NAME RECORD [POINT]         traces whoever connects to its standard input
//! ```
//!
//! The tracer calls that process NAME and writes to the file RECORD: without a POINT every call that
//! can be failed, a line each, and otherwise the point when it is reached. It leaves when the last of
//! the processes that it traces does, and takes them with it when it is killed.

#[cfg(target_arch = "x86_64")]
mod calls;
#[cfg(target_arch = "x86_64")]
mod programs;
#[cfg(target_arch = "x86_64")]
mod tracer;
#[cfg(target_arch = "x86_64")]
mod what;

#[cfg(target_arch = "x86_64")]
fn main() {
    use std::{
        io::Read, os::unix::net::UnixStream, os::unix::process::CommandExt, process::Command,
    };

    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["run", socket, program, arguments @ ..] => {
            let mut tracer = UnixStream::connect(socket).expect("connect to the tracer");
            tracer.read_exact(&mut [0]).expect("wait until this process is traced");
            drop(tracer);
            panic!("execute {program}: {}", Command::new(program).args(arguments).exec());
        }
        ["trace", name, record] => tracer::trace(name, record.as_ref(), None),
        ["trace", name, record, point] => tracer::trace(name, record.as_ref(), Some(*point)),
        _ => panic!("see the source for how to use this"),
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn main() {
    panic!("registers are known for x86_64 only");
}
