//! Processes whose streams the server holds, for callers that have no pipes of their own (`gantry://` as a stream's path).
//!
//! The pipes are FIFOs in the process's state directory, and its shim opens them as it opens those of any caller: it keeps
//! an end of each, so that nothing ends, and no process gets SIGPIPE, while a server is away. What the process writes then
//! waits in the pipe (64 KiB), and the next server reads it; what the last one had read is gone with it, and whoever
//! attaches is told so.
//!
//! The outputs are read as they come, into a ring of [`crate::Settings::attach_buffer`] bytes: no reader stops a
//! container, and one that is too slow gets a gap.

mod held;
mod ring;

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use gantry_domain::{ContainerKey, ProcessId, ProcessSpec, Refusal};

pub(crate) use self::held::Ends;
use self::{held::Held, ring::Place};
pub use self::{
    held::{Attachment, Stdin},
    ring::{OutputStream, Piece},
};
use crate::{Supervisor, SupervisorError, state_dir::ProcessDir};

/// How many processes that have ended keep their output.
const ENDED: usize = 64;

type Key = (ContainerKey, ProcessId);

/// All processes whose streams are held.
#[derive(Default)]
pub(crate) struct Attachments(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    held: HashMap<Key, Arc<Held>>,
    /// Those that have ended, the first one first.
    ended: VecDeque<(Key, Arc<Held>)>,
}

impl Attachments {
    /// Begins to read the outputs of a process, if the server holds any. `earlier` is one that an earlier server has
    /// started.
    pub(crate) async fn hold(
        &self,
        container: &ContainerKey,
        dir: &ProcessDir,
        spec: &ProcessSpec,
        room: usize,
        earlier: bool,
    ) {
        if !spec.stdio.has_held() {
            return;
        }
        let (stdio, terminal) = (spec.stdio.clone(), spec.terminal);
        let ends = dir.run(move |dir, wait| dir.open_pipes(&stdio, terminal, wait)).await;
        let held = ends.and_then(|ends| Held::begin(ends, room, earlier));
        match held {
            Ok(held) => {
                self.lock().held.insert((container.clone(), spec.id.clone()), held);
            }
            Err(error) => tracing::error!(
                %container, process = %spec.id, %error,
                "cannot read its output: it waits for room in its pipe until a restart of gantryd",
            ),
        }
    }

    /// The process has ended. Its output is kept until enough others have ended.
    pub(crate) fn ended(&self, container: &ContainerKey, process: &ProcessId) {
        let key = (container.clone(), process.clone());
        let mut inner = self.lock();
        let Some(held) = inner.held.get(&key).cloned() else { return };
        held.end_input();
        inner.ended.push_back((key, held));
        if inner.ended.len() > ENDED
            && let Some((key, oldest)) = inner.ended.pop_front()
            && inner.held.get(&key).is_some_and(|held| Arc::ptr_eq(held, &oldest))
        {
            inner.held.remove(&key);
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
            handle.view().await
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
