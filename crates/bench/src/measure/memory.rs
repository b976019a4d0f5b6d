//! Memory of the server and of shims, and what a thousand containers do to them and to a restart.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::{
    Bench, CONTAINERD, GANTRY,
    population::{Population, conmon, others},
    since,
};
use crate::{
    proc,
    report::{Bound::AtMost, Measure, Versus},
};

const CONMON: &str = "conmon";

/// Shims and servers beside each other, and the server with a thousand containers.
pub(crate) async fn measure(bench: &mut Bench) -> Result<Vec<Measure>> {
    let mut shims = Shims::new();
    let mut rss = Measure::new("resident memory of the server", "KiB");
    let runtime = bench.runtimes().pop().map_or("runc", |runtime| runtime.name);
    let size = bench.count(1000, 40);
    if bench.server.is_own() {
        // The measurements before have grown its memory.
        rss.push("Gantry, idle again", proc::rss(bench.server.pid) as f64);
        bench.server.crash()?;
        bench.server.answers().await?;
    }
    rss.push("Gantry, idle", proc::rss(bench.server.pid) as f64);
    let mut population = Population::new(bench.gantry(runtime).await?);
    population.grow(bench, 1).await?;
    shims.look("Gantry, of 1", &working_shims(bench));
    population.grow(bench, size / 2).await?;
    shims.look(GANTRY, &working_shims(bench));
    population.grow(bench, size).await?;
    let full = format!("Gantry, {size} containers");
    rss.push(&full, proc::rss(bench.server.pid) as f64);
    let mut measures = calls(bench, runtime, size).await?;
    if bench.server.is_own() {
        measures.extend(restart(bench, size).await?);
    }
    // The event stream of the first connection ended with the first server.
    population.reconnect(bench.gantry(runtime).await?);
    population.end().await?;

    if bench.containerd.is_some() {
        containerd(bench, &mut shims, &mut rss).await?;
    }
    conmons(bench, &mut shims)?;
    let rss = rss.aim("Gantry, idle", Versus::Nothing, AtMost(8192.0)).aim(
        &full,
        Versus::Nothing,
        AtMost(32768.0),
    );
    measures.extend([shims.dirty, shims.pss, rss]);
    Ok(measures)
}

struct Shims {
    dirty: Measure,
    pss: Measure,
}

impl Shims {
    fn new() -> Self {
        let aims = |measure: Measure| {
            measure.aim(GANTRY, Versus::Ratio(CONTAINERD.to_owned()), AtMost(1.0 / 40.0)).aim(
                GANTRY,
                Versus::Ratio(CONMON.to_owned()),
                AtMost(1.0 / 3.0),
            )
        };
        let dirty = Measure::new("private dirty memory of a shim", "KiB");
        Self {
            dirty: dirty.aim(GANTRY, Versus::Nothing, AtMost(150.0)),
            pss: aims(Measure::new("proportional set size of a shim", "KiB")),
        }
    }

    fn look(&mut self, subject: &str, pids: &[u32]) {
        for pid in pids {
            let (dirty, pss) = proc::private_dirty_and_pss(*pid);
            self.dirty.push(subject, dirty as f64);
            self.pss.push(subject, pss as f64);
        }
    }
}

/// The server's children are its shims, until it is restarted; a spare one has no process yet.
fn working_shims(bench: &Bench) -> Vec<u32> {
    let mut shims = proc::children(bench.server.pid);
    shims.retain(|shim| proc::has_children(*shim));
    shims
}

/// State of all, and Stats of one beside a call that does nothing.
async fn calls(bench: &Bench, runtime: &'static str, size: usize) -> Result<Vec<Measure>> {
    let mut state = Measure::new(format!("State of {size} containers"), "ms").aim(
        GANTRY,
        Versus::Nothing,
        AtMost(10.0),
    );
    let empty = "GetServerVersion";
    let mut stats = Measure::new("Stats of one container", "ms").aim(
        GANTRY,
        Versus::Beyond(empty.to_owned()),
        AtMost(0.5),
    );
    let gantry = bench.gantry(runtime).await?;
    for _ in 0..bench.count(100, 10) {
        let begin = Instant::now();
        let found = gantry.state().await?;
        state.push(GANTRY, since(begin));
        ensure!(found == size, "State knows {found} of {size} containers");
    }
    for _ in 0..bench.count(1000, 50) {
        let begin = Instant::now();
        gantry.version().await?;
        stats.push(empty, since(begin));
        let begin = Instant::now();
        gantry.stats(&Population::id(0)).await?;
        stats.push(GANTRY, since(begin));
    }
    Ok(vec![state, stats])
}

/// Killed and started again: the first answer, and the first answer that knows all containers.
async fn restart(bench: &mut Bench, size: usize) -> Result<Vec<Measure>> {
    let mut first = Measure::new(format!("restart with {size} containers: first answer"), "ms");
    let mut full = Measure::new(format!("restart with {size} containers: full service"), "ms").aim(
        GANTRY,
        Versus::Nothing,
        AtMost(2000.0),
    );
    for _ in 0..bench.count(7, 2) {
        let begin = bench.server.crash()?;
        bench.server.answers().await?;
        first.push(GANTRY, since(begin));
        let found = bench.gantry("runc").await?.state().await?;
        full.push(GANTRY, since(begin));
        ensure!(found == size, "{found} of {size} containers after a restart");
    }
    Ok(vec![first, full])
}

async fn containerd(bench: &Bench, shims: &mut Shims, rss: &mut Measure) -> Result<()> {
    let Some(containerd) = &bench.containerd else { return Ok(()) };
    rss.push("containerd 1.6, idle", proc::rss(containerd.pid()) as f64);
    let size = bench.count(50, 5);
    let bundles = others(bench, "containerd", size)?;
    for bundle in &bundles {
        containerd.client.run(bundle).await?;
    }
    // Their garbage collectors have had a chance.
    tokio::time::sleep(Duration::from_secs(2)).await;
    shims.look(CONTAINERD, &proc::running("containerd-shim-runc-v2", &containerd.address()));
    rss.push(&format!("containerd 1.6, {size} containers"), proc::rss(containerd.pid()) as f64);
    for bundle in &bundles {
        containerd.client.kill(bundle, "").await?;
        containerd.client.wait_and_delete(bundle).await?;
    }
    Ok(())
}

fn conmons(bench: &Bench, shims: &mut Shims) -> Result<()> {
    let installed = std::process::Command::new(CONMON).arg("--version").output().is_ok();
    let Some(runtime) = bench.runtimes().pop().filter(|_| installed) else { return Ok(()) };
    let bundles = others(bench, CONMON, bench.count(50, 5))?;
    let watch = |bundle| conmon(&runtime, bundle);
    let pids = bundles.iter().map(watch).collect::<Result<Vec<u32>>>()?;
    shims.look(CONMON, &pids);
    bundles.iter().try_for_each(|bundle| runtime.delete_by_force(bundle))
}
