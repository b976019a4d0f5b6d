//! Keeps one container in the state that its labels ask for, until it is deleted or has no such labels any more.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use gantry_domain::ContainerKey;
use tokio::{
    sync::{Notify, Semaphore},
    time::{Instant, sleep, sleep_until},
};

use super::{
    acts::{self, Failure},
    labels::{Status, Wanted},
    pauses::Pauses,
    plan::{Delay, Plan, Seen, Situation, delay, plan},
};
use crate::services::containerd::Surface;

/// How long a client may take between two steps with a container: the interval of containerd's monitor.
const GRACE: Duration = Duration::from_secs(10);

/// After which time to try again if the metadata cannot be read.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Wakes a keeper whose container may have changed.
#[derive(Debug, Default)]
pub(super) struct Signal {
    notify: Notify,
    /// The container may have changed since the keeper last inspected it.
    pending: AtomicBool,
}

impl Signal {
    pub(super) fn notify(&self) {
        self.pending.store(true, Ordering::SeqCst);
        self.notify.notify_one();
    }

    pub(super) fn is_pending(&self) -> bool {
        self.pending.load(Ordering::SeqCst)
    }
}

/// What a keeper knows.
pub(super) struct Keeper {
    surface: Surface,
    key: ContainerKey,
    signal: Arc<Signal>,
    /// So many are restarted at once.
    restarts: Arc<Semaphore>,
    /// The server has just started, and the container was not inspected before.
    first: bool,
    pauses: Pauses,
    /// Since when the task is known to run.
    running_since: Option<Instant>,
    /// The state that was seen last and has to be acted upon, and when.
    due: Option<(Seen, Instant)>,
    /// The version of the metadata that the keeper has acted upon.
    own: Option<SystemTime>,
    /// When a failed action is tried again.
    again: Option<Instant>,
    /// The status of the last task that has ended.
    ended: Option<u32>,
    /// The reason that was logged last for doing nothing.
    complaint: Option<String>,
}

impl Keeper {
    /// `first` says that the server has just started.
    pub(super) fn new(
        surface: Surface,
        key: ContainerKey,
        signal: Arc<Signal>,
        restarts: Arc<Semaphore>,
        first: bool,
    ) -> Self {
        Self {
            surface,
            key,
            signal,
            restarts,
            first,
            pauses: Pauses::default(),
            running_since: None,
            due: None,
            own: None,
            again: None,
            ended: None,
            complaint: None,
        }
    }

    /// Runs until there is nothing to look after any more.
    pub(super) async fn run(mut self) {
        loop {
            self.signal.pending.store(false, Ordering::SeqCst);
            let (container, situation) = match acts::inspect(&self.surface, &self.key).await {
                Ok(Some(found)) => found,
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!(
                        container = %self.key, %error, again_after = ?RETRY_AFTER,
                        "its restarts cannot be looked up",
                    );
                    sleep(RETRY_AFTER).await;
                    continue;
                }
            };
            let Some(wanted) = Wanted::of(&container.labels) else { return };
            self.note(situation);
            let own = self.own == Some(container.updated_at);
            let lost = self.ended.filter(|_| own && self.again.is_some());
            let plan = plan(&wanted, situation, lost);
            let nothing = self.complains(&wanted) || plan == Plan::Nothing;
            let seen = Seen { updated_at: container.updated_at, situation };
            // Its specification is large, and the wait below has no limit.
            drop(container);
            if nothing {
                (self.due, self.again, self.first) = (None, None, false);
                self.signal.notify.notified().await;
                continue;
            }
            let due = self.due(plan, &seen, own);
            self.first = false;
            if Instant::now() < due {
                tokio::select! {
                    () = self.signal.notify.notified() => {}
                    () = sleep_until(due) => {}
                }
                continue;
            }
            if self.act(plan, seen).await.is_err_and(|error| error.is_of_the_end()) {
                return;
            }
        }
    }

    /// Notes how long a task ran, and how it has ended.
    fn note(&mut self, situation: Situation) {
        match situation {
            Situation::Running | Situation::Paused => {
                self.running_since.get_or_insert_with(Instant::now);
            }
            Situation::Stopped(end) => {
                self.ended = Some(end.status);
                if let Some(since) = self.running_since.take() {
                    self.pauses.ended_after(since.elapsed());
                }
            }
            Situation::NoTask | Situation::Starting | Situation::Created => {}
        }
    }

    /// Whether nothing can be done, which is logged once.
    fn complains(&mut self, wanted: &Wanted) -> bool {
        let complaint = match &wanted.policy {
            Err(problem) if wanted.status == Status::Running => Some(problem.clone()),
            _ => None,
        };
        if complaint.is_some() && complaint != self.complaint {
            tracing::warn!(
                container = %self.key, error = complaint,
                "it is not restarted, until its labels are changed",
            );
        }
        let complains = complaint.is_some();
        if complains {
            self.complaint = complaint;
        }
        complains
    }

    /// When the plan is carried out. That is decided once for each state that is seen.
    fn due(&mut self, plan: Plan, seen: &Seen, own: bool) -> Instant {
        // Whoever has created a task meanwhile is about to start it.
        if let Some(again) = self.again.filter(|_| own && seen.situation != Situation::Created) {
            return again;
        }
        if let Some((_, due)) = self.due.as_ref().filter(|(before, _)| before == seen) {
            return *due;
        }
        self.again = None;
        let after = match delay(plan, seen, own, self.first) {
            Delay::None => Duration::ZERO,
            Delay::Pause => self.pauses.next(),
            Delay::Grace => {
                self.pauses = Pauses::default();
                GRACE
            }
        };
        let due = Instant::now() + after;
        self.due = Some((seen.clone(), due));
        due
    }

    async fn act(&mut self, plan: Plan, seen: Seen) -> Result<(), Failure> {
        self.due = None;
        self.again = None;
        let (surface, key) = (&self.surface, &self.key);
        let done = match plan {
            Plan::Nothing => return Ok(()),
            Plan::Stop => {
                self.own = Some(seen.updated_at);
                acts::end(surface, key).await.inspect(|()| {
                    tracing::info!(container = %key, "stopped, as its labels say");
                })
            }
            Plan::Start => {
                let Ok(_permit) = self.restarts.acquire().await else { return Ok(()) };
                acts::restart(surface, key, &seen, &mut self.own).await.map(|restarted| {
                    if let Some(acts::Restarted { pid, count }) = restarted {
                        tracing::info!(container = %key, pid, count, "restarted");
                        self.running_since = Some(Instant::now());
                    }
                })
            }
        };
        done.inspect_err(|error| {
            if error.is_of_the_end() {
                return;
            }
            let pause = self.pauses.next();
            self.again = Some(Instant::now() + pause);
            let what = if plan == Plan::Stop { "stopped" } else { "restarted" };
            tracing::warn!(
                container = %self.key, %error, again_after = ?pause,
                "it cannot be {what}",
            );
        })
    }
}
