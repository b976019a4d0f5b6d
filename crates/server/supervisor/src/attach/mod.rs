//! Processes whose streams the server holds, for callers that have no pipes of their own (`gantry://` as a stream's path).
//!
//! The pipes are FIFOs in the process's state directory, and its shim opens them as it opens those of any caller: it keeps
//! an end of each for as long as the process lives, so that nothing ends, and the process does not get SIGPIPE, while a
//! server is away. What the process writes then waits in the pipe (64 KiB), and the next server reads it; what the last
//! one had read is gone with it, and whoever attaches is told so. Of a process that ends while no server is there the shim
//! keeps what is in the pipe for ten seconds, as of any process. What others that it has left behind write after its end
//! has no reader but the server: they get SIGPIPE once that ends.
//!
//! The outputs are read as they come, into a ring of [`crate::Settings::attach_buffer`] bytes: no reader stops a
//! container, and one that is too slow gets a gap.

mod actor;
mod held;
mod ring;

use std::{
    collections::{HashMap, VecDeque},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use gantry_domain::{ContainerKey, Exit, Generation, ProcessId, ProcessSpec, Refusal};
use gantry_kernel::until_answered;
use tokio::{net::unix::pipe::Sender, sync::OwnedMutexGuard};

pub(crate) use self::held::{Ends, Holder};
use self::{held::Held, ring::Place};
pub use self::{
    held::{Attachment, Stdin},
    ring::{OutputStream, Piece},
};
use crate::{Supervisor, SupervisorError, state_dir::ProcessDir};

/// How many processes that have ended keep their output.
const ENDED: usize = 64;

/// How much memory the output of those has together. The last one keeps all of its output in any case.
const ENDED_BYTES: usize = 16 << 20;

type Key = (ContainerKey, ProcessId);

/// All processes whose streams are held.
#[derive(Default)]
pub(crate) struct Attachments(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    held: HashMap<Key, Arc<Held>>,
    /// Those that have ended, or whose id another one has by now, the first one first.
    ended: VecDeque<Arc<Held>>,
}

impl Attachments {
    /// Begins to read the outputs of a process, if the server holds any. `earlier` is one that an earlier server has
    /// started. If the streams cannot be opened now, that is tried again for as long as they are there.
    pub(crate) async fn hold(
        &self,
        of: Holder,
        dir: &ProcessDir,
        spec: &ProcessSpec,
        room: usize,
        earlier: bool,
    ) {
        if !spec.stdio.has_held() {
            return;
        }
        let held = Held::new(of, &spec.stdio, spec.terminal, room, earlier);
        let stdin = held.lock_stdin().await;
        self.lock().add(Arc::clone(&held));
        let mut opening = Opening { dir: dir.clone(), spec: spec.clone(), held, stdin };
        if opening.try_open().await.is_err() {
            tokio::spawn(opening.open());
        }
    }

    /// The exit of a process was published. Its output is kept until enough others have ended.
    pub(crate) fn ended(
        &self,
        container: &ContainerKey,
        generation: Generation,
        process: &ProcessId,
        exit: Exit,
    ) {
        let mut inner = self.lock();
        if let Some(held) = inner.find(container, generation, process) {
            inner.end(&held, Some(exit));
        }
    }

    /// A container is gone: nobody will know how those of its processes have ended that have not yet.
    pub(crate) fn gone(&self, container: &ContainerKey, generation: Generation) {
        let mut inner = self.lock();
        let held = inner.held.values().chain(&inner.ended);
        let left = held.filter(|held| held.is_of(container, generation) && !held.has_ended());
        for held in left.cloned().collect::<Vec<_>>() {
            inner.end(&held, None);
        }
    }

    fn attach(&self, container: &ContainerKey, process: &ProcessId) -> Option<Attachment> {
        let held = self.lock().held.get(&(container.clone(), process.clone())).cloned()?;
        Some(Attachment { held, place: Place::Beginning })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // What a panic could leave is at most the output of a process that has ended, for longer.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Adds a process in place of an earlier one with the same id, whose exit may still be on its way.
    fn add(&mut self, held: Arc<Held>) {
        if let Some(earlier) = self.held.insert(held.key(), held)
            && !earlier.has_ended()
        {
            self.keep(earlier);
        }
    }

    fn find(
        &self,
        container: &ContainerKey,
        generation: Generation,
        process: &ProcessId,
    ) -> Option<Arc<Held>> {
        let latest = self.held.get(&(container.clone(), process.clone()));
        let mut known = latest.into_iter().chain(self.ended.iter().rev());
        let is_it =
            |held: &&Arc<Held>| held.is_of(container, generation) && held.of.process == *process;
        known.find(is_it).cloned()
    }

    fn end(&mut self, held: &Arc<Held>, exit: Option<Exit>) {
        if !held.has_ended() {
            held.ended(exit);
            self.keep(Arc::clone(held));
        }
    }

    /// Keeps the output of a process that has ended, and drops the oldest for which there is no room then.
    fn keep(&mut self, held: Arc<Held>) {
        self.ended.retain(|other| !Arc::ptr_eq(other, &held));
        self.ended.push_back(held);
        let mut kept: usize = self.ended.iter().map(|held| held.kept()).sum();
        while self.ended.len() > 1
            && (self.ended.len() > ENDED || kept > ENDED_BYTES)
            && let Some(oldest) = self.ended.pop_front()
        {
            kept = kept.saturating_sub(oldest.kept());
            if self.held.get(&oldest.key()).is_some_and(|held| Arc::ptr_eq(held, &oldest)) {
                self.held.remove(&oldest.key());
            }
        }
    }
}

/// Streams that are to be opened.
struct Opening {
    dir: ProcessDir,
    spec: ProcessSpec,
    held: Arc<Held>,
    stdin: OwnedMutexGuard<Option<Sender>>,
}

impl Opening {
    async fn try_open(&mut self) -> io::Result<()> {
        let (stdio, terminal) = (self.spec.stdio.clone(), self.spec.terminal);
        match self.dir.run(move |dir, wait| dir.open_pipes(&stdio, terminal, wait)).await {
            Ok(ends) => self.held.begin(ends, &mut self.stdin),
            // The process has ended, and its directory was removed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.held.has_nothing();
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    async fn open(self) {
        let what = format!("hold the streams of process {}", self.spec.id);
        let opening = tokio::sync::Mutex::new(self);
        until_answered(what, || async { opening.lock().await.try_open().await }).await;
    }
}

impl Supervisor {
    /// Attaches to a process whose streams the server holds: one that lives, or one of the last that have ended. Waits for a
    /// container that is being made.
    ///
    /// # Errors
    /// If there is no such process, it was not started yet, or its streams are not held.
    pub async fn attach(
        &self,
        container: &ContainerKey,
        process: &ProcessId,
    ) -> Result<Attachment, SupervisorError> {
        let attachments = &self.0.services.attachments;
        let not_held = || SupervisorError::NotHeld(process.clone());
        let known = async {
            let handle = self.container(container.namespace.clone(), container.id.clone())?;
            handle.created().await?;
            // Waits until the server has reattached to it: before that nothing of it is held.
            handle.ask_for_made().await
        };
        match known.await {
            Ok(view) => {
                let found = view.processes.iter().find(|known| known.spec.id == *process);
                match found {
                    Some(known) if !known.spec.stdio.has_held() => Err(not_held()),
                    Some(known) if known.pid == 0 => {
                        let (process, phase) = (process.clone(), known.phase);
                        Err(Refusal::ProcessPhase { process, phase }.into())
                    }
                    Some(_) => attachments.attach(container, process).ok_or_else(not_held),
                    // One that has ended.
                    None => {
                        let gone = || SupervisorError::ProcessNotFound(process.clone());
                        attachments.attach(container, process).ok_or_else(gone)
                    }
                }
            }
            Err(error) => attachments.attach(container, process).ok_or(error),
        }
    }
}

#[cfg(test)]
mod tests;
