//! Detects when a container runs out of memory.

use std::{
    fs::File,
    io,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::eventfd::{EfdFlags, EventFd},
};
use tokio::io::{Interest, unix::AsyncFd};

use super::{
    Cgroup, CgroupError, Dir,
    error::present,
    event_file::{EventFile, register},
    file::{Reader, keyed, write},
};

/// Watches the memory controller of a container.
///
/// The kernel counts the kills, and the count is compared with the one that was reported before: nothing is
/// lost between arming, waiting and the container's end, when [`Self::check`] reads it for the last
/// time. On v2 the count covers nested cgroups, and its file can be polled for changes.
///
/// On v1 an eventfd announces that the container is at its limit, shortly before the kernel kills and counts.
/// The first announcement is reported at once, as an exit may follow soon; the kill itself, and dozens of
/// further announcements before it is counted, are not. A kill in a nested cgroup, or for a limit further up,
/// is not announced; the next read of the count reports it.
#[derive(Debug)]
pub struct OomWatch {
    cgroup: Cgroup,
    source: Source,
    /// The kills that were reported; one ahead of the count after an announcement.
    seen: u64,
    announced: Option<Instant>,
}

/// A kill that was announced comes within this time, or not at all: another process was about to end, or the
/// container has no OOM killer.
const KILL_FOLLOWS: Duration = Duration::from_secs(5);

#[derive(Debug)]
enum Source {
    V1(LimitEvents),
    V2(EventFile),
}

impl OomWatch {
    /// Starts to watch. `seen` is how many kills were reported before: none in a new container.
    pub fn arm(cgroup: &Cgroup, seen: u64) -> Result<Self, CgroupError> {
        let no_memory = || CgroupError::NoController("memory");
        let source = match cgroup.controller("memory").ok_or_else(no_memory)? {
            Dir::V1(dir) => Source::V1(LimitEvents::arm(dir)?),
            Dir::V2(dir) => {
                let events = present(EventFile::open(&dir.join("memory.events")))?;
                Source::V2(events.ok_or_else(no_memory)?)
            }
        };
        Ok(Self { cgroup: cgroup.clone(), source, seen, announced: None })
    }

    /// Waits until the container has run out of memory since that was last reported; for ever if the container
    /// is gone. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Result<(), CgroupError> {
        while !self.check()? {
            match &self.source {
                Source::V1(events) => events.changed().await?,
                Source::V2(events) => events.changed().await?,
            }
        }
        Ok(())
    }

    /// Whether the container has run out of memory since that was last reported.
    pub fn check(&mut self) -> Result<bool, CgroupError> {
        let (announced, kills) = match &self.source {
            // In this order, as the kernel announces before it counts.
            Source::V1(events) => (events.take()?, self.cgroup.oom_kills()?),
            Source::V2(events) => {
                let text = present(events.read(&mut Reader::default()).map(str::to_owned))?;
                (false, text.and_then(|text| keyed(&text, "oom_kill")).unwrap_or(0))
            }
        };
        Ok(self.is_news(announced, kills))
    }

    fn is_news(&mut self, announced: bool, kills: u64) -> bool {
        if kills < self.seen && self.announced.is_some_and(|at| at.elapsed() < KILL_FOLLOWS) {
            return false;
        }
        let counted = kills > self.seen;
        self.seen = kills;
        if announced && !counted {
            self.seen += 1;
            self.announced = Some(Instant::now());
        }
        announced || counted
    }

    /// The kills reported so far, for a later server's [`Self::arm`].
    pub fn seen(&self) -> u64 {
        self.seen
    }
}

/// The OOM notifications of v1, section 10 of the kernel's cgroup-v1/memory.rst.
#[derive(Debug)]
struct LimitEvents {
    eventfd: AsyncFd<EventFd>,
    dir: PathBuf,
}

impl LimitEvents {
    fn arm(dir: &Path) -> Result<Self, CgroupError> {
        let path = dir.join("memory.oom_control");
        let watch_error = |error: io::Error| CgroupError::io("watch", &path, error);
        let control = File::open(&path).map_err(watch_error)?;
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let eventfd = EventFd::from_flags(flags).map_err(|error| watch_error(error.into()))?;
        let registration = format!("{} {}", eventfd.as_raw_fd(), control.as_raw_fd());
        write(&dir.join("cgroup.event_control"), &registration)?;
        let eventfd = register(eventfd, Interest::READABLE).map_err(watch_error)?;
        Ok(Self { eventfd, dir: dir.to_owned() })
    }

    async fn changed(&self) -> Result<(), CgroupError> {
        let ready = self.eventfd.readable().await;
        ready.map_err(|error| CgroupError::io("watch", &self.dir, error))?.clear_ready();
        Ok(())
    }

    /// Takes what was announced: whether the container is out of memory. The eventfd also fires
    /// for a limit further up, then for all containers below that, and for the removal of the
    /// cgroup; so it only counts if this one has ever reached a limit of its own.
    fn take(&self) -> Result<bool, CgroupError> {
        match self.eventfd.get_ref().read() {
            Ok(_) => {}
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(false),
            Err(error) => return Err(CgroupError::io("read events of", &self.dir, error.into())),
        }
        Ok(self.reached("memory")? || self.reached("memory.memsw")?)
    }

    /// Whether usage was ever so near a limit that a charge can have failed. Not memory.failcnt:
    /// on new kernels it does not count everything.
    fn reached(&self, prefix: &str) -> Result<bool, CgroupError> {
        let mut reader = Reader::default();
        let mut bytes = |name| reader.number(&self.dir.join(format!("{prefix}.{name}")));
        let (most, limit) = (bytes("max_usage_in_bytes")?, bytes("limit_in_bytes")?);
        Ok(most.zip(limit).is_some_and(|(most, limit)| most + LARGEST_CHARGE >= limit))
    }
}

