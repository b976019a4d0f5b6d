//! `gantry logs`

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use gantry_client::{Client, INIT};

use crate::{
    bundles,
    containers::LOG,
    failure::{Failure, Outcome},
    logs::Log,
    output,
    place::{Found, PlaceOption},
};

/// Print what a container in the background has written
///
/// Of one that was started with --log, or whose output goes to a file for another reason. Output and errors are in one
/// file, in the order in which they were written.
#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// Go on with what is written later, until the container has ended
    #[arg(short, long)]
    follow: bool,
    /// Print the last lines only
    #[arg(short = 'n', long, value_name = "NUMBER")]
    tail: Option<u64>,
    #[command(flatten)]
    place: PlaceOption,
    /// Id of the container
    id: String,
}

impl Logs {
    pub(crate) async fn run(self, client: &Client) -> Outcome {
        let found = self.place.find(client, &self.id).await?;
        let path = match &found {
            Some(found) => of_record(found).await?,
            None => of_bundle(client, &self.id).await?,
        };
        let path = path.ok_or_else(|| {
            let problem = "it was not started with --log, and its output goes to no file";
            Failure::new(format!("{} has no log: {problem}", self.id))
        })?;
        let mut log = Log::open(&path, self.tail)?;
        if self.follow {
            follow(&mut log, ended(client, found, &self.id)).await?;
        } else {
            log.read(output::raw)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Prints until the container has ended, and then what is left.
async fn follow(
    log: &mut Log,
    ended: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    let mut changes = log.watch()?;
    let mut ended = Box::pin(ended);
    loop {
        // A slow disk or reader holds nothing but this command.
        log.read(output::raw)?;
        tokio::select! {
            ended = &mut ended => {
                log.read(output::raw)?;
                return ended;
            }
            changed = changes.next() => changed?,
        }
    }
}

async fn ended(client: &Client, found: Option<Found>, id: &str) -> Result<(), Failure> {
    match found {
        Some(found) => found.process(INIT).wait_for_end().await.map(drop),
        None => match client.container(id).process(INIT).wait().await {
            Err(error) if !error.is_gone() => Err(error.into()),
            _ => Ok(()),
        },
    }
}

async fn of_record(found: &Found) -> Result<Option<PathBuf>, Failure> {
    if let Some(path) = found.record.labels.get(LOG) {
        return Ok(Some(path.into()));
    }
    let task = found.process(INIT).get().await?;
    Ok(task.and_then(|task| file(task.stdout.strip_prefix("file://").unwrap_or(&task.stdout))))
}

async fn of_bundle(client: &Client, id: &str) -> Result<Option<PathBuf>, Failure> {
    bundles::check_id(id)?;
    if let Ok(path) = fs::read_link(bundles::directory(id).join(bundles::LOG)) {
        return Ok(Some(path));
    }
    let state = client.container(id).state().await?;
    let init = state.processes.iter().find(|process| process.pid == INIT);
    Ok(init.and_then(|init| file(&init.stdout)))
}

/// What is a file, and no pipe or device.
fn file(path: &str) -> Option<PathBuf> {
    Some(Path::new(path)).filter(|path| path.is_file()).map(Path::to_owned)
}
