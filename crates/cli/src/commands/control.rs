//! `gantry pause` and `gantry resume`

use std::process::ExitCode;

use clap::Args;
use gantry_client::Client;

use crate::failure::Outcome;

/// Freeze all processes of a container
#[derive(Debug, Args)]
pub(crate) struct Pause {
    /// Id of the container
    id: String,
}

/// Let a paused container go on
#[derive(Debug, Args)]
pub(crate) struct Resume {
    /// Id of the container
    id: String,
}

impl Pause {
    pub(crate) async fn run(self, client: &Client) -> Outcome {
        client.container(&self.id).pause().await?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Resume {
    pub(crate) async fn run(self, client: &Client) -> Outcome {
        client.container(&self.id).resume().await?;
        Ok(ExitCode::SUCCESS)
    }
}
