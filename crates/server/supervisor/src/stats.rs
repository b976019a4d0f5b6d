//! What a container uses, as its cgroup and its network namespace say.

use std::{path::Path, time::SystemTime};

use gantry_domain::Phase;
use gantry_kernel::{
    cgroup::{self, Cgroup, CgroupError, CgroupStats},
    net_dev::{self, Interface},
};

use crate::{ContainerHandle, ContainerView, Supervisor, SupervisorError};

/// What a container uses.
#[derive(Debug)]
pub struct ContainerStats {
    /// When it was read.
    pub at: SystemTime,
    /// Of all its processes.
    pub cgroup: CgroupStats,
    /// Processor time of the whole machine since it was booted, in nanoseconds.
    pub system_usage: u64,
    /// Of the network namespace of its first process.
    pub interfaces: Vec<Interface>,
}

impl Supervisor {
    /// Reads everything.
    ///
    /// # Errors
    /// A container that ends meanwhile is not found; one that lives, and whose cgroup somebody has
    /// removed, is.
    pub async fn stats(
        &self,
        container: &ContainerHandle,
    ) -> Result<ContainerStats, SupervisorError> {
        let view = container.view().await?;
        let id = view.id.clone();
        let stats = match view.cgroup.clone() {
            Some(cgroup) => {
                // Of many nested cgroups the kernel has much to add up.
                let path = cgroup.path().to_owned();
                let read = move |_: &Path| read_now(&view, &cgroup);
                self.0.services.disks.run("read the statistics of", &path, read).await??
            }
            None => None,
        };
        match stats {
            Some(stats) => Ok(stats),
            None => match container.view().await?.phase {
                Phase::Stopped(_) => Err(SupervisorError::ContainerNotFound(id)),
                _ => Err(SupervisorError::CgroupGone(id)),
            },
        }
    }
}

/// `None` without the cgroup.
fn read_now(
    view: &ContainerView,
    cgroup: &Cgroup,
) -> Result<Option<ContainerStats>, SupervisorError> {
    let failed = |cause| SupervisorError::Stats { container: view.id.clone(), cause };
    let stats = match cgroup.stats() {
        Err(CgroupError::Removed | CgroupError::Gone { .. }) => return Ok(None),
        other => other.map_err(failed)?,
    };
    let system_usage = cgroup::system_usage().map_err(failed)?;
    // The first process is the one that is sure to be in the container's network namespace.
    let interfaces = match view.processes.first() {
        Some(process) => net_dev::interfaces(process.pid).unwrap_or_default(),
        None => Vec::new(),
    };
    Ok(Some(ContainerStats { at: SystemTime::now(), cgroup: stats, system_usage, interfaces }))
}
