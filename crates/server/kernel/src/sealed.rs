//! Copies of files in memory that nobody can change.

use std::{
    ffi::CStr,
    fs::File,
    io::{self, Read},
    os::fd::OwnedFd,
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, SealFlag, fcntl},
    sys::memfd::{MFdFlags, memfd_create},
};

/// MFD_EXEC of memfd_create(2), which kernels before 6.3 do not know.
const MFD_EXEC: MFdFlags = MFdFlags::from_bits_retain(0x10);

/// Copies a file of this many bytes to a memfd that can be executed, and seals it against every change.
///
/// # Errors
/// `EACCES` where the sysctl `vm.memfd_noexec` forbids to execute what is in memory; `UnexpectedEof` if the file
/// is shorter.
pub fn sealed_copy(name: &CStr, source: &mut File, size: u64) -> io::Result<OwnedFd> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let copy = match memfd_create(name, flags | MFD_EXEC) {
        Err(Errno::EINVAL) => memfd_create(name, flags),
        other => other,
    };
    let mut copy = File::from(copy?);
    if io::copy(&mut source.take(size), &mut copy)? < size {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    // Exactly these are what runc and crun look for.
    let seals = SealFlag::F_SEAL_SEAL
        | SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_WRITE;
    fcntl(&copy, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(copy.into())
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Seek, Write},
        os::fd::AsRawFd,
        process::Command,
    };

    use super::*;

    #[test]
    fn a_copy_can_be_executed_and_not_changed() {
        let mut source = File::open("/bin/true").unwrap();
        let size = source.metadata().unwrap().len();
        let mut copy = File::from(sealed_copy(c"true", &mut source, size).unwrap());
        let path = format!("/proc/{}/fd/{}", std::process::id(), copy.as_raw_fd());
        assert!(Command::new(path).status().unwrap().success());
        copy.rewind().unwrap();
        assert_eq!(copy.write(b"#").unwrap_err().raw_os_error(), Some(nix::libc::EPERM));
        assert!(copy.set_len(0).is_err());
        assert_eq!(copy.metadata().unwrap().len(), size);
    }

    #[test]
    fn a_file_that_has_become_shorter_is_not_copied() {
        let mut source = tempfile::tempfile().unwrap();
        let error = sealed_copy(c"short", &mut source, 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
