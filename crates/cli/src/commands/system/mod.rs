//! `gantry system`

mod df;
mod plan;
mod prune;

use clap::Subcommand;
use gantry_client::Client;

use crate::{
    containerd,
    failure::{Failure, Outcome},
};

/// See and free the space that images and containers use
#[derive(Debug, Subcommand)]
pub(crate) enum System {
    Df(df::Df),
    Prune(prune::Prune),
}

impl System {
    pub(crate) async fn run(self, client: &Client, server: &std::path::Path) -> Outcome {
        match self {
            System::Df(df) => df.run(client).await,
            System::Prune(prune) => prune.run(client, server).await,
        }
    }
}

/// Those that were named, or else all there are.
async fn chosen(client: &Client, named: &[String]) -> Result<Vec<String>, Failure> {
    match named.is_empty() {
        true => containerd::namespaces(&client.channel()).await,
        false => Ok(named.to_vec()),
    }
}
