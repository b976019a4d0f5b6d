//! The threads that read and write, and what waits for them.
//!
//! ```text
//! change --> queue --> one thread: up to 64 changes in one transaction --> fsync --> all are answered
//! read ----> queue --> three threads, each on what was last committed -------------> answered
//! ```
//!
//! A change that is refused leaves the others of its transaction as they are. Nothing is answered before all that it
//! depends on is on the disk, and a queue that is full refuses instead of growing.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
};

use redb::{ReadTransaction, WriteTransaction};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::{
    StoreError,
    collection::Garbage,
    engine::Engine,
    tables::{Attempt, Failure},
};

/// How many calls may wait for a thread.
const MAX_WAITING: usize = 1024;

/// How much they may want to write together, in KiB.
const MAX_KIB_WAITING: usize = 64 << 10;

/// How many changes are made durable together at most.
const MAX_BATCH: usize = 64;

/// How many reads may be under way. One may be the mark of a collection.
const READERS: usize = 3;

/// The threads. They end with the last clone.
#[derive(Clone)]
pub(crate) struct Workers {
    changes: SyncSender<Change>,
    reads: SyncSender<Read>,
    room: Arc<Semaphore>,
    pub(crate) garbage: Arc<Garbage>,
    /// Held by the collection that is under way.
    pub(crate) collecting: Arc<tokio::sync::Mutex<()>>,
    pub(crate) steps: Steps,
}

/// Grows with each change that is made, and with each commit. A change that finds the number which somebody had before a
/// read knows that the read has seen all that was changed until now. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Steps(Arc<AtomicU64>);

