//! The threads of one file system, and what waits for them.

use std::{
    collections::VecDeque,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use tokio::sync::oneshot;

/// Threads at work for one file system at the same time. On one that never answers all of them stay blocked.
pub(crate) const MAX_THREADS: usize = 8;

/// Calls that may wait for these threads.
const MAX_WAITING: usize = 1024;

/// How long a thread without work stays.
const IDLE: Duration = Duration::from_secs(10);

/// Threads that are started when there is work, and end when there is none. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Lane(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    arrival: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Box<dyn Job>>,
    threads: usize,
    idle: usize,
    /// So many threads stay, also without work.
    staying: usize,
    /// Nobody has more work: threads end as soon as there is none.
    is_closed: bool,
}

/// The threads of one file system or more, and what waits for them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MeasuredThreads {
    /// Threads at work.
    pub busy: usize,
    /// Pieces of work that wait for one.
    pub waiting: usize,
}

impl std::ops::AddAssign for MeasuredThreads {
    fn add_assign(&mut self, other: Self) {
        self.busy += other.busy;
        self.waiting += other.waiting;
    }
}

/// Why work is not done.
#[derive(Debug)]
pub(crate) enum Refused {
    Full,
    NoThread(io::Error),
    /// The work panicked.
    Lost,
}

trait Job: Send {
    fn is_wanted(&self) -> bool;
    fn run(self: Box<Self>);
}

struct Work<T, W> {
    reply: oneshot::Sender<T>,
    work: W,
}

impl<T: Send, W: FnOnce() -> T + Send> Job for Work<T, W> {
    fn is_wanted(&self) -> bool {
        !self.reply.is_closed()
    }

    fn run(self: Box<Self>) {
        // The caller may have gone meanwhile.
        let _ = self.reply.send((self.work)());
    }
}

/// Work that is done even if its caller is gone.
struct Duty<W>(W);

impl<W: FnOnce() + Send> Job for Duty<W> {
    fn is_wanted(&self) -> bool {
        true
    }

    fn run(self: Box<Self>) {
        (self.0)();
    }
}

impl Lane {
    /// A lane with a thread that stays until [`Self::close`]: later it may be impossible to start one.
    pub(crate) fn with_a_thread() -> io::Result<Self> {
        let lane = Self::default();
        lane.start_thread()?;
        let mut state = lane.0.lock();
        (state.threads, state.staying) = (1, 1);
        drop(state);
        Ok(lane)
    }

    /// Has work done as soon as there is a thread, however many calls wait. For a lane made by [`Self::with_a_thread`].
    pub(crate) fn push_duty(&self, work: impl FnOnce() + Send + 'static) {
        let mut state = self.0.lock();
        if self.wants_thread(&state) && self.start_thread().is_ok() {
            state.threads += 1;
        }
        state.waiting.push_back(Box::new(Duty(work)));
        self.0.arrival.notify_one();
    }

    /// Has all threads end after the work that waits. Nothing is pushed after this.
    pub(crate) fn close(&self) {
        let mut state = self.0.lock();
        (state.staying, state.is_closed) = (0, true);
        self.0.arrival.notify_all();
    }

    /// Has work done as soon as there is a thread, unless its caller is gone by then.
    pub(crate) fn push<T, W>(&self, reply: oneshot::Sender<T>, work: W) -> Result<(), Refused>
    where
        T: Send + 'static,
        W: FnOnce() -> T + Send + 'static,
    {
        let mut state = self.0.lock();
        if state.waiting.len() >= MAX_WAITING {
            state.waiting.retain(|job| job.is_wanted());
        }
        if state.waiting.len() >= MAX_WAITING {
            return Err(Refused::Full);
        }
        if self.wants_thread(&state) {
            match self.start_thread() {
                Ok(()) => state.threads += 1,
                // The threads that exist do the work later.
                Err(_) if state.threads > 0 => {}
                Err(error) => return Err(Refused::NoThread(error)),
            }
        }
        state.waiting.push_back(Box::new(Work { reply, work }));
        self.0.arrival.notify_one();
        Ok(())
    }

    pub(crate) fn measure(&self) -> MeasuredThreads {
        let state = self.0.lock();
        let busy = state.threads.saturating_sub(state.idle);
        MeasuredThreads { busy, waiting: state.waiting.len() }
    }

    /// Whether it has neither threads nor work.
    pub(crate) fn is_idle(&self) -> bool {
        // Whoever has a clone is about to add work.
        Arc::strong_count(&self.0) == 1 && self.0.lock().threads == 0
    }

