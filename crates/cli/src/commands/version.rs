//! `gantry version`

use std::{path::Path, process::ExitCode};

use clap::Args;
use gantry_client::{Client, Error, ServerVersion};
use serde_json::json;

use crate::{PATIENCE, failure::Outcome, output};

/// Print the versions of this command and of the server
#[derive(Debug, Args)]
pub(crate) struct Version {
    /// Print JSON: `gantry`, and what the server says of itself, or null if it does not answer
    #[arg(long)]
    json: bool,
}

impl Version {
    pub(crate) async fn run(self, address: &Path) -> Outcome {
        let own = env!("CARGO_PKG_VERSION");
        if !self.json {
            output::line(format!("gantry  {own}"))?;
        }
        let version = match server_version(address).await {
            Ok(version) => version,
            Err(error) => {
                if self.json {
                    output::json(&json!({ "gantry": own, "server": null }))?;
                }
                return Err(error.into());
            }
        };
        let ServerVersion { major, minor, patch, revision, .. } = version;
        let server = format!("{major}.{minor}.{patch}");
        if self.json {
            let server = json!({ "version": server, "revision": revision });
            output::json(&json!({ "gantry": own, "server": server }))?;
        } else {
            output::line(format!("server  {server} {revision}").trim_end())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn server_version(address: &Path) -> Result<ServerVersion, Error> {
    Client::connect(address, PATIENCE).await?.server_version().await
}
