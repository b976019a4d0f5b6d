//! Accepted connections: how much is under way on them, and their end when the server stops.
//!
//! A client that follows events must see its connection lost, and not its stream ended: if it gets a
//! status, Docker 17.05 subscribes again on the connection that is about to be closed, and never gets an event again.
//! So neither trailers, nor RST_STREAM, nor GOAWAY may reach it. What h2 would send when handlers are
//! dropped is discarded here, the last place before the kernel.

mod streams;

use std::{
    io::{self, IoSlice},
    path::Path,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use gantry_authority::LocalAuthority;
use streams::OpenStreams;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::UnixStream,
    sync::Notify,
};
use tonic::transport::server::Connected;

use crate::{
    access::Identity,
    rpc::{Peer, Peers},
};

/// All connections of the server. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Connections(Arc<Shared>);

#[derive(Default)]
struct Shared {
    peers: Peers,
    /// Connections that are open.
    connected: AtomicUsize,
    /// Requests whose answer was not wholly written yet, those that follow events among them.
    open: AtomicUsize,
    /// Requests that follow events, or do not end by themselves for another reason. A server that stops does not wait
    /// for them.
    followers: AtomicUsize,
    /// Notified when `open` falls or `followers` rises.
    changed: Notify,
    cut: AtomicBool,
}

impl Connections {
    /// Takes in a connection that was accepted on the socket at this path.
    pub(crate) fn take(&self, stream: UnixStream, listener: &Path) -> Connection {
        let who = Identity::of(&stream, listener);
        self.0.connected.fetch_add(1, Ordering::Relaxed);
        Connection {
            stream: LocalAuthority::new(stream),
            peer: self.0.peers.next(who),
            streams: OpenStreams::default(),
            open: 0,
            shared: Arc::clone(&self.0),
        }
    }

    pub(crate) fn measure(&self) -> MeasuredConnections {
        MeasuredConnections {
            open: self.0.connected.load(Ordering::Relaxed) as u64,
            request_bytes: self.0.peers.used() as u64,
        }
    }

    /// Counts a request that follows events, or does not end for another reason, until the guard is
    /// dropped.
    pub(crate) fn follower(&self) -> Follower {
        self.0.followers.fetch_add(1, Ordering::SeqCst);
        self.0.changed.notify_waiters();
        Follower(Arc::clone(&self.0))
    }

    /// Waits until the answer to every request that was read is passed to the kernel, except for
    /// those that follow events.
    pub(crate) async fn answered(&self) {
        loop {
            let changed = self.0.changed.notified();
            let open = self.0.open.load(Ordering::SeqCst);
            if open <= self.0.followers.load(Ordering::SeqCst) {
                return;
            }
            changed.await;
        }
    }

    /// From now on nothing more is written on any connection, whatever its handlers do: the
    /// kernel closes the sockets without a farewell.
    pub(crate) fn cut(&self) {
        self.0.cut.store(true, Ordering::SeqCst);
    }
}

/// What is measured of connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct MeasuredConnections {
    pub(crate) open: u64,
    /// Memory of requests and answers under way.
    pub(crate) request_bytes: u64,
}

/// A request that does not end by itself.
pub(crate) struct Follower(Arc<Shared>);

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.followers.fetch_sub(1, Ordering::SeqCst);
    }
}

/// An accepted connection.
pub(crate) struct Connection {
    stream: LocalAuthority,
    peer: Peer,
    streams: OpenStreams,
    /// How many open requests of this connection are counted in `shared`.
    open: usize,
    shared: Arc<Shared>,
}

impl Connection {
    fn count(&mut self, open: usize) {
        let before = std::mem::replace(&mut self.open, open);
        if open > before {
            self.shared.open.fetch_add(open - before, Ordering::SeqCst);
        } else if open < before {
            self.shared.open.fetch_sub(before - open, Ordering::SeqCst);
            self.shared.changed.notify_waiters();
        }
    }

    fn wrote(&mut self, bufs: &[IoSlice<'_>], mut written: usize) {
        for buf in bufs {
            let part = &buf[..written.min(buf.len())];
            written -= part.len();
            let open = self.streams.written(part);
            self.count(open);
        }
    }

    fn check_whole(&self) -> io::Result<()> {
        if self.shared.cut.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.count(0);
        self.shared.connected.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check_whole()?;
        let start = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let open = self.streams.read(&buf.filled()[start..]);
        self.count(open);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check_whole()?;
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, bufs))?;
        self.wrote(bufs, written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