    /// Gone when all threads have ended and nobody has the lane any more.
    #[cfg(test)]
    pub(crate) fn weak(&self) -> std::sync::Weak<dyn std::any::Any + Send + Sync> {
        let shared: Arc<dyn std::any::Any + Send + Sync> = self.0.clone();
        Arc::downgrade(&shared)
    }

    /// Whether another thread is to be started for another piece of work.
    fn wants_thread(&self, state: &State) -> bool {
        state.waiting.len() >= state.idle && state.threads < MAX_THREADS
    }

    fn start_thread(&self) -> io::Result<()> {
        let shared = Arc::clone(&self.0);
        thread::Builder::new().name("disk".to_owned()).spawn(move || shared.work()).map(drop)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.waiting.pop_front() {
                drop(state);
                if job.is_wanted() {
                    // The panic was logged, and the caller sees the reply dropped.
                    let _ = catch_unwind(AssertUnwindSafe(|| job.run()));
                }
                state = self.lock();
                continue;
            }
            if state.is_closed {
                state.threads -= 1;
                return;
            }
            state.idle += 1;
            let stays = state.threads <= state.staying;
            let late = if stays {
                // A thread that stays waits without a limit.
                state = self.arrival.wait(state).unwrap_or_else(PoisonError::into_inner);
                false
            } else {
                let waited = self.arrival.wait_timeout(state, IDLE);
                let (woken, waited) = waited.unwrap_or_else(PoisonError::into_inner);
                state = woken;
                waited.timed_out()
            };
            state.idle -= 1;
            if late && state.waiting.is_empty() && state.threads > state.staying {
                state.threads -= 1;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Work that lasts until the sender is dropped.
    fn block(lane: &Lane) -> (mpsc::Sender<()>, oneshot::Receiver<()>) {
        let (release, blocked) = mpsc::channel::<()>();
        let (reply, answer) = oneshot::channel();
        let work = move || {
            let _ = blocked.recv();
        };
        lane.push(reply, work).unwrap();
        (release, answer)
    }

    #[test]
    fn blocked_threads_are_few_and_what_waits_is_bounded() {
        let lane = Lane::default();
        let mut blocked: Vec<_> = (0..MAX_THREADS).map(|_| block(&lane)).collect();
        // Each thread is about to take one of them.
        while !lane.0.lock().waiting.is_empty() {
            thread::yield_now();
        }
        blocked.extend((0..MAX_WAITING).map(|_| block(&lane)));
        assert_eq!(lane.0.lock().threads, MAX_THREADS);
        let (reply, mut refused) = oneshot::channel::<()>();
        assert!(matches!(lane.push(reply, || ()), Err(Refused::Full)));
        assert!(refused.try_recv().is_err());

        // Work whose caller is gone makes room.
        let kept: Vec<_> = blocked.into_iter().take(MAX_THREADS + 1).collect();
        let (reply, answer) = oneshot::channel();
        lane.push(reply, || 7).unwrap();
        assert_eq!(lane.measure(), MeasuredThreads { busy: MAX_THREADS, waiting: 2 });
        drop(kept.into_iter().map(|(release, answer)| (drop(release), answer)).collect::<Vec<_>>());
        assert_eq!(answer.blocking_recv(), Ok(7));
    }

    #[test]
    fn a_closed_lane_ends_its_threads_after_the_work_that_waits() {
        let lane = Lane::with_a_thread().unwrap();
        let mut blocked: Vec<_> = (0..MAX_THREADS).map(|_| block(&lane)).collect();
        while !lane.0.lock().waiting.is_empty() {
            thread::yield_now();
        }
        let (reply, answer) = oneshot::channel();
        lane.push(reply, || 7).unwrap();
        // One waits for more work, or is about to take that which waits.
        drop(blocked.pop());
        lane.close();
        assert_eq!(answer.blocking_recv(), Ok(7));
        let shared = lane.weak();
        drop((lane, blocked));
        // Each thread has a reference.
        while shared.strong_count() > 0 {
            thread::yield_now();
        }
    }

    #[test]
    fn a_panic_is_its_callers_alone() {
        let lane = Lane::default();
        let (reply, answer) = oneshot::channel::<()>();
        lane.push(reply, || panic!("on purpose")).unwrap();
        assert!(answer.blocking_recv().is_err());
        // The reply is dropped before the thread has caught the panic.
        while lane.0.lock().idle == 0 {
            thread::yield_now();
        }
        let (reply, answer) = oneshot::channel();
        lane.push(reply, || 7).unwrap();
        assert_eq!(answer.blocking_recv(), Ok(7));
        assert_eq!(lane.0.lock().threads, 1, "it was the same one");
    }
}