/// Larger allocations fail without an OOM kill (`PAGE_ALLOC_COSTLY_ORDER`: 8 pages, of up to
/// 64 KiB).
const LARGEST_CHARGE: u64 = 8 << 16;

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;
    use crate::cgroup::testing::{TestCgroup, until};

    const HOG: &str = "exec dd if=/dev/zero of=/dev/null bs=64M count=1 2>/dev/null";

    fn limited(name: &str) -> Option<TestCgroup> {
        let test = TestCgroup::new(name)?;
        test.limit_memory("16M");
        Some(test)
    }

    #[tokio::test]
    async fn a_kill_is_reported_once_and_early() {
        let Some(test) = limited("oom") else { return };
        let mut watch = OomWatch::arm(&test.cgroup, 0).unwrap();
        assert!(!watch.check().unwrap());
        for round in 1..=3 {
            let mut child = test.sh(HOG);
            let reported = timeout(Duration::from_secs(60), watch.next()).await;
            assert!(matches!(reported, Ok(Ok(()))), "round {round}: {reported:?} {watch:?}");
            child.wait().unwrap();
            assert!(!watch.check().unwrap(), "reported twice");
            assert_eq!((watch.seen(), test.cgroup.oom_kills().unwrap()), (round, round));
        }
    }

    /// On v1 the kernel announces hundreds of times when many processes want memory at once.
    #[tokio::test]
    async fn many_announcements_are_few_events() {
        let Some(test) = limited("storm") else { return };
        let mut watch = OomWatch::arm(&test.cgroup, 0).unwrap();
        let mut children = [(); 8].map(|()| test.sh(HOG));
        let mut reported = 0;
        loop {
            // Checked before the wait, not after.
            let over = children.iter_mut().all(|child| matches!(child.try_wait(), Ok(Some(_))));
            match timeout(Duration::from_secs(1), watch.next()).await {
                Ok(_) => reported += 1,
                Err(_) if over => break,
                Err(_) => {}
            }
        }
        let kills = test.cgroup.oom_kills().unwrap();
        assert!((1..=kills + 1).contains(&reported), "{reported} events for {kills} kills");
    }

    #[tokio::test]
    async fn announcements_and_kills() {
        let Some(test) = limited("news") else { return };
        let mut watch = OomWatch::arm(&test.cgroup, 0).unwrap();
        assert!(watch.is_news(true, 0), "announced");
        assert!(!watch.is_news(true, 0), "again");
        assert!(!watch.is_news(false, 1), "the kill");
        assert!(watch.is_news(false, 2), "not announced");
        assert!(watch.is_news(true, 2), "without a kill");
        watch.announced = Instant::now().checked_sub(KILL_FOLLOWS);
        assert!(!watch.is_news(false, 2));
        assert!(watch.is_news(true, 2), "long after");
        assert!(watch.is_news(false, 4), "more than announced");
        assert_eq!(watch.seen(), 4);
    }

    /// The exit may be known before anyone waited for a kill, or even before the watch was armed.
    #[tokio::test]
    async fn an_instant_kill_is_found_at_the_exit() {
        let Some(test) = limited("instant") else { return };
        let mut armed = OomWatch::arm(&test.cgroup, 0).unwrap();
        test.sh(HOG).wait().unwrap();
        let mut late = OomWatch::arm(&test.cgroup, 0).unwrap();
        let mut reattached = OomWatch::arm(&test.cgroup, 1).unwrap();
        assert!(armed.check().unwrap());
        assert!(!armed.check().unwrap());
        assert!(late.check().unwrap());
        assert!(!reattached.check().unwrap());
    }

    /// On v1 at the next check at the latest, on v2 at once.
    #[tokio::test]
    async fn kills_in_nested_cgroups_count() {
        let Some(test) = TestCgroup::new("nested") else { return };
        let nested = test.nested_with_controllers("a");
        nested.limit_memory("16M");
        let mut watch = OomWatch::arm(&test.cgroup, 0).unwrap();
        nested.sh(HOG).wait().unwrap();
        assert!(watch.check().unwrap());
        assert!(!watch.check().unwrap());
    }

    /// The kernel announces a limit of a parent cgroup too, but no process of this one was killed.
    #[tokio::test]
    async fn a_neighbours_kill_is_not_ours() {
        let Some(pod) = limited("pod") else { return };
        let (container, neighbour) =
            (pod.nested_with_controllers("a"), pod.nested_with_controllers("b"));
        let mut watch = OomWatch::arm(&container.cgroup, 0).unwrap();
        neighbour.sh(HOG).wait().unwrap();
        assert!(!watch.check().unwrap());
        assert_eq!(neighbour.cgroup.oom_kills().unwrap(), 1);
    }

    #[tokio::test]
    async fn a_removed_cgroup_reports_nothing() {
        let Some(test) = limited("gone") else { return };
        let mut watch = OomWatch::arm(&test.cgroup, 0).unwrap();
        until(|| test.cgroup.remove().is_ok());
        assert!(timeout(Duration::from_millis(200), watch.next()).await.is_err());
        let error = OomWatch::arm(&test.cgroup, 0).unwrap_err();
        println!("{error}");
    }

    #[tokio::test]
    async fn no_memory_controller_no_watch() {
        let none = Cgroup { v1: [].into(), unified: None };
        let error = OomWatch::arm(&none, 0).unwrap_err();
        assert!(matches!(error, CgroupError::NoController("memory")), "{error}");
    }
}
