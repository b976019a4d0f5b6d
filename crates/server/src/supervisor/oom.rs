//! The watch for out-of-memory kills of one container.

use tokio::sync::{mpsc, oneshot};

use super::actor::Message;
use crate::{
    causes::chain,
    cgroup::{Cgroup, CgroupError, OomWatch},
    domain::ContainerId,
};

/// A watch that was armed and does not tell anyone yet.
pub(super) struct ArmedOomWatch(OomWatch);

/// A task that tells the container's task of each kill. It ends when its handles are gone.
#[derive(Clone)]
pub(super) struct OomTask {
    looks: mpsc::Sender<oneshot::Sender<()>>,
}

impl ArmedOomWatch {
    /// `seen` kills were told already. A container without a memory controller has no watch. An error
    /// if there is no descriptor left for one.
    pub(super) fn arm(
        id: &ContainerId,
        cgroup: &Cgroup,
        seen: u64,
    ) -> Result<Option<Self>, CgroupError> {
        match OomWatch::arm(cgroup, seen) {
            Ok(watch) => Ok(Some(Self(watch))),
            Err(error) if error.is_scarce() => Err(error),
            Err(error) => {
                tracing::debug!(container = %id, error = chain(&error), "no out-of-memory watch");
                Ok(None)
            }
        }
    }

    pub(super) fn run(self, mailbox: mpsc::Sender<Message>) -> OomTask {
        let (looks, requests) = mpsc::channel(1);
        tokio::spawn(run(self.0, requests, mailbox));
        OomTask { looks }
    }
}

impl OomTask {
    /// Looks now. A kill that was not told is, before this returns: whoever reports an exit after
    /// it has the events in the right order.
    pub(super) async fn look(&self) {
        let (done, looked) = oneshot::channel();
        if self.looks.send(done).await.is_ok() {
            // The task may have ended meanwhile.
            let _ = looked.await;
        }
    }
}

async fn run(
    mut watch: OomWatch,
    mut looks: mpsc::Receiver<oneshot::Sender<()>>,
    mailbox: mpsc::Sender<Message>,
) {
    let mut bell_works = true;
    loop {
        let (news, done) = tokio::select! {
            result = watch.next(), if bell_works => match result {
                Ok(()) => (true, None),
                Err(error) => {
                    tracing::debug!(error = chain(&error), "no more out-of-memory announcements");
                    bell_works = false;
                    continue;
                }
            },
            look = looks.recv() => match look {
                Some(done) => (watch.check().unwrap_or(false), Some(done)),
                None => return,
            },
        };
        if news {
            // The container's task may have ended; then nobody wants to know.
            let _ = mailbox.send(Message::OutOfMemory { kills: watch.seen() }).await;
        }
        if let Some(done) = done {
            let _ = done.send(());
        }
    }
}
