//! Remembers how processes ended, for everyone who waits.
//!
//! One event stream per client feeds all waiters. A waiter is registered before its process is
//! started, so no exit can come too early; whoever asks late is answered from the server's state
//! and stored events. If the stream was interrupted for so long that the server has dropped an
//! exit, the process's absence counts as an exit with unknown status.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use gantry_api::{EXIT_STATUS_UNKNOWN, Timestamp};
use tokio::{sync::watch, task::AbortHandle, time};

use crate::{
    backoff::Backoff,
    connection::Connection,
    ended::ended,
    error::{Error, ErrorKind, Result},
    event::{self, Event, EventFilter, EventKind},
    event_stream::EventStream,
    state::{find_container, has_process, living},
};

/// How long a process may be absent from the server's state before its exit event is there: the
/// original server removes an exec first and sends the event afterwards.
const EXIT_GRACE: Duration = Duration::from_secs(2);

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exit {
    /// Exit code, 128+n after signal n, 255 when it could not be known.
    pub status: u32,
    /// When the server learned of it.
    pub time: Timestamp,
}

impl Exit {
    /// For the tests of what takes one.
    pub fn new(status: u32, time: Timestamp) -> Exit {
        Exit { status, time }
    }

    pub(crate) fn unknown() -> Exit {
        Exit { status: EXIT_STATUS_UNKNOWN, time: event::now() }
    }
}

/// A process, by the ids of its container and of itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) container: String,
    pub(crate) process: String,
}

/// Filled in when the process has ended; dropping it ends the wait.
pub(crate) type ExitSlot = watch::Receiver<Option<Exit>>;

#[derive(Debug, Default)]
pub(crate) struct Exits {
    slots: Mutex<HashMap<Key, Vec<Slot>>>,
    follower: OnceLock<AbortHandle>,
}

#[derive(Debug)]
struct Slot {
    sender: watch::Sender<Option<Exit>>,
    /// An exit earlier than this belongs to an earlier use of the id ...
    since: Timestamp,
    /// ... unless the start of this process was seen.
    started: bool,
    /// The server is known to have the process, so its absence means that it has ended.
    confirmed: bool,
}

impl Drop for Exits {
    fn drop(&mut self) {
        if let Some(task) = self.follower.get() {
            task.abort();
        }
    }
}

impl Exits {
    /// Registers a process that is about to be started.
    pub(crate) fn expect(self: &Arc<Self>, connection: &Connection, key: Key) -> ExitSlot {
        self.follower.get_or_init(|| {
            let stream = EventStream::new(connection.clone(), EventFilter::default());
            let follow = follow(Arc::downgrade(self), connection.clone(), stream);
            tokio::spawn(follow).abort_handle()
        });
        let (sender, receiver) = watch::channel(None);
        let slot = Slot { sender, since: event::now(), started: false, confirmed: false };
        let mut slots = self.lock();
        // Waiters that were given up are dropped here, so they cannot pile up.
        slots.retain(|_, waiting| {
            waiting.retain(|s| !s.sender.is_closed());
            !waiting.is_empty()
        });
        slots.entry(key).or_default().push(slot);
        receiver
    }

    /// The process was started.
    pub(crate) fn confirm(&self, key: &Key) {
        self.lock().get_mut(key).into_iter().flatten().for_each(|slot| slot.confirmed = true);
    }

    /// Registers a process that may be running, or have ended long ago.
    pub(crate) async fn attach(
        self: &Arc<Self>,
        connection: &Connection,
        key: &Key,
    ) -> Result<ExitSlot> {
        let mut slot = self.expect(connection, key.clone());
        let container = find_container(connection, &key.container).await?;
        if container.as_ref().is_some_and(|c| has_process(c, &key.process)) {
            self.confirm(key);
            return Ok(slot);
        }
        if let Some(exit) = ended(connection, key).await? {
            return Ok(watch::channel(Some(exit)).1);
        }
        let in_grace = time::timeout(EXIT_GRACE, slot.wait_for(Option::is_some));
        if container.is_some() && in_grace.await.is_ok() {
            return Ok(slot);
        }
        let what = if container.is_some() { "process" } else { "container" };
        let message = format!("{what} not found, and no exit of it is stored");
        let operation = format!("wait for {}/{}", key.container, key.process);
        Err(Error::new(operation, ErrorKind::NotFound(message)))
    }

    fn observe(&self, event: Event) {
        let Event { container, kind, time } = event;
        let key = |process: String| Key { container, process };
        match kind {
            EventKind::Started => self.mark_started(&key(gantry_api::INIT.to_owned())),
            EventKind::ProcessStarted { process } => self.mark_started(&key(process)),
            EventKind::Exited { process, status } => {
                self.ended(&key(process), Exit { status, time });
            }
            _ => {}
        }
    }

