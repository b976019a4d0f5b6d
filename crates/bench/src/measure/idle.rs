//! What containers that do nothing cost while they do it.

use std::time::Duration;

use anyhow::Result;

use super::{
    Bench, CONTAINERD, GANTRY,
    population::{Population, others},
};
use crate::{
    proc,
    report::{Bound::AtMost, Measure, Versus},
};

/// Longer than tokio keeps a thread that has nothing to do, which is 10 s: what a thread has done is
/// not counted any more once it is gone.
const SETTLED: Duration = Duration::from_secs(15);

/// CPU time and wake-ups of servers and shims together.
pub(crate) async fn measure(bench: &mut Bench) -> Result<Vec<Measure>> {
    let seconds = bench.count(60, 5);
    let (size, fewer) = (bench.count(500, 20), bench.count(50, 5));
    let name = |what| format!("{what} in {seconds} s; {size} containers, containerd {fewer}");
    let none = |measure: Measure| measure.aim(GANTRY, Versus::Nothing, AtMost(0.0));
    let mut cpu = none(Measure::new(name("CPU time of idle containers"), "ms"));
    let mut wakes = none(Measure::new(name("wake-ups of idle containers"), ""));
    let time = Duration::from_secs(seconds as u64);

    let runtime = bench.runtimes().pop().map_or("runc", |runtime| runtime.name);
    let mut population = Population::new(bench.gantry(runtime).await?);
    population.grow(bench, size).await?;
    let mut pids = proc::children(bench.server.pid);
    pids.push(bench.server.pid);
    let (on_cpu, woken) = watch(&pids, time).await;
    cpu.push(GANTRY, on_cpu);
    wakes.push(GANTRY, woken);
    population.end().await?;

    if let Some(containerd) = &bench.containerd {
        let bundles = others(bench, "containerd", fewer)?;
        for bundle in &bundles {
            containerd.client.run(bundle).await?;
        }
        let mut pids = proc::running("containerd-shim-runc-v2", &containerd.address());
        pids.push(containerd.pid());
        let (on_cpu, woken) = watch(&pids, time).await;
        cpu.push(CONTAINERD, on_cpu);
        wakes.push(CONTAINERD, woken);
        for bundle in &bundles {
            containerd.client.kill(bundle, "").await?;
            containerd.client.wait_and_delete(bundle).await?;
        }
    }
    Ok(vec![cpu, wakes])
}

/// Milliseconds on a CPU and times off it, of all these processes, once they have settled.
async fn watch(pids: &[u32], time: Duration) -> (f64, f64) {
    let total = || {
        let each = pids.iter().map(|pid| proc::activity(*pid));
        each.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    };
    tokio::time::sleep(SETTLED).await;
    let before = total();
    tokio::time::sleep(time).await;
    let after = total();
    ((after.0 - before.0) as f64 / 1e6, (after.1 - before.1) as f64)
}
