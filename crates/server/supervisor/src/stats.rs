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
    /// Reads everything that [`ContainerStats`] has.
    ///
    /// # Errors
    /// A container that ends meanwhile is not found; one that lives, and whose cgroup somebody has
    /// removed, is.
    pub async fn stats(
        &self,
        container: &ContainerHandle,
    ) -> Result<ContainerStats, SupervisorError> {
        let read = |view: &ContainerView, cgroup: &Cgroup| {
            Ok(ContainerStats {
                cgroup: cgroup.stats()?,
                system_usage: cgroup::system_usage()?,
                interfaces: interfaces(view),
                at: SystemTime::now(),
            })
        };
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

/// The first process is the one that is sure to be in the container's network namespace. None of one that has ended, or
/// that the server has not reattached to: its pid may be another's.
pub(crate) fn interfaces(view: &ContainerView) -> Vec<Interface> {
    let Some((process, pidfd)) =
        view.processes.first().and_then(|process| Some((process, process.pidfd.as_ref()?)))
    else {
        return Vec::new();
    };
    let read = net_dev::interfaces(process.pid).unwrap_or_default();
    if pidfd.has_ended() { Vec::new() } else { read }
}
