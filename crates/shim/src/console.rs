//! The process's terminal: received from the runtime, sized, held.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;

use gantry_shim_proto::CONSOLE_FILE;
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketAddrUnix,
    SocketFlags, SocketType, accept_with, bind, listen, recvmsg, socket_with,
};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer};
use rustix::termios::{SpecialCodeIndex, Winsize, tcgetattr, tcsetwinsize};

use crate::poll::{EventFlags, Poller, Source};

/// Where the runtime delivers the terminal.
pub(crate) struct ConsoleSocket {
    listener: OwnedFd,
    connection: Option<OwnedFd>,
}

impl ConsoleSocket {
    pub(crate) fn new(poller: &Poller) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let listener = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        bind(&listener, &SocketAddrUnix::new(CONSOLE_FILE)?)?;
        std::fs::set_permissions(CONSOLE_FILE, std::fs::Permissions::from_mode(0o600))?;
        listen(&listener, 1)?;
        poller.watch(&listener, Source::Console, EventFlags::IN)?;
        Ok(Self { listener, connection: None })
    }

    /// The master, once it is there. Does not wait.
    pub(crate) fn receive(&mut self, poller: &Poller) -> io::Result<Option<OwnedFd>> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => match accept_with(&self.listener, SocketFlags::CLOEXEC) {
                Ok(connection) => {
                    poller.watch(&connection, Source::Console, EventFlags::IN)?;
                    connection
                }
                Err(Errno::AGAIN) => return Ok(None),
                Err(error) => return Err(error.into()),
            },
        };
        match receive_fd(&connection) {
            Err(Errno::AGAIN) => {
                self.connection = Some(connection);
                Ok(None)
            }
            // Without a descriptor it was not the runtime's; the next one may be.
            received => Ok(received?),
        }
    }
}

impl Drop for ConsoleSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(CONSOLE_FILE);
    }
}

fn receive_fd(connection: &OwnedFd) -> rustix::io::Result<Option<OwnedFd>> {
    // The message's text is the terminal's name.
    let mut name = [0; 128];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    recvmsg(connection, &mut [IoSliceMut::new(&mut name)], &mut control, flags)?;
    Ok(control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    }))
}

/// A terminal, both of whose ends are open here.
pub(crate) struct Terminal {
    master: OwnedFd,
    /// While it is open the master is not hung up, although a process may close its terminal and
    /// open it again, as init systems do; the master would poll ready all the time in between.
    _slave: OwnedFd,
}

impl Terminal {
    pub(crate) fn new(master: OwnedFd) -> io::Result<Self> {
        let slave = ioctl_tiocgptpeer(
            &master,
            OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC,
        )?;
        fcntl_setfl(&master, OFlags::RDWR | OFlags::NONBLOCK)?;
        Ok(Self { master, _slave: slave })
    }

    /// One more descriptor of the master.
    pub(crate) fn master(&self) -> io::Result<OwnedFd> {
        self.master.try_clone()
    }

    pub(crate) fn resize(&self, width: u16, height: u16) -> io::Result<()> {
        let size = Winsize { ws_col: width, ws_row: height, ws_xpixel: 0, ws_ypixel: 0 };
        Ok(tcsetwinsize(&self.master, size)?)
    }

    /// The character that stands for the end of input, if it is set: zero disables it, see termios(3).
    pub(crate) fn eof_char(&self) -> Option<u8> {
        let settings = tcgetattr(&self.master).ok()?;
        Some(settings.special_codes[SpecialCodeIndex::VEOF]).filter(|&code| code != 0)
    }
}
