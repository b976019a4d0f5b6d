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
    let read = |(at, cgroup): &(usize, Arc<Cgroup>)| (*at, cgroup.pids().unwrap_or_default());
    for (at, pids) in read_all(disks, missing, |(_, cgroup)| cgroup.path(), read).await {
        rows[at].pids = Some(pids);
    }
}

/// Reads something of cgroups on threads that may wait, shared out among the processors. What is read too late is left
/// out. `place` is where a cgroup is.
pub(crate) async fn read_all<C, T>(
    disks: &Disks,
    cgroups: Vec<C>,
    place: fn(&C) -> &Path,
    read: fn(&C) -> T,
) -> Vec<T>
where
    C: Clone + Send + 'static,
    T: Send + 'static,
{
    let deadline = Instant::now() + READ_DEADLINE;
    let processors = available_parallelism().map_or(1, std::num::NonZero::get);
    let size = cgroups.len().div_ceil(SHARES_PER_PROCESSOR * processors).max(1);
    let mut shares = Vec::new();
    for share in cgroups.chunks(size) {
        let (disks, place, share) = (disks.clone(), place(&share[0]).to_owned(), share.to_vec());
        shares.push(tokio::spawn(async move {
            let read = move |_: &Path| share.iter().map(read).collect();
            disks.run("read the cgroup", &place, read).await
        }));
    }
    let mut all = Vec::with_capacity(cgroups.len());
    for share in shares {
        match timeout_at(deadline, share).await {
            Ok(Ok(Ok(read))) => all.extend::<Vec<T>>(read),
            Ok(Ok(Err(error))) => tracing::warn!(%error, "cannot read cgroups"),
            // Too late; a task that was ended has read nothing.
            Ok(Err(_)) | Err(_) => {}
        }
    }
    all
}
