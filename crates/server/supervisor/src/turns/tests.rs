use std::task::{Context, Waker};

use tokio::{task::JoinHandle, time::sleep};

use super::*;

/// Longer than a test.
const NEVER: Duration = Duration::from_secs(3600);

const ONE: Caller = Caller(1);
const OTHER: Caller = Caller(2);

fn lane(name: &str) -> Lane {
    Lane::Creates(PathBuf::from(name))
}

/// Those who got a turn, in order, and their turns.
#[derive(Clone, Default)]
struct Served(Arc<Mutex<Vec<(&'static str, Turn)>>>);

impl Served {
    async fn names(&self) -> Vec<&'static str> {
        settle().await;
        self.0.lock().unwrap().iter().map(|(name, _)| *name).collect()
    }

    fn end(&self, name: &str) {
        let mut served = self.0.lock().unwrap();
        let at = served.iter().position(|(served, _)| *served == name).unwrap();
        let turn = served.remove(at);
        drop(served);
        drop(turn);
    }
}

async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

async fn wait(
    turns: &Turns,
    caller: Caller,
    lane: Lane,
    served: &Served,
    name: &'static str,
) -> JoinHandle<Result<(), Closed>> {
    let (turns, served) = (turns.clone(), served.clone());
    let waiting = tokio::spawn(async move {
        let turn = turns.take(caller, lane).await?;
        served.0.lock().unwrap().push((name, turn));
        Ok(())
    });
    settle().await;
    waiting
}

#[tokio::test]
async fn callers_take_turns_and_so_do_their_lanes() {
    let (turns, served) = (Turns::new(1, NEVER), Served::default());
    wait(&turns, ONE, lane("a"), &served, "first").await;
    for name in ["a1", "a2", "a3"] {
        wait(&turns, ONE, lane("a"), &served, name).await;
    }
    wait(&turns, ONE, lane("b"), &served, "b1").await;
    wait(&turns, OTHER, lane("a"), &served, "other").await;
    let mut order = Vec::new();
    while let Some(name) = served.names().await.first().copied() {
        order.push(name);
        served.end(name);
    }
    assert_eq!(order, ["first", "a1", "other", "b1", "a2", "a3"]);
    assert!(turns.lock().queue.is_empty() && turns.lock().taken.is_empty());
}

#[tokio::test]
async fn whoever_asks_again_and_again_starves_nobody() {
    let (turns, served) = (Turns::new(1, NEVER), Served::default());
    wait(&turns, ONE, lane("a"), &served, "one").await;
    wait(&turns, ONE, lane("a"), &served, "patient").await;
    for _ in 0..2 {
        wait(&turns, OTHER, lane("a"), &served, "other").await;
        let name = served.names().await[0];
        served.end(name);
    }
    for _ in 0..2 {
        assert_eq!(served.names().await, ["other"]);
        served.end("other");
    }
    assert!(served.names().await.is_empty());
}

#[tokio::test]
async fn nobody_waits_for_what_takes_long() {
    let (turns, served) = (Turns::new(2, Duration::from_millis(300)), Served::default());
    for name in ["stuck", "hung", "next", "last"] {
        wait(&turns, ONE, lane("a"), &served, name).await;
    }
    while served.names().await.len() < 4 {
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(served.names().await, ["stuck", "hung", "next", "last"]);
    // A turn that does not count any more gives nothing back.
    served.end("stuck");
    served.end("hung");
    assert!(turns.lock().taken.len() <= 2);
    assert_eq!(turns.measure(), MeasuredTurns { taken: 2, waiting: 0, bound: 2 });
}

#[tokio::test]
async fn whoever_goes_leaves_the_queue() {
    let (turns, served) = (Turns::new(1, NEVER), Served::default());
    wait(&turns, ONE, lane("a"), &served, "first").await;
    let gone = wait(&turns, ONE, lane("a"), &served, "gone").await;
    wait(&turns, ONE, lane("a"), &served, "next").await;
    gone.abort();
    settle().await;
    assert_eq!(turns.lock().queue.callers[&ONE].lanes[&lane("a")].waiters.len(), 1);
    assert_eq!(turns.measure(), MeasuredTurns { taken: 1, waiting: 1, bound: 1 });
    served.end("first");
    assert_eq!(served.names().await, ["next"]);
}

#[tokio::test]
async fn those_who_wait_are_sent_away() {
    let (turns, served) = (Turns::new(1, NEVER), Served::default());
    wait(&turns, ONE, lane("a"), &served, "first").await;
    let abandoned = wait(&turns, ONE, lane("b"), &served, "abandoned").await;
    let stopped = wait(&turns, OTHER, lane("a"), &served, "stopped").await;
    turns.abandon(&lane("b"));
    assert_eq!(abandoned.await.unwrap(), Err(Closed));
    assert!(!turns.are_closed());
    turns.close();
    assert_eq!(stopped.await.unwrap(), Err(Closed));
    assert_eq!(turns.take(ONE, lane("a")).await.err(), Some(Closed));
    assert_eq!(served.names().await, ["first"]);
}

#[tokio::test]
async fn a_turn_that_is_given_to_nobody_comes_back() {
    let turns = Turns::new(1, NEVER);
    let first = turns.take(ONE, lane("a")).await.unwrap();
    let mut waiting = Box::pin(turns.take(ONE, lane("a")));
    let mut context = Context::from_waker(Waker::noop());
    assert!(waiting.as_mut().poll(&mut context).is_pending());
    drop(first);
    // The turn has been given, and was not taken.
    drop(waiting);
    assert_eq!(turns.measure().taken, 0);
    turns.take(OTHER, lane("a")).await.unwrap();
}
