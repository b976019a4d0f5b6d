//! The control groups of a container, v1, v2 and hybrid: processes, statistics, OOM, end. Only
//! plain files are read and written; the runtime is never asked.

mod error;
mod event_file;
mod file;
mod freezer;
mod hierarchy;
mod kill;
mod limits;
mod metrics;
mod oom;
mod own;
mod rcu_warmup;
mod release;
mod stats;
mod tree;
mod usage;

#[cfg(any(test, feature = "testing"))]
pub mod testing;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

pub use self::{
    error::CgroupError,
    file::Reader,
    hierarchy::Hierarchies,
    limits::{DeviceLimit, DeviceLimitKind, DirectLimits, LimitError},
    metrics::{
        CgroupMetrics, IoEntry, MemoryEvents, MemoryOomControl, Pressure, PressureLine, RdmaEntry,
        RdmaStats, V1Metrics, V2Cpu, V2Hugetlb, V2Io, V2Memory, V2Metrics,
    },
    oom::OomWatch,
    own::{OwnLimits, ShimCgroup, limit_own},
    rcu_warmup::RcuWarmup,
    stats::{
        BlkioEntry, BlkioStats, CgroupStats, CpuStats, HugetlbStats, MemoryData, MemoryStats,
        PidsStats, system_usage,
    },
    usage::Usage,
};

/// The directories of one container, at least one. On a hybrid host the v1 controllers, and the v2
/// directory too if the runtime made one.
///
/// None of them contains the server: a process in the server's cgroup has none of its own. Operations on all
/// members check this again, because a cgroup can come from a file of an earlier server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cgroup {
    /// By controller ("memory") or name of the hierarchy ("name=systemd"). Controllers that are
    /// mounted together have the same directory.
    #[serde(default)]
    v1: BTreeMap<String, PathBuf>,
    #[serde(default)]
    unified: Option<PathBuf>,
}

/// Where a controller's files are, and so what they are called and mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dir<'a> {
    V1(&'a Path),
    V2(&'a Path),
}

impl<'a> Dir<'a> {
    fn path(self) -> &'a Path {
        match self {
            Self::V1(path) | Self::V2(path) => path,
        }
    }
}

impl Cgroup {
    /// Where a controller of the container is. That it is available in v2 is for its files to show.
    fn controller(&self, name: &str) -> Option<Dir<'_>> {
        let v1 = self.v1.get(name).map(|dir| Dir::V1(dir));
        v1.or_else(|| self.unified.as_deref().map(Dir::V2))
    }

    /// The directories that list the container's processes, of which the first that exists is enough:
    /// a process is in exactly one cgroup of every hierarchy.
    fn member_dirs(&self) -> impl Iterator<Item = Dir<'_>> {
        let preferred = ["pids", "memory", "name=systemd"];
        let preferred = preferred.into_iter().filter_map(|name| self.v1.get(name));
        let v1 = preferred.chain(self.v1.values()).map(|dir| Dir::V1(dir));
        v1.chain(self.unified.as_deref().map(Dir::V2))
    }

    /// One of its directories.
    pub fn path(&self) -> &Path {
        self.member_dirs().next().map_or(Path::new("/"), Dir::path)
    }

    /// Whether it is the other one, or inside of that, in any hierarchy.
    pub fn is_in(&self, other: &Self) -> bool {
        let pair = |(name, dir): (&String, &PathBuf)| {
            other.v1.get(name).is_some_and(|other| dir.starts_with(other))
        };
        let unified = self.unified.as_ref().zip(other.unified.as_ref());
        self.v1.iter().any(pair) || unified.is_some_and(|(dir, other)| dir.starts_with(other))
    }

    /// The parent directories to hide from the runtime so that it does not find the cgroup. Never the root of
    /// a hierarchy.
    pub fn around(&self) -> impl Iterator<Item = &Path> {
        let dirs: BTreeSet<&PathBuf> = self.v1.values().chain(&self.unified).collect();
        dirs.into_iter().filter(|dir| dir.is_dir()).map(|dir| {
            let around = dir.parent().filter(|around| {
                around.parent().is_some_and(|above| above.join("cgroup.procs").exists())
            });
            around.unwrap_or(dir)
        })
    }

    /// The first of [`Self::member_dirs`] that exists; none once the container is gone.
    fn member_dir(&self) -> Option<Dir<'_>> {
        self.member_dirs().find(|dir| dir.path().is_dir())
    }
}
