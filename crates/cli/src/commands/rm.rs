//! `gantry rm`

use std::process::ExitCode;

use clap::Args;
use gantry_client::Client;

use crate::{
    bundles::Bundle,
    containerd::NamespaceOption,
    containers::Containers,
    execs,
    failure::{Failure, Outcome},
    output,
    place::Found,
};

/// Remove containers that have ended, with the files that they have written
///
/// Of a container of an image its record and snapshot go, of one with --rootfs its bundle. One that still runs is refused.
#[derive(Debug, Args)]
pub(crate) struct Rm {
    /// Kill containers of images that still run
    #[arg(short, long)]
    force: bool,
    #[command(flatten)]
    namespace: NamespaceOption,
    /// Ids of containers
    #[arg(required = true)]
    ids: Vec<String>,
}

impl Rm {
    pub(crate) async fn run(self, client: &Client) -> Outcome {
        let mut failures = Vec::new();
        for id in &self.ids {
            match self.remove(client, id).await {
                Ok(()) => output::line(id)?,
                Err(failure) => failures.push(failure),
            }
        }
        Failure::all(failures)?;
        Ok(ExitCode::SUCCESS)
    }

    async fn remove(&self, client: &Client, id: &str) -> Result<(), Failure> {
        let containers = Containers::of(client, &self.namespace.namespace);
        if let Some(record) = containers.find(id).await? {
            let found = Found { containers, record };
            execs::sweep(&found).await;
            return found.containers.remove_any(&found.record, self.force).await;
        }
        if client.find(id).await?.is_some() {
            return Err(Failure::new(format!("container {id} runs: see `gantry kill`")));
        }
        let Some(bundle) = Bundle::find(id)? else {
            let namespace = &self.namespace.namespace;
            let problem = format!("there is no container {id}, nor one in namespace {namespace}");
            return Err(Failure::new(problem));
        };
        bundle.remove()
    }
}
