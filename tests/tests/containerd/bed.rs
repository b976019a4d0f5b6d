//! A server, and clients of its services.

use gantry_api::containerd::{
    NAMESPACE_METADATA,
    containers::{
        Container, CreateContainerRequest, GetContainerRequest,
        container::Runtime as ContainerRuntime, containers_client::ContainersClient,
    },
    content::content_client::ContentClient,
    diff::diff_client::DiffClient,
    events::events_client::EventsClient,
    images::images_client::ImagesClient,
    introspection::introspection_client::IntrospectionClient,
    leases::leases_client::LeasesClient,
    namespaces::namespaces_client::NamespacesClient,
    snapshots::snapshots_client::SnapshotsClient,
    streaming::streaming_client::StreamingClient,
    tasks::tasks_client::TasksClient,
    transfer::transfer_client::TransferClient,
    type_url,
    version::version_client::VersionClient,
};
use gantry_tests::{Runtime, Server, improves, server::Setup};
use tonic::{Code, Request, Status, transport::Channel};

/// A server of the test's own, and a connection to it.
pub(crate) struct Bed {
    pub(crate) server: Server,
    channel: Channel,
}

/// Messages of 16 MiB, as clients of containerd take them.
const MAX_MESSAGE: usize = 16 << 20;

impl Bed {
    /// `None`, after saying so, when the server is one without these services.
    pub(crate) async fn start() -> Option<Self> {
        Self::start_with(Server::setup(Runtime::Runc)).await
    }

    pub(crate) async fn start_with(setup: Setup) -> Option<Self> {
        if improves("it is before these services") {
            return None;
        }
        let server = setup.start().await?;
        let channel = server.service.channel();
        Some(Self { server, channel })
    }

    pub(crate) fn containers(&self) -> ContainersClient<Channel> {
        let client = ContainersClient::new(self.channel.clone());
        client.max_decoding_message_size(MAX_MESSAGE)
    }

    pub(crate) fn content(&self) -> ContentClient<Channel> {
        let client = ContentClient::new(self.channel.clone());
        client.max_decoding_message_size(MAX_MESSAGE)
    }

    pub(crate) fn diff(&self) -> DiffClient<Channel> {
        DiffClient::new(self.channel.clone())
    }

    pub(crate) fn events(&self) -> EventsClient<Channel> {
        EventsClient::new(self.channel.clone())
    }

    pub(crate) fn images(&self) -> ImagesClient<Channel> {
        let client = ImagesClient::new(self.channel.clone());
        client.max_decoding_message_size(MAX_MESSAGE)
    }

    pub(crate) fn introspection(&self) -> IntrospectionClient<Channel> {
        IntrospectionClient::new(self.channel.clone())
    }

    pub(crate) fn leases(&self) -> LeasesClient<Channel> {
        LeasesClient::new(self.channel.clone())
    }

    pub(crate) fn namespaces(&self) -> NamespacesClient<Channel> {
        NamespacesClient::new(self.channel.clone())
    }

    pub(crate) fn snapshots(&self) -> SnapshotsClient<Channel> {
        SnapshotsClient::new(self.channel.clone())
    }

    pub(crate) fn streaming(&self) -> StreamingClient<Channel> {
        StreamingClient::new(self.channel.clone())
    }

    pub(crate) fn transfer(&self) -> TransferClient<Channel> {
        TransferClient::new(self.channel.clone())
    }

    pub(crate) fn tasks(&self) -> TasksClient<Channel> {
        TasksClient::new(self.channel.clone())
    }

    pub(crate) fn version(&self) -> VersionClient<Channel> {
        VersionClient::new(self.channel.clone())
    }

    /// Creates a container.
    pub(crate) async fn create(
        &self,
        namespace: &str,
        container: Container,
    ) -> Result<Container, Status> {
        let request = CreateContainerRequest { container: Some(container) };
        let created = self.containers().create(of(namespace, request)).await?;
        Ok(created.into_inner().container.expect("a container"))
    }

    pub(crate) async fn get(&self, namespace: &str, id: &str) -> Result<Container, Status> {
        let request = GetContainerRequest { id: id.to_owned() };
        let got = self.containers().get(of(namespace, request)).await?;
        Ok(got.into_inner().container.expect("a container"))
    }
}

/// A request about a namespace.
pub(crate) fn of<T>(namespace: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(NAMESPACE_METADATA, namespace.parse().expect("ASCII"));
    request
}

/// What can be created.
pub(crate) fn container(id: &str) -> Container {
    Container {
        id: id.to_owned(),
        runtime: Some(ContainerRuntime { name: "io.containerd.runc.v2".to_owned(), options: None }),
        spec: Some(any(type_url::SPEC, b"{}")),
        ..Container::default()
    }
}

pub(crate) fn any(type_url: &str, value: &[u8]) -> prost_types::Any {
    prost_types::Any { type_url: type_url.to_owned(), value: value.to_owned() }
}

/// Clients of containerd look at both, and some only at the words.
#[track_caller]
pub(crate) fn assert_refused<T: std::fmt::Debug>(
    result: Result<T, Status>,
    code: Code,
    message: &str,
) {
    let error = result.expect_err("an error");
    assert_eq!((error.code(), error.message()), (code, message));
    assert!(error.details().is_empty(), "they would add them to the words: {:?}", error.details());
}
