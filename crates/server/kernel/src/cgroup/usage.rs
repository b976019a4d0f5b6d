//! The few numbers of a cgroup that say how busy a container is: a tenth of what [`super::CgroupStats`] has.

use super::{
    Cgroup, CgroupError, Dir,
    file::{Reader, keyed},
};

/// v1 has nearly the largest number of pages where there is no limit.
const NO_LIMIT: u64 = 1 << 62;

/// What all processes of a container use together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time so far, in nanoseconds.
    pub cpu: u64,
    /// In bytes, without page cache that the kernel can drop.
    pub memory: u64,
    /// In bytes.
    pub memory_limit: Option<u64>,
    /// Processes and threads.
    pub pids: u64,
}

impl Cgroup {
    /// What the container uses now.
    ///
    /// # Errors
    /// If it has no cgroup any more, or a file cannot be read.
    pub fn usage(&self) -> Result<Usage, CgroupError> {
        self.member_dir().ok_or(CgroupError::Removed)?;
        let mut reader = Reader::default();
        let mut usage = Usage::default();
        if let Some(Dir::V2(dir)) = self.controller("cpu") {
            let text = reader.read_present(&dir.join("cpu.stat"))?.unwrap_or_default();
            usage.cpu = keyed(text, "usage_usec").unwrap_or(0).saturating_mul(1000);
        }
        if let Some(Dir::V1(dir)) = self.controller("cpuacct") {
            usage.cpu = reader.number(&dir.join("cpuacct.usage"))?.unwrap_or(0);
        }
        let memory = match self.controller("memory") {
            Some(Dir::V1(dir)) => {
                Some((dir, ["usage_in_bytes", "limit_in_bytes"], "total_inactive_file"))
            }
            Some(Dir::V2(dir)) => Some((dir, ["current", "max"], "inactive_file")),
            None => None,
        };
        if let Some((dir, names, inactive)) = memory {
            let [used, limit] = names.map(|name| dir.join(format!("memory.{name}")));
            let used = reader.number(&used)?.unwrap_or(0);
            usage.memory_limit = reader.number(&limit)?.filter(|limit| *limit < NO_LIMIT);
            let text = reader.read_present(&dir.join("memory.stat"))?.unwrap_or_default();
            usage.memory = used.saturating_sub(keyed(text, inactive).unwrap_or(0));
        }
        // The same file in v1 and v2.
        if let Some(dir) = self.controller("pids") {
            usage.pids = reader.number(&dir.path().join("pids.current"))?.unwrap_or(0);
        }
        Ok(usage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::testing::{TestCgroup, until};

    #[test]
    fn a_container_that_works() {
        let Some(test) = TestCgroup::new("usage") else { return };
        test.limit_memory("64M");
        let mut child = test.sh("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; exec sleep 100");
        until(|| {
            std::fs::read_to_string(format!("/proc/{}/comm", child.id())).unwrap() == "sleep\n"
        });
        let (usage, stats) = (test.cgroup.usage().unwrap(), test.cgroup.stats().unwrap());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!((1..=stats.cpu.total_usage).contains(&usage.cpu), "{usage:?} {stats:?}");
        assert!((1..=64 << 20).contains(&usage.memory), "{usage:?}");
        assert_eq!((usage.memory_limit, usage.pids), (Some(64 << 20), 1));
        until(|| test.cgroup.remove().is_ok());
        assert!(matches!(test.cgroup.usage(), Err(CgroupError::Removed)));
    }
}
