//! Many tasks of containerd's services at once, in Gantry and in containerd 1.6 in turn, with runc on both sides.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::{
    Bench, CONTAINERD, GANTRY,
    docker::{Both, both, wanted},
    population::others,
    since,
};
use crate::{
    bed::Bundle,
    proc,
    report::{Bound::AtMost, Measure},
    tasks::Tasks,
};

/// Starts that are under way at once while many tasks are made.
const AT_ONCE: usize = 4;

/// Metrics and memory with many tasks, and a restart with still more.
pub(crate) async fn measure(bench: &mut Bench) -> Result<Vec<Measure>> {
    if bench.containerd.is_none() {
        return Ok(Vec::new());
    }
    let (some, more) = (bench.count(200, 20), bench.count(500, 40));
    let mut metrics = wanted(Measure::new(format!("Metrics of {some} tasks"), "ms"), AtMost(0.2));
    let memory = format!("proportional set size of server and shims, {some} tasks");
    let mut memory = wanted(Measure::new(memory, "KiB"), AtMost(0.05));
    let restart = format!("restart with {more} tasks, until Tasks.List has all");
    let mut restart = wanted(Measure::new(restart, "ms"), AtMost(0.05));
    let bundles = others(bench, "many", more)?;
    for subject in [GANTRY, CONTAINERD] {
        let Both { gantry, containerd } = both(bench, "runc").await?;
        let client = if subject == GANTRY { gantry } else { containerd };
        start_all(&client, &bundles[..some]).await?;
        for _ in 0..bench.count(20, 3) {
            let begin = Instant::now();
            let found = client.metrics().await?;
            metrics.push(subject, since(begin));
            ensure!(found == some, "usage of {found} of {some} tasks");
        }
        memory.push(subject, memory_of(bench, subject) as f64);
        start_all(&client, &bundles[some..]).await?;
        let client = if subject == GANTRY && !bench.server.is_own() {
            client
        } else {
            for _ in 0..bench.count(3, 1) {
                restart.push(subject, restarted(bench, subject, more).await?);
            }
            let Both { gantry, containerd } = both(bench, "runc").await?;
            if subject == GANTRY { gantry } else { containerd }
        };
        for bundle in &bundles {
            client.kill(bundle, "").await?;
            client.wait_and_delete(bundle).await?;
        }
    }
    Ok(vec![metrics, memory, restart])
}

async fn start_all(client: &Tasks, bundles: &[Bundle]) -> Result<()> {
    for some in bundles.chunks(AT_ONCE) {
        let starts = some.iter().cloned().map(|bundle| {
            let client = client.clone();
            tokio::spawn(async move { client.run(&bundle).await })
        });
        for start in starts.collect::<Vec<_>>() {
            start.await.context("a start")??;
        }
    }
    Ok(())
}

fn memory_of(bench: &Bench, subject: &str) -> u64 {
    let mut pids = if subject == GANTRY {
        proc::children(bench.server.pid)
    } else {
        let address = bench.containerd.as_ref().map(|containerd| containerd.address());
        proc::running("containerd-shim-runc-v2", &address.unwrap_or_default())
    };
    let server = bench.containerd.as_ref().map_or(0, |containerd| containerd.pid());
    pids.push(if subject == GANTRY { bench.server.pid } else { server });
    pids.into_iter().map(|pid| proc::private_dirty_and_pss(pid).1).sum()
}

/// Milliseconds from the start of another server until it lists all tasks.
async fn restarted(bench: &mut Bench, subject: &str, size: usize) -> Result<f64> {
    let begin = match (subject, &mut bench.containerd) {
        (CONTAINERD, Some(containerd)) => containerd.crash()?,
        _ => bench.server.crash()?,
    };
    loop {
        if let Ok(Both { gantry, containerd }) = both(bench, "runc").await {
            let client = if subject == GANTRY { gantry } else { containerd };
            if client.count().await.is_ok_and(|found| found == size) {
                return Ok(since(begin));
            }
        }
        ensure!(begin.elapsed() < Duration::from_secs(120), "{subject} does not list its tasks");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
