//! `gantry attach`

use clap::Args;
use gantry_client::{Client, INIT};

use crate::{failure::Outcome, session::Session, streams::KeyOptions};

/// Connect to a process that was left with the detach keys
///
/// Output that was not read in the meantime comes first. Only one command can be attached to a
/// process at a time. The exit status is the process's.
#[derive(Debug, Args)]
pub(crate) struct Attach {
    #[command(flatten)]
    keys: KeyOptions,
    /// Id of the process in the container
    #[arg(long, value_name = "PROCESS", default_value = INIT)]
    pid: String,
    /// Id of the container
    id: String,
}

impl Attach {
    pub(crate) async fn run(self, client: &Client) -> Outcome {
        let container = client.container(&self.id);
        let state = container.state().await?;
        let terminal = state.processes.iter().any(|p| p.pid == self.pid && p.terminal);
        let session = Session::prepare(&self.keys.detach_keys, terminal)?;
        let mut process = container.attach(&self.pid).await?;
        let streams = process.take_stdio();
        Ok(session.hold(&process, streams).await?.code())
    }
}
