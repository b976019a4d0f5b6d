//! One system call of the server or of a shim fails, in the life of a container that has everything.
//! Afterwards every process that was reported as started has one exit with its true status, a call that
//! failed has left nothing behind, and no leftovers remain at the end. `docs/faults.md` says how it works
//! and how to try one call.

mod chosen;
mod known;
mod life;
mod promises;
mod tracing;

use std::{env, sync::Arc, time::Duration};

use gantry_tests::{Runtime, programs, skip};
use tokio::{sync::Semaphore, task::JoinSet, time::timeout};

use crate::life::Life;

/// Lives at a time: most of the time of one is spent waiting.
const AT_ONCE: usize = 4;

/// One that takes longer hangs. Without a fault it is over in a second or two.
const LIFETIME: Duration = Duration::from_secs(150);

/// Lives until a point counts as one that is not there: calls of several threads come in any order.
const TRIES: usize = 5;

#[tokio::test(flavor = "multi_thread")]
async fn each_call_may_fail() {
    if cfg!(not(target_arch = "x86_64")) {
        return skip("the tracer knows the registers of x86_64 only");
    }
    if !Runtime::Crun.is_installed() {
        return skip("crun is not installed");
    }
    if programs::is_incumbent() || env::var_os("GANTRY_TEST_ADDRESS").is_some() {
        return skip("it is about Gantry's own server");
    }
    let wanted = env::var("GANTRY_SYSCALLS").unwrap_or_default();
    let points = chosen::choose(&recorded().await, &wanted);
    if env::var_os("GANTRY_SYSCALLS_LIST").is_some() {
        return points.iter().for_each(|point| println!("{point}"));
    }
    assert!(!points.is_empty(), "there is no such point: {wanted}");
    let (turns, count) = (Arc::new(Semaphore::new(AT_ONCE)), points.len());
    let mut lives = JoinSet::new();
    for point in points {
        let turns = Arc::clone(&turns);
        lives.spawn(async move {
            let _turn = turns.acquire_owned().await.expect("not closed");
            let failed = try_point(&point).await.err()?;
            let failed = format!("{point}\n    {failed}");
            println!("{failed}");
            Some(failed)
        });
    }
    let failed: Vec<String> = lives.join_all().await.into_iter().flatten().collect();
    println!("{count} points tried, {} failed", failed.len());
    assert!(failed.is_empty(), "{} of {count} points failed:\n{}", failed.len(), failed.join("\n"));
}

/// The points that are reached in each of some lives without a fault.
async fn recorded() -> Vec<String> {
    let lives = std::array::from_fn::<_, 3, _>(|_| async { live(None).await.expect("no fault") });
    let [first, second, third] = lives.map(tokio::spawn);
    let (first, second, third) = tokio::try_join!(first, second, third).expect("no panic");
    let in_all = |point: &String| second.contains(point) && third.contains(point);
    first.into_iter().filter(in_all).collect()
}

async fn try_point(point: &str) -> Result<(), String> {
    for _ in 0..TRIES {
        if live(Some(point.to_owned())).await? == [point] {
            return Ok(());
        }
    }
    Err(format!("not reached in {TRIES} lives"))
}

/// The points that were reached.
async fn live(point: Option<String>) -> Result<Vec<String>, String> {
    // A task of its own, so that its panic is known as its.
    let life = tokio::spawn(async { timeout(LIFETIME, Life::live(point)).await });
    match life.await {
        Ok(Ok(reached)) => Ok(reached),
        Ok(Err(_)) => Err(format!("not over after {LIFETIME:?}")),
        Err(error) => Err(error.to_string()),
    }
}
