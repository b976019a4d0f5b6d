//! Checks what a subscriber of containerd's events gets while the server is killed: not all events, as those that
//! happened without a subscriber are not delivered, but in order, none twice, and no false exit. If a server was killed
//! just after it sent an exit, the next one may deliver it again, once in each subscription.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use gantry_api::containerd::{
    event_types::{TaskCreate, TaskDelete, TaskExit, TaskStart},
    events::{SubscribeRequest, events_client::EventsClient},
    from_any, topic,
    types::Envelope,
};
use gantry_tests::{eventually, service::Service};
use prost::Name;
use tokio::task::JoinHandle;

use crate::{
    kills::Kills,
    task::{Ended, NAMESPACE, TaskHistory},
};

/// A status that nobody knows.
const UNKNOWN: u32 = 255;

/// The status of the runtime's own process that was to become the task's.
const NOT_STARTED: u32 = 1;

/// An event, and which of the subscriptions it came by.
#[derive(Debug, Clone)]
struct Seen {
    subscription: usize,
    envelope: Envelope,
}

/// Subscribes again and again.
pub(crate) struct Subscriber {
    seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Subscriber {
    pub(crate) fn start(service: Arc<Service>) -> Self {
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        let sink = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            let filters = vec![format!("namespace=={NAMESPACE},topic~=|^/tasks/|")];
            for subscription in 0.. {
                let mut events = EventsClient::new(service.channel());
                let subscribed =
                    events.subscribe(SubscribeRequest { filters: filters.clone() }).await;
                if let Ok(stream) = subscribed {
                    let mut stream = stream.into_inner();
                    while let Ok(Some(envelope)) = stream.message().await {
                        let seen = Seen { subscription, envelope };
                        sink.lock().expect("not poisoned").push(seen);
                    }
                }
                tokio::time::sleep(Duration::from_millis(25)).await;
            }
        });
        Self { seen, task }
    }

    /// Problems of the events of these tasks.
    pub(crate) async fn check(self, histories: &[TaskHistory], kills: &Kills) -> Vec<String> {
        let all_delivered = || {
            let seen = self.seen.lock().expect("not poisoned");
            histories.iter().all(|history| {
                let last = history.ended.last().map(|ended| ended.pid);
                let mut deleted =
                    seen.iter().filter_map(|seen| decode::<TaskDelete>(&seen.envelope));
                deleted
                    .any(|deleted| deleted.container_id == history.id && Some(deleted.pid) == last)
            })
        };
        // The last life of each was undisturbed.
        eventually("the last events are delivered", all_delivered).await;
        let seen = self.seen.lock().expect("not poisoned").clone();
        let problems = histories.iter().flat_map(|history| {
            let statuses = history.ended.iter().filter_map(|ended| status(history, ended, kills));
            statuses.chain(order(history, &seen)).collect::<Vec<_>>()
        });
        problems.collect()
    }
}

fn decode<M: Name + Default>(envelope: &Envelope) -> Option<M> {
    from_any(envelope.event.as_ref()?).expect("what its type says")
}

/// A problem of how a process has ended.
fn status(history: &TaskHistory, ended: &Ended, kills: &Kills) -> Option<String> {
    let process = if ended.exec.is_empty() { "init" } else { &ended.exec };
    let container = format!("{NAMESPACE}/{}", history.id);
    let time = (ended.begin, ended.end);
    let fits = match ended.exit.exit_status {
        status if status == ended.expected => true,
        UNKNOWN => kills.may_be_unknown((&container, process), time),
        NOT_STARTED => process == "init" && kills.may_fail_to_start(&history.id, time),
        _ => false,
    };
    (!fits).then(|| format!("task {}: ended wrongly: {ended:?}", history.id))
}

/// Problems of the order of one task's events.
fn order(history: &TaskHistory, seen: &[Seen]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut checked = Checked { history, last: (0, 0), exits: HashMap::new() };
    for seen in seen {
        if let Err(problem) = checked.take(seen) {
            problems.push(format!("task {}: {problem}: {seen:?}", history.id));
        }
    }
    if checked.exits.is_empty() {
        problems.push(format!("task {}: no exit was delivered", history.id));
    }
    problems
}

struct Checked<'a> {
    history: &'a TaskHistory,
    /// Pid of the task, and its last event: created, started, ended, deleted.
    last: (u32, u8),
    /// Process, pid and time; the last subscription that got the exit.
    exits: HashMap<(String, u32, (i64, i32)), usize>,
}

impl Checked<'_> {
    fn take(&mut self, seen: &Seen) -> Result<(), String> {
        let envelope = &seen.envelope;
        match envelope.topic.as_str() {
            topic::TASK_CREATE => {
                let event: TaskCreate = decode(envelope).ok_or("another type")?;
                self.step(&event.container_id, event.pid, 1)
            }
            topic::TASK_START => {
                let event: TaskStart = decode(envelope).ok_or("another type")?;
                self.step(&event.container_id, event.pid, 2)
            }
            topic::TASK_EXIT => {
                self.exit(&decode(envelope).ok_or("another type")?, seen.subscription)
            }
            topic::TASK_DELETE => {
                let event: TaskDelete = decode(envelope).ok_or("another type")?;
                self.step(&event.container_id, event.pid, 4)
            }
            _ => Ok(()),
        }
    }

    fn step(&mut self, id: &str, pid: u32, step: u8) -> Result<(), String> {
        if id != self.history.id {
            return Ok(());
        }
        let (last_pid, last) = self.last;
        self.last = (pid, step);
        if last_pid == pid && step <= last {
            Err("out of order, or twice".to_owned())
        } else {
            Ok(())
        }
    }

    fn exit(&mut self, event: &TaskExit, subscription: usize) -> Result<(), String> {
        if event.container_id != self.history.id {
            return Ok(());
        }
        let at = event.exited_at.ok_or("an exit without its time")?;
        let which = (event.id.clone(), event.pid, (at.seconds, at.nanos));
        match self.exits.insert(which, subscription) {
            Some(before) if before == subscription => return Err("delivered twice".to_owned()),
            Some(_) => return Ok(()),
            None => {}
        }
        let exec = if event.id == event.container_id { "" } else { &event.id };
        let is_it = |ended: &&Ended| {
            let exit = (ended.exit.exit_status, ended.exit.exited_at);
            (ended.exec.as_str(), ended.pid) == (exec, event.pid)
                && exit == (event.exit_status, Some(at))
        };
        if !self.history.ended.iter().any(|ended| is_it(&ended)) {
            return Err("nobody has waited for such an end".to_owned());
        }
        if exec.is_empty() {
            return self.step(&event.container_id, event.pid, 3);
        }
        // Allowed before the task's own exit.
        if self.last.1 < 3 { Ok(()) } else { Err("an exec's exit after the task's".to_owned()) }
    }
}
