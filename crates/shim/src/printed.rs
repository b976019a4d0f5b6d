//! What a runtime prints on its standard error: the message of one that fails before it has a log.
//!
//! With a terminal the stream is the shim's own. Without one it is the process's, which the runtime
//! passes on; then the caller's pipe or file is read, and left unchanged.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{
    FileType, MemfdFlags, OFlags, SealFlags, SeekFrom, fcntl_add_seals, fstat, ftruncate,
    memfd_create, seek,
};
use rustix::io::{fcntl_dupfd_cloexec, ioctl_fionread};
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, tee};

use crate::stdio::reopen;

/// Most bytes of it that are reported, from its beginning. A server accepts records of 8 KiB.
const LIMIT: u16 = 4096;

/// Where the output is.
pub(crate) enum Printed {
    /// In memory, and no more than [`LIMIT`]: the runtime never waits for a reader.
    Own(OwnedFd),
    /// In a named pipe that was empty before.
    Pipe(OwnedFd),
    /// In a file, after this many bytes.
    File(OwnedFd, u64),
    /// It cannot be read.
    Nowhere,
}

impl Printed {
    /// A stream for a runtime whose process does not get it.
    pub(crate) fn own() -> io::Result<(Self, OwnedFd)> {
        let memory = memfd_create("runtime", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&memory, LIMIT.into())?;
        fcntl_add_seals(&memory, SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
        let stream = fcntl_dupfd_cloexec(&memory, 0)?;
        Ok((Self::Own(memory), stream))
    }

    /// A stream that the process gets.
    pub(crate) fn to(stream: BorrowedFd<'_>) -> Self {
        Self::shared(stream).unwrap_or(Self::Nowhere)
    }

    fn shared(stream: BorrowedFd<'_>) -> io::Result<Self> {
        let stat = fstat(stream)?;
        let kept = || fcntl_dupfd_cloexec(stream, 0);
        Ok(match FileType::from_raw_mode(stat.st_mode) {
            // A pipe with something in it already is not used: that is not the runtime's.
            FileType::Fifo if ioctl_fionread(stream)? == 0 => Self::Pipe(kept()?),
            FileType::RegularFile => Self::File(kept()?, stat.st_size.cast_unsigned()),
            _ => Self::Nowhere,
        })
    }

    /// What was printed by now and nobody has read. Nothing if it cannot be found out.
    pub(crate) fn text(&self) -> String {
        let bytes = match self {
            Self::Own(memory) => own(memory),
            Self::Pipe(pipe) => unread(pipe),
            Self::File(file, begin) => behind(file, *begin),
            Self::Nowhere => Ok(Vec::new()),
        };
        let bytes = bytes.unwrap_or_default();
        let mut text = String::from_utf8_lossy(&bytes).into_owned();
        // The replacement for a byte that is not UTF-8 is longer than the byte.
        let end = (0..=text.len().min(LIMIT.into())).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or(0));
        text
    }
}

/// The offset is the writer's, too.
fn own(memory: &OwnedFd) -> io::Result<Vec<u8>> {
    let length = seek(memory, SeekFrom::Current(0))?.min(LIMIT.into());
    let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
    File::from(memory.try_clone()?).read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// A copy of the bytes: they stay in the pipe.
fn unread(pipe: &OwnedFd) -> io::Result<Vec<u8>> {
    let from = reopen(pipe, OFlags::RDONLY | OFlags::NONBLOCK)?;
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    tee(from.as_fd(), &writer, LIMIT.into(), SpliceFlags::NONBLOCK)?;
    drop(writer);
    let mut bytes = Vec::new();
    File::from(reader).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn behind(file: &OwnedFd, begin: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; LIMIT.into()];
    let length = File::from(reopen(file, OFlags::RDONLY)?).read_at(&mut bytes, begin)?;
    bytes.truncate(length);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use rustix::fs::{CWD, Mode, mknodat};

    use super::*;

    #[test]
    fn an_own_stream_keeps_the_beginning_and_never_blocks() {
        let (printed, stream) = Printed::own().unwrap();
        let mut stream = File::from(stream);
        assert_eq!(printed.text(), "");
        stream.write_all(b"words").unwrap();
        assert_eq!(printed.text(), "words");
        while stream.write(&[b'.'; 1000]).is_ok_and(|length| length > 0) {}
        assert_eq!(printed.text().len(), usize::from(LIMIT));
        assert!(printed.text().starts_with("words."));
    }

    #[test]
    fn what_is_in_a_pipe_stays_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stderr");
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let mut pipe = File::options().read(true).write(true).open(&path).unwrap();
        let printed = Printed::to(pipe.as_fd());
        assert_eq!(printed.text(), "");
        pipe.write_all(b"words").unwrap();
        assert_eq!(printed.text(), "words");
        assert!(matches!(Printed::to(pipe.as_fd()), Printed::Nowhere), "it is another's");
        let mut read = [0; 5];
        pipe.read_exact(&mut read).unwrap();
        assert_eq!((&read, printed.text().as_str()), (b"words", ""));
    }

    #[test]
    fn only_what_a_file_has_more_is_the_runtimes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stderr");
        std::fs::write(&path, "before ").unwrap();
        let mut file = File::options().append(true).open(&path).unwrap();
        let printed = Printed::to(file.as_fd());
        assert_eq!(printed.text(), "");
        file.write_all(b"words").unwrap();
        assert_eq!(printed.text(), "words");
        let null = File::options().write(true).open("/dev/null").unwrap();
        assert!(matches!(Printed::to(null.as_fd()), Printed::Nowhere));
    }
}
