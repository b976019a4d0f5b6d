//! Chaos: containers with random lives while the server, its shims, the runtimes and the callers
//! are killed at random. A model knows what each process may end with, and checks every event.
//!
//! `GANTRY_CHAOS_SECONDS` (40) and `GANTRY_CHAOS_LIFECYCLES` (no bound) say when to stop, whichever
//! comes first; `GANTRY_CHAOS_SEED` repeats the choices of a run, though not its timing.
//! docs/chaos.md has the command of the long run.

mod exec;
mod kills;
mod life;
mod model;
mod monkeys;
mod subscriber;
mod task;

use std::{
    env,
    io::Write as _,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use gantry_api::types::Event;
use gantry_tests::{Runtime, Server, events, eventually, leftovers};
use rstest::rstest;
use tokio::task::JoinSet;

use crate::{
    kills::Kills,
    life::{Shared, Worker},
    monkeys::Monkeys,
    subscriber::Subscriber,
    task::{TaskHistory, TaskWorker},
};

/// Containers that live at the same time.
const WORKERS: u64 = 6;

/// Tasks that live beside them, with the ids of the first of them.
const TASKS: u64 = 3;

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn no_exit_is_lost_repeated_or_wrong(
    #[values(Runtime::Runc, Runtime::Crun)] runtime: Runtime,
) {
    let setup = Server::setup(runtime).arguments(&["--log-level", "info"]);
    let Some(server) = setup.start().await else { return };
    let seed = number("GANTRY_CHAOS_SEED").unwrap_or_else(|| fastrand::u64(..));
    let seconds = number("GANTRY_CHAOS_SECONDS").unwrap_or(40);
    let lifecycles = number("GANTRY_CHAOS_LIFECYCLES").unwrap_or(u64::MAX);
    say(&format!("{} with seed {seed}", runtime.name()));

    let begin = Instant::now();
    let shared = Arc::new(Shared::new(Arc::clone(&server.service), lifecycles));
    let mut workers = JoinSet::new();
    for number in 0..WORKERS {
        let rng = fastrand::Rng::with_seed(seed.wrapping_add(number));
        workers.spawn(Worker::new(number, Arc::clone(&shared), rng).run());
    }
    let subscriber = Subscriber::start(Arc::clone(&server.service));
    let mut tasks = JoinSet::new();
    for number in 0..TASKS {
        let rng = fastrand::Rng::with_seed(seed.wrapping_add(WORKERS + number));
        tasks.spawn(TaskWorker::new(number, Arc::clone(&shared), rng).run());
    }
    let monkeys = Monkeys::start(server, Arc::clone(&shared), seed);
    let is_over = || {
        begin.elapsed() > Duration::from_secs(seconds) || shared.left.load(Ordering::Relaxed) == 0
    };
    let mut failed = None;
    while failed.is_none() && !is_over() && !monkeys.have_ended() {
        tokio::time::sleep(Duration::from_millis(100)).await;
        failed = workers.try_join_next().map(|ended| ended.map(drop));
        failed = failed.or_else(|| tasks.try_join_next().map(|ended| ended.map(drop)));
    }
    let (server, kills) = monkeys.stop().await;
    // Only a failure ends a worker before its time; the server shows its log when it is dropped.
    if let Some(ended) = failed {
        ended.expect("a worker");
    }
    // One more container each, undisturbed, which must start at the first attempt.
    shared.stop.store(true, Ordering::Relaxed);
    while let Some(ended) = workers.join_next().await {
        shared.report(ended.expect("a worker"));
    }
    let mut histories: Vec<TaskHistory> = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        histories.push(ended.expect("a worker"));
    }
    let time = begin.elapsed();
    let problems = subscriber.check(&histories, &kills).await;
    assert!(problems.is_empty(), "{problems:#?}");
    say(&format!(
        "{} processes of tasks ended",
        histories.iter().map(|h| h.ended.len()).sum::<usize>()
    ));
    conclude(server, &shared, &kills, time).await;
}

async fn conclude(server: Server, shared: &Shared, kills: &Kills, time: Duration) {
    let all = all_events(&server).await;
    let mut counts = model::Counts::default();
    let mut problems = Vec::new();
    for history in shared.histories() {
        let own: Vec<_> = all.iter().filter(|event| event.id == history.id).cloned().collect();
        match model::check(&history, &own, kills) {
            Ok(found) => counts.add(&found),
            Err(problem) => {
                println!("{}: {problem}; seen:\n{}", history.id, events::listing(&own));
                problems.push(problem);
            }
        }
    }
    assert!(problems.is_empty(), "{problems:#?}");
    // The files go after the last event; one shim waits.
    let state = server.state_dir();
    eventually("no files are left", || leftovers::in_state(&state, 1).is_empty()).await;
    let name = server.service.runtime.name();
    server.finish().await;
    say(&format!("{name}, {:.0} s: {counts}, {kills}", time.as_secs_f64()));
}

/// What the follower has seen, once it has seen everything.
async fn all_events(server: &Server) -> Vec<Event> {
    loop {
        let all = server.service.events.all();
        let last = all.last().and_then(|event| event.timestamp).unwrap_or(events::BEGINNING);
        if events::stored(&mut server.service.api(), last).await.is_empty() {
            return all;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Past the test runner's capture.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "chaos: {text}");
}
