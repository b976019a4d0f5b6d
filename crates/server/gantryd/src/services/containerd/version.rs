//! Which server this is.

use gantry_api::containerd::version::{VersionResponse, version_server};
use tonic::{Request, Response, Status};

/// The version of containerd whose services are here, and Gantry's own. Clients conclude from 2.0.0 and later
/// that the transfer service is there, as it is.
pub(crate) const VERSION: &str = concat!("2.0.0+gantry", env!("CARGO_PKG_VERSION"));

/// In place of a commit.
pub(crate) const REVISION: &str = concat!("gantry-", env!("CARGO_PKG_VERSION"));

/// The service.
pub(super) struct Version;

#[tonic::async_trait]
impl version_server::Version for Version {
    async fn version(&self, _request: Request<()>) -> Result<Response<VersionResponse>, Status> {
        let (version, revision) = (VERSION.to_owned(), REVISION.to_owned());
        Ok(Response::new(VersionResponse { version, revision }))
    }
}
