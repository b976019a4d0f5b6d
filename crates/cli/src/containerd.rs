//! Calls of containerd's API: the namespace that each is about, and what people are told when one fails.

use clap::Args;
use gantry_api::containerd::{
    LEASE_METADATA, NAMESPACE_METADATA,
    namespaces::{ListNamespacesRequest, namespaces_client::NamespacesClient},
};
use tonic::{Code, Request, Status, metadata::AsciiMetadataValue, transport::Channel};

use crate::failure::Failure;

/// The largest message that is taken, as clients of containerd do.
pub(crate) const LARGEST_MESSAGE: usize = 16 << 20;

/// The namespace that a command is about.
#[derive(Debug, Clone, Args)]
pub(crate) struct NamespaceOption {
    /// Namespace of containerd's API; Docker's is `moby`
    #[arg(long, value_name = "NAMESPACE", env = "CONTAINERD_NAMESPACE", default_value = "default")]
    pub(crate) namespace: String,
}

/// A request about a namespace.
pub(crate) fn about<T>(namespace: &str, message: T) -> Result<Request<T>, Failure> {
    let mut request = Request::new(message);
    let name = namespace.parse().map_err(|_| {
        Failure::new(format!("namespace {namespace:?}: only ASCII can be in a name"))
    })?;
    request.metadata_mut().insert(NAMESPACE_METADATA, name);
    Ok(request)
}

/// A request about a namespace, whose lease keeps what is written.
pub(crate) fn leased<T>(namespace: &str, lease: &str, message: T) -> Result<Request<T>, Failure> {
    let mut request = about(namespace, message)?;
    let lease: AsciiMetadataValue =
        lease.parse().map_err(|_| Failure::new(format!("lease {lease:?} is not ASCII")))?;
    request.metadata_mut().insert(LEASE_METADATA, lease);
    Ok(request)
}

/// The failure of a call: what was being done, and the server's words.
pub(crate) fn failed(what: &str, status: &Status) -> Failure {
    match status.code() {
        // Of a server without these services: its words say no more than that.
        Code::Unimplemented => Failure::unimplemented(format!("{what}: the server cannot do this")),
        code => {
            let failure = Failure::new(format!("{what}: {}", status.message()));
            failure.away_if(code == Code::Unavailable)
        }
    }
}

/// Whether the connection was lost, or there was none: a status that was not answered by a server has a source.
pub(crate) fn is_away(status: &Status) -> bool {
    status.code() == Code::Unavailable || std::error::Error::source(status).is_some()
}

/// The names of all namespaces.
pub(crate) async fn namespaces(channel: &Channel) -> Result<Vec<String>, Failure> {
    let mut client = NamespacesClient::new(channel.clone());
    let listed = client.list(ListNamespacesRequest::default()).await;
    let listed = listed.map_err(|status| failed("list the namespaces", &status))?;
    Ok(listed.into_inner().namespaces.into_iter().map(|namespace| namespace.name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_server_without_a_service_is_known_as_one() {
        assert!(failed("list", &Status::unimplemented("")).is_unimplemented());
        for status in [Status::unavailable("away"), Status::internal("disk"), Status::not_found("")]
        {
            assert!(!failed("list", &status).is_unimplemented());
        }
    }
}
