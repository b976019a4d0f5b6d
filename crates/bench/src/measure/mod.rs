//! What is measured, a file each.

pub(crate) mod crowd;
pub(crate) mod docker;
pub(crate) mod events;
pub(crate) mod idle;
pub(crate) mod images;
pub(crate) mod latency;
pub(crate) mod many_tasks;
pub(crate) mod memory;
pub(crate) mod population;
pub(crate) mod streams;
pub(crate) mod throughput;

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::{
    bare::Bare, bed::Bed, containerd::Containerd, gantry::Gantry, report::Measure, server::Server,
};

/// How the subject under test is called.
pub(crate) const GANTRY: &str = "Gantry";
pub(crate) const CONTAINERD: &str = "containerd 1.6";
pub(crate) const CTR: &str = "ctr of 1.6";

/// What all measurements have: the server under test and what to compare it with.
pub(crate) struct Bench {
    // Dropped from the top: the servers before the bed.
    pub(crate) server: Server,
    pub(crate) containerd: Option<Containerd>,
    pub(crate) bed: Bed,
    /// A few samples only: it shows that all works, and not much more.
    pub(crate) quick: bool,
}

impl Bench {
    /// The runtimes that are installed.
    pub(crate) fn runtimes(&self) -> Vec<Bare> {
        let installed =
            |name: &&str| std::process::Command::new(name).arg("--version").output().is_ok();
        ["runc", "crun"]
            .into_iter()
            .filter(installed)
            .map(|name| Bare::new(&self.bed, name))
            .collect()
    }

    /// A connection to the server under test whose containers run on this runtime.
    pub(crate) async fn gantry(&self, runtime: &'static str) -> Result<Gantry> {
        Gantry::connect(&self.bed, &self.server.socket, runtime).await
    }

    /// How many, in a full and in a quick run.
    pub(crate) fn count(&self, full: usize, quick: usize) -> usize {
        if self.quick { quick } else { full }
    }
}

/// Milliseconds since then.
pub(crate) fn since(begin: Instant) -> f64 {
    ms(begin.elapsed())
}

pub(crate) fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Whether the kernel was idle for a while before an operation. The first operation after that
/// to move a process into a cgroup waits for an RCU grace period (`cgroup_threadgroup_rwsem`).
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pace {
    BackToBack,
    Apart,
}

impl Pace {
    pub(crate) const ALL: [Self; 2] = [Self::BackToBack, Self::Apart];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::BackToBack => "back to back",
            Self::Apart => "50 ms apart",
        }
    }

    pub(crate) async fn rest(self) {
        if let Self::Apart = self {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// A measure's name with what it was taken under.
pub(crate) fn named(what: &str, runtime: &Bare, pace: Pace, unit: &'static str) -> Measure {
    Measure::new(format!("{what}, {}, {}", runtime.name, pace.name()), unit)
}
