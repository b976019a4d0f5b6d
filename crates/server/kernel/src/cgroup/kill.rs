//! Ends every process of a container.

use std::{path::Path, time::Duration};

use nix::libc::SIGKILL;
use tokio::time::timeout;

use super::{
    Cgroup, CgroupError, Dir, Hierarchies,
    error::present,
    event_file::EventFile,
    file::{Reader, keyed, write},
    tree::check_is_a_containers,
};
use crate::{PidFd, Trouble};

/// Descriptors held at a time, so that a container of thousands does not exhaust the server's.
const BATCH: usize = 64;

impl Cgroup {
    /// Kills every process in the container, frozen or not, and waits until all have ended.
    pub async fn kill_all(&self, within: Duration) -> Result<(), CgroupError> {
        let Some(dir) = self.member_dir() else { return Ok(()) };
        check_is_a_containers(dir.path())?;
        let killing = async {
            match dir {
                Dir::V2(dir) if kill_in_kernel(dir)? => wait_until_empty(dir).await,
                _ => self.kill_one_by_one(dir.path()).await,
            }
        };
        match timeout(within, killing).await {
            Ok(result) => result,
            Err(_) => self.still_populated(dir.path()),
        }
    }

    /// Each round signals all processes and waits for some: the rounds end unless processes are
    /// made as fast, which freezing prevents where it is available.
    async fn kill_one_by_one(&self, dir: &Path) -> Result<(), CgroupError> {
        loop {
            let pids = self.pids()?;
            if pids.is_empty() {
                return Ok(());
            }
            // Freezing hinders forks, but is not required: it may be unavailable, or slow.
            let _ = self.freeze();
            let signalled = self.signal(&pids);
            // On v1 a frozen process dies only once it is thawed.
            match self.thaw_all() {
                Err(CgroupError::NoController(_)) => {}
                thawed => thawed?,
            }
            let signalled = signalled?;
            if signalled.is_empty() {
                return self.still_populated(dir);
            }
            for process in signalled {
                process.exited().await;
            }
        }
    }

    /// Kills some of the processes in the container, whether they are frozen or not, and waits for
    /// them to end. The others stay as they are.
    pub async fn kill_some(
        &self,
        hierarchies: &Hierarchies,
        pids: &[u32],
    ) -> Result<(), CgroupError> {
        for process in self.signal(pids)? {
            for &pid in pids {
                self.release(hierarchies, pid)?;
            }
            process.exited().await;
        }
        Ok(())
    }

    /// Kills the processes that are (still) in the container; returns some of them to wait for.
    fn signal(&self, pids: &[u32]) -> Result<Vec<PidFd>, CgroupError> {
        let mut waited_for = Vec::new();
        for batch in pids.chunks(BATCH) {
            let mut opened = Vec::with_capacity(batch.len());
            for &pid in batch {
                match PidFd::open(pid) {
                    Ok(process) => opened.push((pid, process)),
                    Err(error) if Trouble::of(&error) == Trouble::Gone => {}
                    Err(error) => return Err(process_error("open process", pid, error)),
                }
            }
            // The process that has the pid now is in the container. It is the one that was opened,
            // or that one has ended and the signal reaches nobody.
            let members = self.pids()?;
            opened.retain(|(pid, _)| members.binary_search(pid).is_ok());
            for (pid, process) in opened {
                match process.send_signal(SIGKILL) {
                    Ok(()) if waited_for.len() < BATCH => waited_for.push(process),
                    Ok(()) => {}
                    Err(error) if Trouble::of(&error) == Trouble::Gone => {}
                    Err(error) => return Err(process_error("kill process", pid, error)),
                }
            }
        }
        Ok(waited_for)
    }

    /// An error that names the processes in the container, if there are any.
    pub fn require_empty(&self) -> Result<(), CgroupError> {
        self.member_dir().map_or(Ok(()), |dir| self.still_populated(dir.path()))
    }

    fn still_populated(&self, dir: &Path) -> Result<(), CgroupError> {
        let pids = self.pids()?;
        if pids.is_empty() {
            return Ok(());
        }
        Err(CgroupError::StillPopulated { path: dir.to_owned(), pids })
    }
}

fn process_error(operation: &'static str, pid: u32, cause: std::io::Error) -> CgroupError {
    CgroupError::io(operation, Path::new(&pid.to_string()), cause)
}

/// Lets the kernel kill the whole tree at once; false before Linux 5.14, which cannot.
fn kill_in_kernel(dir: &Path) -> Result<bool, CgroupError> {
    Ok(present(write(&dir.join("cgroup.kill"), "1"))?.is_some())
}

/// Waits until there is no process in the v2 cgroup and those nested in it.
async fn wait_until_empty(dir: &Path) -> Result<(), CgroupError> {
    let Some(events) = present(EventFile::open(&dir.join("cgroup.events")))? else {
        return Ok(());
    };
    let mut reader = Reader::default();
    loop {
        let populated =
            present(events.read(&mut reader))?.and_then(|text| keyed(text, "populated"));
        if populated.unwrap_or(0) == 0 {
            return Ok(());
        }
        events.changed().await?;
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;
    use crate::cgroup::testing::{TestCgroup, until};

    const LONG: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn nobody_is_left() {
        for test in TestCgroup::both("kill") {
            let mut children = [test.sh("exec sleep 100"), test.nested("a").sh("exec sleep 100")];
            test.cgroup.kill_all(LONG).await.unwrap();
            assert!(test.cgroup.pids().unwrap().is_empty());
            for child in &mut children {
                assert_eq!(child.wait().unwrap().signal(), Some(SIGKILL));
            }
            test.cgroup.kill_all(LONG).await.unwrap();
            until(|| test.cgroup.remove().is_ok());
            test.cgroup.kill_all(LONG).await.unwrap();
        }
    }

    #[tokio::test]
    async fn frozen_and_stopped_ones_die() {
        for test in TestCgroup::both("frozen") {
            let nested = test.nested("a");
            let mut children = [nested.sh("exec sleep 100"), test.sh("kill -STOP $$; sleep 100")];
            nested.cgroup.freeze().unwrap();
            test.cgroup.freeze().unwrap();
            test.cgroup.kill_all(LONG).await.unwrap();
            for child in &mut children {
                assert_eq!(child.wait().unwrap().signal(), Some(SIGKILL));
            }
        }
    }

    #[tokio::test]
    async fn more_processes_than_a_batch_and_ever_new_ones() {
        for test in TestCgroup::both("bomb") {
            let sleepers = "for i in $(seq 150); do sleep 100 & done;";
            let forks = "while :; do (sleep 0.01; :) & sleep 0.001; done";
            let mut child = test.sh(&format!("{sleepers} {forks}"));
            until(|| test.cgroup.pids().unwrap().len() > 150);
            test.cgroup.kill_all(LONG).await.unwrap();
            child.wait().unwrap();
            assert!(test.cgroup.pids().unwrap().is_empty());
        }
    }

    /// As on v2 before cgroup.kill.
    #[tokio::test]
    async fn one_by_one_in_v2() {
        let Some(test) = TestCgroup::unified("old") else { return };
        let mut child = test.sh("sleep 100 & sleep 100");
        let dir = test.cgroup.member_dir().unwrap().path();
        test.cgroup.kill_one_by_one(dir).await.unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(SIGKILL));
    }
}
