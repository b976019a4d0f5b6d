//! What other calls take while a daemon that boots has all its containers made at once, on a connection of its own.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use gantry_api::{
    INIT,
    types::{GetServerVersionRequest, SignalRequest, StateRequest},
};
use tokio::task::JoinSet;

use super::{Bench, GANTRY, since};
use crate::{
    bare::Bare,
    gantry::{Api, Exit, connect},
    report::{Bound::AtMost, Measure, Versus},
};

/// Between two rounds of the other calls.
const PAUSE: Duration = Duration::from_millis(20);

/// Milliseconds that another call may take.
const SOON: f64 = 100.0;

/// With each runtime.
pub(crate) async fn measure(bench: &mut Bench) -> Result<Vec<Measure>> {
    let mut measures = Vec::new();
    for runtime in bench.runtimes() {
        measures.extend(crowd(bench, &runtime).await?);
    }
    Ok(measures)
}

async fn crowd(bench: &Bench, runtime: &Bare) -> Result<Vec<Measure>> {
    let count = bench.count(1000, 60);
    let named = |call: &str| {
        let name = format!("{call} while {count} containers are created at once, {}", runtime.name);
        Measure::new(name, "ms").aim(GANTRY, Versus::Nothing, AtMost(SOON))
    };
    let (mut version, mut one, mut all) =
        (named("Version"), named("State of one"), named("State of all"));
    let first = bench.bed.bundle("crowd", &["sleep", "1000000"])?;
    let gantry = bench.gantry(runtime.name).await?;
    let mut exits = vec![gantry.create(&first, None).await?.1];
    let mut ids = vec![first.id.clone()];
    let mut other = Api::new(connect(&bench.server.socket).await?);
    let mut creates = JoinSet::new();
    let begin = Instant::now();
    for number in 0..count {
        let bundle = bench.bed.bundle(&format!("crowd-{number}"), &["sleep", "1000000"])?;
        ids.push(bundle.id.clone());
        let gantry = gantry.clone();
        creates.spawn(async move { gantry.create(&bundle, None).await });
    }
    while !creates.is_empty() {
        let call = Instant::now();
        other.get_server_version(GetServerVersionRequest {}).await.context("GetServerVersion")?;
        version.push(GANTRY, since(call));
        let call = Instant::now();
        state(&mut other, &first.id).await?;
        one.push(GANTRY, since(call));
        let call = Instant::now();
        state(&mut other, "").await?;
        all.push(GANTRY, since(call));
        tokio::time::sleep(PAUSE).await;
        while let Some(created) = creates.try_join_next() {
            exits.push(created.context("a client")??.1);
        }
    }
    let mut whole = Measure::new(format!("{count} creates at once, {}", runtime.name), "ms");
    whole.push(GANTRY, since(begin));
    end(&mut other, &ids, exits).await?;
    Ok(vec![version, one, all, whole])
}

async fn state(api: &mut Api, id: &str) -> Result<()> {
    let found = api.state(StateRequest { id: id.to_owned() }).await.context("State")?;
    ensure!(!found.into_inner().containers.is_empty(), "State shows no container");
    Ok(())
}

async fn end(api: &mut Api, ids: &[String], exits: Vec<Exit>) -> Result<()> {
    for id in ids {
        let request = SignalRequest { id: id.clone(), pid: INIT.to_owned(), signal: 9 };
        api.signal(request).await.context("Signal")?;
    }
    for exit in exits {
        exit.arrived().await?;
    }
    Ok(())
}
