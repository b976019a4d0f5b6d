//! Starts shims, and exchanges records with them, also after a restart of the server.

use std::{
    ffi::OsString,
    fs::File,
    io,
    os::{
        fd::{AsRawFd, BorrowedFd},
        unix::process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use gantry_domain::{Exit, ExitStatus, Timestamp};
use gantry_failpoints::{Point, reach};
use gantry_kernel::{PidFd, Reaper, SeqPacket, restore_file_limit};
use gantry_shim_proto::{DecodeError, FromShim, Launch, LaunchError, SOCKET_FILE, ToShim};
use tokio::{sync::oneshot, time::timeout};

/// A shim's records are short; the longest names a path.
const MAX_RECORD: usize = 8 * 1024;

/// How long a shim may take to exit once its server has closed the connection.
const LEAVE_GRACE: Duration = Duration::from_secs(2);

/// The program to start, and the name that its processes go by.
#[derive(Debug, Clone)]
pub struct ShimProgram {
    /// The program.
    pub path: PathBuf,
    /// What the process list shows.
    pub name: OsString,
}

/// The name of a shim that waits for its process: whoever counts shims by name is not to count it.
const WAITING: &str = "gantry-spare";

/// Bytes of an idle shim's command line that are reserved for its later arguments. What does not fit is
/// not shown.
const TITLE: usize = 2048;

/// A shim that was just started.
pub struct StartedShim {
    pub link: ShimLink,
    pub pid: u32,
    /// Resolves when the shim itself has ended.
    pub ended: oneshot::Receiver<ExitStatus>,
}

/// The connection to a shim.
#[derive(Debug)]
pub struct ShimLink(SeqPacket);

/// What a shim reports.
#[derive(Debug)]
pub enum Report {
    /// The pidfd is an error where the server has no descriptor left for it, say.
    Launched {
        pid: u32,
        pidfd: io::Result<PidFd>,
    },
    LaunchFailed(LaunchError),
    Exited(Exit),
}

impl ShimProgram {
    /// What the process list shows of the shim of a process: whose it is.
    pub(crate) fn title(&self, owner: &[String; 3]) -> Vec<String> {
        let name = self.name.to_string_lossy().into_owned();
        [name].into_iter().chain(owner.iter().cloned()).collect()
    }

    /// Starts a shim in the directory of its process.
    #[allow(clippy::disallowed_methods, reason = "this is the place for it")]
    pub fn start(&self, reaper: &Reaper, dir: &Path) -> io::Result<StartedShim> {
        let (ours, theirs) = SeqPacket::pair()?;
        let mut command = Command::new(&self.path);
        command
            .arg0(WAITING)
            .arg(" ".repeat(TITLE))
            .current_dir(dir)
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .envs(gantry_failpoints::environment())
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let (pid, ended) = reaper.spawn(|| {
            let pid = command.spawn()?.id();
            if let Err(error) = restore_file_limit(pid) {
                tracing::warn!(%error, "a shim has the server's limit of open files");
            }
            Ok(pid)
        })?;
        reach(Point::ServerShimSpawned);
        Ok(StartedShim { link: ShimLink(ours), pid, ended })
    }
}

impl StartedShim {
    /// Has the shim exit, and waits until it has: it would create files in a directory that is being removed.
    pub(crate) async fn dismiss(self) {
        drop(self.link);
        let _ = timeout(LEAVE_GRACE, self.ended).await;
    }
}

impl ShimLink {
    /// Connects to the shim of a process, if it still lives.
    pub fn connect(dir: &Path) -> io::Result<Self> {
        // A socket's address is shorter than a path may be.
        let dir = File::open(dir)?;
        let path = format!("/proc/self/fd/{}/{SOCKET_FILE}", dir.as_raw_fd());
        SeqPacket::connect(Path::new(&path)).map(Self)
    }

    /// Whether the shim is there and has not said anything that was not received yet.
    pub fn is_silent(&self) -> bool {
        self.0.is_silent()
    }

    /// Sends without waiting. A shim that does not read for so long that its queue is full is
    /// taken for one that hangs: `WouldBlock`.
    pub fn send(&self, record: &ToShim) -> io::Result<()> {
        self.0.send(&record.encode(), None)
    }

    /// Sends the order to launch, and a copy of the runtime that the shim is to execute.
    pub fn launch(&self, launch: Launch, copy: Option<BorrowedFd<'_>>) -> io::Result<()> {
        self.0.send(&ToShim::Launch(Box::new(launch)).encode(), copy)
    }

    /// The next report; `None` once the shim is gone.
    pub async fn receive(&self) -> io::Result<Option<Report>> {
        while let Some(packet) = self.0.receive(MAX_RECORD).await? {
            let record = match FromShim::decode(&packet.bytes) {
                Err(DecodeError::UnknownKind(kind)) => {
                    tracing::debug!(kind, "record of a later shim, ignored");
                    continue;
                }
                other => {
                    other.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?
                }
            };
            return Ok(Some(match record {
                FromShim::Launched { pid } => {
                    Report::Launched { pid, pidfd: packet.fd.and_then(PidFd::from_fd) }
                }
                FromShim::LaunchFailed(error) => Report::LaunchFailed(error),
                FromShim::Exited { status, at } => {
                    Report::Exited(Exit { status: status.into(), at: Timestamp(at) })
                }
            }));
        }
        Ok(None)
    }
}
