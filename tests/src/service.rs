//! What a test needs of a running server: a connection, the event log, and a work directory.

use std::path::{Path, PathBuf};

use gantry_api::{
    Timestamp,
    containerd::introspection::introspection_client::IntrospectionClient,
    types::{GetServerVersionRequest, StateRequest, api_client::ApiClient},
};
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

use crate::{PATIENCE, Runtime, events::EventLog};

/// The generated client.
pub type Api = ApiClient<Channel>;

/// A server to talk to, and the names under which a test puts its things.
#[derive(Debug)]
pub struct Service {
    /// Path of the server's socket.
    pub socket: PathBuf,
    /// The test's own directory; the server's state directory is below it, unless it was started
    /// by somebody else.
    pub work: PathBuf,
    /// The cgroup below which all containers are.
    pub cgroup: String,
    /// The runtime that containers run on, unless a test says otherwise.
    pub runtime: Runtime,
    /// Goes in front of all container ids.
    pub prefix: String,
    /// Everything that happened.
    pub events: EventLog,
    channel: Channel,
}

impl Service {
    /// Connects, when the first call is made.
    #[must_use]
    pub fn new(socket: PathBuf, work: &Path, runtime: Runtime, from: Timestamp) -> Self {
        let name = work.file_name().and_then(|name| name.to_str()).expect("UTF-8");
        let channel = endpoint(&socket).timeout(PATIENCE).connect_lazy();
        Self {
            events: EventLog::follow(connect(&socket), from),
            channel,
            socket,
            work: work.to_owned(),
            cgroup: format!("/{name}"),
            runtime,
            prefix: String::new(),
        }
    }

    /// A client on the test's one connection. Its calls end after [`PATIENCE`].
    #[must_use]
    pub fn api(&self) -> Api {
        Api::new(self.channel.clone())
    }

    /// The test's one connection.
    #[must_use]
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Whether all services answer that wait for something.
    pub async fn is_ready(&self) -> bool {
        if self.api().get_server_version(GetServerVersionRequest {}).await.is_err() {
            return false;
        }
        match IntrospectionClient::new(self.channel()).server(()).await {
            Ok(_) => true,
            // One of before these services.
            Err(error) => error.code() == Code::Unimplemented,
        }
    }

    /// The state of one container.
    ///
    /// # Errors
    /// What the server answers.
    pub async fn state(&self, id: &str) -> Result<gantry_api::types::Container, Status> {
        let request = StateRequest { id: id.to_owned() };
        let mut containers = self.api().state(request).await?.into_inner().containers;
        assert_eq!(containers.len(), 1, "State of one container answers with that one");
        Ok(containers.remove(0))
    }

    /// Root directory of a runtime's state.
    #[must_use]
    pub fn runtime_root(&self, runtime: Runtime) -> PathBuf {
        self.work.join(runtime.name())
    }
}

/// A connection of its own, without a limit on how long a call may take.
#[must_use]
pub fn connect(socket: &Path) -> Api {
    Api::new(endpoint(socket).connect_lazy())
}

/// A connection to another server.
#[must_use]
pub fn channel(socket: &Path) -> Channel {
    endpoint(socket).connect_lazy()
}

/// Where to connect to.
///
/// # Panics
/// When the path is not UTF-8.
#[must_use]
pub fn endpoint(socket: &Path) -> Endpoint {
    let path = socket.to_str().expect("UTF-8");
    Endpoint::try_from(format!("unix://{path}")).expect("a socket's path")
}
