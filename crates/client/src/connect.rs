//! How a client connects, and how long it waits for its server.

use std::{future::Future, io, path::Path, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::UnixStream,
};
use tonic::transport::Channel;

use crate::{
    client::Client,
    connection::{Connection, Limits, socket_path},
    error::Result,
};

/// Describes a connection to a server, see [`Client::builder`].
#[derive(Debug, Clone, Default)]
#[must_use = "nothing happens before one of the `connect`s"]
pub struct ClientBuilder {
    limits: Limits,
}

impl ClientBuilder {
    /// How long to wait for a server that does not listen, or that a connection was lost to.
    /// Default: 15 s.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.limits.patience = patience;
        self
    }

    /// How long one call may take, see [`Client::with_call_timeout`].
    pub fn call_timeout(mut self, timeout: Duration) -> Self {
        self.limits.call_timeout = Some(timeout);
        self
    }

    /// Connects to a unix socket: a path, or `unix://` and a path.
    pub async fn connect(self, address: impl AsRef<Path>) -> Result<Client> {
        let path = socket_path(address.as_ref());
        let operation = format!("connect to {}", path.display());
        let dial = move || UnixStream::connect(path.clone());
        Ok(Client::new(Connection::open(operation, dial, self.limits).await?))
    }

    /// Connects by a connector: it is called for every connection, now and when one was lost, and
    /// again as long as it answers that the server does not listen (`NotFound`, `ConnectionRefused`
    /// or `WouldBlock`).
    pub async fn connect_by<F, S>(
        self,
        connector: impl Fn() -> F + Send + Sync + 'static,
    ) -> Result<Client>
    where
        F: Future<Output = io::Result<S>> + Send + 'static,
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let operation = "connect to the server";
        Ok(Client::new(Connection::open(operation, connector, self.limits).await?))
    }

    /// Uses an existing connection. How long to wait for a server that does not listen is up to
    /// the channel's own connector; calls are repeated all the same.
    pub fn channel(self, channel: Channel) -> Client {
        Client::new(Connection::over(channel, self.limits))
    }
}
