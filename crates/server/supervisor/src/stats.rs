//! What a container uses, as its cgroup and its network namespace say.

use std::{path::Path, time::SystemTime};

use gantry_domain::Phase;
use gantry_kernel::{
    cgroup::{self, Cgroup, CgroupError, CgroupMetrics, CgroupStats},
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
    /// Reads everything that [`ContainerStats`] has.
    ///
    /// # Errors
    /// A container that ends meanwhile is not found; one that lives, and whose cgroup somebody has
    /// removed, is.
    pub async fn stats(
        &self,
        container: &ContainerHandle,
    ) -> Result<ContainerStats, SupervisorError> {
        self.read(container, |view, cgroup| {
            Ok(ContainerStats {
                cgroup: cgroup.stats()?,
                system_usage: cgroup::system_usage()?,
                interfaces: interfaces(view),
                at: SystemTime::now(),
            })
        })
        .await
    }

    /// Reads all details, which takes longer than [`Self::stats`].
    ///
    /// # Errors
    /// As [`Self::stats`].
    pub async fn metrics(
        &self,
        container: &ContainerHandle,
    ) -> Result<ContainerMetrics, SupervisorError> {
        self.read(container, |view, cgroup| {
            Ok(ContainerMetrics {
                cgroup: cgroup.metrics()?,
                interfaces: interfaces(view),
                at: SystemTime::now(),
            })
        })
        .await
    }

    async fn read<T: Send + 'static>(
        &self,
        container: &ContainerHandle,
        read: fn(&ContainerView, &Cgroup) -> Result<T, CgroupError>,
    ) -> Result<T, SupervisorError> {
        let view = container.view().await?;
        let id = view.id.clone();
        let read_now = match view.cgroup.clone() {
            Some(cgroup) => {
                // Of many nested cgroups the kernel has much to add up.
                let path = cgroup.path().to_owned();
                let read = move |_: &Path| read(&view, &cgroup);
                self.0.services.disks.run("read the statistics of", &path, read).await?
            }
            None => Err(CgroupError::Removed),
        };
        match read_now {
            Ok(stats) => Ok(stats),
            Err(CgroupError::Removed | CgroupError::Gone { .. }) => {
                match container.view().await?.phase {
                    Phase::Stopped(_) => Err(SupervisorError::ContainerNotFound(id)),
                    _ => Err(SupervisorError::CgroupGone(id)),
                }
            }
            Err(cause) => Err(SupervisorError::Stats { container: id, cause }),
        }
    }
}

/// The first process is the one that is sure to be in the container's network namespace.
fn interfaces(view: &ContainerView) -> Vec<Interface> {
    let first = view.processes.first();
    first.map_or_else(Vec::new, |process| net_dev::interfaces(process.pid).unwrap_or_default())
}
