//! Connections to servers: the one that started the shim, and those that came after it.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;

use gantry_shim_proto::{DecodeError, FromShim, MAX_PACKET, SOCKET_FILE, ToShim};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, accept_with, bind, listen, recv, sendmsg, socket_with,
    sockopt::socket_type,
};

use crate::poll::{EventFlags, Poller, Source};

/// All connections. A restarted server makes a new one while an old one may still be open; each
/// is told everything, and any of them may give orders.
pub(crate) struct Link {
    poller: Poller,
    listener: Option<OwnedFd>,
    peers: Vec<OwnedFd>,
}

impl Link {
    pub(crate) fn new(poller: &Poller) -> io::Result<Self> {
        let mut link = Self { poller: poller.clone(), listener: None, peers: Vec::new() };
        let first = crate::sys::take_link();
        // Fails for what is no socket, so that a person who starts a shim is told.
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

    /// Takes the next server in line.
    pub(crate) fn accept(&mut self) -> Option<BorrowedFd<'_>> {
        let peer = accept_with(self.listener.as_ref()?, SocketFlags::CLOEXEC).ok()?;
        self.add(peer).ok()?;
        self.peers.last().map(AsFd::as_fd)
    }

    fn add(&mut self, peer: OwnedFd) -> io::Result<()> {
        self.poller.watch(&peer, Source::Peers, EventFlags::IN)?;
        self.peers.push(peer);
        Ok(())
    }

    /// At most one record of each server. One that is gone, or talks nonsense, is forgotten.
    pub(crate) fn receive(&mut self) -> Vec<ToShim> {
        let mut records = Vec::new();
        self.peers.retain(|peer| match receive(peer) {
            Received::Record(record) => {
                records.push(record);
                true
            }
            Received::Nothing => true,
            Received::End => false,
        });
        records
    }

    /// Tells every server.
    pub(crate) fn send(&self, record: &FromShim, fd: Option<BorrowedFd<'_>>) {
        for peer in &self.peers {
            send(peer.as_fd(), record, fd);
        }
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

/// A failure is not looked at: a server that is gone shows it by the end of its connection, and
/// what a shim ever says fits into the socket's buffer.
pub(crate) fn send(peer: BorrowedFd<'_>, record: &FromShim, fd: Option<BorrowedFd<'_>>) {
    let packet = record.encode();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds: Vec<BorrowedFd<'_>> = fd.into_iter().collect();
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&fds));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    let _ = sendmsg(peer, &[IoSlice::new(&packet)], &mut control, flags);
}

enum Received {
    Record(ToShim),
    Nothing,
    End,
}

fn receive(peer: &OwnedFd) -> Received {
    match packet(peer) {
        Err(Errno::AGAIN) => Received::Nothing,
        Ok(packet) if !packet.is_empty() => match ToShim::decode(&packet) {
            Ok(record) => Received::Record(record),
            Err(DecodeError::UnknownKind(_)) => Received::Nothing,
            Err(_) => Received::End,
        },
        Ok(_) | Err(_) => Received::End,
    }
}

/// Memory for a large packet is only held while it is there.
fn packet(peer: &OwnedFd) -> rustix::io::Result<Vec<u8>> {
    let peek = RecvFlags::PEEK | RecvFlags::TRUNC | RecvFlags::DONTWAIT;
    let (_, length) = recv(peer, &mut [0_u8; 1], peek)?;
    let mut packet = vec![0; length.min(MAX_PACKET)];
    let (length, _) = recv(peer, &mut packet[..], RecvFlags::DONTWAIT)?;
    packet.truncate(length);
    Ok(packet)
}
