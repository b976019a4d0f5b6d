//! `gantry version`

use std::{path::Path, process::ExitCode};

use clap::Args;
use gantry_client::{Client, ServerVersion};

use crate::{PATIENCE, failure::Outcome, output};

/// Print the versions of this command and of the server
#[derive(Debug, Args)]
pub(crate) struct Version {}

impl Version {
    pub(crate) async fn run(self, address: &Path) -> Outcome {
        output::line(format!("gantry  {}", env!("CARGO_PKG_VERSION")))?;
        let client = Client::connect(address, PATIENCE).await?;
        let ServerVersion { major, minor, patch, revision, .. } = client.server_version().await?;
        output::line(format!("server  {major}.{minor}.{patch} {revision}").trim_end())?;
        Ok(ExitCode::SUCCESS)
    }
}
