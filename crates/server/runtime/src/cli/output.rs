//! What a runtime writes while it is called: read as it comes, and kept within bounds.

use std::{
    collections::VecDeque,
    future::pending,
    io::{self, pipe},
    os::fd::OwnedFd,
};

use gantry_kernel::watch;
use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    unistd::read,
};
use tokio::io::{Interest, unix::AsyncFd};

/// Most bytes that are kept of the beginning. A container's state has far less.
const HEAD: usize = 1 << 20;

/// Most bytes that are kept of the end after that: a runtime's last message is why it failed.
const TAIL: usize = 64 << 10;

/// A runtime that writes more bytes than this is not read any longer.
pub(super) const LIMIT: u64 = 64 << 20;

/// What is read at once, in bytes.
const CHUNK: usize = 16 << 10;

/// The reading end of a runtime's standard output or error.
pub(super) struct Output {
    pipe: AsyncFd<OwnedFd>,
    kept: Kept,
}

/// The beginning and the end of what was written.
#[derive(Default)]
struct Kept {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    total: u64,
}

/// What one read has found.
enum Found {
    Bytes,
    /// Nothing yet.
    Nothing,
    /// No writer is left, or the pipe cannot be read.
    End,
}

impl Output {
    /// A pipe: what reads it, and the end for the runtime.
    pub(super) fn pipe() -> io::Result<(Self, OwnedFd)> {
        let (reader, writer) = pipe()?;
        fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let pipe = watch(reader.into(), Interest::READABLE)?;
        Ok((Self { pipe, kept: Kept::default() }, writer.into()))
    }

    /// Reads what comes, and does not end with the pipe: the runtime's process shows when it has ended, since a
    /// child that it leaves behind can hold the pipe open. Resolves only if more than [`LIMIT`] comes.
    pub(super) async fn overflow(&mut self) {
        while self.kept.total <= LIMIT {
            let Ok(mut ready) = self.pipe.readable().await else { return pending().await };
            match self.kept.read(ready.get_inner()) {
                Found::Bytes => {}
                Found::Nothing => ready.clear_ready(),
                Found::End => return pending().await,
            }
        }
    }

    /// What was written, including what is still in the pipe. To be called when the runtime has ended.
    pub(super) fn finish(mut self) -> Vec<u8> {
        while self.kept.total <= LIMIT
            && let Found::Bytes = self.kept.read(self.pipe.get_ref())
        {}
        let Kept { mut head, tail, .. } = self.kept;
        head.extend(tail);
        head
    }
}

impl Kept {
    /// Asks the kernel, not tokio, which learns of new bytes a moment later.
    fn read(&mut self, pipe: &OwnedFd) -> Found {
        let mut chunk = [0; CHUNK];
        match read(pipe, &mut chunk) {
            Ok(0) => Found::End,
            Ok(length) => {
                self.push(&chunk[..length]);
                Found::Bytes
            }
            Err(Errno::EAGAIN) => Found::Nothing,
            Err(Errno::EINTR) => self.read(pipe),
            Err(_) => Found::End,
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        self.total = self.total.saturating_add(bytes.len() as u64);
        let room = HEAD - self.head.len();
        let (first, rest) = bytes.split_at(bytes.len().min(room));
        self.head.extend_from_slice(first);
        let excess = (self.tail.len() + rest.len()).saturating_sub(TAIL);
        self.tail.drain(..excess.min(self.tail.len()));
        self.tail.extend(&rest[rest.len().saturating_sub(TAIL)..]);
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Write, thread};

    use super::*;

    #[test]
    fn the_beginning_and_the_end_are_kept() {
        let mut kept = Kept::default();
        kept.push(b"begin");
        for _ in 0..500 {
            kept.push(&[b'.'; 4999]);
        }
        kept.push(b"end");
        assert_eq!((kept.head.len(), kept.tail.len()), (HEAD, TAIL));
        assert_eq!(kept.total, 5 + 500 * 4999 + 3);
        assert!(kept.head.starts_with(b"begin"));
        assert!(kept.tail.iter().rev().take(3).eq(b"dne"));
    }

    #[tokio::test]
    async fn what_is_in_the_pipe_at_the_end_is_read_while_another_holds_it_open() {
        let (output, writer) = Output::pipe().unwrap();
        let mut writer = File::from(writer);
        writer.write_all(b"last words").unwrap();
        // Nobody has waited for the pipe before, so that tokio knows nothing of the bytes.
        assert_eq!(output.finish(), b"last words");
        drop(writer);
    }

    #[tokio::test]
    async fn an_endless_output_is_noticed_and_takes_no_memory() {
        let (mut output, writer) = Output::pipe().unwrap();
        let endless = thread::spawn(move || {
            let mut writer = File::from(writer);
            while writer.write_all(&[b'x'; CHUNK]).is_ok() {}
        });
        output.overflow().await;
        assert!(output.kept.total > LIMIT);
        assert!(output.kept.head.capacity() + output.kept.tail.capacity() <= 4 * HEAD);
        assert_eq!(output.finish().len(), HEAD + TAIL);
        endless.join().unwrap();
    }
}
