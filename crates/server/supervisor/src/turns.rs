//! Bounds how many runtimes work at a time, and serves callers fairly: nobody's launches hold up another's.
//!
//! Launches keep processors busy and delay other calls. So their number is bounded, and so is, in a queue of
//! its own, that of all other runtime calls. The queue serves callers round-robin; within a caller the lanes
//! ([`Lane`]); within a lane the oldest. A launch that takes longer than [`LONG`] is blocked itself, by a
//! hook or a file system that hangs, and no longer counts.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::available_parallelism,
    time::Duration,
};

use gantry_domain::ContainerKey;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until},
};

use crate::Caller;

/// Turns for each processor: more than one, as a runtime sleeps now and then.
const PER_PROCESSOR: usize = 2;
/// The least number of turns.
const AT_LEAST: usize = 4;

/// After this time a launch keeps its turn but nobody waits for it any more. Far longer than one takes
/// with all processors busy, so that turns stay a bound then.
const LONG: Duration = Duration::from_secs(1);

/// Calls of runtimes that are likely to hang together, if they do.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Lane {
    /// Of containers, by the directory that their bundles are in.
    Creates(PathBuf),
    /// Of further processes of one container.
    Execs(ContainerKey),
    /// Of containers that are over, by the runtime's program.
    Ends(PathBuf),
    /// Of containers that are to be changed, by the runtime's program.
    Changes(PathBuf),
}

/// Why there is no turn: nothing is launched any more, in that lane or at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Closed;

/// Who waits for a turn, and who has one.
#[derive(Clone)]
pub(crate) struct Turns(Arc<Shared>);

struct Shared {
    bound: usize,
    /// See [`LONG`].
    long: Duration,
    state: Mutex<State>,
}

/// How many have a turn, and wait for one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MeasuredTurns {
    /// Calls under way, those that have taken so long that they count no more among them.
    pub taken: usize,
    /// Those that wait.
    pub waiting: usize,
    /// How many turns there are.
    pub bound: usize,
}

#[derive(Default)]
struct State {
    queue: Queue,
    /// Turns that were given and are not over.
    held: usize,
    /// When each turn began that others wait for, oldest first.
    taken: BTreeMap<u64, Instant>,
    /// A task looks after turns that take long.
    watched: bool,
    closed: bool,
}

/// A launch, or another call, under way. Its turn is over when this is dropped.
pub(crate) struct Turn {
    turns: Turns,
    ticket: u64,
}

/// A place in the queue, left when this is dropped.
struct Place<'a> {
    turns: &'a Turns,
    caller: Caller,
    lane: Lane,
    ticket: u64,
}

impl Default for Turns {
    fn default() -> Self {
        let processors = available_parallelism().map_or(1, std::num::NonZero::get);
        Self::new((PER_PROCESSOR * processors).max(AT_LEAST), LONG)
    }
}

impl Turns {
    fn new(bound: usize, long: Duration) -> Self {
        Self(Arc::new(Shared { bound, long, state: Mutex::default() }))
    }

    /// Waits for a turn. Whoever drops the future leaves the queue.
    pub(crate) async fn take(&self, caller: Caller, lane: Lane) -> Result<Turn, Closed> {
        let (sender, receiver) = oneshot::channel();
        let place = {
            let mut state = self.lock();
            if state.closed {
                return Err(Closed);
            }
            let ticket = state.queue.push(caller, lane.clone(), sender);
            Place { turns: self, caller, lane, ticket }
        };
        self.serve();
        let turn = receiver.await.map_err(|_| Closed);
        drop(place);
        turn
    }

    /// Those that wait in a lane, and all that come later, get no turn.
    pub(crate) fn abandon(&self, lane: &Lane) {
        let left = self.lock().queue.remove_lane(lane);
        drop(left);
    }

