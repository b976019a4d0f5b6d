//! The watch for out-of-memory kills of one container.

use gantry_domain::ContainerId;
use gantry_kernel::{
    Backoff,
    cgroup::{Cgroup, CgroupError, OomWatch},
};
use tokio::sync::{mpsc, oneshot};

use crate::actor::Message;

/// Asks for a look. It is answered once that is done, and what was seen told.
type Look = oneshot::Sender<()>;

/// A watch that does not tell anyone yet.
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

/// A task that tells the container's task of each kill. It ends when its handles are gone.
#[derive(Clone)]
pub(crate) struct OomTask {
    looks: mpsc::Sender<Look>,
}

impl ArmedOomWatch {
    /// `seen` kills were told already. A container without a memory controller has no watch. An error
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
            tracing::warn!(container = %id, %error, "its memory is not watched yet");
            let later = LaterWatch { id: id.clone(), cgroup: cgroup.clone(), seen };
            Some(Self(Watch::Later(later)))
        })
    }

    pub(crate) fn run(self, mailbox: mpsc::Sender<Message>) -> OomTask {
        let (looks, requests) = mpsc::channel(1);
        tokio::spawn(run(self.0, requests, mailbox));
        OomTask { looks }
    }
}

impl OomTask {
    /// Re-reads the counter and queues any unreported OOM before returning, so that `oom` precedes `exit`.
    pub(crate) async fn look(&self) {
        let (done, looked) = oneshot::channel();
        if self.looks.send(done).await.is_ok() {
            // The task may have ended meanwhile.
            let _ = looked.await;
        }
    }
}

/// Tries until the watch is armed; a look has it tried at once, and is made then. `None` if there is
/// nothing to watch any more, or nobody who wants it.
async fn armed(
    later: LaterWatch,
    looks: &mut mpsc::Receiver<Look>,
) -> Option<(OomWatch, Option<Look>)> {
    let mut backoff = Backoff::default();
    loop {
        let mut look = None;
        tokio::select! {
            () = backoff.pause() => {}
            asked = looks.recv() => look = Some(asked?),
        }
        match ArmedOomWatch::arm(&later.id, &later.cgroup, later.seen) {
            Ok(Some(ArmedOomWatch(Watch::Armed(watch)))) => {
                tracing::info!(container = %later.id, "its memory is watched");
                return Some((watch, look));
            }
            Ok(_) => return None,
            // Whoever asked goes on without an answer.
            Err(_) => drop(look),
        }
    }
}

async fn run(watch: Watch, mut looks: mpsc::Receiver<Look>, mailbox: mpsc::Sender<Message>) {
    let (mut watch, look) = match watch {
        Watch::Armed(watch) => (watch, None),
        Watch::Later(later) => match armed(later, &mut looks).await {
            Some(armed) => armed,
            None => return,
        },
    };
    if let Some(done) = look {
        look_now(&mut watch, done, &mailbox).await;
    }
    let mut bell_works = true;
    loop {
        tokio::select! {
            result = watch.next(), if bell_works => match result {
                Ok(()) => tell(&watch, &mailbox).await,
                Err(error) => {
                    tracing::debug!(%error, "no more out-of-memory announcements");
                    bell_works = false;
                }
            },
            look = looks.recv() => match look {
                Some(done) => look_now(&mut watch, done, &mailbox).await,
                None => return,
            },
        }
    }
}

async fn look_now(watch: &mut OomWatch, done: Look, mailbox: &mpsc::Sender<Message>) {
    if watch.check().unwrap_or(false) {
        tell(watch, mailbox).await;
    }
    let _ = done.send(());
}

async fn tell(watch: &OomWatch, mailbox: &mpsc::Sender<Message>) {
    // The container's task may have ended; then nobody wants to know.
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
    async fn a_look_finds_what_came_before_the_watch_and_tells_it_first() {
        let Some((test, task, mut messages)) = later("later-look") else { return };
        test.sh(HOG).wait().unwrap();
        task.look().await;
        assert_eq!(kills(messages.try_recv().ok().as_ref()), 1);
    }

    #[tokio::test]
    async fn it_is_armed_by_and_by() {
        let Some((test, task, mut messages)) = later("later") else { return };
        let told = timeout(Duration::from_secs(60), async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            test.sh(HOG).wait().unwrap();
            kills(messages.recv().await.as_ref())
        });
        assert_eq!(told.await, Ok(1));
        drop(task);
        assert!(messages.recv().await.is_none(), "the task has ended");
    }
}
