//! The sockets: taken from a service manager, or made with tight permissions.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::{
            fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt, chown},
            net::UnixListener,
        },
    },
    path::{Path, PathBuf},
};

use gantry_kernel::closed_first;
use nix::{
    errno::Errno,
    sys::{
        socket::{self, AddressFamily, SockFlag, SockType, UnixAddr},
        stat::{Mode, umask},
    },
};

use crate::config::Socket;

/// Why there is no socket to listen on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    #[error("{0}: another server listens there")]
    InUse(PathBuf),
    #[error("{0}: exists and is not a socket")]
    NotASocket(PathBuf),
    #[error("cannot use a socket that the service manager has passed: {0}")]
    Passed(io::Error),
    #[error(
        "a socket that the service manager has passed is no unix socket, and no other is served"
    )]
    NotUnix,
    #[error("cannot {what} {path}: {cause}", path = .path.display())]
    Io { what: &'static str, path: PathBuf, cause: io::Error },
}

/// A socket that is listened on.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) socket: UnixListener,
    /// Empty if the service manager's socket has none.
    pub(crate) path: PathBuf,
    /// Ours to remove at the end; a service manager's socket stays.
    pub(crate) file: Option<SocketFile>,
}

/// The file of a socket that this server has made.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        let file = fs::symlink_metadata(path)?;
        Ok(Self { path: path.to_owned(), identity: (file.dev(), file.ino()) })
    }

    /// Removes the file, unless another is in its place by now.
    pub(crate) fn remove(&self) -> io::Result<()> {
        match Self::new(&self.path) {
            Ok(now) if now.identity == self.identity => fs::remove_file(&self.path),
            Ok(_) => {
                tracing::warn!(path = %self.path.display(), "the socket is another's by now");
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Makes these sockets, each in a directory that others can pass but not read. To be called before there are
/// threads, as it sets the umask for a moment.
///
/// The sockets are closed before all connections, also when the server is killed: a daemon connects again
/// as soon as its connection is lost, and a server that is ending must not accept it. Docker
/// 17.05 subscribes to events there, and never gets an event again if that fails.
pub(crate) fn listen(sockets: &[Socket]) -> Result<Vec<Listener>, ListenError> {
    let mut listeners: Vec<Listener> = Vec::new();
    for socket in sockets {
        match make(socket) {
            Ok(listener) => listeners.push(listener),
            Err(error) => {
                for made in listeners.into_iter().filter_map(|listener| listener.file) {
                    // The other error is the one to report.
                    let _ = made.remove();
                }
                return Err(error);
            }
        }
    }
    Ok(listeners)
}

fn take(fd: OwnedFd) -> Result<Listener, ListenError> {
    let address = socket::getsockname::<UnixAddr>(fd.as_raw_fd()).map_err(|error| match error {
        // Another family's.
        Errno::EINVAL => ListenError::NotUnix,
        error => ListenError::Passed(error.into()),
    })?;
    let path = address.path().map(Path::to_owned).unwrap_or_default();
    let socket = UnixListener::from(closed_first(fd));
    socket.set_nonblocking(true).map_err(ListenError::Passed)?;
    Ok(Listener { socket, path, file: None })
}

fn make(socket: &Socket) -> Result<Listener, ListenError> {
    let Socket { path, mode, user, group } = socket;
    let failed = |what| move |cause| ListenError::Io { what, path: path.to_owned(), cause };
    make_directory(path)?;
    make_room(path)?;
    let before = umask(Mode::from_bits_truncate(0o177));
    let socket = Address::of(path).and_then(|address| UnixListener::bind(&address.path));
    umask(before);
    let socket = socket.map_err(failed("listen on"))?;
    let socket = UnixListener::from(closed_first(socket.into()));
    let file = SocketFile::new(path).map_err(failed("examine"))?;
    chown(path, *user, *group).map_err(failed("set the owner of"))?;
    fs::set_permissions(path, fs::Permissions::from_mode(*mode))
        .map_err(failed("set the permissions of"))?;
    socket.set_nonblocking(true).map_err(failed("listen on"))?;
    Ok(Listener { socket, path: path.to_owned(), file: Some(file) })
}

/// Makes the directory of a socket, if it is not there.
pub(crate) fn make_directory(path: &Path) -> Result<(), ListenError> {
    let failed = |what| move |cause| ListenError::Io { what, path: path.to_owned(), cause };
    if let Some(parent) = path.parent() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(parent)
            .map_err(failed("create the directory of"))?;
    }
    Ok(())
}

/// Removes the socket of a server that has ended.
fn make_room(path: &Path) -> Result<(), ListenError> {
    let failed = |what| move |cause| ListenError::Io { what, path: path.to_owned(), cause };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Ok(metadata) if metadata.file_type().is_socket() => {}
        Ok(_) => return Err(ListenError::NotASocket(path.to_owned())),
        Err(error) => return Err(failed("examine")(error)),
    }
    let found = SocketFile::new(path).map_err(failed("examine"))?;
    match connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            found.remove().map_err(failed("remove the stale socket"))
        }
        // A server listens, whose queue is full.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(ListenError::InUse(path.to_owned()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed("try to connect to")(error)),
        Ok(_) => Err(ListenError::InUse(path.to_owned())),
    }
}