    /// Those that wait, and all that come later, get no turn.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let queue = std::mem::take(&mut state.queue);
        drop(state);
        drop(queue);
    }

    pub(crate) fn are_closed(&self) -> bool {
        self.lock().closed
    }

    pub(crate) fn measure(&self) -> MeasuredTurns {
        let state = self.lock();
        MeasuredTurns { taken: state.held, waiting: state.queue.len(), bound: self.0.bound }
    }

    /// Gives turns to those who wait, as many as there are.
    fn serve(&self) {
        let mut given = Vec::new();
        let mut state = self.lock();
        state.overlook(self.0.long);
        while state.taken.len() < self.0.bound
            && let Some((ticket, sender)) = state.queue.pop()
        {
            state.taken.insert(ticket, Instant::now());
            state.held += 1;
            given.push((ticket, sender));
        }
        let watch = !state.queue.is_empty() && !std::mem::replace(&mut state.watched, true);
        drop(state);
        for (ticket, sender) in given {
            // If the receiver is gone, dropping the turn gives it back.
            let _ = sender.send(Turn { turns: self.clone(), ticket });
        }
        if watch {
            tokio::spawn(self.clone().watch());
        }
    }

    /// For as long as somebody waits, serves them when a launch has taken long.
    async fn watch(self) {
        loop {
            self.serve();
            let oldest = {
                let mut state = self.lock();
                let oldest = state.taken.values().next().copied();
                match oldest.filter(|_| !state.queue.is_empty()) {
                    Some(oldest) => oldest,
                    None => {
                        state.watched = false;
                        return;
                    }
                }
            };
            sleep_until(oldest + self.0.long).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // It is whole after any panic: nothing that is called under it can panic halfway.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Stops counting turns that have taken long.
    fn overlook(&mut self, long: Duration) {
        while let Some(oldest) = self.taken.first_entry()
            && oldest.get().elapsed() >= long
        {
            oldest.remove();
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.turns.lock();
        state.taken.remove(&self.ticket);
        state.held -= 1;
        drop(state);
        self.turns.serve();
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let left = self.turns.lock().queue.remove(self.caller, &self.lane, self.ticket);
        drop(left);
    }
}

type Waiter = oneshot::Sender<Turn>;

/// Those who wait. Whoever is served, or new, is placed behind all others of its kind.
#[derive(Default)]
struct Queue {
    callers: HashMap<Caller, Lanes>,
    /// Grows with everything that happens.
    clock: u64,
}

#[derive(Default)]
struct Lanes {
    behind: u64,
    lanes: HashMap<Lane, Waiters>,
}

#[derive(Default)]
struct Waiters {
    behind: u64,
    waiters: BTreeMap<u64, Waiter>,
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.callers.is_empty()
    }

    fn len(&self) -> usize {
        let lanes = self.callers.values().flat_map(|caller| caller.lanes.values());
        lanes.map(|lane| lane.waiters.len()).sum()
    }

    fn push(&mut self, caller: Caller, lane: Lane, waiter: Waiter) -> u64 {
        self.clock += 1;
        let behind = self.clock;
        let caller =
            self.callers.entry(caller).or_insert_with(|| Lanes { behind, ..Lanes::default() });
        let lane =
            caller.lanes.entry(lane).or_insert_with(|| Waiters { behind, ..Waiters::default() });
        lane.waiters.insert(self.clock, waiter);
        self.clock
    }

    /// The next one.
    fn pop(&mut self) -> Option<(u64, Waiter)> {
        self.clock += 1;
        let (&caller, lanes) = self.callers.iter_mut().min_by_key(|(_, lanes)| lanes.behind)?;
        lanes.behind = self.clock;
        let (lane, waiters) = lanes.lanes.iter_mut().min_by_key(|(_, lane)| lane.behind)?;
        waiters.behind = self.clock;
        let lane = lane.clone();
        let ticket = *waiters.waiters.first_key_value()?.0;
        let waiter = self.remove(caller, &lane, ticket)?;
        Some((ticket, waiter))
    }

    fn remove(&mut self, caller: Caller, lane: &Lane, ticket: u64) -> Option<Waiter> {
        let lanes = self.callers.get_mut(&caller)?;
        let waiters = lanes.lanes.get_mut(lane)?;
        let waiter = waiters.waiters.remove(&ticket);
        if waiters.waiters.is_empty() {
            lanes.lanes.remove(lane);
        }
        if lanes.lanes.is_empty() {
            self.callers.remove(&caller);
        }
        waiter
    }

    fn remove_lane(&mut self, lane: &Lane) -> Vec<Waiters> {
        let left = self.callers.values_mut().filter_map(|lanes| lanes.lanes.remove(lane)).collect();
        self.callers.retain(|_, lanes| !lanes.lanes.is_empty());
        left
    }
}

#[cfg(test)]
mod tests;
