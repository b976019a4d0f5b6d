//! The streams of one process, which the server holds: it reads the outputs as they come, whoever reads them.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use gantry_domain::{ConsoleSize, ContainerKey, Exit, Generation, ProcessId, Stdio};
use gantry_kernel::leaves_room;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::unix::pipe::{Receiver, Sender},
    sync::{Mutex as AsyncMutex, Notify, OwnedMutexGuard, watch},
};

use super::ring::{OutputStream, Piece, Place, Ring};
use crate::{ContainerHandle, SupervisorError};

/// Most bytes that are read at once.
const BUFFER: usize = 16 << 10;

/// The server's ends of a process's pipes. None is one that the server does not hold, or that nobody has at the other end.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
}

impl Ends {
    /// Whether there are enough descriptors left for other work.
    fn leave_room(&self) -> bool {
        let ends = [&self.stdin, &self.stdout, &self.stderr].into_iter().flatten();
        ends.into_iter().all(|end| leaves_room(&end.as_fd()))
    }
}

/// How a process has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Not yet, or nobody is told yet.
    NotYet,
    Exited(Exit),
    /// Its container is gone, and nobody knows.
    Unknown,
}

/// The process whose streams are held: this very one, whoever has its id later.
#[derive(Clone)]
pub(crate) struct Holder {
    pub(crate) container: ContainerHandle,
    /// Of the container.
    pub(crate) generation: Generation,
    pub(crate) process: ProcessId,
}

/// The streams of a process.
pub(super) struct Held {
    pub(super) of: Holder,
    ring: Mutex<Ring>,
    /// Something was added to the ring, or a stream has ended.
    changed: Notify,
    /// None once nobody reads it any more. Locked until it is open.
    stdin: Arc<AsyncMutex<Option<Sender>>>,
    end: watch::Sender<End>,
}

impl Held {
    /// Nothing is read before the streams are open. At most so many bytes of the outputs are kept. `lost` if an earlier
    /// server has read some of them.
    pub(super) fn new(
        of: Holder,
        stdio: &Stdio,
        terminal: bool,
        room: usize,
        lost: bool,
    ) -> Arc<Self> {
        let is_open = |stream| usize::from(Stdio::is_held(stream));
        let stderr = stdio.stderr.as_deref().filter(|_| !terminal);
        let open = is_open(stdio.stdout.as_deref()) + is_open(stderr);
        Arc::new(Self {
            of,
            ring: Mutex::new(Ring::new(room, open, lost)),
            changed: Notify::new(),
            stdin: Arc::default(),
            end: watch::Sender::new(End::NotYet),
        })
    }

    /// Keeps all who write to stdin waiting, until the streams are open.
    pub(super) async fn lock_stdin(&self) -> OwnedMutexGuard<Option<Sender>> {
        Arc::clone(&self.stdin).lock_owned().await
    }

    /// Begins to read the outputs.
    pub(super) fn begin(
        self: &Arc<Self>,
        ends: Ends,
        stdin: &mut Option<Sender>,
    ) -> io::Result<()> {
        if !ends.leave_room() {
            return Err(io::Error::other("it would take a descriptor that other work needs"));
        }
        let input = ends.stdin.map(Sender::from_owned_fd).transpose()?;
        let receive = |end: Option<OwnedFd>| end.map(Receiver::from_owned_fd).transpose();
        let (stdout, stderr) = (receive(ends.stdout)?, receive(ends.stderr)?);
        *stdin = input;
        for (stream, from) in [(OutputStream::Stdout, stdout), (OutputStream::Stderr, stderr)] {
            if let Some(from) = from {
                tokio::spawn(carry(Arc::downgrade(self), stream, from));
            }
        }
        Ok(())
    }

    /// The streams went away before they could be opened.
    pub(super) fn has_nothing(&self) {
        self.ring().has_lost_all();
        self.changed.notify_waiters();
    }

    /// The process has ended; None if nobody knows how. Nobody reads its stdin any more: a write under way ends before.
    pub(super) fn ended(&self, exit: Option<Exit>) {
        let end = exit.map_or(End::Unknown, End::Exited);
        let is_news = self.end.send_if_modified(|known| {
            let is_news = *known == End::NotYet;
            if is_news {
                *known = end;
            }
            is_news
        });
        if is_news {
            let stdin = Arc::clone(&self.stdin);
            tokio::spawn(async move { stdin.lock().await.take() });
        }
    }

    pub(super) fn key(&self) -> (ContainerKey, ProcessId) {
        (self.of.container.key.clone(), self.of.process.clone())
    }

