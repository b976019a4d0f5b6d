//! Leases of containerd's API, which keep what a command makes until something else does.

use std::time::{Duration, SystemTime};

use gantry_api::{
    Timestamp,
    containerd::leases::{
        AddResourceRequest, CreateRequest, DeleteRequest, Resource, leases_client::LeasesClient,
    },
};
use gantry_client::Client;
use tonic::{Code, transport::Channel};

use crate::{
    containerd::{about, failed},
    failure::Failure,
    ids,
};

/// How long what a command has made is kept after it was killed. Longer than anything takes; `gantry system prune` does not
/// wait for that.
const AT_MOST: Duration = Duration::from_secs(24 * 60 * 60);

/// The label of a lease that says when it ends.
const EXPIRES: &str = "containerd.io/gc.expire";

/// A lease of this command.
#[derive(Debug)]
pub(crate) struct Lease {
    channel: Channel,
    namespace: String,
    id: String,
}

impl Lease {
    /// Makes one, with further labels.
    pub(crate) async fn make(
        client: &Client,
        namespace: &str,
        label: (&str, String),
    ) -> Result<Lease, Failure> {
        let id = format!("gantry-{}", ids::random()?);
        let end = Timestamp::from(SystemTime::now() + AT_MOST).to_string();
        let labels = [(EXPIRES.to_owned(), end), (label.0.to_owned(), label.1)].into();
        let lease = Lease { channel: client.channel(), namespace: namespace.to_owned(), id };
        let request = about(namespace, CreateRequest { id: lease.id.clone(), labels })?;
        let created = lease.client().create(request).await;
        created.map_err(|status| failed("make a lease", &status))?;
        Ok(lease)
    }

    fn client(&self) -> LeasesClient<Channel> {
        LeasesClient::new(self.channel.clone())
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Keeps something, which need not be there yet.
    pub(crate) async fn add(&self, kind: &str, id: &str) -> Result<(), Failure> {
        let resource = Some(Resource { id: id.to_owned(), r#type: kind.to_owned() });
        let request = AddResourceRequest { id: self.id.clone(), resource };
        let added = self.client().add_resource(about(&self.namespace, request)?).await;
        added.map(drop).map_err(|status| failed(&format!("lease {id}"), &status))
    }

    /// Keeps nothing any more.
    pub(crate) async fn end(self) -> Result<(), Failure> {
        let request = DeleteRequest { id: self.id.clone(), sync: false };
        match self.client().delete(about(&self.namespace, request)?).await {
            Err(status) if status.code() != Code::NotFound => {
                Err(failed(&format!("delete lease {}", self.id), &status))
            }
            _ => Ok(()),
        }
    }
}
