//! Images of a namespace, in containerd's API: names for content.

pub(crate) mod chosen;
pub(crate) mod manifest;
pub(crate) mod present;
pub(crate) mod reference;
pub(crate) mod unpack;

use gantry_api::containerd::images::{
    DeleteImageRequest, GetImageRequest, Image, ListImagesRequest, images_client::ImagesClient,
};
use gantry_client::Client;
use tonic::{Code, transport::Channel};

use crate::{
    containerd::{LARGEST_MESSAGE, about, failed},
    failure::Failure,
};

/// The images of a namespace.
#[derive(Debug, Clone)]
pub(crate) struct Images {
    channel: Channel,
    namespace: String,
}

impl Images {
    pub(crate) fn of(client: &Client, namespace: &str) -> Images {
        Images { channel: client.channel(), namespace: namespace.to_owned() }
    }

    fn client(&self) -> ImagesClient<Channel> {
        ImagesClient::new(self.channel.clone()).max_decoding_message_size(LARGEST_MESSAGE)
    }

    /// Those that one of containerd's filters finds; without filters all.
    pub(crate) async fn list(&self, filters: Vec<String>) -> Result<Vec<Image>, Failure> {
        let request = about(&self.namespace, ListImagesRequest { filters })?;
        let listed = self.client().list(request).await;
        let listed = listed.map_err(|status| {
            failed(&format!("list the images of namespace {}", self.namespace), &status)
        })?;
        Ok(listed.into_inner().images)
    }

    /// The image that a person calls like this.
    pub(crate) async fn find(&self, name: &str) -> Result<Image, Failure> {
        for name in reference::candidates(name) {
            let request = about(&self.namespace, GetImageRequest { name: name.clone() })?;
            match self.client().get(request).await {
                Ok(answer) => {
                    if let Some(image) = answer.into_inner().image {
                        return Ok(image);
                    }
                }
                Err(status) if status.code() == Code::NotFound => {}
                Err(status) => return Err(failed(&format!("find image {name}"), &status)),
            }
        }
        let namespace = &self.namespace;
        Err(Failure::new(format!("namespace {namespace} has no image {name}")))
    }

    /// Deletes a name. What it alone has kept is gone when this returns.
    pub(crate) async fn delete(&self, image: &Image) -> Result<(), Failure> {
        // Of this content only: meanwhile the name may have been given to another one.
        let (name, target) = (image.name.clone(), image.target.clone());
        let request = about(&self.namespace, DeleteImageRequest { name, target, sync: true })?;
        let deleted = self.client().delete(request).await;
        deleted.map(drop).map_err(|status| failed(&format!("delete {}", image.name), &status))
    }
}