    /// Whether it is of this container, not of another one that had, or has, its id.
    pub(super) fn is_of(&self, container: &ContainerKey, generation: Generation) -> bool {
        self.of.generation == generation && self.of.container.key == *container
    }

    pub(super) fn has_ended(&self) -> bool {
        *self.end.borrow() != End::NotYet
    }

    /// How much memory its output has.
    pub(super) fn kept(&self) -> usize {
        self.ring().used()
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        // It is whole after any panic, as nothing in it panics between two changes.
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads an output to its end. What nobody can ask for any more is dropped, so that those who still write can go on.
async fn carry(held: Weak<Held>, stream: OutputStream, mut from: Receiver) {
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = from.read(&mut buffer).await;
        let held = held.upgrade();
        match read {
            Ok(0) => break,
            Ok(length) => {
                if let Some(held) = held {
                    held.ring().push(stream, &buffer[..length]);
                    held.changed.notify_waiters();
                }
            }
            Err(error) => {
                tracing::error!(?stream, %error, "cannot read the output of a process any more");
                break;
            }
        }
    }
    if let Some(held) = held.upgrade() {
        held.ring().close();
        held.changed.notify_waiters();
    }
}

/// One of those who are attached to a process.
pub struct Attachment {
    pub(super) held: Arc<Held>,
    pub(super) place: Place,
}

/// The way to the stdin of a process, and to its terminal.
#[derive(Clone)]
pub struct Stdin(Arc<Held>);

impl Attachment {
    /// Reads on, from the oldest output that is kept. None after the end. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Piece> {
        let held = Arc::clone(&self.held);
        loop {
            // Made before looking, so that no change falls in between (see tokio's `Notified`).
            let changed = held.changed.notified();
            if self.place == Place::End {
                return None;
            }
            if let Some(piece) = held.ring().read(&mut self.place) {
                return Some(piece);
            }
            changed.await;
        }
    }

    /// How many bytes the process has written so far, as far as the server has read them.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.held.ring().end()
    }

    /// Whether the first bytes, so many of them, were read by this one, or are missing for it.
    #[must_use]
    pub fn has_read(&self, bytes: u64) -> bool {
        match self.place {
            Place::Beginning => bytes == 0,
            Place::At(place) => place >= bytes,
            Place::End => true,
        }
    }

    /// Waits until the exit of this very process was published, whoever has its id by now.
    ///
    /// # Errors
    /// If its container is gone, and nobody knows how it has ended.
    pub fn exit(&self) -> impl Future<Output = Result<Exit, SupervisorError>> + Send + use<> {
        let mut end = self.held.end.subscribe();
        let unknown = SupervisorError::ProcessNotFound(self.held.of.process.clone());
        async move {
            match end.wait_for(|end| *end != End::NotYet).await.as_deref() {
                Ok(End::Exited(exit)) => Ok(*exit),
                _ => Err(unknown),
            }
        }
    }

    /// What the process reads. Several may write, each message of theirs as a whole as far as it fits into the pipe.
    #[must_use]
    pub fn stdin(&self) -> Stdin {
        Stdin(Arc::clone(&self.held))
    }
}

impl Stdin {
    /// Writes all, once the process has read what is in its way. What nobody will read is dropped.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn write(&self, data: &[u8]) -> io::Result<()> {
        let mut stdin = self.0.stdin.lock().await;
        let Some(pipe) = stdin.as_mut() else { return Ok(()) };
        match pipe.write_all(data).await {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                *stdin = None;
                Ok(())
            }
            written => written,
        }
    }

    /// Ends the stdin; without effect on a process that has ended.
    ///
    /// # Errors
    /// See [`ContainerHandle::close_stdin`].
    pub async fn close(&self) -> Result<(), SupervisorError> {
        let Holder { container, process, .. } = &self.0.of;
        // Another process may have its id by now.
        if self.0.has_ended() {
            return Ok(());
        }
        container.close_stdin(process.clone()).await
    }

    /// Gives the terminal a new size; without effect on a process that has none, or has ended.
    ///
    /// # Errors
    /// See [`ContainerHandle::resize`].
    pub async fn resize(&self, size: ConsoleSize) -> Result<(), SupervisorError> {
        let Holder { container, process, .. } = &self.0.of;
        if self.0.has_ended() {
            return Ok(());
        }
        container.resize(process.clone(), size).await
    }
}

#[cfg(test)]
pub(super) mod tests;