impl Steps {
    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    fn another(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

type Read = Box<dyn FnOnce(&Engine) + Send>;

enum Change {
    Job(Box<dyn Job>),
    Close(oneshot::Sender<()>),
}

/// A change, what has come of it, and who wants to know.
trait Job: Send {
    fn is_wanted(&self) -> bool;
    /// Whether there is something to commit.
    fn make(&mut self, engine: &Engine, transaction: &WriteTransaction)
    -> Result<bool, StoreError>;
    fn answer(self: Box<Self>, committed: Result<(), StoreError>);
}

struct Waiting<T, F> {
    change: Option<F>,
    made: Option<Result<T, StoreError>>,
    /// Whether nothing may refer to something any more after it.
    releases: bool,
    garbage: Arc<Garbage>,
    reply: oneshot::Sender<Result<T, StoreError>>,
    _room: OwnedSemaphorePermit,
}

impl<T, F> Job for Waiting<T, F>
where
    T: Send,
    F: FnOnce(&WriteTransaction) -> Attempt<T> + Send,
{
    fn is_wanted(&self) -> bool {
        !self.reply.is_closed()
    }

    fn make(
        &mut self,
        engine: &Engine,
        transaction: &WriteTransaction,
    ) -> Result<bool, StoreError> {
        let Some(change) = self.change.take() else { return Ok(false) };
        let made = match change(transaction) {
            Ok(made) => Ok(made),
            Err(Failure::Answer(error)) => Err(error),
            Err(Failure::Database(error)) => return Err(engine.failed(error)),
        };
        Ok(self.made.insert(made).is_ok())
    }

    fn answer(self: Box<Self>, committed: Result<(), StoreError>) {
        let made = self.made.unwrap_or(Err(StoreError::Closed));
        let changed = committed.and(made);
        if changed.is_ok() {
            self.garbage.changed();
        }
        // After a failure of the disk it may be made all the same.
        if self.releases && changed.as_ref().err().is_none_or(StoreError::stops_the_database) {
            self.garbage.released();
        }
        // The caller may have gone meanwhile.
        let _ = self.reply.send(changed);
    }
}

impl Workers {
    pub(crate) fn start(engine: Engine) -> Result<Self, StoreError> {
        let engine = Arc::new(engine);
        let (changes, waiting) = sync_channel(MAX_WAITING);
        let (reads, reading) = sync_channel(MAX_WAITING);
        let writer = Arc::clone(&engine);
        let steps = Steps::default();
        let counted = steps.clone();
        start("metadata-write", move || write(&writer, &counted, &waiting))?;
        let reading = Arc::new(Mutex::new(reading));
        for _ in 0..READERS {
            let (engine, reading) = (Arc::clone(&engine), Arc::clone(&reading));
            start("metadata-read", move || read(&engine, &reading))?;
        }
        Ok(Self {
            changes,
            reads,
            room: Arc::new(Semaphore::new(MAX_KIB_WAITING)),
            garbage: Arc::default(),
            collecting: Arc::default(),
            steps,
        })
    }

    /// Has a change of so many bytes made, together with others, and waits until it is on the disk. It is not
    /// made if nobody waits for it any more when its turn comes.
    ///
    /// A change that is refused has not written anything: those beside it are committed.
    pub(crate) async fn write<T, F>(&self, bytes: usize, change: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&WriteTransaction) -> Attempt<T> + Send + 'static,
    {
        self.queue(bytes, false, change).await
    }

    /// The same of a change after which nothing may refer to something any more.
    pub(crate) async fn release<T, F>(&self, change: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&WriteTransaction) -> Attempt<T> + Send + 'static,
    {
        self.queue(0, true, change).await
    }

    async fn queue<T, F>(&self, bytes: usize, releases: bool, change: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&WriteTransaction) -> Attempt<T> + Send + 'static,
    {
        let kib = u32::try_from(bytes / 1024 + 1).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).try_acquire_many_owned(kib);
        let room = room.map_err(|_| StoreError::Busy)?;
        let (reply, answer) = oneshot::channel();
        let garbage = Arc::clone(&self.garbage);
        let change = Some(change);
        let job = Waiting { change, made: None, releases, garbage, reply, _room: room };
        self.changes.try_send(Change::Job(Box::new(job))).map_err(|error| refused(&error))?;
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Reads what was last committed.
    pub(crate) async fn read<T, F>(&self, read: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&ReadTransaction) -> Attempt<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel::<Result<T, StoreError>>();
        let job = move |engine: &Engine| {
            if reply.is_closed() {
                return;
            }
            let _ = reply.send(engine.read(|transaction| {
                read(transaction).map_err(|failure| match failure {
                    Failure::Answer(error) => error,
                    Failure::Database(error) => engine.failed(error),
                })
            }));
        };
        self.reads.try_send(Box::new(job)).map_err(|error| refused(&error))?;
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Waits for what was asked for before, then closes the file.
    pub(crate) async fn close(&self) {
        let (closed, answer) = oneshot::channel();
        let mut close = Change::Close(closed);
        while let Err(TrySendError::Full(again)) = self.changes.try_send(close) {
            close = again;
            // The queue is that long for less than its batches take.
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        let _ = answer.await;
    }
}

fn refused<T>(error: &TrySendError<T>) -> StoreError {
    match error {
        TrySendError::Full(_) => StoreError::Busy,
        TrySendError::Disconnected(_) => StoreError::Closed,
    }
}

fn start(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), StoreError> {
    let thread = thread::Builder::new().name(name.to_owned()).spawn(work);
    thread.map(drop).map_err(|error| StoreError::NoThread(Arc::new(error)))
}

fn write(engine: &Engine, steps: &Steps, waiting: &Receiver<Change>) {
    let mut closing = None;
    while closing.is_none()
        && let Ok(first) = waiting.recv()
    {
        let mut batch = Vec::new();
        for change in std::iter::once(first).chain(waiting.try_iter()) {
            match change {
                Change::Job(job) => batch.push(job),
                Change::Close(closed) => closing = Some(closed),
            }
            if batch.len() == MAX_BATCH || closing.is_some() {
                break;
            }
        }
        commit(engine, steps, batch);
    }
    engine.close();
    if let Some(closed) = closing {
        let _ = closed.send(());
    }
}

fn commit(engine: &Engine, steps: &Steps, mut batch: Vec<Box<dyn Job>>) {
    batch.retain(|job| job.is_wanted());
    if batch.is_empty() {
        return;
    }
    let committed = engine.write(|transaction| {
        let mut is_changed = false;
        for job in &mut batch {
            is_changed |= job.make(engine, transaction)?;
            // Before the commit, for the changes beside it; after that, for a read that began before.
            steps.another();
        }
        Ok(is_changed)
    });
    steps.another();
    for job in batch {
        job.answer(committed.clone());
    }
}

fn read(engine: &Engine, waiting: &Mutex<Receiver<Read>>) {
    loop {
        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match next {
            Ok(read) => read(engine),
            Err(_) => return,
        }
    }
}
