//! `gantry restore`

use std::path::{Path, PathBuf};

use clap::Args;
use gantry_client::{Client, ContainerBuilder};

use super::{checkpoint::absolute, run::Started};
use crate::{
    bundles::{self, Bundle},
    failure::{Failure, Outcome},
    streams::{SessionOptions, StreamOptions},
};

/// Start a container from a checkpoint
///
/// The bundle is the one that `gantry run` has left, so the container must have been run without
/// --rm. Exit status, signals and detaching are as with `gantry run`.
#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// Pass standard input on
    #[arg(short, long)]
    interactive: bool,
    /// Leave it in the background, with its streams connected to /dev/null; with -i they wait for
    /// `gantry attach`
    #[arg(short, long)]
    detach: bool,
    #[command(flatten)]
    session: SessionOptions,
    /// Remove the bundle, checkpoints included, when the container has ended
    #[arg(long)]
    rm: bool,
    /// Runtime to use, instead of the server's default
    #[arg(long, value_name = "NAME|PATH")]
    runtime: Option<String>,
    /// Directory of the checkpoints [default: in the bundle]
    #[arg(long, value_name = "DIR")]
    checkpoint_dir: Option<PathBuf>,
    /// Id of the container
    id: String,
    /// Name of the checkpoint
    checkpoint: String,
}

impl Restore {
    pub(crate) async fn run(self, client: &Client, server: &Path) -> Outcome {
        bundles::sweep(client, server).await;
        let bundle = Bundle::claim(&self.id).map_err(Failure::own)?;
        let builder = match self.describe(client, &bundle) {
            Ok(builder) => builder,
            Err(failure) => {
                bundle.abandon();
                return Err(failure.own());
            }
        };
        let tty = bundle.wants_terminal();
        let Restore { interactive, detach, session, rm, .. } = self;
        let streams = StreamOptions { interactive, tty, detach, session };
        Started { streams, log: None, rm, bundle }.run(builder, server).await
    }

    fn describe(&self, client: &Client, bundle: &Bundle) -> Result<ContainerBuilder, Failure> {
        let mut builder = client.create(&self.id, bundle.path()).checkpoint(&self.checkpoint);
        if let Some(dir) = absolute(self.checkpoint_dir.as_deref())? {
            builder = builder.checkpoint_dir(&dir)?;
        }
        Ok(match &self.runtime {
            Some(runtime) => builder.runtime(runtime),
            None => builder,
        })
    }
}
