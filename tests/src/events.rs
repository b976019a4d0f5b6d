//! Follows the server's events for the whole of a test, across restarts of the server.

use std::{
    fmt::Write as _,
    sync::{Arc, Mutex},
    time::Duration,
};

use gantry_api::{
    INIT, Timestamp, event_type,
    types::{Event, EventsRequest},
};
use tokio::{sync::watch, task::JoinHandle};
use tokio_stream::StreamExt;

use crate::{patiently, programs, service::Api};

/// Where an event stream that is to miss nothing starts.
pub const BEGINNING: Timestamp = Timestamp { seconds: 1, nanos: 0 };

/// All events seen so far. Waiting includes events that were seen before, so it is never too late.
#[derive(Debug)]
pub struct EventLog {
    seen: Arc<Seen>,
    /// Where it began.
    from: Timestamp,
    follower: Mutex<JoinHandle<()>>,
}

#[derive(Debug)]
struct Seen {
    events: Mutex<Vec<Event>>,
    count: watch::Sender<usize>,
}

impl EventLog {
    /// Begins to follow.
    #[must_use]
    pub fn follow(api: Api, from: Timestamp) -> Self {
        let seen = Arc::new(Seen { events: Mutex::default(), count: watch::Sender::new(0) });
        let follower = Mutex::new(tokio::spawn(follow(api, from, Arc::clone(&seen))));
        Self { seen, from, follower }
    }

    /// Follows them no more: nobody subscribes to the server then.
    pub fn leave(&self) {
        self.follower.lock().expect("not poisoned").abort();
    }

    /// Forgets all that was seen, and follows from where it began.
    pub async fn begin_again(&self, api: Api) {
        let replace = |next| {
            let mut follower = self.follower.lock().expect("not poisoned");
            std::mem::replace(&mut *follower, next)
        };
        let former = replace(tokio::spawn(async {}));
        former.abort();
        let _ = former.await;
        self.seen.events.lock().expect("not poisoned").clear();
        self.seen.count.send_replace(0);
        replace(tokio::spawn(follow(api, self.from, Arc::clone(&self.seen))));
    }

    /// What has been seen so far.
    #[must_use]
    pub fn all(&self) -> Vec<Event> {
        self.seen.events.lock().expect("not poisoned").clone()
    }

    /// How many have been seen: the place from where to look for later ones.
    #[must_use]
    pub fn position(&self) -> usize {
        self.seen.events.lock().expect("not poisoned").len()
    }

    /// Waits for the first event from `position` on that is wanted.
    ///
    /// # Panics
    /// When none comes in time.
    pub async fn wait(
        &self,
        position: usize,
        what: &str,
        wanted: impl Fn(&Event) -> bool,
    ) -> Event {
        let mut count = self.seen.count.subscribe();
        let looking = async {
            loop {
                let found = self.all().into_iter().skip(position).find(&wanted);
                if let Some(event) = found {
                    return event;
                }
                count.changed().await.expect("the follower lives");
            }
        };
        match tokio::time::timeout(crate::PATIENCE, looking).await {
            Ok(event) => event,
            Err(_) => panic!("no {what}; seen:\n{}", listing(&self.all())),
        }
    }

    /// Waits for an event of a container by its type.
    pub async fn wait_type(&self, position: usize, id: &str, kind: &str) -> Event {
        let wanted = |event: &Event| event.id == id && event.r#type == kind;
        self.wait(position, &format!("{kind} of {id}"), wanted).await
    }

    /// Waits for the exit of a process and returns its status.
    pub async fn wait_exit(&self, position: usize, id: &str, process: &str) -> u32 {
        let wanted = |event: &Event| is_exit(event, id, process);
        self.wait(position, &format!("exit of {id}/{process}"), wanted).await.status
    }

    /// Checks what holds for every stream: timestamps strictly increase; a container's life begins
    /// with start-container and ends with init's exit; every process has one start and one exit in
    /// between, and init's exit is the last.
    ///
    /// # Panics
    /// When it does not hold.
    pub fn assert_consistent(&self) {
        let events = self.all();
        if let Err(problem) = check(&events) {
            panic!("{problem}; seen:\n{}", listing(&events));
        }
    }
}

impl Drop for EventLog {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Whether `event` is the exit of this process.
#[must_use]
pub fn is_exit(event: &Event, id: &str, process: &str) -> bool {
    event.r#type == event_type::EXIT && event.id == id && event.pid == process
}

/// The events in which `a` is less than `b`, as `(seconds, nanos)`.
#[must_use]
pub fn time(event: &Event) -> (i64, i32) {
    event.timestamp.map_or((0, 0), |at| (at.seconds, at.nanos))
}

/// Events as text, one a line.
#[must_use]
pub fn listing(events: &[Event]) -> String {
    let mut text = String::new();
    for event in events {
        let (seconds, nanos) = time(event);
        let Event { r#type, id, pid, status, .. } = event;
        let _ = writeln!(text, "  {seconds}.{nanos:09} {type:<15} {id}/{pid} {status}");
    }
    text
}

/// All stored events after `from`.
pub async fn stored(api: &mut Api, from: Timestamp) -> Vec<Event> {
    let request =
        EventsRequest { timestamp: Some(from), stored_only: true, ..EventsRequest::default() };
    let reading = async {
        let stream = api.events(request).await.expect("stored events").into_inner();
        stream.map(|event| event.expect("an event")).collect().await
    };
    patiently("stored events", reading).await
}

async fn follow(mut api: Api, mut from: Timestamp, seen: Arc<Seen>) {
    loop {
        let request = EventsRequest { timestamp: Some(from), ..EventsRequest::default() };
        if let Ok(response) = api.events(request).await {
            let mut stream = response.into_inner();
            while let Some(Ok(event)) = stream.next().await {
                from = event.timestamp.unwrap_or(from);
                seen.events.lock().expect("not poisoned").push(event);
                seen.count.send_modify(|count| *count += 1);
            }
        }
        // The server is down: a test is about to start it again.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn check(events: &[Event]) -> Result<(), String> {
    if let Some(pair) = events.windows(2).find(|pair| time(&pair[0]) >= time(&pair[1])) {
        return Err(format!("timestamps do not increase at {:?}", pair[1]));
    }
    let mut ids: Vec<&str> = events.iter().map(|event| event.id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    ids.into_iter().try_for_each(|id| check_container(id, events))
}

fn check_container(id: &str, events: &[Event]) -> Result<(), String> {
    let mut alive: Vec<&str> = Vec::new();
    for event in events.iter().filter(|event| event.id == id) {
        let process = event.pid.as_str();
        let fits = match event.r#type.as_str() {
            event_type::START_CONTAINER => alive.is_empty() && process.is_empty(),
            event_type::START_PROCESS => alive.contains(&INIT) && !alive.contains(&process),
            event_type::EXIT if process == INIT => alive == [INIT],
            event_type::EXIT => alive.contains(&process),
            event_type::PAUSE | event_type::RESUME => alive.contains(&INIT) && process.is_empty(),
            // The original takes the removal of a cgroup for one.
            event_type::OOM => {
                process.is_empty() && alive.contains(&INIT) || programs::is_incumbent()
            }
            _ => false,
        };
        if !fits {
            return Err(format!("out of order, with {alive:?} alive: {event:?}"));
        }
        match event.r#type.as_str() {
            event_type::START_CONTAINER => alive.push(INIT),
            event_type::START_PROCESS => alive.push(process),
            event_type::EXIT => alive.retain(|other| *other != process),
            _ => {}
        }
    }
    Ok(())
}
