//! A shim under test, and what a server and a caller do with it.

use std::fs::File;
use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use gantry_shim_proto::{ExitFile, FromShim, Launch, SOCKET_FILE, ToShim, WaitStatus};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, connect, recvmsg, send, socket_with, socketpair,
};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_gantry-shim");

/// Longer than anything takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How long a shim keeps unread output, unless a test says otherwise: longer than it is waited for.
pub(crate) const LINGER_MS: u32 = 600_000;

/// A server's connection to a shim.
pub(crate) struct Server(OwnedFd);

impl Server {
    pub(crate) fn say(&self, record: &ToShim) {
        self.say_bytes(&record.encode());
    }

    pub(crate) fn say_bytes(&self, packet: &[u8]) {
        send(&self.0, packet, SendFlags::NOSIGNAL).unwrap();
    }

    /// The next record and the descriptor that came with it; `None` at the end.
    pub(crate) fn hear(&self) -> Option<(FromShim, Option<OwnedFd>)> {
        assert!(is_ready(&self.0, PollFlags::IN, PATIENCE), "the shim says nothing");
        // As much as a server takes.
        let mut packet = [0; 8192];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC;
        let iov = &mut [IoSliceMut::new(&mut packet)];
        let length = recvmsg(&self.0, iov, &mut control, flags).ok()?.bytes;
        let fd = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        (length > 0).then(|| (FromShim::decode(&packet[..length]).unwrap(), fd))
    }

    pub(crate) fn hear_launched(&self) -> (u32, OwnedFd) {
        match self.hear() {
            Some((FromShim::Launched { pid }, Some(pidfd))) => (pid, pidfd),
            other => panic!("not launched: {other:?}"),
        }
    }

    pub(crate) fn hear_exited(&self) -> WaitStatus {
        match self.hear() {
            Some((FromShim::Exited { status, .. }, None)) => status,
            other => panic!("not exited: {other:?}"),
        }
    }

    pub(crate) fn says_nothing_for(&self, time: Duration) -> bool {
        !is_ready(&self.0, PollFlags::IN, time)
    }
}

/// A shim in a directory of its own.
pub(crate) struct Shim {
    pub(crate) server: Server,
    process: Child,
    pidfd: OwnedFd,
    dir: TempDir,
}

impl Shim {
    pub(crate) fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap())
    }

    pub(crate) fn start_in(dir: TempDir) -> Self {
        Self::spawn(dir, &mut Command::new(BINARY))
    }

    pub(crate) fn start_as(name: &str) -> Self {
        Self::spawn(tempfile::tempdir().unwrap(), Command::new(BINARY).arg0(name))
    }

    /// From a parent that ignores signals and leaks a descriptor.
    pub(crate) fn start_badly() -> Self {
        let text = format!("trap '' HUP INT QUIT TERM USR1; exec 7</dev/null; exec {BINARY}");
        Self::spawn(tempfile::tempdir().unwrap(), Command::new("/bin/sh").args(["-c", &text]))
    }

    fn spawn(dir: TempDir, command: &mut Command) -> Self {
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        let process = command.current_dir(dir.path()).stdin(Stdio::from(theirs)).spawn().unwrap();
        let pid = rustix::process::Pid::from_child(&process);
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        Self { server: Server(ours), process, pidfd, dir }
    }

    /// A shim with an order to launch.
    pub(crate) fn launch(launch: Launch) -> Self {
        let shim = Self::start();
        shim.order(launch);
        shim
    }

    pub(crate) fn order(&self, launch: Launch) {
        self.server.say(&ToShim::Launch(Box::new(launch)));
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// As a restarted server does.
    pub(crate) fn connect(&self) -> Server {
        let flags = SocketFlags::CLOEXEC;
        let fd = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        let address = SocketAddrUnix::new(self.path(SOCKET_FILE)).unwrap();
        connect(&fd, &address).unwrap();
        Server(fd)
    }

    /// Closes the server's connection.
    pub(crate) fn hang_up(&mut self) {
        let (other, _) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .unwrap();
        self.server = Server(other);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        pidfd_send_signal(&self.pidfd, signal).unwrap();
    }

    pub(crate) fn ack(&self) {
        self.server.say(&ToShim::Ack);
    }

    pub(crate) fn exit_file(&self) -> ExitFile {
        let text = std::fs::read_to_string(self.path("exit.json")).unwrap();
        ExitFile::from_json(&text).unwrap()
    }

    /// Whether it sleeps all the time.
    pub(crate) fn is_idle_for(&self, time: Duration) -> bool {
        self.wakes_within(time) == 0
    }

    /// How often it wakes up.
    pub(crate) fn wakes_within(&self, time: Duration) -> u64 {
        let switches = || -> u64 {
            let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
            let count =
                status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            count.unwrap().trim().parse().unwrap()
        };
        let before = switches();
        std::thread::sleep(time);
        switches() - before
    }

    pub(crate) fn leaves_within(&self, time: Duration) -> bool {
        is_ready(&self.pidfd, PollFlags::IN, time)
    }

    /// The shim exits by itself, successfully, and removes its sockets.
    pub(crate) fn assert_leaves(&mut self) {
        assert!(self.leaves_within(PATIENCE), "the shim stays");
        assert!(self.process.wait().unwrap().success());
        assert!(!self.path(SOCKET_FILE).exists());
        assert!(!self.path("console.sock").exists());
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A caller's named pipe.
pub(crate) struct Pipe {
    path: PathBuf,
    _dir: TempDir,
}

impl Pipe {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pipe");
        mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        Self { path, _dir: dir }
    }

    pub(crate) fn name(&self) -> String {
        self.path.to_str().unwrap().to_owned()
    }

    /// Opens it for reading without waiting for a writer, then reads with patience.
    pub(crate) fn reader(&self) -> File {
        open(&self.path, OFlags::RDONLY).unwrap()
    }

    /// Opens it for writing; somebody has to be reading.
    pub(crate) fn writer(&self) -> File {
        self.try_writer().unwrap()
    }

    /// `None` if nobody reads.
    pub(crate) fn try_writer(&self) -> Option<File> {
        open(&self.path, OFlags::WRONLY)
    }
}

fn open(path: &Path, flags: OFlags) -> Option<File> {
    let nonblocking = flags | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path, nonblocking, Mode::empty()).ok()?;
    rustix::fs::fcntl_setfl(&fd, flags).unwrap();
    Some(fd.into())
}

