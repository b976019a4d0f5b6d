//! Finds out what became of a process of an earlier server: its shim is asked first, then the files
//! that the shim left, then the kernel.

use std::{io, os::fd::AsFd, sync::Arc, time::Duration};

use gantry_domain::{Exit, ExitStatus};
use gantry_kernel::{Backoff, PidFd, if_there, leaves_room, process_start_time, until_answered};
use gantry_shim_proto::Identity as ProcessIdentity;
use tokio::{runtime::Handle, time::timeout};

use crate::{
    running_process::{RunningProcess, now},
    shim_link::{Report, ShimLink},
    state_dir::{ProcessDir, StateError},
};

/// How long to wait for a shim's report before the kernel is asked. A later report still counts.
pub(crate) const SHIM_ANSWER: Duration = Duration::from_secs(2);

/// How a process of an earlier server is found.
pub(crate) enum Found {
    Running(RunningProcess),
    Ended { pid: u32, exit: Exit },
}

impl Found {
    /// On the host; zero if nobody knows it.
    pub(crate) fn pid(&self) -> u32 {
        match self {
            Self::Running(process) => process.pid,
            Self::Ended { pid, .. } => *pid,
        }
    }

    /// The process with what watches it. An error if that would take a descriptor that other work needs.
    fn running(process: RunningProcess) -> Result<Self, FindError> {
        if leaves_room(&process.pidfd.as_fd()) {
            Ok(Self::Running(process))
        } else {
            Err(FindError::NoRoom)
        }
    }
}

/// Why it is not known what became of a process.
#[derive(Debug, thiserror::Error)]
enum FindError {
    #[error("cannot reach its shim: {0}")]
    Shim(io::Error),
    #[error("cannot open process {pid}: {cause}")]
    Process { pid: u32, cause: io::Error },
    #[error("it is found, but no descriptor is left to watch it with")]
    NoRoom,
    #[error(transparent)]
    State(#[from] StateError),
}

/// What a shim reported when it was asked.
enum Said {
    Launched(RunningProcess),
    /// Nothing, and it is still there.
    Nothing(ShimLink),
    /// It never launched a process, or has just exited.
    Bye,
}

/// Retries until it is known. A process that cannot be examined (no descriptor left, say) is not gone.
pub(crate) async fn find(dir: &ProcessDir) -> Found {
    let what = format!("find out what became of the process of {}", dir.path().display());
    until_answered(what, || try_find(dir)).await
}

async fn try_find(dir: &ProcessDir) -> Result<Found, FindError> {
    let link = match connect(dir).await.map_err(FindError::Shim)? {
        None => None,
        Some(link) => match ask(link).await.map_err(FindError::Shim)? {
            Said::Launched(process) => return Found::running(process),
            Said::Nothing(link) => {
                tracing::warn!(dir = %dir.path().display(), "the shim does not answer");
                Some(link)
            }
            Said::Bye => None,
        },
    };
    let read = dir.run(|dir, wait| Ok::<_, StateError>((dir.started(wait)?, dir.exit(wait)?)));
    let (identity, exit) = read.await?;
    let pid = identity.as_ref().map_or(0, |identity| identity.pid);
    if let Some(exit) = exit {
        return Ok(Found::Ended { pid, exit });
    }
    let opened = identity.as_ref().map(open).transpose();
    let opened = opened.map_err(|cause| FindError::Process { pid, cause })?;
    match opened.flatten() {
        Some(pidfd) => Found::running(RunningProcess {
            pid,
            pidfd: Arc::new(pidfd),
            link: link.map(Arc::new),
            adoption: None,
        }),
        None => Ok(Found::Ended { pid, exit: Exit { status: ExitStatus::Unknown, at: now() } }),
    }
}

/// Connects to the shim; `None` if it is gone, or if it hangs and the backlog of its socket is full.
async fn connect(dir: &ProcessDir) -> io::Result<Option<ShimLink>> {
    let connecting = async {
        let mut backoff = Backoff::default();
        loop {
            let runtime = Handle::current();
            // A socket's name is looked up in its directory.
            let connected = dir.run(move |dir, _| {
                let _inside = runtime.enter();
                ShimLink::connect(dir.path())
            });
            match connected.await {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => backoff.pause().await,
                other => return if_there(other),
            }
        }
    };
    timeout(SHIM_ANSWER, connecting).await.unwrap_or(Ok(None))
}

async fn ask(link: ShimLink) -> io::Result<Said> {
    match timeout(SHIM_ANSWER, link.receive()).await {
        Ok(Ok(Some(Report::Launched { pid, pidfd }))) => Ok(Said::Launched(RunningProcess {
            pid,
            pidfd: Arc::new(pidfd?),
            link: Some(Arc::new(link)),
            adoption: None,
        })),
        // An error of the kernel says nothing of the shim; an unreadable record means that the shim is broken.
        Ok(Err(error)) if error.raw_os_error().is_some() => Err(error),
        Ok(_) => Ok(Said::Bye),
        Err(_) => Ok(Said::Nothing(link)),
    }
}

/// A pidfd, unless the pid was recycled.
fn open(identity: &ProcessIdentity) -> io::Result<Option<PidFd>> {
    let Some(pidfd) = if_there(PidFd::open(identity.pid))? else { return Ok(None) };
    let same = pidfd.inode()? == identity.pidfd_inode
        && process_start_time(identity.pid)? == Some(identity.start_time);
    Ok(same.then_some(pidfd))
}
