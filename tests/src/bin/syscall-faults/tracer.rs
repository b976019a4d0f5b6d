//! The loop around ptrace(2).

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io::Write,
    os::{fd::AsFd, unix::net::UnixListener},
    path::Path,
};

use nix::{
    errno::Errno,
    libc::{self, user_regs_struct},
    sys::{
        ptrace::{self, Options},
        signal::Signal,
    },
    unistd::Pid,
};
use rustix::{
    net::sockopt::socket_peercred,
    process::{WaitOptions, WaitStatus, set_parent_process_death_signal, wait},
};

use crate::{calls::Call, programs::Programs, what::Names};

/// Of wait(2): children that are threads, too.
const ALL: u32 = libc::__WALL.cast_unsigned();

/// What makes a stop one at a system call, see PTRACE_O_TRACESYSGOOD in ptrace(2).
const AT_CALL: i32 = 0x80;

/// Traces the process that connects to the standard input, and what comes of it.
pub(crate) fn trace(name: &str, record: &Path, point: Option<&str>) {
    // Without the test, nobody would end what is traced.
    set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).expect("prctl");
    let root = attach();
    let work = std::fs::read_link(format!("/proc/{root}/cwd")).expect("the server's directory");
    let record = File::options().append(true).create(true).open(record).expect("open the record");
    Tracer {
        programs: Programs::new(name, root),
        names: Names::new(&work),
        counts: HashMap::new(),
        early: HashSet::new(),
        failing: HashMap::new(),
        record,
        point,
    }
    .run();
}

/// The process waits until it is traced.
fn attach() -> Pid {
    let listener = std::io::stdin().as_fd().try_clone_to_owned().expect("duplicate the listener");
    let (mut process, _) = UnixListener::from(listener).accept().expect("accept");
    let pid = socket_peercred(&process).expect("ask who connects").pid;
    let pid = Pid::from_raw(pid.as_raw_nonzero().get());
    let options = Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEEXEC
        | Options::PTRACE_O_TRACEEXIT
        | Options::PTRACE_O_EXITKILL;
    ptrace::seize(pid, options).expect("trace the process");
    // A seized process runs on. The first system call at which it stops comes after this one.
    ptrace::interrupt(pid).expect("stop the process");
    process.write_all(&[0]).expect("signal the process");
    pid
}

struct Tracer<'a> {
    programs: Programs,
    names: Names,
    /// How often each call was made.
    counts: HashMap<String, usize>,
    /// Those that have stopped before their parent has said that it has made them.
    early: HashSet<Pid>,
    /// What the call that a thread is in is to fail with.
    failing: HashMap<Pid, Errno>,
    record: File,
    point: Option<&'a str>,
}

impl Tracer<'_> {
    fn run(&mut self) {
        while !self.programs.is_empty() {
            match wait(WaitOptions::from_bits_retain(ALL)) {
                Ok(Some((thread, status))) => {
                    self.changed(Pid::from_raw(thread.as_raw_nonzero().get()), status);
                }
                Ok(None) | Err(rustix::io::Errno::INTR) => {}
                // The last one was killed.
                Err(_) => return,
            }
        }
    }

    fn changed(&mut self, thread: Pid, status: WaitStatus) {
        let Some(signal) = status.stopping_signal() else {
            return self.programs.ended(thread);
        };
        if self.programs.of(thread).is_none() {
            self.early.insert(thread);
            return;
        }
        let event = status.as_raw() >> 16;
        // Whatever fails from here on does so as the thread was killed meanwhile.
        let _ = match event {
            0 if signal == libc::SIGTRAP | AT_CALL => self.at_call(thread),
            0 => ptrace::syscall(thread, Signal::try_from(signal).ok()),
            libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK | libc::PTRACE_EVENT_CLONE => {
                self.made(thread)
            }
            libc::PTRACE_EVENT_EXEC if self.programs.executed(thread) => {
                ptrace::syscall(thread, None)
            }
            // Its parent is to find it as if nobody traced it.
            libc::PTRACE_EVENT_EXEC | libc::PTRACE_EVENT_EXIT => {
                self.programs.ended(thread);
                ptrace::detach(thread, None)
            }
            _ => ptrace::syscall(thread, None),
        };
    }

    fn made(&mut self, parent: Pid) -> nix::Result<()> {
        let child = Pid::from_raw(i32::try_from(ptrace::getevent(parent)?).unwrap_or_default());
        self.programs.made(parent, child);
        if self.early.remove(&child) {
            let _ = ptrace::syscall(child, None);
        }
        ptrace::syscall(parent, None)
    }

    fn at_call(&mut self, thread: Pid) -> nix::Result<()> {
        match ptrace::syscall_info(thread)?.op {
            libc::PTRACE_SYSCALL_INFO_ENTRY if self.programs.has_begun() => self.entered(thread)?,
            libc::PTRACE_SYSCALL_INFO_EXIT => self.left(thread)?,
            _ => {}
        }
        ptrace::syscall(thread, None)
    }

    fn entered(&mut self, thread: Pid) -> nix::Result<()> {
        let registers = ptrace::getregs(thread)?;
        let Some(call) = Call::of(&registers) else { return Ok(()) };
        let what = self.names.name(thread, call.object);
        let errnos = call.errnos(&what);
        let Some(program) = self.programs.of(thread).filter(|_| !errnos.is_empty()) else {
            return Ok(());
        };
        let key = format!("{program} {} {what}", call.name);
        let count = self.counts.entry(key.clone()).or_default();
        *count += 1;
        let mut points = errnos.iter().map(|errno| (format!("{key} {count} {errno}"), errno));
        match self.point {
            None => {
                let lines: String = points.map(|(point, _)| point + "\n").collect();
                self.record.write_all(lines.as_bytes()).expect("write the record");
            }
            Some(wanted) => {
                if let Some((point, errno)) = points.find(|(point, _)| point == wanted) {
                    writeln!(self.record, "{point}").expect("write the record");
                    self.fail(thread, registers, errno)?;
                }
            }
        }
        Ok(())
    }

    /// Has the kernel pass over the call.
    fn fail(&mut self, thread: Pid, registers: user_regs_struct, errno: &str) -> nix::Result<()> {
        self.failing.insert(thread, number(errno));
        ptrace::setregs(thread, user_regs_struct { orig_rax: u64::MAX, ..registers })
    }

    fn left(&mut self, thread: Pid) -> nix::Result<()> {
        let Some(errno) = self.failing.remove(&thread) else { return Ok(()) };
        let result = -i64::from(errno as i32);
        let registers = ptrace::getregs(thread)?;
        ptrace::setregs(thread, user_regs_struct { rax: result.cast_unsigned(), ..registers })
    }
}

fn number(errno: &str) -> Errno {
    match errno {
        "EMFILE" => Errno::EMFILE,
        "ENFILE" => Errno::ENFILE,
        "ENOMEM" => Errno::ENOMEM,
        "ENOBUFS" => Errno::ENOBUFS,
        "ENOLCK" => Errno::ENOLCK,
        "ENOSPC" => Errno::ENOSPC,
        "EAGAIN" => Errno::EAGAIN,
        "EINTR" => Errno::EINTR,
        "EIO" => Errno::EIO,
        _ => panic!("no number of {errno}"),
    }
}