/// `command`, once the terminal has this size: the runtime starts the process without asking whether the shim has received
/// the terminal and sized it.
pub(crate) fn sized(size: &str, command: &str) -> String {
    format!("until [ \"$(stty size 2> /dev/null)\" = '{size}' ]; do sleep 0.01; done; {command}")
}

/// Creates a file.
pub(crate) fn write(path: &Path, text: &str) {
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o700).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// Reads to the end of file, which has to come.
pub(crate) fn read_all(mut file: File) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 65536];
    loop {
        assert!(is_ready(&file, PollFlags::IN, PATIENCE), "no end after {} bytes", bytes.len());
        match file.read(&mut buffer).unwrap() {
            0 => return bytes,
            length => bytes.extend(&buffer[..length]),
        }
    }
}

/// Reads exactly this many bytes.
pub(crate) fn read_exact(file: &mut File, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while filled < length {
        assert!(is_ready(&*file, PollFlags::IN, PATIENCE), "only {filled} of {length} bytes");
        match file.read(&mut bytes[filled..]).unwrap() {
            0 => panic!("end of file after {filled} of {length} bytes"),
            length => filled += length,
        }
    }
    bytes
}

/// Whether reading would not wait.
pub(crate) fn is_readable(file: &File, time: Duration) -> bool {
    is_ready(file, PollFlags::IN, time)
}

pub(crate) fn is_ready(fd: impl AsFd, flags: PollFlags, time: Duration) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(fd.as_fd(), flags)];
    poll(&mut fds, Some(&Timespec::try_from(time).unwrap())).unwrap() > 0
}

/// Waits for what nothing else announces.
pub(crate) fn eventually(mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "it does not come to be");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a process that is no child of ours has gone, zombie included.
pub(crate) fn is_gone(pid: u32) -> bool {
    !Path::new(&format!("/proc/{pid}")).exists()
}

/// Waits for the end of a process whose parent may be one that never reaps it.
pub(crate) fn ends_somewhere(pid: u32) -> bool {
    let pid = Pid::from_raw(pid.cast_signed()).unwrap();
    pidfd_open(pid, PidfdFlags::empty())
        .map_or_else(|error| error == Errno::SRCH, |pidfd| ends(&pidfd))
}

/// Waits for the end of a process that is not ours to reap.
pub(crate) fn ends(pidfd: &OwnedFd) -> bool {
    is_ready(pidfd, PollFlags::IN, PATIENCE)
}

/// Bytes that do not repeat soon.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| index.wrapping_mul(index >> 8 | 1).to_le_bytes()[0]).collect()
}

/// A launch of a shell script in place of a runtime, without stdio.
pub(crate) fn script(text: &str) -> Launch {
    let argv = ["/bin/sh", "-c", text].map(str::to_owned).to_vec();
    Launch { argv, linger_ms: LINGER_MS, ..Launch::default() }
}

/// A launch whose "runtime" detaches `command` as runc does.
pub(crate) fn detached(command: &str) -> Launch {
    detached_after("", command)
}

/// The same, after the "runtime" has done something else.
pub(crate) fn detached_after(preparation: &str, command: &str) -> Launch {
    // Without job control, `&` replaces stdin. The command starts when nobody is there any more who
    // would take its status, as a shell does.
    script(&format!(
        "{preparation}
        exec 3<&0; mkfifo gate; (read _ < gate; {command}) <&3 3<&- & echo $! > pid
        exec tee gate < /dev/null"
    ))
}
