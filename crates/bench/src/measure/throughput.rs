//! Containers per second: `true` made, waited for and removed, by some clients at once.

use std::time::Instant;

use anyhow::{Context as _, Result};

use super::{Bench, CONTAINERD, CTR, GANTRY};
use crate::{
    bare::{Bare, succeed},
    bed::Bundle,
    gantry::Gantry,
    report::{Bound::AtLeast, Measure, Versus},
    tasks::Tasks,
};

/// Rates with each runtime and with 1, 8 and 32 clients.
pub(crate) async fn measure(bench: &mut Bench) -> Result<Vec<Measure>> {
    let mut measures = Vec::new();
    for runtime in bench.runtimes() {
        for clients in [1, 8, 32] {
            measures.push(rates(bench, &runtime, clients).await?);
        }
    }
    Ok(measures)
}

async fn rates(bench: &Bench, runtime: &Bare, clients: usize) -> Result<Measure> {
    let name = format!("containers per second, {}, {clients} clients", runtime.name);
    // containerd runs on runc in either case; the aim is higher where Gantry runs on crun.
    let factor = if runtime.name == "crun" { 4.0 } else { 2.0 };
    let mut measure = Measure::new(name, "/s")
        .more_is_better()
        .aim(GANTRY, Versus::Ratio(runtime.subject()), AtLeast(0.9))
        .aim(GANTRY, Versus::Ratio(CONTAINERD.to_owned()), AtLeast(factor))
        .aim(GANTRY, Versus::Ratio(CTR.to_owned()), AtLeast(factor));
    let gantry = bench.gantry(runtime.name).await?;
    let bundles = |subject: &str| -> Result<Vec<Bundle>> {
        let id = |client| format!("{subject}-{client}");
        (0..clients).map(|client| bench.bed.bundle(&id(client), &["true"])).collect()
    };
    let (bare, own, other) = (bundles("bare")?, bundles("gantry")?, bundles("containerd")?);
    let each = bench.count(96, 32) / clients;
    let rate = |begin: Instant| (each * clients) as f64 / begin.elapsed().as_secs_f64();
    for _ in 0..bench.count(5, 2) {
        let begin = Instant::now();
        in_loops(&bare, each, |bundle| {
            let pid = runtime.run(bundle)?;
            runtime.wait_and_delete(bundle, pid)
        })?;
        measure.push(&runtime.subject(), rate(begin));
        let begin = Instant::now();
        gantry_loops(&gantry, &own, each).await?;
        measure.push(GANTRY, rate(begin));
        if let Some(containerd) = &bench.containerd {
            let begin = Instant::now();
            task_loops(&containerd.client, &other, each).await?;
            measure.push(CONTAINERD, rate(begin));
            let begin = Instant::now();
            in_loops(&other, each, |bundle| succeed(&mut containerd.ctr_run(bundle)))?;
            measure.push(CTR, rate(begin));
        }
    }
    Ok(measure)
}

/// Does something to each bundle in a thread of its own, this many times.
fn in_loops(
    bundles: &[Bundle],
    times: usize,
    work: impl Fn(&Bundle) -> Result<()> + Sync,
) -> Result<()> {
    let work = &work;
    std::thread::scope(|scope| {
        let spawn = |bundle| scope.spawn(move || (0..times).try_for_each(|_| work(bundle)));
        let threads: Vec<_> = bundles.iter().map(spawn).collect();
        threads.into_iter().try_for_each(|thread| {
            thread.join().map_err(|_| anyhow::anyhow!("a client has panicked"))?
        })
    })
}

async fn gantry_loops(gantry: &Gantry, bundles: &[Bundle], times: usize) -> Result<()> {
    let clients = bundles.iter().cloned().map(|bundle| {
        let gantry = gantry.clone();
        tokio::spawn(async move {
            for _ in 0..times {
                let (_, exit) = gantry.create(&bundle, None).await?;
                exit.arrived().await?;
            }
            anyhow::Ok(())
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.context("a client")??;
    }
    Ok(())
}

/// Each bundle is run by a client of its own, this many times.
pub(super) async fn task_loops(client: &Tasks, bundles: &[Bundle], times: usize) -> Result<()> {
    let clients = bundles.iter().cloned().map(|bundle| {
        let client = client.clone();
        tokio::spawn(async move {
            for _ in 0..times {
                client.run(&bundle).await?;
                client.wait_and_delete(&bundle).await?;
            }
            anyhow::Ok(())
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.context("a client")??;
    }
    Ok(())
}
