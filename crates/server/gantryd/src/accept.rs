//! Accepts connections, with a pause while the host has no room for one more.

use std::{convert::Infallible, future, io, path::PathBuf, time::Duration};

use futures_util::stream::{self, Stream};
use tokio::{
    net::{UnixListener, UnixStream, unix::SocketAddr},
    time::sleep,
};
use tokio_stream::{StreamExt, StreamMap};

use crate::connection::{Connection, Connections};

/// A connection that waits stays ready to be accepted, so that a server without a free descriptor
/// would otherwise try without a pause. No event says when a descriptor is free again.
const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// The connections that clients make to any of the sockets, each with its path, for as long as they are asked for.
pub(crate) fn incoming(
    listeners: Vec<(UnixListener, PathBuf)>,
    connections: &Connections,
) -> impl Stream<Item = Result<Connection, Infallible>> + use<> {
    let of_all: StreamMap<_, _> = listeners
        .into_iter()
        .map(|(listener, path)| Box::pin(incoming_to(listener, path, connections.clone())))
        .enumerate()
        .collect();
    of_all.map(|(_, connection)| connection)
}

fn incoming_to(
    listener: UnixListener,
    path: PathBuf,
    connections: Connections,
) -> impl Stream<Item = Result<Connection, Infallible>> {
    let acceptor = Acceptor { listener, trouble: Trouble::default() };
    stream::unfold((acceptor, path, connections), |(mut acceptor, path, connections)| async move {
        let stream = acceptor.accept().await;
        Some((Ok(connections.take(stream, &path)), (acceptor, path, connections)))
    })
}

struct Acceptor {
    listener: UnixListener,
    trouble: Trouble,
}

impl Acceptor {
    async fn accept(&mut self) -> UnixStream {
        loop {
            match self.next().await {
                Ok((stream, _)) => return stream,
                Err(error) if is_of_one_client(&error) => {}
                Err(error) => sleep(self.trouble.pause(&error)).await,
            }
        }
    }

    /// Trouble is over once nobody waits any more: one connection that fits in between, as the
    /// server has closed some file, does not mean that there is room.
    async fn next(&mut self) -> io::Result<(UnixStream, SocketAddr)> {
        if self.trouble.has_begun() {
            tokio::select! {
                biased;
                accepted = self.listener.accept() => return accepted,
                () = future::ready(()) => self.trouble.is_over(),
            }
        }
        self.listener.accept().await
    }
}

/// The client has gone before it was accepted, or a signal came: the next one may be there already.
fn is_of_one_client(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted)
}

/// What keeps connections from being accepted: mostly EMFILE, ENFILE, ENOMEM or ENOBUFS of
/// accept(2). Logged once when it begins, and once when it is over.
#[derive(Default)]
struct Trouble {
    last_pause: Option<Duration>,
}

impl Trouble {
    /// How long to wait before the next try.
    fn pause(&mut self, error: &io::Error) -> Duration {
        if self.last_pause.is_none() {
            tracing::error!(%error, "cannot accept connections, which wait until there is room");
        }
        let pause = self.last_pause.map_or(SHORTEST_PAUSE, |last| (2 * last).min(LONGEST_PAUSE));
        self.last_pause = Some(pause);
        pause
    }

    fn has_begun(&self) -> bool {
        self.last_pause.is_some()
    }

    fn is_over(&mut self) {
        self.last_pause = None;
        tracing::info!("connections are accepted again");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_begin_anew() {
        let mut trouble = Trouble::default();
        let error = io::Error::from_raw_os_error(nix::libc::EMFILE);
        let pauses: Vec<_> = (0..8).map(|_| trouble.pause(&error)).collect();
        assert_eq!(pauses[..3], [5, 10, 20].map(Duration::from_millis));
        assert_eq!(pauses[7], LONGEST_PAUSE);
        trouble.is_over();
        assert_eq!(trouble.pause(&error), SHORTEST_PAUSE);
    }
}
