//! The streams of one process, which the server holds: it reads the outputs as they come, whoever reads them.

use std::{
    io,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::unix::pipe::{Receiver, Sender},
    sync::{Mutex as AsyncMutex, Notify},
};

use super::ring::{OutputStream, Piece, Place, Ring};

/// Most bytes that are read at once.
const BUFFER: usize = 16 << 10;

/// The server's ends of a process's pipes. None is one that the server does not hold, or that nobody has at the other end.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
}

/// The streams of a process.
#[derive(Debug)]
pub(super) struct Held {
    ring: Mutex<Ring>,
    /// Something was added to the ring, or a stream has ended.
    changed: Notify,
    /// None once nobody reads it any more.
    stdin: AsyncMutex<Option<Sender>>,
}

impl Held {
    /// Begins to read the outputs. At most so many bytes of them are kept.
    pub(super) fn begin(ends: Ends, room: usize, lost: bool) -> io::Result<Arc<Self>> {
        let stdin = ends.stdin.map(Sender::from_owned_fd).transpose()?;
        let receive = |end: Option<OwnedFd>| end.map(Receiver::from_owned_fd).transpose();
        let (stdout, stderr) = (receive(ends.stdout)?, receive(ends.stderr)?);
        let open = usize::from(stdout.is_some()) + usize::from(stderr.is_some());
        let held = Arc::new(Self {
            ring: Mutex::new(Ring::new(room, open, lost)),
            changed: Notify::new(),
            stdin: AsyncMutex::new(stdin),
        });
        for (stream, from) in [(OutputStream::Stdout, stdout), (OutputStream::Stderr, stderr)] {
            if let Some(from) = from {
                tokio::spawn(Arc::clone(&held).carry(stream, from));
            }
        }
        Ok(held)
    }

    async fn carry(self: Arc<Self>, stream: OutputStream, mut from: Receiver) {
        let mut buffer = vec![0; BUFFER];
        loop {
            match from.read(&mut buffer).await {
                Ok(0) => break,
                Ok(length) => self.ring().push(stream, &buffer[..length]),
                Err(error) => {
                    tracing::error!(?stream, %error, "cannot read the output of a process any more");
                    break;
                }
            }
            self.changed.notify_waiters();
        }
        self.ring().close();
        self.changed.notify_waiters();
    }

    /// The process has ended: nobody reads its stdin any more. A write under way ends before.
    pub(super) fn end_input(self: &Arc<Self>) {
        let held = Arc::clone(self);
        tokio::spawn(async move { held.stdin.lock().await.take() });
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        // It is whole after any panic, as nothing in it panics between two changes.
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of those who are attached to a process.
#[derive(Debug)]
pub struct Attachment {
    pub(super) held: Arc<Held>,
    pub(super) place: Place,
}

/// The way to the stdin of a process.
#[derive(Debug, Clone)]
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
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Write as _};

    use nix::unistd::pipe;

    use super::*;

    #[tokio::test]
    async fn readers_that_do_not_read_stop_nobody() {
        let (read_end, write_end) = pipe().unwrap();
        let ends = Ends { stdout: Some(read_end), ..Ends::default() };
        let held = Held::begin(ends, 64 << 10, false).unwrap();
        let attach = || Attachment { held: Arc::clone(&held), place: Place::Beginning };
        let (mut reader, mut idle) = (attach(), attach());
        let mut process = File::from(write_end);
        let writer = std::thread::spawn(move || {
            for _ in 0..1024 {
                process.write_all(&[b'x'; 1024]).unwrap();
            }
        });
        let mut total = 0;
        loop {
            match reader.next().await.unwrap() {
                Piece::Output { stream, data } => {
                    assert_eq!(stream, OutputStream::Stdout);
                    total += data.len() as u64;
                }
                Piece::Gap(missing) => total += missing.unwrap(),
                Piece::End => break,
            }
        }
        writer.join().unwrap();
        assert_eq!(total, 1 << 20);
        assert_eq!(reader.next().await, None);
        assert!(matches!(idle.next().await, Some(Piece::Gap(Some(_)))));
    }

    #[tokio::test]
    async fn input_that_nobody_reads_is_dropped() {
        let (read_end, write_end) = pipe().unwrap();
        let ends = Ends { stdin: Some(write_end), ..Ends::default() };
        let held = Held::begin(ends, 64, false).unwrap();
        let mut attachment = Attachment { held, place: Place::Beginning };
        let stdin = attachment.stdin();
        stdin.write(b"a").await.unwrap();
        drop(read_end);
        for _ in 0..2 {
            stdin.write(b"b").await.unwrap();
        }
        assert_eq!(attachment.next().await, Some(Piece::End));
    }
}
