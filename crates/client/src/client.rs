//! The entry point: a connection to the server and what can be asked of the server as a whole.

use std::{path::Path, sync::Arc, time::Duration};

use gantry_api::types;
use tonic::transport::Channel;

use crate::{
    call::Operation,
    connect::ClientBuilder,
    connection::{Api, Connection},
    container::Container,
    create::ContainerBuilder,
    error::Result,
    event::EventFilter,
    event_stream::EventStream,
    exits::Exits,
    state::{all_containers, find_container},
};

/// A client of one server. Cheap to clone; all clones share one connection.
///
/// # When the server is away
///
/// While a server is restarted, calls are delayed and do not fail, as long as it is back within the
/// client's patience:
///
/// - Calls that only read (state, statistics, version, lists of checkpoints, those of waiting and attaching)
///   or have the same effect when they are made twice (a limit, a window's size, the end of the input) are
///   repeated when the connection was lost.
/// - All others (signals, pauses, checkpoints) are repeated only if they were certainly not sent:
///   there was no connection, or the call was not on it yet. Otherwise the error is
///   [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable), and whether the call was carried out is not
///   known.
/// - The start of a container or a process whose answer was lost is looked for in the server's state
///   and events, and made again if it never happened: see
///   [`ContainerBuilder::start`](crate::ContainerBuilder::start).
/// - A stream of events gives an error and goes on; waiting for an exit just goes on.
///
/// Attempts follow each other after pauses of 20 ms, doubled up to 2 s.
#[derive(Debug, Clone)]
pub struct Client {
    pub(crate) connection: Connection,
    pub(crate) exits: Arc<Exits>,
}

/// Version of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerVersion {
    /// Incompatible changes.
    pub major: u32,
    /// New features.
    pub minor: u32,
    /// Fixes.
    pub patch: u32,
    /// Source revision or pre-release tag; may be empty.
    pub revision: String,
}

impl Client {
    /// Connects to the server's unix socket (a path, or `unix://` and a path).
    ///
    /// Waits up to `patience` for a server that does not listen, both here and in later calls:
    /// where the server is restarted calls are late but do not fail.
    pub async fn connect(address: impl AsRef<Path>, patience: Duration) -> Result<Client> {
        Client::builder().patience(patience).connect(address).await
    }

    /// For a connection of the caller's own making, or with other limits than the default.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    pub(crate) fn new(connection: Connection) -> Client {
        Client { connection, exits: Arc::default() }
    }

    /// The same client, on the same connection, whose calls may take this long, repetitions
    /// included; then they end with
    /// [`ErrorKind::DeadlineExceeded`](crate::ErrorKind::DeadlineExceeded).
    ///
    /// Default: 150 s, which is longer than gantryd gives a runtime, so that its own error comes
    /// first; for a checkpoint 15 minutes. Streams and waiting for an exit have no limit.
    #[must_use]
    pub fn with_call_timeout(&self, timeout: Duration) -> Client {
        let (connection, exits) = (self.connection.clone().within(timeout), self.exits.clone());
        Client { connection, exits }
    }

    /// The connection, for services of the server that this crate has no calls for, such as those of containerd.
    /// What is called on it is not repeated, and has no deadline.
    pub fn channel(&self) -> Channel {
        self.connection.channel()
    }

    /// The server's version.
    pub async fn server_version(&self) -> Result<ServerVersion> {
        let operation = Operation::repeatable("ask for the server's version");
        let request = types::GetServerVersionRequest {};
        let ask = |mut api: Api, request| async move { api.get_server_version(request).await };
        let version = self.connection.call(operation, request, ask).await?;
        let types::GetServerVersionResponse { major, minor, patch, revision } = version;
        Ok(ServerVersion { major, minor, patch, revision })
    }

    /// All containers and the machine they run on.
    pub async fn state(&self) -> Result<types::StateResponse> {
        all_containers(&self.connection).await
    }

    /// One container; `None` if the server does not know it.
    pub async fn find(&self, id: &str) -> Result<Option<types::Container>> {
        find_container(&self.connection, id).await
    }

    /// A handle on a container that may exist; the server is not asked.
    pub fn container(&self, id: &str) -> Container {
        Container::detached(self, id)
    }

    /// Describes a container to create. `bundle` is an absolute path whose parent exists.
    pub fn create(&self, id: &str, bundle: &Path) -> ContainerBuilder {
        ContainerBuilder::new(self, id, bundle)
    }

    /// Events of one container or of all.
    pub fn events(&self, filter: EventFilter) -> EventStream {
        EventStream::new(self.connection.clone(), filter)
    }
}
