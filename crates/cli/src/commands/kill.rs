//! `gantry kill`

use std::process::ExitCode;

use clap::Args;
use gantry_client::{Client, INIT, Signal};

use crate::failure::Outcome;

/// Send a signal to a process of a container
#[derive(Debug, Args)]
pub(crate) struct Kill {
    /// Signal, by name or number
    #[arg(short, long, default_value = "TERM")]
    signal: Signal,
    /// Id of the process in the container
    #[arg(long, value_name = "PROCESS", default_value = INIT)]
    pid: String,
    /// Id of the container
    id: String,
}

impl Kill {
    pub(crate) async fn run(self, client: &Client) -> Outcome {
        client.container(&self.id).process(&self.pid).signal(self.signal).await?;
        Ok(ExitCode::SUCCESS)
    }
}
