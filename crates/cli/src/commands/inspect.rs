//! `gantry inspect`

use std::{fs, path::Path, process::ExitCode};

use clap::Args;
use gantry_client::Client;
use serde_json::{Value, json};

use super::ps;
use crate::{
    failure::{Failure, Outcome},
    output,
    place::PlaceOption,
};

/// Print all that is known of containers, as JSON
///
/// That is what `gantry ps --json` prints, the configuration, and of a container of a namespace its snapshot.
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    #[command(flatten)]
    place: PlaceOption,
    /// Ids of containers
    #[arg(required = true)]
    ids: Vec<String>,
}

impl Inspect {
    pub(crate) async fn run(self, client: &Client) -> Outcome {
        let mut failures = Vec::new();
        for id in &self.ids {
            match self.describe(client, id).await {
                Ok(container) => output::line(format!("{container:#}"))?,
                Err(failure) => failures.push(failure),
            }
        }
        Failure::all(failures)?;
        Ok(ExitCode::SUCCESS)
    }

    async fn describe(&self, client: &Client, id: &str) -> Result<Value, Failure> {
        let mut container = ps::described(&self.place, client, id).await?;
        let spec = match self.place.find(client, id).await? {
            Some(found) => {
                let record = found.record;
                container["snapshotter"] = json!(record.snapshotter);
                container["snapshot"] = json!(record.snapshot_key);
                record.spec.map(|spec| spec.value).unwrap_or_default()
            }
            // Another user's bundle may be hidden from us.
            None => {
                let bundle = container["bundle"].as_str().unwrap_or_default();
                fs::read(Path::new(bundle).join("config.json")).unwrap_or_default()
            }
        };
        container["config"] = serde_json::from_slice(&spec).unwrap_or_default();
        Ok(container)
    }
}
