//! What many containers use, a few numbers of each: no container's task is asked, and no other call waits.

use std::{sync::Arc, time::SystemTime};

use gantry_domain::{ContainerKey, Labels};
use gantry_kernel::cgroup::{Cgroup, Usage};

use crate::{ContainerHandle, Supervisor, listing::read_all};

/// What a container uses.
#[derive(Debug, Clone)]
pub struct ContainerUsage {
    /// Which container.
    pub key: ContainerKey,
    /// When it was read.
    pub at: SystemTime,
    /// Of all its processes.
    pub usage: Usage,
}

impl ContainerHandle {
    /// The labels that its events have; none before its start was published.
    pub fn labels(&self) -> Option<Labels> {
        self.last_known.read(|view| view.event_labels.clone())
    }
}

impl Supervisor {
    /// What these containers use, in their order, without those that have no processes, or whose cgroup cannot be read.
    /// A container costs four or five files of the kernel's.
    pub async fn usage(&self, handles: &[ContainerHandle]) -> Vec<ContainerUsage> {
        let cgroup = |handle: &ContainerHandle| handle.last_known.read(|view| view.cgroup.clone());
        let cgroups: Vec<(usize, Arc<Cgroup>)> = handles
            .iter()
            .enumerate()
            .filter_map(|(at, handle)| Some((at, cgroup(handle)??)))
            .collect();
        let read = |(at, cgroup): &(usize, Arc<Cgroup>)| {
            (*at, cgroup.usage().ok().map(|usage| (SystemTime::now(), usage)))
        };
        let disks = &self.0.services.disks;
        let mut read = read_all(disks, cgroups, |(_, cgroup)| cgroup.path(), read).await;
        read.sort_unstable_by_key(|(at, _)| *at);
        let used = read.into_iter().filter_map(|(at, read)| {
            let ((read_at, usage), key) = (read?, handles[at].key.clone());
            Some(ContainerUsage { key, at: read_at, usage })
        });
        used.collect()
    }
}
