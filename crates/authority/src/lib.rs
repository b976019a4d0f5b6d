//! Accepts any `:authority` from clients on a unix socket, where it has no meaning.
//!
//! Go programs, grpcurl and everything based on gRPC's C core send the path of the socket. It is no
//! authority by RFC 3986, and h2 resets such a stream before any other code sees the request
//! (hyperium/h2#487). So the value is replaced on its way from the socket to h2.

#![forbid(unsafe_code)]

mod frames;
mod hpack;
#[cfg(test)]
mod tests;

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use frames::Frames;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::UnixStream,
};
use tonic::transport::server::Connected;

/// An accepted connection whose client always asks for `localhost`.
#[derive(Debug)]
pub struct LocalAuthority {
    stream: UnixStream,
    frames: Frames,
}

impl LocalAuthority {
    /// Of a connection from which nothing was read yet.
    #[must_use]
    pub fn new(stream: UnixStream) -> Self {
        Self { stream, frames: Frames::default() }
    }
}

impl Connected for LocalAuthority {
    type ConnectInfo = <UnixStream as Connected>::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for LocalAuthority {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, frames, .. } = &mut *self;
        let start = buf.filled().len();
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        // An empty buffer would mean the end of the stream, not that a block is held back.
        while buf.filled().len() == start && !frames.drain(buf) {
            ready!(Pin::new(&mut *stream).poll_read(cx, buf))?;
            let read = &buf.filled()[start..];
            if read.is_empty() && !frames.finish() {
                break;
            }
            let passed = frames.take(read);
            buf.set_filled(start + passed);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for LocalAuthority {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
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
