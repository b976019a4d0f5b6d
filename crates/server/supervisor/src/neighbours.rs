//! Who else is in a container's cgroup: another container can have the same one, or one inside it.
//!
//! Teardown kills by cgroup, and decides only then which processes are the container's. With a pid namespace
//! of its own, the kernel has already killed them. Without one, ancestry decides: a shim's working directory
//! is in its container's directory, and a process without its shim is a child of the server. A container that has joined
//! another one's pid namespace leaves processes there that become children of that one's first process; their
//! cgroup distinguishes them from that container's own.

use std::{
    collections::{BTreeSet, HashSet},
    fs,
    os::unix::fs::MetadataExt,
    time::Duration,
};

use gantry_disk::MayWait;
use gantry_domain::{ContainerKey, ProcessId};
use gantry_kernel::{
    PidFd,
    cgroup::{Cgroup, CgroupError},
    is_living, parent, process_start_time,
};
use gantry_shim_proto::Identity as ShimIdentity;
use tokio::time::timeout;

use crate::{
    Services,
    create::Identity,
    state_dir::{ContainerDir, ProcessDir, StateDir},
};

/// How long killed processes may take to be gone. A process that waits for a device that does not
/// answer (state D) cannot be killed; the container then ends without it.
const KILL_DEADLINE: Duration = Duration::from_secs(10);

/// What a process descends from.
#[derive(Debug, PartialEq, Eq)]
enum Kin {
    /// A shim of this container.
    Container(ContainerKey),
    /// The server itself: its shim is gone.
    Server,
    /// No living container: the host's init or another subreaper.
    Orphan,
    /// A process that belongs to no container, such as a runtime that somebody has called.
    Stranger,
}

/// The living containers whose cgroup is the same, or inside it.
#[derive(Debug, Default)]
struct Others {
    keys: HashSet<ContainerKey>,
    /// Their first processes.
    inits: Vec<u32>,
    /// Their pid namespaces, by inode.
    namespaces: HashSet<u64>,
    /// The processes in cgroups that are inside.
    inside: HashSet<u32>,
    /// One of them has no pid namespace: its orphans cannot be distinguished from this one's.
    may_have_orphans: bool,
    /// Some could not be looked up: any process may be theirs.
    are_unknown: bool,
}

impl Others {
    fn is_nobody(&self) -> bool {
        self.inits.is_empty() && !self.may_have_orphans && !self.are_unknown
    }

    fn have(&self, pid: u32) -> bool {
        self.are_unknown
            || self.inside.contains(&pid)
            || ancestry(pid).any(|pid| {
                self.inits.contains(&pid)
                    || pid_namespace(pid).is_some_and(|inode| self.namespaces.contains(&inode))
            })
    }

    fn add(&mut self, container: &Cgroup, init: u32, cgroup: &Cgroup) {
        self.inits.push(init);
        self.namespaces.extend(pid_namespace(init).filter(|inode| !is_servers(*inode)));
        if !cgroup.is_in(container) {
            self.inside.extend(container.pids().unwrap_or_default());
        }
    }
}

impl Services {
    /// Kills what is left in a container after init's exit, but no others in its cgroup. Returns whether
    /// there are others; the last of them removes the cgroup.
    pub(crate) async fn kill_own(
        &self,
        identity: &Identity,
        cgroup: &Cgroup,
    ) -> Result<bool, CgroupError> {
        let killing = async {
            loop {
                let processes = cgroup.pids()?;
                if processes.is_empty() {
                    return Ok(false);
                }
                let own = self.own_of(identity, cgroup, &processes).await;
                if own.is_empty() {
                    return Ok(true);
                }
                if own.len() == processes.len() {
                    cgroup.kill_all(KILL_DEADLINE).await?;
                } else {
                    cgroup.kill_some(&self.hierarchies, &own).await?;
                }
            }
        };
        match timeout(KILL_DEADLINE, killing).await {
            Ok(killed) => killed,
            Err(_) => cgroup.require_empty().map(|()| false),
        }
    }

    /// Sends a signal to all processes of a living container but its first one. Those that end meanwhile do not
    /// matter.
    pub(crate) async fn signal_own(
        &self,
        identity: &Identity,
        cgroup: &Cgroup,
        signal: i32,
    ) -> Result<(), CgroupError> {
        let processes = match cgroup.pids() {
            Err(CgroupError::Removed) => return Ok(()),
            other => other?,
        };
        let init = identity.dir.process(&ProcessId::init()).run(ProcessDir::started).await;
        let init = init.ok().flatten().map(|init| init.pid);
        let own = self.own_of(identity, cgroup, &processes).await;
        for pid in own.into_iter().filter(|pid| Some(*pid) != init) {
            let Ok(process) = PidFd::open(pid) else { continue };
            // The pid may be another process's by now.
            if cgroup.pids().is_ok_and(|pids| pids.contains(&pid)) {
                let _ = process.send_signal(signal);
            }
        }
        Ok(())
    }

