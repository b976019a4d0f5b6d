//! Leases of containerd's API, which keep what a command makes until something else does.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, SystemTime},
};

use gantry_api::{
    Timestamp,
    containerd::leases::{
        self, AddResourceRequest, CreateRequest, DeleteRequest, ListRequest, ListResourcesRequest,
        Resource, leases_client::LeasesClient,
    },
};
use gantry_client::Client;
use tonic::{Code, transport::Channel};

use crate::{
    containerd::{LARGEST_MESSAGE, about, failed},
    containers::DIRECTORY,
    failure::Failure,
    holders::EXPIRES,
    ids,
};

/// How long what a command has made is kept after it was killed. Longer than anything takes; `gantry system prune` does not
/// wait for that.
const AT_MOST: Duration = Duration::from_secs(24 * 60 * 60);

/// A lease of this command.
#[derive(Debug)]
pub(crate) struct Lease {
    channel: Channel,
    namespace: String,
    id: String,
}

impl Lease {
    /// Makes one, for a command that has locked a directory.
    pub(crate) async fn make(
        client: &Client,
        namespace: &str,
        directory: Option<&Path>,
    ) -> Result<Lease, Failure> {
        let id = format!("gantry-{}", ids::random()?);
        let end = Timestamp::from(SystemTime::now() + AT_MOST).to_string();
        let mut labels: BTreeMap<_, _> = [(EXPIRES.to_owned(), end)].into();
        let directory = directory.map(|dir| dir.to_string_lossy().into_owned());
        labels.extend(directory.map(|dir| (DIRECTORY.to_owned(), dir)));
        let lease = Lease { channel: client.channel(), namespace: namespace.to_owned(), id };
        let request = about(namespace, CreateRequest { id: lease.id.clone(), labels })?;
        let created = lease.client().create(request).await;
        created.map_err(|status| failed("make a lease", &status))?;
        Ok(lease)
    }

    fn client(&self) -> LeasesClient<Channel> {
        stub(self.channel.clone())
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
        self.delete(false).await
    }

    async fn delete(&self, sync: bool) -> Result<(), Failure> {
        let request = about(&self.namespace, DeleteRequest { id: self.id.clone(), sync })?;
        match self.client().delete(request).await {
            Err(status) if status.code() != Code::NotFound => {
                Err(failed(&format!("delete lease {}", self.id), &status))
            }
            _ => Ok(()),
        }
    }
}

/// The leases of a namespace, whoever has made them.
pub(crate) async fn list(client: &Client, namespace: &str) -> Result<Vec<leases::Lease>, Failure> {
    let request = about(namespace, ListRequest::default())?;
    let listed = stub(client.channel()).list(request).await;
    let listed =
        listed.map_err(|status| failed(&format!("list the leases of {namespace}"), &status))?;
    Ok(listed.into_inner().leases)
}

/// What a lease keeps; nothing if it is gone.
pub(crate) async fn resources(
    client: &Client,
    namespace: &str,
    id: &str,
) -> Result<Vec<Resource>, Failure> {
    let request = about(namespace, ListResourcesRequest { id: id.to_owned() })?;
    match stub(client.channel()).list_resources(request).await {
        Ok(answer) => Ok(answer.into_inner().resources),
        Err(status) if status.code() == Code::NotFound => Ok(Vec::new()),
        Err(status) => Err(failed(&format!("list what lease {id} keeps"), &status)),
    }
}

/// Deletes a lease of another command; one that is gone is no error.
pub(crate) async fn delete(client: &Client, namespace: &str, id: &str) -> Result<(), Failure> {
    let (channel, namespace, id) = (client.channel(), namespace.to_owned(), id.to_owned());
    Lease { channel, namespace, id }.delete(false).await
}

/// Has the server collect garbage, and waits for that.
pub(crate) async fn collect(client: &Client, namespace: &str) -> Result<(), Failure> {
    Lease::make(client, namespace, None).await?.delete(true).await
}

fn stub(channel: Channel) -> LeasesClient<Channel> {
    LeasesClient::new(channel).max_decoding_message_size(LARGEST_MESSAGE)
}
