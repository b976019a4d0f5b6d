//! What many containers use, with all details, read on all processors.

use std::{
    ops::ControlFlow,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::available_parallelism,
    time::{Duration, SystemTime},
};

use gantry_disk::{DiskError, Disks};
use gantry_kernel::{
    cgroup::{CgroupError, CgroupMetrics},
    net_dev::Interface,
};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep_until},
};

use crate::{
    ContainerHandle, ContainerView, Supervisor, last_known::see, listing::ANSWER_DEADLINE,
    stats::interfaces,
};

/// How long reading all of it may take.
const READ_DEADLINE: Duration = Duration::from_secs(3);

/// When nothing was read for so long, what the readers are at hangs: another one reads the rest.
const STALL: Duration = Duration::from_millis(100);

/// Threads that read for one call: so many others of the file system are left for other calls.
const MAX_THREADS: usize = 4;

/// With those that hang. One is left for other calls.
const MAX_READERS: usize = 7;

/// The most containers that a thread reads in one go, which takes some milliseconds. After that it is another call's turn.
const MAX_SHARE: usize = 16;

/// The most ids that the log has of containers that were not read.
const MAX_NAMED: usize = 16;

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
        let views = see(handles, Instant::now() + ANSWER_DEADLINE).await;
        let read = move |view: &ContainerView| Some(make(view, metrics(view)?));
        read_views(&self.0.services.disks, views, read).await
    }
}

/// What was read of the containers, in their order.
async fn read_views<T, R>(disks: &Disks, views: Vec<ContainerView>, read: R) -> Vec<T>
where
    T: Send + 'static,
    R: Fn(&ContainerView) -> Option<T> + Send + Sync + 'static,
{
    let work = Arc::new(Work { views, next: AtomicUsize::new(0), read });
    let count = work.views.len();
    let threads = available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
    let (mut readers, mut begun) = (JoinSet::new(), 0);
    // It has a message for each container at most.
    let (reply, mut answers) = mpsc::unbounded_channel();
    let deadline = Instant::now() + READ_DEADLINE;
    let mut all: Vec<Option<Option<T>>> = work.views.iter().map(|_| None).collect();
    let (mut answered, mut wanted) = (0, threads.min(count));
    let mut stalled = Instant::now() + STALL;
    while answered < count {
        while begun < wanted {
            readers.spawn(Arc::clone(&work).run(disks.clone(), reply.clone()));
            begun += 1;
        }
        let is_left = work.next.load(Ordering::Relaxed) < count;
        tokio::select! {
            biased;
            Some((at, read)) = answers.recv() => {
                all[at] = Some(read);
                answered += 1;
                stalled = Instant::now() + STALL;
            }
            // It has read the last one, or could not go on.
            Some(_) = readers.join_next() => {
                if is_left && readers.is_empty() {
                    wanted = MAX_READERS.min(begun + 1);
                }
                if readers.is_empty() && begun == wanted && answers.is_empty() {
                    break;
                }
            }
            () = sleep_until(stalled), if is_left && begun < MAX_READERS => {
                wanted = begun + 1;
                stalled = Instant::now() + STALL;
            }
            () = sleep_until(deadline) => break,
        }
    }
    if answered < count {
        let missing = work.views.iter().zip(&all).filter(|(_, read)| read.is_none());
        let named: Vec<_> = missing.take(MAX_NAMED).map(|(view, _)| view.id.as_str()).collect();
        tracing::warn!(
            missing = count - answered,
            containers = named.join(","),
            "what containers use could not all be read in time",
        );
    }
    all.into_iter().flatten().flatten().collect()
}

/// What the readers of one call share.
struct Work<R> {
    views: Vec<ContainerView>,
    /// The first container that nobody reads yet. A reader takes one at a time: one that hangs holds up no other.
    next: AtomicUsize,
    read: R,
}

impl<R> Work<R> {
    /// Reads until nothing is left. With each container's position its answer: none if it cannot be read.
    async fn run<T>(self: Arc<Self>, disks: Disks, reply: mpsc::UnboundedSender<(usize, Option<T>)>)
    where
        T: Send + 'static,
        R: Fn(&ContainerView) -> Option<T> + Send + Sync + 'static,
    {
        loop {
            match self.read_some(&disks, &reply).await {
                Ok(ControlFlow::Continue(())) => {}
                Ok(ControlFlow::Break(())) => return,
                Err(error) => {
                    tracing::warn!(%error, "some containers may be left out of what containers use");
                    return;
                }
            }
        }
    }

    /// Reads a share.
    async fn read_some<T>(
        self: &Arc<Self>,
        disks: &Disks,
        reply: &mpsc::UnboundedSender<(usize, Option<T>)>,
    ) -> Result<ControlFlow<()>, DiskError>
    where
        T: Send + 'static,
        R: Fn(&ContainerView) -> Option<T> + Send + Sync + 'static,
    {
        let left = self.views.get(self.next.load(Ordering::Relaxed)..).unwrap_or_default();
        if left.is_empty() {
            return Ok(ControlFlow::Break(()));
        }
        let cgroup = left.iter().find_map(|view| view.cgroup.as_deref());
        let place = cgroup.map_or(Path::new("/proc"), |cgroup| cgroup.path()).to_owned();
        let (this, reply) = (Arc::clone(self), reply.clone());
        let work = move |_: &Path| {
            for _ in 0..MAX_SHARE {
                // Nobody waits any more.
                if reply.is_closed() {
                    return;
                }
                let at = this.next.fetch_add(1, Ordering::Relaxed);
                let Some(view) = this.views.get(at) else { return };
                let _ = reply.send((at, (this.read)(view)));
            }
        };
        // Of many nested cgroups the kernel has much to add up.
        disks.run("read the statistics of", &place, work).await?;
        Ok(ControlFlow::Continue(()))
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

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, mpsc};

    use super::*;
    use crate::last_known::testing::view;
    use gantry_domain::Phase;

    /// With as many that hang as there are readers at first, and one more.
    #[tokio::test]
    async fn what_hangs_holds_up_no_other() {
        let disks = Disks::new().unwrap();
        let (go_on, waits) = mpsc::channel::<()>();
        let waits = Mutex::new(waits);
        let ids = (0..40).map(|number| match number {
            0..MAX_THREADS | 20 => format!("hangs-{number}"),
            _ => format!("c-{number}"),
        });
        let ids: Vec<_> = ids.collect();
        let views = ids.iter().map(|id| view(id, Phase::Running)).collect();
        let read = move |view: &ContainerView| {
            if view.id.as_str().starts_with("hangs") {
                let _ = waits.lock().unwrap().recv();
            }
            Some(view.id.to_string())
        };
        let read = read_views(&disks, views, read).await;
        drop(go_on);
        let expected: Vec<_> = ids.into_iter().filter(|id| id.starts_with("c-")).collect();
        assert_eq!(read, expected);
    }

    /// Without a thread that hangs, nothing waits for a deadline.
    #[tokio::test]
    async fn what_cannot_be_read_is_left_out() {
        let disks = Disks::new().unwrap();
        let views = (0..100).map(|number| view(&number.to_string(), Phase::Running)).collect();
        let even = |view: &ContainerView| {
            let number: u32 = view.id.as_str().parse().unwrap();
            number.is_multiple_of(2).then_some(number)
        };
        let expected: Vec<_> = (0..100).step_by(2).collect();
        assert_eq!(read_views(&disks, views, even).await, expected);
        assert_eq!(read_views(&disks, Vec::new(), even).await, [0; 0]);
    }
}
