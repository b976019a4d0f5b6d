//! Unix sockets of whole packets that can carry a descriptor, for the link to the shims.

use std::{
    io::{self, IoSlice, IoSliceMut},
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    path::Path,
};

use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr,
    connect, recv, recvmsg, sendmsg, socket, socketpair,
};
use tokio::io::{Interest, unix::AsyncFd};

/// A connected `SOCK_SEQPACKET` socket.
#[derive(Debug)]
pub struct SeqPacket(AsyncFd<OwnedFd>);

/// What was received.
#[derive(Debug)]
pub struct Packet {
    pub bytes: Vec<u8>,
    /// The descriptor that came with it. An error if none came, or the kernel could not hand it
    /// over: it does so without an error of its own, see MSG_CTRUNC in recvmsg(2).
    pub fd: io::Result<OwnedFd>,
}

impl SeqPacket {
    /// A pair: our end, and the end for the child.
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        Ok((Self(crate::watch(ours, Interest::READABLE)?), theirs))
    }

    /// Connects without waiting: `EAGAIN` if the listener's queue is full.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
        connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
        Ok(Self(crate::watch(fd, Interest::READABLE)?))
    }

    /// Sends without waiting, perhaps with a descriptor: `EAGAIN` if the receiver has not read for long.
    pub fn send(&self, packet: &[u8], fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let fds: Vec<_> = fd.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&fds)];
        let control = if fds.is_empty() { &rights[..0] } else { &rights[..] };
        sendmsg::<()>(self.0.as_raw_fd(), &[IoSlice::new(packet)], control, flags, None)?;
        Ok(())
    }

    /// Whether the peer is there, and nothing of it waits to be received.
    pub fn is_silent(&self) -> bool {
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        recv(self.0.as_raw_fd(), &mut [0], flags) == Err(nix::Error::EAGAIN)
    }

    /// The next packet; `None` once the peer is gone.
    pub async fn receive(&self, limit: usize) -> io::Result<Option<Packet>> {
        loop {
            let mut ready = self.0.readable().await?;
            match ready.try_io(|socket| receive(socket.get_ref(), limit)) {
                Ok(result) => return result,
                Err(_would_block) => {}
            }
        }
    }
}

fn receive(socket: &OwnedFd, limit: usize) -> io::Result<Option<Packet>> {
    let mut bytes = vec![0; limit];
    let mut buffers = [IoSliceMut::new(&mut bytes)];
    let mut control = nix::cmsg_space!([i32; 1]);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
    let message = match recvmsg::<()>(socket.as_raw_fd(), &mut buffers, Some(&mut control), flags) {
        Err(nix::Error::ECONNRESET) => return Ok(None),
        other => other?,
    };
    let (length, cut) = (message.bytes, message.flags.contains(MsgFlags::MSG_CTRUNC));
    let mut fds = Vec::new();
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(received) = part {
            fds.extend(received.into_iter().map(own));
        }
    }
    if length == 0 {
        return Ok(None);
    }
    bytes.truncate(length);
    let missing = || match cut {
        // There was one, and room for it in the buffer: then there was none in the server's table.
        true => io::Error::from(nix::Error::EMFILE),
        false => io::ErrorKind::InvalidData.into(),
    };
    Ok(Some(Packet { bytes, fd: fds.pop().ok_or_else(missing) }))
}

#[allow(unsafe_code, reason = "nix hands received descriptors out as integers")]
fn own(fd: i32) -> OwnedFd {
    // SAFETY: the kernel has just installed this descriptor for this message; nobody else owns it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[tokio::test]
    async fn packets_keep_their_bounds_and_the_end_is_seen() {
        let (ours, theirs) = SeqPacket::pair().unwrap();
        let theirs = SeqPacket(crate::watch(theirs, Interest::READABLE).unwrap());
        theirs.send(b"one", None).unwrap();
        theirs.send(b"two", Some(std::io::stdin().as_fd())).unwrap();
        let one = ours.receive(16).await.unwrap().unwrap();
        assert!(one.bytes == b"one" && one.fd.is_err());
        let two = ours.receive(16).await.unwrap().unwrap();
        assert!(two.bytes == b"two" && two.fd.is_ok());
        drop(theirs);
        assert!(ours.receive(16).await.unwrap().is_none());
    }
}
