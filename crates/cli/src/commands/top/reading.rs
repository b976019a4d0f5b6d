//! A reading of the server and of its containers.

use gantry_api::v1::{
    ContainerUsage, Filter, GetMeasuresRequest, GetMeasuresResponse, ListUsageRequest,
    server_service_client::ServerServiceClient,
};
use gantry_client::Client;
use tonic::Status;

use crate::{
    containerd::{LARGEST_MESSAGE, failed},
    failure::Failure,
    place::PlaceOption,
};

/// What the server has counted, and what containers use.
#[derive(Debug, Default)]
pub(super) struct Reading {
    pub(super) measures: GetMeasuresResponse,
    pub(super) usage: Vec<ContainerUsage>,
}

impl Reading {
    /// Of the containers of one namespace if one was given, or of all.
    pub(super) async fn take(client: &Client, place: &PlaceOption) -> Result<Self, Failure> {
        let filter = place
            .namespace
            .as_ref()
            .map(|namespace| Filter { namespaces: vec![namespace.clone()], ..Filter::default() });
        let read = read(client, filter).await;
        read.map_err(|status| failed("measure the server", &status))
    }
}

async fn read(client: &Client, filter: Option<Filter>) -> Result<Reading, Status> {
    let mut server =
        ServerServiceClient::new(client.channel()).max_decoding_message_size(LARGEST_MESSAGE);
    let measures = server.get_measures(GetMeasuresRequest {}).await?.into_inner();
    let mut listed = server.list_usage(ListUsageRequest { filter }).await?.into_inner();
    let mut usage = Vec::new();
    while let Some(part) = listed.message().await? {
        usage.extend(part.containers);
    }
    Ok(Reading { measures, usage })
}
