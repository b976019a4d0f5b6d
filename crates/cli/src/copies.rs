//! Copies a process's output to this command's.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, sink, stderr, stdout},
    sync::{mpsc, watch},
    task::JoinHandle,
    time::timeout,
};

use crate::{failure::Failure, held::HeldOutput};

pub(crate) const BUFFER: usize = 64 * 1024;

/// How long a terminal that was stopped (ctrl-s) may hold up whoever wants to leave.
const LEAVE_DEADLINE: Duration = Duration::from_secs(1);

/// The tasks that copy a process's output to this command's.
#[derive(Debug)]
pub(crate) struct Copies {
    tasks: Vec<JoinHandle<()>>,
    /// Gets a message when the output cannot be written any more.
    pub(crate) broken: mpsc::Receiver<()>,
    stop: watch::Sender<bool>,
}

/// The channels to and from a task that copies.
#[derive(Debug, Clone)]
struct Links {
    failed: mpsc::Sender<()>,
    stopped: watch::Receiver<bool>,
    drains: bool,
}

impl Copies {
    /// With `drains`, output that cannot be written is discarded, for a process that is then killed and
    /// must not wait for a full pipe meanwhile.
    pub(crate) fn start(out: Option<HeldOutput>, err: Option<HeldOutput>, drains: bool) -> Copies {
        let (failed, broken) = mpsc::channel(2);
        let (stop, stopped) = watch::channel(false);
        let links = Links { failed, stopped, drains };
        let out = out.map(|output| tokio::spawn(copy(output, stdout(), links.clone())));
        let err = err.map(|output| tokio::spawn(copy(output, stderr(), links)));
        Copies { tasks: out.into_iter().chain(err).collect(), broken, stop }
    }

    /// Waits until all was copied.
    pub(crate) async fn finish(self) -> Result<(), Failure> {
        for task in self.tasks {
            task.await.map_err(|e| Failure::new(format!("copy output: {e}")))?;
        }
        Ok(())
    }

    /// Reads nothing more, and writes what was read: the rest is for whoever attaches next.
    pub(crate) async fn leave(self) {
        self.stop.send_replace(true);
        let written = async {
            for task in self.tasks {
                // One that has panicked has nothing to write.
                let _ = task.await;
            }
        };
        let _ = timeout(LEAVE_DEADLINE, written).await;
    }
}

async fn copy(mut from: HeldOutput, mut to: impl AsyncWrite + Unpin, links: Links) {
    let Links { failed, mut stopped, drains } = links;
    let Err(error) = copy_all(&mut from, &mut to, &mut stopped).await else { return };
    if !is_closed(&error) {
        eprintln!("gantry: copy output: {error}");
    }
    let _ = failed.send(()).await;
    if drains {
        let _ = tokio::io::copy(&mut from, &mut sink()).await;
    }
}

/// Nobody reads the pipe, or the terminal was closed.
fn is_closed(error: &io::Error) -> bool {
    let terminal_is_gone = Some(rustix::io::Errno::IO.raw_os_error());
    error.kind() == io::ErrorKind::BrokenPipe || error.raw_os_error() == terminal_is_gone
}

/// Flushes after every piece: a prompt has no newline that would do it.
async fn copy_all(
    from: &mut HeldOutput,
    to: &mut (impl AsyncWrite + Unpin),
    stopped: &mut watch::Receiver<bool>,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = tokio::select! {
            biased;
            _ = stopped.wait_for(|stop| *stop) => return Ok(()),
            count = from.read(&mut buffer) => count?,
        };
        if count == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..count]).await?;
        to.flush().await?;
    }
}