    async fn own_of(&self, identity: &Identity, cgroup: &Cgroup, processes: &[u32]) -> Vec<u32> {
        let record = identity.dir.run(ContainerDir::read).await;
        let own_namespace = record.is_ok_and(|record| record.pid_namespace);
        let takers: BTreeSet<u32> = ancestry(std::process::id()).skip(1).collect();
        let kin: Vec<Kin> =
            processes.iter().map(|pid| self.kin(*pid, processes, &takers)).collect();
        let is_unclear = |kin: &Kin| match kin {
            Kin::Server => true,
            Kin::Orphan => !own_namespace,
            Kin::Container(key) => !own_namespace && *key != identity.key,
            Kin::Stranger => false,
        };
        let unclear = kin.iter().any(is_unclear);
        let others = if unclear {
            self.others(identity, cgroup, !own_namespace).await
        } else {
            Others::default()
        };
        let is_own = |(pid, kin): &(&u32, Kin)| match kin {
            Kin::Container(key) if *key == identity.key => true,
            Kin::Container(key) => {
                !own_namespace && !others.are_unknown && !others.keys.contains(key)
            }
            Kin::Server if own_namespace => others.is_nobody(),
            Kin::Server => !others.have(**pid),
            // A pid namespace that nothing here has made is of a container that another runtime knows.
            Kin::Orphan => {
                let elsewhere = pid_namespace(**pid).is_some_and(|inode| !is_servers(inode));
                !own_namespace && !elsewhere && !others.may_have_orphans && !others.have(**pid)
            }
            Kin::Stranger => false,
        };
        processes.iter().zip(kin).filter(is_own).map(|(pid, _)| *pid).collect()
    }

    fn kin(&self, pid: u32, processes: &[u32], takers: &BTreeSet<u32>) -> Kin {
        for ancestor in ancestry(pid).skip(1) {
            if let Some(key) = self.shim_of(ancestor) {
                return Kin::Container(key);
            }
            if ancestor == std::process::id() {
                return Kin::Server;
            }
        }
        let outside = ancestry(pid).skip(1).find(|pid| processes.binary_search(pid).is_err());
        match outside {
            Some(outside) if !takers.contains(&outside) => Kin::Stranger,
            _ => Kin::Orphan,
        }
    }

    /// The container whose shim the process is, if it is one: a shim works in a directory of its
    /// container's.
    fn shim_of(&self, pid: u32) -> Option<ContainerKey> {
        self.state.container_of(&fs::read_link(format!("/proc/{pid}/cwd")).ok()?)
    }

    async fn others(&self, identity: &Identity, cgroup: &Cgroup, by_hand: bool) -> Others {
        let (own, around) = (identity.key.clone(), cgroup.clone());
        let read = move |state: &StateDir, wait: &_| recorded_in(state, &own, &around, wait);
        let (recorded, are_unknown) = self.state.run(read).await;
        let mut others = Others { are_unknown, ..Others::default() };
        for (key, container, init) in recorded {
            others.keys.insert(key);
            let Some(init) = init else { continue };
            if matches!(process_start_time(init.pid), Ok(Some(time)) if time == init.start_time)
                && is_living(init.pid)
            {
                others.add(&container, init.pid, cgroup);
            }
        }
        if by_hand {
            self.add_made_by_hand(identity, cgroup, &mut others).await;
        }
        others
    }

    /// Containers that the runtime knows and this server does not.
    async fn add_made_by_hand(&self, identity: &Identity, cgroup: &Cgroup, others: &mut Others) {
        let Ok(inits) = self.runtimes.list(&identity.runtime).await else {
            others.are_unknown = true;
            return;
        };
        for init in inits.into_iter().filter(|init| is_living(*init)) {
            if others.inits.contains(&init) {
                continue;
            }
            let Ok(container) = Cgroup::of_process(&self.hierarchies, init) else { continue };
            if container.is_in(cgroup) {
                others.add(&container, init, cgroup);
                others.may_have_orphans |= pid_namespace(init).is_none_or(is_servers);
            }
        }
    }
}

/// The other containers in a cgroup as the state directory has them, with their first processes; and whether some could
/// not be read.
fn recorded_in(
    state: &StateDir,
    own: &ContainerKey,
    cgroup: &Cgroup,
    wait: &MayWait,
) -> (Vec<(ContainerKey, Cgroup, Option<ShimIdentity>)>, bool) {
    let mut found = Vec::new();
    let containers = state.containers(wait);
    let mut are_unknown = containers.is_err();
    for (key, dir) in containers.unwrap_or_default() {
        let container = match dir.read(wait) {
            Ok(record) => record.cgroup,
            Err(error) => {
                are_unknown |= !error.is_missing();
                None
            }
        };
        let Some(container) = container else { continue };
        if key == *own || !container.is_in(cgroup) {
            continue;
        }
        let init = dir.process(&ProcessId::init()).started(wait);
        are_unknown |= init.is_err();
        found.push((key, container, init.ok().flatten()));
    }
    (found, are_unknown)
}

/// A process, its parent, the parent of that, and so on.
fn ancestry(pid: u32) -> impl Iterator<Item = u32> {
    std::iter::successors(Some(pid), |pid| parent(*pid))
}

fn pid_namespace(pid: u32) -> Option<u64> {
    Some(fs::metadata(format!("/proc/{pid}/ns/pid")).ok()?.ino())
}

fn is_servers(namespace: u64) -> bool {
    pid_namespace(std::process::id()) == Some(namespace)
}
