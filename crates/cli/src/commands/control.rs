//! `gantry pause` and `gantry resume`

use std::process::ExitCode;

use clap::Args;
use gantry_client::{Client, INIT};

use crate::{failure::Outcome, place::PlaceOption};

/// Freeze all processes of a container
#[derive(Debug, Args)]
pub(crate) struct Pause {
    #[command(flatten)]
    place: PlaceOption,
    /// Id of the container
    id: String,
}

/// Let a paused container go on
#[derive(Debug, Args)]
pub(crate) struct Resume {
    #[command(flatten)]
    place: PlaceOption,
    /// Id of the container
    id: String,
}

impl Pause {
    pub(crate) async fn run(self, client: &Client) -> Outcome {
        match self.place.find(client, &self.id).await? {
            Some(found) => found.process(INIT).pause().await?,
            None => client.container(&self.id).pause().await?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Resume {
    pub(crate) async fn run(self, client: &Client) -> Outcome {
        match self.place.find(client, &self.id).await? {
            Some(found) => found.process(INIT).resume().await?,
            None => client.container(&self.id).resume().await?,
        }
        Ok(ExitCode::SUCCESS)
    }
}
