//! `gantry checkpoint`

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Subcommand};
use gantry_client::{Client, types};

use crate::{
    failure::{Failure, Outcome},
    output,
};

/// Write, list and remove checkpoints of a container
#[derive(Debug, Subcommand)]
pub(crate) enum Checkpoint {
    Create(Create),
    Ls(Ls),
    Rm(Rm),
}

/// Write a container's state to disk with CRIU
///
/// The container goes on, unless --exit is given. `gantry restore` starts it from there.
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// End the container
    #[arg(long)]
    exit: bool,
    /// Keep established TCP connections
    #[arg(long)]
    tcp: bool,
    /// Allow connections to unix sockets outside
    #[arg(long)]
    unix_sockets: bool,
    /// Allow a terminal of this session (a shell job)
    #[arg(long)]
    shell: bool,
    /// Leave a namespace out of the image (net, ipc, ...)
    #[arg(long, value_name = "NAMESPACE")]
    empty_ns: Vec<String>,
    #[command(flatten)]
    place: Place,
    /// Name of the checkpoint
    name: String,
}

/// List the checkpoints of a container
#[derive(Debug, Args)]
pub(crate) struct Ls {
    #[command(flatten)]
    place: Place,
}

/// Remove a checkpoint
#[derive(Debug, Args)]
pub(crate) struct Rm {
    #[command(flatten)]
    place: Place,
    /// Name of the checkpoint
    name: String,
}

/// Which container's checkpoints, and where they are.
#[derive(Debug, Args)]
struct Place {
    /// Directory of the checkpoints [default: in the bundle]
    #[arg(long, value_name = "DIR")]
    checkpoint_dir: Option<PathBuf>,
    /// Id of the container
    id: String,
}

impl Place {
    fn dir(&self) -> Result<Option<PathBuf>, Failure> {
        absolute(self.checkpoint_dir.as_deref())
    }
}

/// The server has another working directory.
pub(crate) fn absolute(dir: Option<&std::path::Path>) -> Result<Option<PathBuf>, Failure> {
    let Some(dir) = dir else { return Ok(None) };
    std::path::absolute(dir).map(Some).map_err(|e| Failure::io(dir.display(), &e))
}

impl Checkpoint {
    pub(crate) async fn run(self, client: &Client) -> Outcome {
        match self {
            Checkpoint::Create(create) => create.run(client).await,
            Checkpoint::Ls(ls) => ls.run(client).await,
            Checkpoint::Rm(rm) => rm.run(client).await,
        }
    }
}

impl Create {
    async fn run(self, client: &Client) -> Outcome {
        let dir = self.place.dir()?;
        let checkpoint = types::Checkpoint {
            name: self.name,
            exit: self.exit,
            tcp: self.tcp,
            unix_sockets: self.unix_sockets,
            shell: self.shell,
            empty_ns: self.empty_ns,
        };
        client.container(&self.place.id).checkpoint(checkpoint, dir.as_deref()).await?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Ls {
    async fn run(self, client: &Client) -> Outcome {
        let dir = self.place.dir()?;
        let checkpoints = client.container(&self.place.id).checkpoints(dir.as_deref()).await?;
        let yes = |flag: bool| if flag { "yes" } else { "no" }.to_owned();
        let mut table = vec![["NAME", "TCP", "UNIX SOCKETS", "SHELL"].map(str::to_owned)];
        table.extend(
            checkpoints
                .into_iter()
                .map(|c| [c.name, yes(c.tcp), yes(c.unix_sockets), yes(c.shell)]),
        );
        output::table(&table)?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Rm {
    async fn run(self, client: &Client) -> Outcome {
        let dir = self.place.dir()?;
        client.container(&self.place.id).delete_checkpoint(&self.name, dir.as_deref()).await?;
        Ok(ExitCode::SUCCESS)
    }
}
