//! The socket: taken from a service manager, or made with tight permissions.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::{
            fs::{DirBuilderExt, FileTypeExt, PermissionsExt},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
};

use nix::sys::stat::{Mode, umask};

/// Why there is no socket to listen on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    #[error("{0}: another server listens there")]
    InUse(PathBuf),
    #[error("{0}: exists and is not a socket")]
    NotASocket(PathBuf),
    #[error("cannot {what} {path}: {source}", path = .path.display())]
    Io { what: &'static str, path: PathBuf, source: io::Error },
}

/// A socket that is listened on.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) socket: UnixListener,
    /// Ours to remove at the end; a service manager's socket stays.
    pub(crate) path: Option<PathBuf>,
}

/// Takes the socket that a service manager has passed (sd_listen_fds(3)), else makes one at
/// `path`: for the owner and the group only, in a directory that others can pass but not read. To
/// be called before there are threads, as it sets the umask for a moment.
pub(crate) fn listen(path: &Path) -> Result<Listener, ListenError> {
    let failed = |what| move |source| ListenError::Io { what, path: path.to_owned(), source };
    if let Some(fd) = passed_socket() {
        let socket = UnixListener::from(fd);
        socket.set_nonblocking(true).map_err(failed("use the passed socket instead of"))?;
        return Ok(Listener { socket, path: None });
    }
    if let Some(parent) = path.parent() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(parent)
            .map_err(failed("create the directory of"))?;
    }
    make_room(path)?;
    let before = umask(Mode::from_bits_truncate(0o177));
    let socket = Address::of(path).and_then(|address| UnixListener::bind(&address.path));
    umask(before);
    let socket = socket.map_err(failed("listen on"))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660))
        .map_err(failed("set the permissions of"))?;
    socket.set_nonblocking(true).map_err(failed("listen on"))?;
    Ok(Listener { socket, path: Some(path.to_owned()) })
}

/// Removes the socket of a server that is no more.
fn make_room(path: &Path) -> Result<(), ListenError> {
    let failed = |what| move |source| ListenError::Io { what, path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Ok(metadata) if metadata.file_type().is_socket() => {}
        Ok(_) => return Err(ListenError::NotASocket(path.to_owned())),
        Err(error) => return Err(failed("look at")(error)),
    }
    match Address::of(path).and_then(|address| UnixStream::connect(&address.path)) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed("remove the stale socket"))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed("try to connect to")(error)),
        Ok(_) => Err(ListenError::InUse(path.to_owned())),
    }
}

/// A path that fits into the address of a socket, see unix(7).
struct Address {
    path: PathBuf,
    /// What the path may lead through.
    _directory: Option<File>,
}

impl Address {
    /// Bytes of a path in an address, less its final NUL.
    const MAX: usize = 107;

    /// The path itself; if it is too long, from the working directory or else from its own: how deep
    /// a directory lies is not to matter.
    fn of(path: &Path) -> io::Result<Self> {
        let fits = |path: &Path| path.as_os_str().len() <= Self::MAX;
        let here = std::env::current_dir().ok();
        let relative = here.and_then(|here| path.strip_prefix(here).ok());
        if let Some(path) = [Some(path), relative].into_iter().flatten().find(|path| fits(path)) {
            return Ok(Self { path: path.to_owned(), _directory: None });
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidFilename.into());
        };
        let directory = File::open(parent)?;
        let path = Path::new(&format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name);
        Ok(Self { path, _directory: Some(directory) })
    }
}

/// The first socket of sd_listen_fds(3).
fn passed_socket() -> Option<OwnedFd> {
    let fd = sd_notify::listen_fds().ok()?.next()?;
    Some(own(fd))
}

#[allow(unsafe_code, reason = "the protocol passes a descriptor by number")]
fn own(fd: i32) -> OwnedFd {
    // SAFETY: the service manager has opened this descriptor for this process, nothing else here
    // knows of it, and it is taken once.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/er/s.sock");
        let first = listen(&path).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o660);
        assert_eq!(mode(path.parent().unwrap()), 0o711);
        assert!(matches!(listen(&path), Err(ListenError::InUse(_))));
        drop(first);
        listen(&path).unwrap();
    }

    #[test]
    fn a_directory_may_be_deep() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x".repeat(200)).join("y".repeat(200)).join("s.sock");
        let first = listen(&path).unwrap();
        assert!(matches!(listen(&path), Err(ListenError::InUse(_))));
        drop(first);
        listen(&path).unwrap();
        let name = path.with_file_name("z".repeat(200));
        assert!(listen(&name).is_err());
    }

    #[test]
    fn a_file_in_the_way_is_left_alone() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(matches!(listen(file.path()), Err(ListenError::NotASocket(_))));
    }
}
