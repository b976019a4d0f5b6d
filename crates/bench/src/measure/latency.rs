//! How long one caller waits: for a container, for a process in it, and for the news of its end.

use std::time::Instant;

use anyhow::Result;

use super::{Bench, CONTAINERD, CTR, GANTRY, Pace, ms, named, since};
use crate::{
    bare::{Bare, succeed},
    bed::Bundle,
    containerd::Containerd,
    gantry::Gantry,
    proc,
    report::{Bound::AtMost, Measure, Versus},
};

/// Bundles with the same content for each of those compared, since their ids must differ.
struct Bundles {
    bare: Bundle,
    gantry: Bundle,
    containerd: Bundle,
}

impl Bundles {
    fn new(bench: &Bench, args: &[&str]) -> Result<Self> {
        Ok(Self {
            bare: bench.bed.bundle(&format!("bare-{}", args[0]), args)?,
            gantry: bench.bed.bundle(&format!("gantry-{}", args[0]), args)?,
            containerd: bench.bed.bundle(&format!("containerd-{}", args[0]), args)?,
        })
    }
}

/// What one round adds to.
struct Measures {
    create: Measure,
    exec: Measure,
    end: Measure,
    exec_end: Measure,
    whole: Measure,
}

impl Measures {
    fn new(runtime: &Bare, pace: Pace) -> Self {
        let bare = runtime.subject();
        let ratio = || Versus::Ratio(bare.clone());
        let named = |what| named(what, runtime, pace, "ms");
        Self {
            create: named("CreateContainer").aim(GANTRY, ratio(), AtMost(1.1)),
            exec: named("AddProcess").aim(GANTRY, ratio(), AtMost(1.1)).aim(
                GANTRY,
                Versus::Ratio(CTR.to_owned()),
                AtMost(0.5),
            ),
            end: named("death of init → exit event").aim(
                GANTRY,
                Versus::Beyond(bare.clone()),
                AtMost(1.0),
            ),
            exec_end: named("death of an exec → exit event").aim(
                GANTRY,
                Versus::Nothing,
                AtMost(1.0),
            ),
            whole: named("create `true` → exit event").aim(GANTRY, ratio(), AtMost(1.1)),
        }
    }
}

/// All latencies, with each runtime and at each pace.
pub(crate) async fn measure(bench: &mut Bench) -> Result<Vec<Measure>> {
    let mut measures = Vec::new();
    let sleep = Bundles::new(bench, &["sleep", "1000000"])?;
    let short = Bundles::new(bench, &["true"])?;
    for runtime in bench.runtimes() {
        let gantry = bench.gantry(runtime.name).await?;
        // containerd runs on runc.
        let containerd = bench.containerd.as_ref().filter(|_| runtime.name == "runc");
        for pace in Pace::ALL {
            let mut found = Measures::new(&runtime, pace);
            let (bare, ours) = ((&sleep.bare, &short.bare), (&sleep.gantry, &short.gantry));
            for round in 0..bench.count(150, 10) {
                // Work that one subject leaves behind slows the next one down, so they take turns.
                if round % 2 == 0 {
                    bare_round(&runtime, bare, pace, &mut found).await?;
                    gantry_round(&gantry, ours, pace, &mut found).await?;
                } else {
                    gantry_round(&gantry, ours, pace, &mut found).await?;
                    bare_round(&runtime, bare, pace, &mut found).await?;
                }
                if let Some(containerd) = containerd {
                    let bundles = (&sleep.containerd, &short.containerd);
                    containerd_round(containerd, bundles, pace, &mut found).await?;
                }
            }
            let Measures { create, exec, end, exec_end, whole } = found;
            measures.extend([create, whole, exec, end, exec_end]);
        }
    }
    Ok(measures)
}

type Pair<'a> = (&'a Bundle, &'a Bundle);

async fn bare_round(
    runtime: &Bare,
    (sleep, short): Pair<'_>,
    pace: Pace,
    found: &mut Measures,
) -> Result<()> {
    let subject = runtime.subject();
    pace.rest().await;
    let begin = Instant::now();
    let pid = runtime.run(sleep)?;
    found.create.push(&subject, since(begin));
    pace.rest().await;
    let begin = Instant::now();
    let exec = runtime.exec(sleep)?;
    found.exec.push(&subject, since(begin));
    proc::kill(exec);
    proc::wait(exec);
    pace.rest().await;
    proc::kill(pid);
    proc::wait(pid);
    let begin = Instant::now();
    runtime.delete(sleep)?;
    found.end.push(&subject, since(begin));
    pace.rest().await;
    let begin = Instant::now();
    let pid = runtime.run(short)?;
    runtime.wait_and_delete(short, pid)?;
    found.whole.push(&subject, since(begin));
    Ok(())
}

async fn gantry_round(
    gantry: &Gantry,
    (sleep, short): Pair<'_>,
    pace: Pace,
    found: &mut Measures,
) -> Result<()> {
    pace.rest().await;
    let begin = Instant::now();
    let (pid, exit) = gantry.create(sleep, None).await?;
    found.create.push(GANTRY, since(begin));
    pace.rest().await;
    let begin = Instant::now();
    let (exec, exec_exit) = gantry.exec(sleep, "exec").await?;
    found.exec.push(GANTRY, since(begin));
    proc::kill(exec);
    proc::wait(exec);
    let dead = Instant::now();
    found.exec_end.push(GANTRY, ms(exec_exit.arrived().await?.saturating_duration_since(dead)));
    pace.rest().await;
    proc::kill(pid);
    proc::wait(pid);
    let dead = Instant::now();
    found.end.push(GANTRY, ms(exit.arrived().await?.saturating_duration_since(dead)));
    pace.rest().await;
    let begin = Instant::now();
    let (_, exit) = gantry.create(short, None).await?;
    found.whole.push(GANTRY, ms(exit.arrived().await? - begin));
    Ok(())
}

async fn containerd_round(
    containerd: &Containerd,
    (sleep, short): Pair<'_>,
    pace: Pace,
    found: &mut Measures,
) -> Result<()> {
    pace.rest().await;
    let begin = Instant::now();
    containerd.client.run(sleep).await?;
    found.create.push(CONTAINERD, since(begin));
    pace.rest().await;
    let begin = Instant::now();
    containerd.client.exec(sleep, "exec").await?;
    found.exec.push(CONTAINERD, since(begin));
    pace.rest().await;
    let mut ctr = containerd.ctr_exec(sleep, "ctr-exec");
    let begin = Instant::now();
    succeed(&mut ctr)?;
    found.exec.push(CTR, since(begin));
    containerd.client.kill(sleep, "").await?;
    containerd.client.wait_and_delete(sleep).await?;
    pace.rest().await;
    let begin = Instant::now();
    containerd.client.run(short).await?;
    containerd.client.wait_and_delete(short).await?;
    found.whole.push(CONTAINERD, since(begin));
    Ok(())
}
