//! Connections to servers: the one that started the shim, and those that came after it.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use gantry_shim_proto::{DecodeError, FromShim, MAX_PACKET, SOCKET_FILE, ToShim};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind,
    listen, recv, recvmsg, sendmsg, socket_with, sockopt::socket_type,
};

use crate::poll::{EventFlags, Poller, Source};

/// How long a server waits whose connection could not be accepted.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);

/// All connections. A restarted server makes a new one while an old one may still be open; each
/// gets every report, and any of them may give orders.
pub(crate) struct Link {
    poller: Poller,
    listener: Option<OwnedFd>,
    /// When to listen again, if there was no descriptor left for a server that connects.
    listen_again: Option<Instant>,
    peers: Vec<OwnedFd>,
}

impl Link {
    pub(crate) fn new(poller: &Poller) -> io::Result<Self> {
        let mut link =
            Self { poller: poller.clone(), listener: None, listen_again: None, peers: Vec::new() };
        let first = crate::sys::take_link();
        // Fails for what is no socket, so that a person who starts a shim gets an error.
        socket_type(&first)?;
        link.add(first)?;
        Ok(link)
    }

    /// Lets other servers connect. The path is relative: that of the working directory may be
    /// longer than a socket address can hold.
    pub(crate) fn listen(&mut self) -> io::Result<()> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let listener = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        bind(&listener, &SocketAddrUnix::new(SOCKET_FILE)?)?;
        // Before `listen`, so that nobody else gets in; the umask is the container's, not ours.
        std::fs::set_permissions(SOCKET_FILE, std::fs::Permissions::from_mode(0o600))?;
        listen(&listener, 8)?;
        self.poller.watch(&listener, Source::Listener, EventFlags::IN)?;
        self.listener = Some(listener);
        Ok(())
    }

    /// Accepts the next server. After an error (no free descriptor, say) stops listening for a while, since
    /// epoll would report it endlessly.
    pub(crate) fn accept(&mut self) -> Option<BorrowedFd<'_>> {
        let listener = self.listener.as_ref()?;
        let peer = match accept_with(listener, SocketFlags::CLOEXEC) {
            Ok(peer) => peer,
            Err(Errno::AGAIN | Errno::CONNABORTED | Errno::INTR) => return None,
            Err(_) => {
                let stopped = self.poller.change(listener, Source::Listener, EventFlags::empty());
                self.listen_again = stopped.ok().map(|()| Instant::now() + LISTEN_AGAIN);
                return None;
            }
        };
        self.add(peer).ok()?;
        self.peers.last().map(AsFd::as_fd)
    }

    pub(crate) fn listen_again_at(&self) -> Option<Instant> {
        self.listen_again
    }

    pub(crate) fn listen_again(&mut self) {
        let Some(listener) = &self.listener else { return };
        self.listen_again = match self.poller.change(listener, Source::Listener, EventFlags::IN) {
            Ok(()) => None,
            Err(_) => Some(Instant::now() + LISTEN_AGAIN),
        };
    }

    fn add(&mut self, peer: OwnedFd) -> io::Result<()> {
        self.poller.watch(&peer, Source::Peers, EventFlags::IN)?;
        self.peers.push(peer);
        Ok(())
    }

    /// At most one record of each server. A connection that was closed, or has a malformed record, is dropped.
    pub(crate) fn receive(&mut self) -> Vec<Received> {
        let mut records = Vec::new();
        self.peers.retain(|peer| match receive(peer) {
            Ok(received) => {
                records.extend(received);
                true
            }
            Err(End) => false,
        });
        records
    }

    /// Sends to every server. If a send fails, closes that connection, so that the server reads the files
    /// instead.
    pub(crate) fn send(&mut self, record: &FromShim, fd: Option<BorrowedFd<'_>>) {
        self.peers.retain(|peer| send(peer.as_fd(), record, fd).is_ok());
    }

    pub(crate) fn is_alone(&self) -> bool {
        self.peers.is_empty()
    }

    /// Leaves no socket behind.
    pub(crate) fn close(&mut self) {
        if self.listener.take().is_some() {
            let _ = std::fs::remove_file(SOCKET_FILE);
        }
    }
}

/// Does not wait: all that a shim ever sends fits into the socket's buffer.
pub(crate) fn send(
    peer: BorrowedFd<'_>,
    record: &FromShim,
    fd: Option<BorrowedFd<'_>>,
) -> rustix::io::Result<()> {
    let packet = record.encode();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds: Vec<BorrowedFd<'_>> = fd.into_iter().collect();
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&fds));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    sendmsg(peer, &[IoSlice::new(&packet)], &mut control, flags).map(drop)
}

/// What a server has sent.
pub(crate) struct Received {
    pub(crate) record: ToShim,
    /// The descriptor that came with it.
    pub(crate) fd: Option<OwnedFd>,
}

/// A server is gone, or talks nonsense.
struct End;

/// `None` if there is nothing that this version understands.
fn receive(peer: &OwnedFd) -> Result<Option<Received>, End> {
    match packet(peer) {
        Err(Errno::AGAIN) => Ok(None),
        Ok((packet, fd)) if !packet.is_empty() => match ToShim::decode(&packet) {
            Ok(record) => Ok(Some(Received { record, fd })),
            Err(DecodeError::UnknownKind(_)) => Ok(None),
            Err(_) => Err(End),
        },
        Ok(_) | Err(_) => Err(End),
    }
}

/// Memory for a large packet is only held while it is there.
fn packet(peer: &OwnedFd) -> rustix::io::Result<(Vec<u8>, Option<OwnedFd>)> {
    let peek = RecvFlags::PEEK | RecvFlags::TRUNC | RecvFlags::DONTWAIT;
    let (_, length) = recv(peer, &mut [0_u8; 1], peek)?;
    let mut packet = vec![0; length.min(MAX_PACKET)];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let message = recvmsg(peer, &mut [IoSliceMut::new(&mut packet)], &mut control, flags)?;
    let fd = control.drain().find_map(|part| match part {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    packet.truncate(message.bytes);
    Ok((packet, fd))
}
