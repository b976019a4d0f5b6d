//! What today's Docker asks for, of Gantry and of containerd 1.6 in turn: the same calls by the same client, with
//! the same runtime on both sides.

use std::time::Instant;

use anyhow::{Context as _, Result};

use super::{Bench, CONTAINERD, GANTRY, ms, since, throughput::task_loops};
use crate::{
    docker::Docker,
    report::{
        Bound::{self, AtLeast, AtMost},
        Measure, Versus,
    },
    tasks::Tasks,
};

/// A client of each.
pub(crate) struct Both {
    pub(crate) gantry: Tasks,
    pub(crate) containerd: Tasks,
}

/// All of it, with each runtime.
pub(crate) async fn measure(bench: &mut Bench) -> Result<Vec<Measure>> {
    let mut measures = Vec::new();
    if bench.containerd.is_none() {
        return Ok(measures);
    }
    for runtime in bench.runtimes() {
        let both = both(bench, runtime.name).await?;
        measures.extend(latencies(bench, &both, runtime.name).await?);
        for clients in [1, 8, 32] {
            measures.push(rates(bench, &both, runtime.name, clients).await?);
        }
        measures.extend(docker_start(bench, runtime.name)?);
    }
    Ok(measures)
}

pub(crate) async fn both(bench: &Bench, runtime: &'static str) -> Result<Both> {
    let root = bench.bed.work().join("runtimes");
    let containerd = bench.containerd.as_ref().context("no containerd")?;
    Ok(Both {
        gantry: Tasks::connect(&bench.server.socket, root, runtime).await?,
        containerd: containerd.on(runtime).await?,
    })
}

/// Adds a goal for Gantry's median, divided by that of containerd.
pub(crate) fn wanted(measure: Measure, bound: Bound) -> Measure {
    measure.aim(GANTRY, Versus::Ratio(CONTAINERD.to_owned()), bound)
}

async fn latencies(bench: &Bench, both: &Both, runtime: &str) -> Result<Vec<Measure>> {
    let named = |what: &str| Measure::new(format!("{what}, {runtime} on both sides"), "ms");
    let mut start = wanted(named("Tasks.Create and Start"), AtMost(0.5));
    let mut exec = wanted(named("Tasks.Exec and Start"), AtMost(0.65));
    let mut end = named("Tasks.Kill, Wait and Delete");
    let sleep = bench.bed.bundle("task", &["sleep", "1000000"])?;
    for round in 0..bench.count(60, 5) {
        let mut turns = [(GANTRY, &both.gantry), (CONTAINERD, &both.containerd)];
        // Work that one subject leaves behind slows the next one down, so they take turns.
        if round % 2 == 1 {
            turns.reverse();
        }
        for (subject, client) in turns {
            client.prepare(&sleep).await?;
            let begin = Instant::now();
            client.start(&sleep).await?;
            start.push(subject, since(begin));
            let begin = Instant::now();
            client.exec(&sleep, "exec").await?;
            exec.push(subject, since(begin));
            client.end_exec(&sleep, "exec").await?;
            let begin = Instant::now();
            client.kill(&sleep, "").await?;
            client.wait_and_delete(&sleep).await?;
            end.push(subject, since(begin));
        }
    }
    Ok(vec![start, exec, end])
}

async fn rates(bench: &Bench, both: &Both, runtime: &str, clients: usize) -> Result<Measure> {
    let factor = match (runtime, clients) {
        ("crun", 1) => 3.0,
        ("crun", _) => 2.5,
        (_, 1) => 2.3,
        _ => 1.9,
    };
    let name = format!("tasks per second, {runtime} on both sides, {clients} clients");
    let mut measure = wanted(Measure::new(name, "/s").more_is_better(), AtLeast(factor));
    let id = |client| format!("rate-{client}");
    let bundles = (0..clients).map(|client| bench.bed.bundle(&id(client), &["true"]));
    let bundles = bundles.collect::<Result<Vec<_>>>()?;
    let each = bench.count(64, 32) / clients;
    for _ in 0..bench.count(5, 1) {
        for (subject, client) in [(GANTRY, &both.gantry), (CONTAINERD, &both.containerd)] {
            let begin = Instant::now();
            task_loops(client, &bundles, each).await?;
            measure.push(subject, (each * clients) as f64 / begin.elapsed().as_secs_f64());
        }
    }
    Ok(measure)
}

/// `docker start` of a container that was created before, less the client's own start.
fn docker_start(bench: &Bench, runtime: &str) -> Result<Option<Measure>> {
    let name = format!("docker start of a prepared container, {runtime} on both sides");
    let mut measure = wanted(Measure::new(name, "ms"), AtMost(0.7));
    let Some(containerd) = &bench.containerd else { return Ok(None) };
    let on = |name, socket: &std::path::Path| Docker::start(&bench.bed, name, socket, runtime);
    let Some(ours) = on("gantry", &bench.server.socket)? else { return Ok(None) };
    let Some(theirs) = on("containerd", &containerd.socket())? else { return Ok(None) };
    for round in 0..bench.count(40, 3) {
        let mut turns = [(GANTRY, &ours), (CONTAINERD, &theirs)];
        if round % 2 == 1 {
            turns.reverse();
        }
        for (subject, docker) in turns {
            docker.create("prepared")?;
            measure.push(subject, ms(docker.start_container("prepared")?));
            docker.remove("prepared")?;
        }
    }
    Ok(Some(measure))
}
