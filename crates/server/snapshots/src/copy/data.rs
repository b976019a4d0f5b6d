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
    let by_kernel = |read: &mut u64, written: &mut u64, length| {
        copy_file_range(from, Some(read), to, Some(written), length)
    };
    range_by(by_kernel, from, to, start, end)
}

/// With the kernel's copying, as far as that goes.
fn range_by(
    by_kernel: impl Fn(&mut u64, &mut u64, usize) -> Result<usize, Errno>,
    from: &File,
    to: &File,
    start: u64,
    end: u64,
) -> Result<(), Errno> {
    let (mut read, mut written) = (start, start);
    while read < end {
        let rest = usize::try_from(end - read).unwrap_or(usize::MAX);
        match by_kernel(&mut read, &mut written, rest) {
            Ok(1..) | Err(Errno::INTR) => {}
            // Some file systems copy nothing, and say so only by this.
            Ok(0) | Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
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

#[cfg(test)]
mod tests {
    use std::{cell::Cell, fs};

    use super::*;

    #[test]
    fn what_the_kernel_does_not_copy_is_copied() {
        let dir = tempfile::tempdir().unwrap();
        let [from, to] = ["from", "to"].map(|name| dir.path().join(name));
        fs::write(&from, "0123456789").unwrap();
        let (source, target) = (File::open(&from).unwrap(), File::create(&to).unwrap());
        // Gives up after four bytes.
        let is_first = Cell::new(true);
        let by_kernel = |read: &mut u64, written: &mut u64, _| {
            if !is_first.replace(false) {
                return Ok(0);
            }
            target.write_all_at(b"0123", *written).unwrap();
            (*read, *written) = (*read + 4, *written + 4);
            Ok(4)
        };
        range_by(by_kernel, &source, &target, 0, 10).unwrap();
        assert_eq!(fs::read_to_string(&to).unwrap(), "0123456789");
    }
}
