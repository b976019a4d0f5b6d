//! The bytes of a file.

use std::{fs::File, io, os::unix::fs::FileExt};

use rustix::{
    fs::{SeekFrom, copy_file_range, ftruncate, ioctl_ficlone, seek},
    io::Errno,
};

/// How much is copied at a time where the kernel does not copy.
const PIECE: usize = 1 << 18;

/// Copies them, or shares them where the file system can. Holes stay holes.
pub(super) fn copy(from: &File, to: &File, size: u64) -> Result<(), Errno> {
    if ioctl_ficlone(to, from).is_ok() {
        return Ok(());
    }
    let mut at = 0;
    while at < size {
        let start = match seek(from, SeekFrom::Data(at)) {
            // A hole up to the end.
            Err(Errno::NXIO) => break,
            start => start?,
        };
        let end = seek(from, SeekFrom::Hole(start))?;
        range(from, to, start, end)?;
        at = end;
    }
    ftruncate(to, size)
}

fn range(from: &File, to: &File, start: u64, end: u64) -> Result<(), Errno> {
    let (mut read, mut written) = (start, start);
    while read < end {
        let rest = usize::try_from(end - read).unwrap_or(usize::MAX);
        match copy_file_range(from, Some(&mut read), to, Some(&mut written), rest) {
            Ok(0) => return Ok(()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                return by_hand(from, to, read, end);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn by_hand(from: &File, to: &File, mut at: u64, end: u64) -> Result<(), Errno> {
    let mut piece = vec![0; PIECE];
    while at < end {
        let most = usize::try_from(end - at).unwrap_or(PIECE).min(PIECE);
        let count = match from.read_at(&mut piece[..most], at) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(errno(&error)),
        };
        to.write_all_at(&piece[..count], at).map_err(|error| errno(&error))?;
        at += count as u64;
    }
    Ok(())
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}
