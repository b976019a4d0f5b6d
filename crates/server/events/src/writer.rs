//! The one thread that writes the journal. Whoever adds an event passes it to this thread and waits for the
//! answer: a disk that does not answer blocks this thread only.

use std::{
    path::Path,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
};

use gantry_domain::{Event, Timestamp};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::{
    Appended, JournalError, NewEvent, Published, Shared, journal::Journal, published::Publication,
};

/// What is called with the function that shows an event to its subscribers. It waits for no disk.
pub(crate) type Change = Box<dyn FnOnce(&dyn Fn()) + Send>;

/// What is to be written, in this order.
enum Job {
    Append {
        new: NewEvent,
        change: Change,
        done: oneshot::Sender<Appended>,
    },
    Publish {
        publication: Publication,
        /// Its share of the room for what is not written yet.
        _room: OwnedSemaphorePermit,
        done: oneshot::Sender<()>,
    },
    Note {
        delivered: Vec<Timestamp>,
        done: oneshot::Sender<()>,
    },
    Flush {
        done: oneshot::Sender<bool>,
    },
}

/// Gives work to the thread. It ends when all clones of this are gone, and all work is done.
#[derive(Clone)]
pub(crate) struct Writer(Sender<Job>);

/// What the thread owns.
struct State {
    shared: Arc<Shared>,
    journal: Journal,
    last: Timestamp,
    clock: fn() -> Timestamp,
}

impl Writer {
    /// Starts the thread. `last` is the time of the last event that there is.
    pub(crate) fn start(
        shared: Arc<Shared>,
        dir: &Path,
        journal: Journal,
        last: Timestamp,
        clock: fn() -> Timestamp,
    ) -> Result<Self, JournalError> {
        let (jobs, queue) = channel();
        let mut state = State { shared, journal, last, clock };
        let thread = thread::Builder::new().name("journal".to_owned());
        thread
            .spawn(move || state.work(&queue))
            .map_err(|cause| JournalError::NoThread { path: dir.to_owned(), cause })?;
        Ok(Self(jobs))
    }

    pub(crate) async fn append(&self, new: NewEvent, change: Change) -> Appended {
        self.ask(|done| Job::Append { new, change, done }).await
    }

    pub(crate) async fn publish(&self, publication: Publication, room: OwnedSemaphorePermit) {
        self.ask(|done| Job::Publish { publication, _room: room, done }).await;
    }

    pub(crate) async fn note(&self, delivered: Vec<Timestamp>) {
        self.ask(|done| Job::Note { delivered, done }).await;
    }

    pub(crate) async fn flush(&self) -> bool {
        self.ask(|done| Job::Flush { done }).await
    }

    /// Whoever stops waiting does not undo it.
    async fn ask<T>(&self, job: impl FnOnce(oneshot::Sender<T>) -> Job) -> T {
        let (done, answer) = oneshot::channel();
        let queued = self.0.send(job(done)).is_ok();
        match answer.await {
            Ok(answer) if queued => answer,
            // The thread has panicked. That ends the server, so nobody gets an answer any more.
            _ => std::future::pending().await,
        }
    }
}

impl State {
    fn work(&mut self, queue: &Receiver<Job>) {
        self.shared.journal.set(self.journal.size());
        while let Ok(job) = queue.recv() {
            // Whoever has asked may have stopped waiting.
            match job {
                Job::Append { new, change, done } => {
                    let NewEvent { container, generation, labels, kind } = new;
                    let event = Event { at: self.stamp(), container, generation, labels, kind };
                    let _ = done.send(self.append(Arc::new(event), change));
                }
                Job::Publish { publication, done, .. } => {
                    let published = Published { at: self.stamp(), publication };
                    self.publish(Arc::new(published));
                    let _ = done.send(());
                }
                Job::Note { delivered, done } => {
                    self.journal.note(&delivered);
                    let _ = done.send(());
                }
                Job::Flush { done } => drop(done.send(self.journal.flush())),
            }
            self.shared.journal.set(self.journal.size());
        }
    }

    /// The time, or the moment after the last event if the clock was set back or stands still.
    fn stamp(&mut self) -> Timestamp {
        self.last = (self.clock)().max(Timestamp(self.last.0 + 1));
        self.last
    }

    fn append(&mut self, event: Arc<Event>, change: Change) -> Appended {
        let delivered_range = self.shared.types.ring().delivered_range();
        let durable = self.journal.append(&event, delivered_range);
        let channel = self.shared.channel(&event.container.namespace);
        change(&|| {
            channel.ring().push(Arc::clone(&event));
            channel.appended.notify_waiters();
        });
        self.compact();
        Appended { event, durable }
    }

    fn publish(&mut self, published: Arc<Published>) {
        self.journal.publish(&published);
        self.shared.feed().push(published);
        self.shared.named.appended.notify_waiters();
        self.compact();
    }

    /// Compacts the journal if it has become long.
    fn compact(&mut self) {
        if !self.journal.is_long() {
            return;
        }
        let mut lasting = self.shared.types.ring().lasting();
        lasting.extend(self.shared.named.ring().lasting());
        lasting.sort_by_key(|(event, _)| event.at);
        if self.journal.compact(&lasting) {
            self.shared.types.ring().is_noted();
            self.shared.named.ring().is_noted();
        }
    }
}
