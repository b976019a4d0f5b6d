//! Where a container is: in `types.API`, or in a namespace of containerd's API.

use clap::Args;
use gantry_api::containerd::containers::Container;
use gantry_client::{Client, INIT};

use crate::{containerd, containers::Containers, failure::Failure, tasks::Task};

/// The variable that other clients of containerd take the namespace from.
const VARIABLE: &str = "CONTAINERD_NAMESPACE";

/// Where to look for a container.
#[derive(Debug, Clone, Args)]
pub(crate) struct PlaceOption {
    /// Namespace of containerd's API that the container is in; Docker's is `moby` [default: a container without namespace,
    /// or else one in $CONTAINERD_NAMESPACE or `default`]
    #[arg(long, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
}

/// Which containers are all.
#[derive(Debug, Clone, Args)]
pub(crate) struct Everywhere {
    /// Only containers of this namespace of containerd's API; Docker's is `moby`
    #[arg(long, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
    /// Containers of all namespaces
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub(crate) all_namespaces: bool,
}

/// A container of a namespace.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) containers: Containers,
    pub(crate) record: Container,
}

/// The namespace that counts if nobody names one.
pub(crate) fn default_namespace() -> String {
    let set = std::env::var(VARIABLE).ok().filter(|name| !name.is_empty());
    set.unwrap_or_else(|| "default".to_owned())
}

impl Everywhere {
    /// Whether containers without namespace are meant, too.
    pub(crate) fn has_plain(&self) -> bool {
        self.namespace.is_none()
    }

    /// The namespaces that are meant; none of a server that has none.
    pub(crate) async fn namespaces(&self, client: &Client) -> Result<Vec<String>, Failure> {
        if let Some(namespace) = &self.namespace {
            return Ok(vec![namespace.clone()]);
        }
        match containerd::namespaces(&client.channel()).await {
            Ok(all) if self.all_namespaces => Ok(all),
            Ok(_) => Ok(vec![default_namespace()]),
            Err(failure) if failure.is_unimplemented() => Ok(Vec::new()),
            Err(failure) => Err(failure),
        }
    }
}

impl PlaceOption {
    /// Finds a container of a namespace; none if it is one of `types.API`, or nowhere.
    pub(crate) async fn find(&self, client: &Client, id: &str) -> Result<Option<Found>, Failure> {
        if let Some(namespace) = &self.namespace {
            let containers = Containers::of(client, namespace);
            let record = containers.find(id).await?.ok_or_else(|| {
                Failure::new(format!("namespace {namespace} has no container {id}"))
            })?;
            return Ok(Some(Found { containers, record }));
        }
        if client.find(id).await?.is_some() {
            return Ok(None);
        }
        let containers = Containers::of(client, &default_namespace());
        let record = match containers.find(id).await {
            // A server without namespaces has no such container.
            Err(failure) if failure.is_unimplemented() => None,
            record => record?,
        };
        Ok(record.map(|record| Found { containers, record }))
    }
}

impl Found {
    /// Its first process, or a further one.
    pub(crate) fn process(&self, process: &str) -> Task {
        let task = self.containers.task(&self.record.id);
        if process == INIT { task } else { task.further(process) }
    }
}
