//! Follows events on behalf of a daemon: nothing is missed across restarts of either side, and no
//! container waits for another.
//!
//! Each container has a queue of its own, so a slow handler delays that container only. All queues
//! together hold [`MOST_PENDING`] events; when they are full, no further events are read, and the
//! server's journal holds them meanwhile.

mod progress;
mod queues;
mod timestamp_file;

use std::{collections::HashSet, future::Future, path::PathBuf, sync::Arc};

use gantry_api::{INIT, Timestamp};
use tokio::sync::{Semaphore, watch};

use crate::{
    client::Client,
    error::{Error, ErrorKind, Result},
    event::{self, Event, EventFilter, EventKind},
    event_stream::{self, EventStream},
};
use progress::Progress;
use queues::Queues;
use timestamp_file::TimestampFile;

/// How many events may be with handlers, or wait for them.
const MOST_PENDING: usize = 4096;

/// What a daemon does with events.
///
/// The events of one container come one after the other, those of different containers at once. An
/// event may come a second time, after a restart of the daemon during its handling.
pub trait EventHandler: Send + Sync + 'static {
    /// Handles one event; when the future is done, the event counts as handled.
    fn handle(&self, change: StateChange) -> impl Future<Output = ()> + Send;

    /// The server reports that events may have been lost. Compare what the daemon knows with
    /// [`Client::state`]. By default this is only logged.
    fn events_lost(&self, error: &Error) -> impl Future<Output = ()> + Send {
        tracing::warn!("events were lost: {error:#}");
        std::future::ready(())
    }
}

/// An event, with what earlier ones say about it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StateChange {
    /// What happened.
    pub event: Event,
    /// Of the exit of "init": the container had reached its memory limit and lost a process.
    pub out_of_memory: bool,
}

impl StateChange {
    /// For the tests of a handler.
    pub fn new(event: Event, out_of_memory: bool) -> StateChange {
        StateChange { event, out_of_memory }
    }
}

/// Follows events and remembers in a file how far the daemon has come.
#[derive(Debug)]
pub struct EventFollower {
    client: Client,
    file: TimestampFile,
    since: Timestamp,
    out_of_memory: HashSet<String>,
}

impl EventFollower {
    /// Continues after the last handled event, whose timestamp is in `file`; without that file, starts
    /// now. The file is replaced as a whole, so a crash leaves an old timestamp or a new one.
    pub async fn open(client: &Client, file: impl Into<PathBuf>) -> Result<EventFollower> {
        let file = TimestampFile::new(file.into());
        let since = file.read_or_begin(event::now())?;
        let (client, out_of_memory) = (client.clone(), HashSet::new());
        let mut follower = EventFollower { client, file, since, out_of_memory };
        for event in event_stream::stored(&follower.client.connection, None).await? {
            if event::compare(&event.time, &since).is_le() {
                follower.observe(&event);
            }
        }
        Ok(follower)
    }

    /// Hands every event to the handler, for as long as the future is polled.
    ///
    /// Returns only if the timestamp cannot be written or the server refuses the subscription.
    pub async fn run(mut self, handler: Arc<impl EventHandler>) -> Result<()> {
        let (handled, watermark) = watch::channel(self.since);
        let progress = Arc::new(Progress::new(handled));
        let queues = Queues::new(Arc::clone(&handler), Arc::clone(&progress));
        let filter = EventFilter { since: Some(self.since), ..EventFilter::default() };
        let stream = self.client.events(filter);
        let file = self.file.clone();
        tokio::select! {
            saved = file.keep(watermark) => saved,
            followed = self.follow(stream, &*handler, queues) => followed,
        }
    }

    async fn follow(
        &mut self,
        mut stream: EventStream,
        handler: &impl EventHandler,
        queues: Arc<Queues<impl EventHandler>>,
    ) -> Result<()> {
        let room = Arc::new(Semaphore::new(MOST_PENDING));
        loop {
            match stream.next().await {
                Ok(Some(event)) => {
                    // The semaphore is never closed.
                    let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return Ok(()) };
                    let out_of_memory = self.observe(&event);
                    queues.push(StateChange { event, out_of_memory }, permit);
                }
                Ok(None) => return Ok(()),
                Err(error) => match error.kind() {
                    ErrorKind::EventsLost(_) => handler.events_lost(&error).await,
                    ErrorKind::PermissionDenied(_) | ErrorKind::InvalidArgument { .. } => {
                        return Err(error);
                    }
                    _ => tracing::debug!("event stream interrupted: {error:#}"),
                },
            }
        }
    }

    /// Remembers an OOM until the container's exit, which it then marks.
    fn observe(&mut self, event: &Event) -> bool {
        match &event.kind {
            EventKind::OutOfMemory => {
                self.out_of_memory.insert(event.container.clone());
                false
            }
            EventKind::Exited { process, .. } if process == INIT => {
                self.out_of_memory.remove(&event.container)
            }
            _ => false,
        }
    }
}
