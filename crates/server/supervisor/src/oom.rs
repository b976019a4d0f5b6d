//! The watch for out-of-memory kills of one container.

use gantry_domain::ContainerId;
use gantry_kernel::{
    Backoff,
    cgroup::{Cgroup, CgroupError, OomWatch},
};
use tokio::sync::{mpsc, oneshot};

use crate::actor::Message;

/// Asks for the counter to be read again. Answered once that is done and new kills are reported.
type Recheck = oneshot::Sender<()>;

/// A watch that does not report to anyone yet.
pub(crate) struct ArmedOomWatch(Watch);

enum Watch {
    Armed(OomWatch),
    /// There was no descriptor for it.
    Later(LaterWatch),
}

/// A watch that is armed as soon as it can be. Kills that come before are counted by the kernel.
struct LaterWatch {
    id: ContainerId,
    cgroup: Cgroup,
    seen: u64,
}

/// A task that reports each kill to the container's task. It ends when its handles are gone.
#[derive(Clone)]
pub(crate) struct OomTask {
    rechecks: mpsc::Sender<Recheck>,
}

impl ArmedOomWatch {
    /// `seen` kills were reported already. A container without a memory controller has no watch. An error
    /// if there is no descriptor left for one.
    pub(crate) fn arm(
        id: &ContainerId,
        cgroup: &Cgroup,
        seen: u64,
    ) -> Result<Option<Self>, CgroupError> {
        match OomWatch::arm(cgroup, seen) {
            Ok(watch) => Ok(Some(Self(Watch::Armed(watch)))),
            Err(error) if error.is_scarce() => Err(error),
            Err(error) => {
                tracing::debug!(container = %id, %error, "no out-of-memory watch");
                Ok(None)
            }
        }
    }

    /// As [`Self::arm`], but later if there is no descriptor left now.
    pub(crate) fn arm_by_and_by(id: &ContainerId, cgroup: &Cgroup, seen: u64) -> Option<Self> {
        Self::arm(id, cgroup, seen).unwrap_or_else(|error| {
            tracing::warn!(container = %id, %error, "its out-of-memory kills are not watched yet");
            let later = LaterWatch { id: id.clone(), cgroup: cgroup.clone(), seen };
            Some(Self(Watch::Later(later)))
        })
    }

    pub(crate) fn run(self, mailbox: mpsc::Sender<Message>) -> OomTask {
        let (rechecks, requests) = mpsc::channel(1);
        tokio::spawn(run(self.0, requests, mailbox));
        OomTask { rechecks }
    }
}

impl OomTask {
    /// Re-reads the counter and queues any unreported OOM before returning, so that `oom` precedes `exit`.
    pub(crate) async fn recheck(&self) {
        let (done, rechecked) = oneshot::channel();
        if self.rechecks.send(done).await.is_ok() {
            // The task may have ended meanwhile.
            let _ = rechecked.await;
        }
    }
}

/// Tries until the watch is armed; a recheck makes it try at once, and is done then. `None` if there is
/// nothing to watch any more, or nobody to report to.
async fn armed(
    later: LaterWatch,
    rechecks: &mut mpsc::Receiver<Recheck>,
) -> Option<(OomWatch, Option<Recheck>)> {
    let mut backoff = Backoff::default();
    loop {
        let mut recheck = None;
        tokio::select! {
            () = backoff.pause() => {}
            asked = rechecks.recv() => recheck = Some(asked?),
        }
        match ArmedOomWatch::arm(&later.id, &later.cgroup, later.seen) {
            Ok(Some(ArmedOomWatch(Watch::Armed(watch)))) => {
                tracing::info!(container = %later.id, "its out-of-memory kills are watched");
                return Some((watch, recheck));
            }
            Ok(_) => return None,
            // Whoever asked goes on without an answer.
            Err(_) => drop(recheck),
        }
    }
}

async fn run(watch: Watch, mut rechecks: mpsc::Receiver<Recheck>, mailbox: mpsc::Sender<Message>) {
    let (mut watch, recheck) = match watch {
        Watch::Armed(watch) => (watch, None),
        Watch::Later(later) => match armed(later, &mut rechecks).await {
            Some(armed) => armed,
            None => return,
        },
    };
    if let Some(done) = recheck {
        recheck_now(&mut watch, done, &mailbox).await;
    }
    let mut bell_works = true;
    loop {
        tokio::select! {
            result = watch.next(), if bell_works => match result {
                Ok(()) => report(&watch, &mailbox).await,
                Err(error) => {
                    tracing::debug!(%error, "no more out-of-memory announcements");
                    bell_works = false;
                }
            },
            recheck = rechecks.recv() => match recheck {
                Some(done) => recheck_now(&mut watch, done, &mailbox).await,
                None => return,
            },
        }
    }
}

async fn recheck_now(watch: &mut OomWatch, done: Recheck, mailbox: &mpsc::Sender<Message>) {
    if watch.check().unwrap_or(false) {
        report(watch, mailbox).await;
    }
    let _ = done.send(());
}

async fn report(watch: &OomWatch, mailbox: &mpsc::Sender<Message>) {
    // The container's task may have ended; then nobody needs the report.
    let _ = mailbox.send(Message::OutOfMemory { kills: watch.seen() }).await;
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;
    use gantry_kernel::cgroup::testing::TestCgroup;

    const HOG: &str = "exec dd if=/dev/zero of=/dev/null bs=64M count=1 2>/dev/null";

    /// A watch for which there was no descriptor.
    fn later(name: &str) -> Option<(TestCgroup, OomTask, mpsc::Receiver<Message>)> {
        let test = TestCgroup::new(name)?;
        test.limit_memory("16M");
        let id = ContainerId::parse(name).unwrap();
        let later = LaterWatch { id, cgroup: test.cgroup.clone(), seen: 0 };
        let (mailbox, messages) = mpsc::channel(16);
        Some((test, ArmedOomWatch(Watch::Later(later)).run(mailbox), messages))
    }

    fn kills(message: Option<&Message>) -> u64 {
        match message {
            Some(Message::OutOfMemory { kills }) => *kills,
            _ => panic!("something else, or nothing"),
        }
    }

    #[tokio::test]
    async fn a_recheck_reports_kills_from_before_the_watch_first() {
        let Some((test, task, mut messages)) = later("later-look") else { return };
        test.sh(HOG).wait().unwrap();
        task.recheck().await;
        assert_eq!(kills(messages.try_recv().ok().as_ref()), 1);
    }

    #[tokio::test]
    async fn it_is_armed_by_and_by() {
        let Some((test, task, mut messages)) = later("later") else { return };
        let reported = timeout(Duration::from_secs(60), async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            test.sh(HOG).wait().unwrap();
            kills(messages.recv().await.as_ref())
        });
        assert_eq!(reported.await, Ok(1));
        drop(task);
        assert!(messages.recv().await.is_none(), "the task has ended");
    }
}