/// A path that fits into the address of a socket, see unix(7).
struct Address {
    path: PathBuf,
    /// The directory that the path leads through, kept open.
    _directory: Option<File>,
}

impl Address {
    /// Bytes of a path in an address, less its final NUL.
    const MAX: usize = 107;

    /// The path itself; if it is too long, a relative one, or one through a descriptor of its directory: how deep
    /// a directory lies must not matter.
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

/// Connects to a socket without waiting for its server, which may hang.
fn connect(path: &Path) -> io::Result<()> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    let address = Address::of(path)?;
    Ok(socket::connect(socket.as_raw_fd(), &UnixAddr::new(&address.path)?)?)
}

/// The sockets that a service manager has passed (sd_listen_fds(3)), once.
pub(crate) fn passed_sockets() -> Result<Vec<Listener>, ListenError> {
    sd_notify::listen_fds().into_iter().flatten().map(own).map(take).collect()
}

#[allow(unsafe_code, reason = "the protocol passes a descriptor by number")]
fn own(fd: i32) -> OwnedFd {
    // SAFETY: the service manager has opened this descriptor for this process, nothing else here
    // knows of it, and it is taken once.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use super::*;

    /// As the function itself, where other tests run beside: the umask is that of all threads.
    fn make(socket: &Socket) -> Result<Listener, ListenError> {
        listen(std::slice::from_ref(socket)).map(|mut made| made.remove(0))
    }

    fn listen(sockets: &[Socket]) -> Result<Vec<Listener>, ListenError> {
        static UMASK: Mutex<()> = Mutex::new(());
        let _umask = UMASK.lock().unwrap_or_else(PoisonError::into_inner);
        super::listen(sockets)
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/er/s.sock");
        let first = make(&Socket::at(&path)).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o660);
        assert_eq!(mode(path.parent().unwrap()), 0o711);
        assert!(matches!(make(&Socket::at(&path)), Err(ListenError::InUse(_))));
        drop(first);
        make(&Socket::at(&path)).unwrap();
    }

    #[test]
    fn a_socket_has_its_mode_and_its_group() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        make(&Socket { mode: 0o606, group: Some(12345), ..Socket::at(&path) }).unwrap();
        let file = fs::metadata(&path).unwrap();
        assert_eq!((file.mode() & 0o7777, file.gid()), (0o606, 12345));
        assert_eq!(file.uid(), nix::unistd::getuid().as_raw());
    }

    #[test]
    fn what_a_service_manager_passes_is_a_unix_socket() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        let taken = take(UnixListener::bind(&path).unwrap().into()).unwrap();
        assert!(taken.path == path && taken.file.is_none());
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(matches!(take(tcp.into()), Err(ListenError::NotUnix)));
    }

    #[test]
    fn of_several_sockets_all_are_made_or_none_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("file"), "").unwrap();
        let wrong = [path("a"), path("b"), path("file")].map(|path| Socket::at(&path));
        assert!(matches!(listen(&wrong), Err(ListenError::NotASocket(_))));
        assert!(!path("a").exists() && !path("b").exists());
        let made = listen(&wrong[..2]).unwrap();
        assert!(made.len() == 2 && path("a").exists() && path("b").exists());
    }

    #[test]
    fn a_directory_may_be_deep() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x".repeat(200)).join("y".repeat(200)).join("s.sock");
        let first = make(&Socket::at(&path)).unwrap();
        assert!(matches!(make(&Socket::at(&path)), Err(ListenError::InUse(_))));
        drop(first);
        make(&Socket::at(&path)).unwrap();
        let name = path.with_file_name("z".repeat(200));
        assert!(make(&Socket::at(&name)).is_err());
    }

    #[test]
    fn a_socket_that_is_anothers_by_now_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        let first = make(&Socket::at(&path)).unwrap();
        fs::remove_file(&path).unwrap();
        first.file.unwrap().remove().unwrap();
        let second = make(&Socket::at(&path)).unwrap();
        fs::rename(&path, dir.path().join("aside")).unwrap();
        let third = make(&Socket::at(&path)).unwrap();
        second.file.unwrap().remove().unwrap();
        assert!(path.exists());
        third.file.unwrap().remove().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn whoever_listens_and_does_not_answer_is_not_pushed_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        let socket =
            socket::socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)
                .unwrap();
        socket::bind(socket.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
        socket::listen(&socket, socket::Backlog::new(0).unwrap()).unwrap();
        let _queued = std::os::unix::net::UnixStream::connect(&path).unwrap();
        assert!(matches!(make(&Socket::at(&path)), Err(ListenError::InUse(_))));
        assert!(path.exists());
    }

    #[test]
    fn a_file_in_the_way_is_left_alone() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(matches!(make(&Socket::at(file.path())), Err(ListenError::NotASocket(_))));
    }
}
