//! What the start of a container and that of a further process have in common.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use tokio::sync::watch;

use crate::{
    client::Client,
    error::{Error, Result},
    exits::Key,
    pipes::Pipes,
    process::Process,
    stdio::{Owner, ProcessStdio, StdioPaths, Streams},
};

/// Everything on this side that a process needs, before it exists. Dropping it undoes that.
#[derive(Debug)]
pub(crate) struct Start {
    client: Client,
    owner: Owner,
    outcome: watch::Sender<Option<bool>>,
    pipes: Pipes,
    pipe_dir: PathBuf,
    stdio: ProcessStdio,
    pub(crate) paths: StdioPaths,
}

impl Start {
    /// Registers the wait for the exit, makes the pipes in `pipe_dir` and attaches the streams.
    pub(crate) fn prepare(
        client: &Client,
        key: Key,
        pipe_dir: &Path,
        streams: &mut Streams,
    ) -> Result<Start> {
        let (outcome, started) = watch::channel(None);
        let owner = Owner {
            connection: client.connection.clone(),
            exit: client.exits.expect(&client.connection, key.clone()),
            key,
            started,
        };
        let (pipes, paths, mut stdio) = streams.open(pipe_dir, &owner)?;
        if let Some(attach) = streams.attach.take() {
            attach(std::mem::take(&mut stdio))
                .map_err(|e| Error::io("attach the streams of a process in", pipe_dir, e))?;
        }
        let (client, pipe_dir) = (client.clone(), pipe_dir.to_owned());
        Ok(Start { client, owner, outcome, pipes, pipe_dir, stdio, paths })
    }

    /// The server has started it.
    pub(crate) fn succeeded(self, pid: Option<u32>) -> Process {
        self.client.exits.confirm(&self.owner.key);
        self.outcome.send_replace(Some(true));
        self.pipes.handed_over();
        Process {
            client: self.client,
            key: self.owner.key,
            pid,
            exit: Some(self.owner.exit),
            stdio: Arc::new(Mutex::new(self.stdio)),
            pipe_dir: Some(self.pipe_dir),
        }
    }
}
