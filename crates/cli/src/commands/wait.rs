//! `gantry wait`

use std::process::ExitCode;

use clap::Args;
use gantry_client::{Client, INIT};
use serde_json::json;

use crate::{
    failure::{Failure, Outcome},
    output,
    place::PlaceOption,
};

/// Wait until processes of containers have ended, and print their exit statuses
///
/// One a line, in the order of the ids, as soon as each has ended. The exit status of the command is 0 then.
#[derive(Debug, Args)]
pub(crate) struct Wait {
    #[command(flatten)]
    place: PlaceOption,
    /// Id of the process in the containers
    #[arg(long, value_name = "PROCESS", default_value = INIT)]
    pid: String,
    /// Print JSON, one container a line: `id` and `status`
    #[arg(long)]
    json: bool,
    /// Ids of containers
    #[arg(required = true)]
    ids: Vec<String>,
}

impl Wait {
    pub(crate) async fn run(self, client: &Client) -> Outcome {
        for id in &self.ids {
            let status = match self.place.find(client, id).await? {
                Some(found) => {
                    let status = found.process(&self.pid).wait_for_end().await?;
                    status.ok_or_else(|| Failure::new(format!("nothing runs in container {id}")))?
                }
                None => client.container(id).process(&self.pid).wait().await?.status,
            };
            match self.json {
                true => output::json(&json!({ "id": id, "status": status }))?,
                false => output::line(status.to_string())?,
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
