//! A handle on one process of a container.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use gantry_api::types;

use crate::{
    call::Operation,
    client::Client,
    connection::Api,
    error::{Error, ErrorKind, Result},
    exits::{Exit, ExitSlot, Key},
    pipes,
    signal::Signal,
    stdio::{self, ProcessStdio},
};

/// A process in a container: its first one ("init") or one that was added.
///
/// Dropping the handle leaves the process alone. Clones are handles on the same process: each of them
/// can wait, and every wait returns the exit. They share the ends of the pipes, which the first one to
/// take them gets.
#[derive(Debug, Clone)]
pub struct Process {
    pub(crate) client: Client,
    pub(crate) key: Key,
    pub(crate) pid: Option<u32>,
    /// Known from the start on, if this client started or reattached the process.
    pub(crate) exit: Option<ExitSlot>,
    pub(crate) stdio: Arc<Mutex<ProcessStdio>>,
    /// Where its pipes are, if this client made or reopened them.
    pub(crate) pipe_dir: Option<PathBuf>,
}

impl Process {
    /// Its id: "init", or what was chosen when it was added.
    pub fn id(&self) -> &str {
        &self.key.process
    }

    /// Its pid on the host, if this client started or reattached it.
    pub fn pid(&self) -> Option<u32> {
        self.pid
    }

    /// Hands out the ends of its pipes; the second time there are none.
    pub fn take_stdio(&self) -> ProcessStdio {
        // Taken or there as a whole, so a panic elsewhere cannot spoil them.
        std::mem::take(&mut *self.stdio.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sends it a signal.
    pub async fn signal(&self, signal: Signal) -> Result<()> {
        let request = types::SignalRequest {
            id: self.key.container.clone(),
            pid: self.key.process.clone(),
            signal: signal.number(),
        };
        let operation = Operation::once(format!("send {signal} to {}", self.name()));
        let send = |mut api: Api, request| async move { api.signal(request).await };
        self.client.connection.call(operation, request, send).await.map(drop)
    }

    /// Sets its terminal's size, in character cells.
    pub async fn resize(&self, size: ConsoleSize) -> Result<()> {
        let request = types::UpdateProcessRequest {
            id: self.key.container.clone(),
            pid: self.key.process.clone(),
            close_stdin: false,
            width: size.width,
            height: size.height,
        };
        let operation = format!("resize the terminal of {}", self.name());
        let resize = |mut api: Api, request| async move { api.update_process(request).await };
        let connection = &self.client.connection;
        connection.call(Operation::repeatable(operation), request, resize).await.map(drop)
    }

    /// Ends its input after everything written so far.
    pub async fn close_stdin(&self) -> Result<()> {
        stdio::close_stdin(&self.client.connection, &self.key).await
    }

    /// Waits for its end; answers at once, and again, if it has ended already.
    pub async fn wait(&self) -> Result<Exit> {
        let mut slot = match &self.exit {
            Some(slot) => slot.clone(),
            None => self.client.exits.attach(&self.client.connection, &self.key).await?,
        };
        let exit = slot.wait_for(Option::is_some).await.ok().and_then(|exit| *exit);
        exit.ok_or_else(|| {
            let gone = ErrorKind::Unavailable("the client was shut down".to_owned());
            Error::new(format!("wait for {}", self.name()), gone)
        })
    }

    /// Removes its pipes from the file system, once it has ended. Open ends stay usable.
    pub fn remove_pipes(&self) {
        if let Some(dir) = &self.pipe_dir {
            pipes::remove_all(dir, &self.key.process);
        }
    }

    fn name(&self) -> String {
        format!("{}/{}", self.key.container, self.key.process)
    }
}

/// The size of a terminal in character cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsoleSize {
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
}
