//! One queue per container, each emptied by a task of its own that ends when it is empty.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::OwnedSemaphorePermit;

use super::{
    EventHandler, StateChange,
    progress::{Progress, Ticket},
};

#[derive(Debug)]
pub(super) struct Queues<H> {
    handler: Arc<H>,
    progress: Arc<Progress>,
    /// A container is in here for as long as its task runs.
    waiting: Mutex<HashMap<String, VecDeque<Job>>>,
}

#[derive(Debug)]
struct Job {
    change: StateChange,
    ticket: Ticket,
    /// Its place among the pending events, given back when it was handled.
    _permit: OwnedSemaphorePermit,
}

impl<H: EventHandler> Queues<H> {
    pub(super) fn new(handler: Arc<H>, progress: Arc<Progress>) -> Arc<Queues<H>> {
        Arc::new(Queues { handler, progress, waiting: Mutex::default() })
    }

    /// Queues an event after the earlier ones of its container.
    pub(super) fn push(self: &Arc<Self>, change: StateChange, permit: OwnedSemaphorePermit) {
        let container = change.event.container.clone();
        let ticket = self.progress.begin(change.event.time);
        let job = Job { change, ticket, _permit: permit };
        let mut waiting = self.lock();
        if let Some(queue) = waiting.get_mut(&container) {
            queue.push_back(job);
        } else {
            waiting.insert(container.clone(), VecDeque::from([job]));
            tokio::spawn(Arc::clone(self).work(container));
        }
    }

    async fn work(self: Arc<Self>, container: String) {
        while let Some(job) = self.next(&container) {
            let handler = Arc::clone(&self.handler);
            // In a task of its own: a panic must not stop the container's further events.
            let handled = tokio::spawn(async move { handler.handle(job.change).await });
            if let Err(error) = handled.await {
                tracing::error!(container, %error, "an event was not handled");
            }
            self.progress.end(job.ticket);
        }
    }

    /// The container's next event; if there is none, the next push starts a new task.
    fn next(&self, container: &str) -> Option<Job> {
        let mut waiting = self.lock();
        let job = waiting.get_mut(container).and_then(VecDeque::pop_front);
        if job.is_none() {
            waiting.remove(container);
        }
        job
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, VecDeque<Job>>> {
        // Nothing that can panic runs under the lock.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, EventKind};
    use gantry_api::Timestamp;
    use std::time::Duration;
    use tokio::{
        sync::{Semaphore, mpsc, watch},
        time::timeout,
    };

    /// Handles events of "slow" only when the test allows it.
    #[derive(Debug)]
    struct Recorder {
        slow: Semaphore,
        handled: mpsc::UnboundedSender<(String, i64)>,
    }

    impl EventHandler for Recorder {
        async fn handle(&self, change: StateChange) {
            if change.event.container == "slow" {
                self.slow.acquire().await.unwrap().forget();
            }
            assert!(change.event.container != "bad" || change.event.time.seconds != 1);
            self.handled.send((change.event.container, change.event.time.seconds)).unwrap();
        }
    }

    struct Bench {
        queues: Arc<Queues<Recorder>>,
        handled: mpsc::UnboundedReceiver<(String, i64)>,
        watermark: watch::Receiver<Timestamp>,
        room: Arc<Semaphore>,
    }

    impl Bench {
        fn new() -> Bench {
            let (sender, handled) = mpsc::unbounded_channel();
            let (reached, watermark) = watch::channel(Timestamp::default());
            let recorder = Arc::new(Recorder { slow: Semaphore::new(0), handled: sender });
            let queues = Queues::new(recorder, Arc::new(Progress::new(reached)));
            Bench { queues, handled, watermark, room: Arc::new(Semaphore::new(100)) }
        }

        fn push(&self, container: &str, seconds: i64) {
            let time = Timestamp { seconds, nanos: 0 };
            let event = Event { container: container.into(), kind: EventKind::Paused, time };
            let permit = Arc::clone(&self.room).try_acquire_owned().unwrap();
            self.queues.push(StateChange { event, out_of_memory: false }, permit);
        }

        async fn next(&mut self) -> (String, i64) {
            timeout(Duration::from_secs(60), self.handled.recv()).await.unwrap().unwrap()
        }
    }

    #[tokio::test]
    async fn a_slow_container_delays_no_other() {
        let mut bench = Bench::new();
        bench.push("slow", 1);
        bench.push("slow", 2);
        bench.push("fast", 3);
        bench.push("fast", 4);
        assert_eq!(bench.next().await, ("fast".into(), 3));
        assert_eq!(bench.next().await, ("fast".into(), 4));
        assert_eq!(bench.watermark.borrow().seconds, 0);
        bench.queues.handler.slow.add_permits(2);
        assert_eq!(bench.next().await, ("slow".into(), 1));
        assert_eq!(bench.next().await, ("slow".into(), 2));
        bench.watermark.wait_for(|time| time.seconds == 4).await.unwrap();
    }

    #[tokio::test]
    async fn a_handler_that_panics_loses_one_event_only() {
        let mut bench = Bench::new();
        bench.push("bad", 1);
        bench.push("bad", 2);
        assert_eq!(bench.next().await, ("bad".into(), 2));
        bench.watermark.wait_for(|time| time.seconds == 2).await.unwrap();
    }

    #[tokio::test]
    async fn a_queue_that_was_emptied_starts_again_and_gives_its_room_back() {
        let mut bench = Bench::new();
        for seconds in 1..=50 {
            bench.push("fast", seconds);
            assert_eq!(bench.next().await, ("fast".into(), seconds));
        }
        bench.watermark.wait_for(|time| time.seconds == 50).await.unwrap();
        tokio::task::yield_now().await;
        assert!(bench.queues.lock().is_empty());
        assert_eq!(bench.room.available_permits(), 100);
    }
}
