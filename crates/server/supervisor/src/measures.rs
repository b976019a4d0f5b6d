//! What is measured of all containers together.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use gantry_disk::{Disks, MeasuredThreads};
use gantry_domain::{ContainerKey, Phase};
use gantry_runtime::MeasuredCalls;
pub use gantry_runtime::Outcome;

use crate::{ContainerHandle, Supervisor, turns::MeasuredTurns};

/// What is measured of all containers together, and of what they wait for.
#[derive(Debug)]
pub struct SupervisorMeasures {
    /// Those of `types.API`.
    pub types: MeasuredContainers,
    /// Those of named namespaces.
    pub named: MeasuredContainers,
    /// Launches: calls of runtimes that start a process.
    pub launches: MeasuredTurns,
    /// All other calls of runtimes for containers.
    pub calls: MeasuredTurns,
    /// How long calls of runtimes took.
    pub runtime: Vec<MeasuredCalls>,
    /// How long it took to take over the containers of the server before.
    pub reattachment: MeasuredReattachment,
    /// The threads that wait for the state directory's disk.
    pub state_files: MeasuredThreads,
    /// The threads that wait for callers' file systems.
    pub disks: MeasuredThreads,
}

/// How many containers are in which state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct MeasuredContainers {
    /// They are being made: nobody else sees them yet.
    pub starting: u64,
    pub created: u64,
    pub running: u64,
    pub paused: u64,
    pub stopped: u64,
}

/// How the start of the server has taken over the containers of the one before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MeasuredReattachment {
    /// How many containers were found.
    pub found: u64,
    /// How many of them have not answered yet.
    pub pending: u64,
    /// From the start to the last answer so far.
    pub took: Duration,
}

/// Containers that the server reattaches to.
#[derive(Debug)]
pub(crate) struct Reattachment {
    began: Instant,
    found: AtomicUsize,
    pending: AtomicUsize,
    /// In nanoseconds.
    took: AtomicU64,
}

/// A container that has not answered yet.
#[derive(Debug)]
pub(crate) struct Pending(Arc<Reattachment>);

impl Default for Reattachment {
    fn default() -> Self {
        let (found, pending, took) = Default::default();
        Self { began: Instant::now(), found, pending, took }
    }
}

impl Reattachment {
    /// One more container, until the guard is dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> Pending {
        self.found.fetch_add(1, Ordering::Relaxed);
        self.pending.fetch_add(1, Ordering::Relaxed);
        Pending(Arc::clone(self))
    }

    /// All containers were found.
    pub(crate) fn all_found(&self) {
        self.answered();
    }

    fn answered(&self) {
        let took = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.took.fetch_max(took, Ordering::Relaxed);
    }

    fn measure(&self) -> MeasuredReattachment {
        MeasuredReattachment {
            found: self.found.load(Ordering::Relaxed) as u64,
            pending: self.pending.load(Ordering::Relaxed) as u64,
            took: Duration::from_nanos(self.took.load(Ordering::Relaxed)),
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.pending.fetch_sub(1, Ordering::Relaxed);
        self.0.answered();
    }
}

impl MeasuredContainers {
    fn add(&mut self, phase: Option<Phase>) {
        let count = match phase {
            None | Some(Phase::Starting) => &mut self.starting,
            Some(Phase::Created) => &mut self.created,
            Some(Phase::Running) => &mut self.running,
            Some(Phase::Paused) => &mut self.paused,
            Some(Phase::Stopped(_)) => &mut self.stopped,
        };
        *count += 1;
    }
}

impl Supervisor {
    /// The threads that wait for callers' file systems, and for the kernel's.
    pub fn disks(&self) -> &Disks {
        &self.0.services.disks
    }

    /// What is measured now. No container is asked, and each lock is held for a moment.
    pub fn measure(&self) -> SupervisorMeasures {
        let services = &self.0.services;
        let (mut types, mut named) = (MeasuredContainers::default(), MeasuredContainers::default());
        // Starts and ends wait for the registry meanwhile, so that no container is waited for with it.
        let all: Vec<_> = {
            let registry = services.registry.lock();
            let whole = registry.iter().filter(|(_, handle)| !handle.half_made);
            let of = |(key, handle): (&ContainerKey, &ContainerHandle)| {
                (key.namespace.is_types_api(), handle.last_known.clone())
            };
            whole.map(of).collect()
        };
        for (is_types, last_known) in all {
            let containers = if is_types { &mut types } else { &mut named };
            containers.add(last_known.read(|view| view.phase));
        }
        SupervisorMeasures {
            types,
            named,
            launches: services.turns.measure(),
            calls: services.calls.measure(),
            runtime: services.runtimes.calls.read(),
            reattachment: services.reattachment.measure(),
            state_files: services.state.files().measure(),
            disks: services.disks.measure(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reattaching_ends_with_the_last_answer() {
        let reattachment = Arc::new(Reattachment::default());
        let [first, last] = [reattachment.begin(), reattachment.begin()];
        reattachment.all_found();
        drop(first);
        let before = reattachment.measure();
        assert_eq!((before.found, before.pending), (2, 1));
        drop(last);
        let after = reattachment.measure();
        assert_eq!((after.found, after.pending), (2, 0));
        assert!(after.took > before.took && before.took > Duration::ZERO);
    }
}
