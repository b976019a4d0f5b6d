//! The entry point: a connection to the server and what can be asked of the server as a whole.

use std::{path::Path, sync::Arc, time::Duration};

use gantry_api::types;

use crate::{
    connection::{Connection, Operation},
    container::Container,
    create::ContainerBuilder,
    error::Result,
    event::{EventFilter, EventStream},
    exits::Exits,
    state::{all_containers, find_container},
};

/// A client of one server. Cheap to clone; all clones share one connection.
#[derive(Debug, Clone)]
pub struct Client {
    pub(crate) connection: Connection,
    pub(crate) exits: Arc<Exits>,
}

/// Version of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
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
        let connection = Connection::open(address.as_ref(), patience).await?;
        Ok(Client { connection, exits: Arc::default() })
    }

    /// The server's version.
    pub async fn server_version(&self) -> Result<ServerVersion> {
        let request = types::GetServerVersionRequest {};
        let mut api = self.connection.api();
        let call = async move { api.get_server_version(request).await };
        let version = Operation::new("ask for the server's version").run(call).await?;
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
