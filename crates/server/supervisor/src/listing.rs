//! Lists containers: what their tasks know, with what the kernel knows of their processes.

use std::{path::Path, sync::Arc, thread::available_parallelism, time::Duration};

use gantry_disk::Disks;
use gantry_kernel::cgroup::Cgroup;
use tokio::time::{Instant, timeout_at};

use crate::{ContainerHandle, ContainerView, Supervisor, last_known::see};

/// How long containers may take to answer; of those that do not, the last known state is listed.
pub(crate) const ANSWER_DEADLINE: Duration = Duration::from_secs(2);

/// How long reading the processes of all containers may take after that; it usually takes milliseconds.
const READ_DEADLINE: Duration = Duration::from_secs(1);

/// So few containers are read in less time than it takes to distribute them to threads.
const FEW: usize = 32;

/// So few cgroups within one container's are read at once, for the same reason.
const FEW_NESTED: usize = 16;

/// Shares of the containers for each processor.
const SHARES_PER_PROCESSOR: usize = 2;

/// A container and all processes in it.
#[derive(Debug)]
pub struct Listed {
    /// The container. It is stale too if the processes in its cgroup could not be read.
    pub view: ContainerView,
    /// Host pids of all processes in its cgroup; those of its own processes if these could not be read.
    pub pids: Vec<u32>,
}

/// A container whose processes' pids are known, or have to be read on a thread that may wait.
struct Row {
    view: ContainerView,
    pids: Option<Vec<u32>>,
}

impl Supervisor {
    /// The state of containers, in the order of the handles, without those that are starting or have just ended.
    ///
    /// Reading one container's pids takes some ten microseconds of the kernel's time. Many are shared
    /// out among the processors, and no other call waits behind them.
    pub async fn list(&self, handles: &[ContainerHandle]) -> Vec<Listed> {
        let few = handles.len() <= FEW;
        let views = see(handles, Instant::now() + ANSWER_DEADLINE).await;
        let mut rows: Vec<Row> = views.into_iter().map(|view| Row::new(view, few)).collect();
        read_rest(&self.0.services.disks, &mut rows).await;
        rows.into_iter().map(Row::listed).collect()
    }

    /// A container that was just made, with its processes.
    pub async fn list_one(&self, view: ContainerView) -> Listed {
        let mut rows = [Row::new(view, true)];
        read_rest(&self.0.services.disks, &mut rows).await;
        let [row] = rows;
        row.listed()
    }
}

impl Row {
    /// With `read`, the pids of a container with few nested cgroups are read at once; all others later.
    fn new(view: ContainerView, read: bool) -> Self {
        let pids = match &view.cgroup {
            // One whose cgroup is gone has no processes any more.
            Some(cgroup) if read => cgroup.pids_of_few(FEW_NESTED).unwrap_or(Some(Vec::new())),
            Some(_) => None,
            None => Some(Vec::new()),
        };
        Self { view, pids }
    }

    fn listed(mut self) -> Listed {
        self.view.is_stale |= self.pids.is_none();
        let own = || self.view.living().collect();
        let pids = self.pids.unwrap_or_else(own);
        Listed { view: self.view, pids }
    }
}

/// Reads what was not read yet on threads that may wait.
async fn read_rest(disks: &Disks, rows: &mut [Row]) {
    let unread = rows.iter().enumerate().filter(|(_, row)| row.pids.is_none());
    let missing: Vec<(usize, Arc<Cgroup>)> =
        unread.filter_map(|(at, row)| Some((at, row.view.cgroup.clone()?))).collect();
    for (at, pids) in read_all(disks, missing, |cgroup| cgroup.pids().unwrap_or_default()).await {
        rows[at].pids = Some(pids);
    }
}

/// Reads something of numbered cgroups on threads that may wait, shared out among the processors. What is read too late
/// is left out.
pub(crate) async fn read_all<T: Send + 'static>(
    disks: &Disks,
    cgroups: Vec<(usize, Arc<Cgroup>)>,
    read: fn(&Cgroup) -> T,
) -> Vec<(usize, T)> {
    let deadline = Instant::now() + READ_DEADLINE;
    let processors = available_parallelism().map_or(1, std::num::NonZero::get);
    let size = cgroups.len().div_ceil(SHARES_PER_PROCESSOR * processors).max(1);
    let shares: Vec<_> = cgroups
        .chunks(size)
        .map(|share| tokio::spawn(read_share(disks.clone(), share.to_vec(), read)))
        .collect();
    let mut all = Vec::with_capacity(cgroups.len());
    for share in shares {
        // A task that was ended has read nothing.
        let read = timeout_at(deadline, share).await.ok().and_then(Result::ok);
        all.extend(read.unwrap_or_default());
    }
    all
}

async fn read_share<T: Send + 'static>(
    disks: Disks,
    share: Vec<(usize, Arc<Cgroup>)>,
    read: fn(&Cgroup) -> T,
) -> Vec<(usize, T)> {
    let Some((_, first)) = share.first() else { return Vec::new() };
    let place = first.path().to_owned();
    let read = move |_: &Path| share.iter().map(|(at, cgroup)| (*at, read(cgroup))).collect();
    match disks.run("read the cgroup", &place, read).await {
        Ok(read) => read,
        Err(error) => {
            tracing::warn!(%error, "cannot read cgroups");
            Vec::new()
        }
    }
}