    fn mark_started(&self, key: &Key) {
        self.lock().get_mut(key).into_iter().flatten().for_each(|slot| slot.started = true);
    }

    fn ended(&self, key: &Key, exit: Exit) {
        let this_life = |s: &Slot| s.started || event::compare(&exit.time, &s.since).is_ge();
        self.resolve(key, exit, this_life);
    }

    /// Answers the waiters for which `concerned` holds.
    fn resolve(&self, key: &Key, exit: Exit, concerned: impl Fn(&Slot) -> bool) {
        let mut slots = self.lock();
        let Some(waiting) = slots.get_mut(key) else { return };
        for slot in waiting.extract_if(.., |slot| concerned(slot)) {
            slot.sender.send_replace(Some(exit));
        }
        if waiting.is_empty() {
            slots.remove(key);
        }
    }

    fn confirmed(&self) -> Vec<Key> {
        let slots = self.lock();
        let confirmed = |slots: &[Slot]| slots.iter().any(|s| s.confirmed);
        slots.iter().filter(|(_, s)| confirmed(s)).map(|(key, _)| key.clone()).collect()
    }

    /// Finds the exit of every process that the server does not have any more.
    async fn resolve_absent(&self, connection: &Connection) -> Result<()> {
        let keys = self.confirmed();
        if keys.is_empty() {
            return Ok(());
        }
        let living = living(connection).await?;
        for key in keys.iter().filter(|key| !living.contains(*key)) {
            let exit = ended(connection, key).await?;
            self.resolve(key, exit.unwrap_or_else(Exit::unknown), |slot| slot.confirmed);
        }
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Vec<Slot>>> {
        // The map is whole at every await and return, so a panic elsewhere cannot spoil it.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Feeds the waiters until the last client is dropped.
async fn follow(exits: std::sync::Weak<Exits>, connection: Connection, mut stream: EventStream) {
    loop {
        let next = stream.next().await;
        let Some(exits) = exits.upgrade() else { return };
        match next {
            Ok(Some(event)) => exits.observe(event),
            Ok(None) => {}
            Err(error) => {
                tracing::debug!("event stream interrupted: {error:#}");
                let mut backoff = Backoff::new();
                while let Err(error) = exits.resolve_absent(&connection).await {
                    tracing::debug!("server still away: {error:#}");
                    if Arc::strong_count(&exits) == 1 {
                        return;
                    }
                    backoff.wait().await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        Key { container: "web".into(), process: "init".into() }
    }

    /// Registers without a server.
    fn expect(exits: &Exits, since: i64) -> ExitSlot {
        let (sender, receiver) = watch::channel(None);
        let since = Timestamp { seconds: since, nanos: 0 };
        let slot = Slot { sender, since, started: false, confirmed: false };
        exits.lock().entry(key()).or_default().push(slot);
        receiver
    }

    fn event(kind: EventKind, seconds: i64) -> Event {
        Event { container: "web".into(), kind, time: Timestamp { seconds, nanos: 0 } }
    }

    fn exited(status: u32, seconds: i64) -> Event {
        event(EventKind::Exited { process: "init".into(), status }, seconds)
    }

    fn status(slot: &ExitSlot) -> Option<u32> {
        slot.borrow().map(|exit| exit.status)
    }

    #[test]
    fn an_exit_reaches_every_waiter_and_stays_readable() {
        let exits = Exits::default();
        let (a, b) = (expect(&exits, 10), expect(&exits, 10));
        exits.observe(event(EventKind::Started, 11));
        exits.observe(exited(3, 12));
        assert_eq!((status(&a), status(&b)), (Some(3), Some(3)));
        assert!(exits.lock().is_empty());
    }

    #[test]
    fn the_exit_of_an_earlier_life_of_the_id_is_ignored() {
        let exits = Exits::default();
        let slot = expect(&exits, 10);
        exits.observe(exited(1, 9));
        assert_eq!(status(&slot), None);
        exits.observe(event(EventKind::Started, 11));
        exits.observe(exited(2, 12));
        assert_eq!(status(&slot), Some(2));
    }

    #[test]
    fn an_exit_that_overtakes_its_start_counts() {
        let exits = Exits::default();
        let slot = expect(&exits, 10);
        exits.observe(exited(4, 11));
        assert_eq!(status(&slot), Some(4));
    }

    #[test]
    fn an_exit_counts_although_the_clock_was_set_back() {
        let exits = Exits::default();
        let slot = expect(&exits, 10);
        exits.observe(event(EventKind::Started, 2));
        exits.observe(exited(5, 3));
        assert_eq!(status(&slot), Some(5));
    }

    #[test]
    fn other_processes_do_not_answer() {
        let exits = Exits::default();
        let slot = expect(&exits, 10);
        exits.observe(event(EventKind::Exited { process: "exec".into(), status: 0 }, 12));
        assert_eq!(status(&slot), None);
    }
}
