//! What many containers use, with all details, read on all processors.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::available_parallelism,
    time::{Duration, SystemTime},
};

use gantry_disk::Disks;
use gantry_kernel::{
    cgroup::{CgroupError, CgroupMetrics},
    net_dev::Interface,
};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, timeout_at},
};

use crate::{
    ContainerHandle, ContainerView, Supervisor, last_known::see, listing::ANSWER_DEADLINE,
    stats::interfaces,
};

/// How long reading all of it may take.
const READ_DEADLINE: Duration = Duration::from_secs(3);

/// Threads that read for one call: so many others of the file system are left for other calls.
const MAX_THREADS: usize = 4;

/// The most containers that a thread reads in one go, which takes some milliseconds. After that it is another call's turn.
const MAX_SHARE: usize = 16;

/// Shares of the containers for each thread: not all of them take the same time.
const SHARES_PER_THREAD: usize = 4;

/// What a container uses, with all details that the kernel reports.
#[derive(Debug)]
pub struct ContainerMetrics {
    /// When it was read.
    pub at: SystemTime,
    /// Of all its processes.
    pub cgroup: CgroupMetrics,
    /// Of the network namespace of its first process.
    pub interfaces: Vec<Interface>,
}

impl Supervisor {
    /// Reads what containers use, and makes something of it on the thread that has read it; in the order of the handles.
    /// A container that cannot be read, or not in time, is left out.
    pub async fn metrics<T: Send + 'static>(
        &self,
        handles: &[ContainerHandle],
        make: fn(&ContainerView, ContainerMetrics) -> T,
    ) -> Vec<T> {
        let views: Arc<[_]> = see(handles, Instant::now() + ANSWER_DEADLINE).await.into();
        let threads = available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
        let share = views.len().div_ceil(threads * SHARES_PER_THREAD).clamp(1, MAX_SHARE);
        // It has a message for each container at most.
        let (read, mut answers) = mpsc::unbounded_channel();
        let next = Arc::new(AtomicUsize::new(0));
        let mut readers = JoinSet::new();
        for _ in 0..threads.min(views.len().div_ceil(share)) {
            let (views, next, read) = (Arc::clone(&views), Arc::clone(&next), read.clone());
            let reader = Reader { views, next, share, read, make };
            readers.spawn(reader.run(self.0.services.disks.clone()));
        }
        drop(read);
        let deadline = Instant::now() + READ_DEADLINE;
        let mut all: Vec<Option<T>> = views.iter().map(|_| None).collect();
        loop {
            match timeout_at(deadline, answers.recv()).await {
                Ok(Some((at, made))) => all[at] = Some(made),
                Ok(None) => break,
                Err(_) => {
                    let missing = all.iter().filter(|made| made.is_none()).count();
                    tracing::warn!(missing, "what containers use could not all be read in time");
                    break;
                }
            }
        }
        all.into_iter().flatten().collect()
    }
}

/// Reads shares of the containers until there are none left.
struct Reader<T> {
    views: Arc<[ContainerView]>,
    /// The first container that nobody reads yet.
    next: Arc<AtomicUsize>,
    share: usize,
    read: mpsc::UnboundedSender<(usize, T)>,
    make: fn(&ContainerView, ContainerMetrics) -> T,
}

impl<T: Send + 'static> Reader<T> {
    async fn run(self, disks: Disks) {
        loop {
            let begin = self.next.fetch_add(self.share, Ordering::Relaxed);
            let end = self.views.len().min(begin + self.share);
            let Some(share) = self.views.get(begin..end).filter(|share| !share.is_empty()) else {
                return;
            };
            let Some(cgroup) = share.iter().find_map(|view| view.cgroup.clone()) else { continue };
            let (views, read, make) = (Arc::clone(&self.views), self.read.clone(), self.make);
            let work = move |_: &Path| {
                for at in begin..end {
                    // Nobody waits any more.
                    if read.is_closed() {
                        return;
                    }
                    if let Some(metrics) = metrics(&views[at]) {
                        let _ = read.send((at, make(&views[at], metrics)));
                    }
                }
            };
            // Of many nested cgroups the kernel has much to add up.
            if let Err(error) = disks.run("read the statistics of", cgroup.path(), work).await {
                tracing::warn!(%error, "some containers are left out of what containers use");
            }
        }
    }
}

/// `None` if it is gone, or cannot be read.
fn metrics(view: &ContainerView) -> Option<ContainerMetrics> {
    let read = match &view.cgroup {
        Some(cgroup) => cgroup.metrics(),
        None => Err(CgroupError::Removed),
    };
    match read {
        Ok(cgroup) => {
            let interfaces = interfaces(view);
            Some(ContainerMetrics { cgroup, interfaces, at: SystemTime::now() })
        }
        Err(error) => {
            tracing::debug!(id = %view.id, %error, "it is left out of what containers use");
            None
        }
    }
}
