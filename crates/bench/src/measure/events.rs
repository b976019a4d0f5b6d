//! Many subscribers, each of which is to get every event.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use gantry_api::{Timestamp, types::EventsRequest};

use super::{Bench, GANTRY};
use crate::{
    gantry::{Api, Gantry, connect},
    report::{Bound, Measure, Versus},
    server::Server,
};

const SUBSCRIBERS: usize = 100;

/// Events come from pauses and resumes, of this many containers at once.
const SOURCES: usize = 4;

/// First live, while the events are being made, then all of them again from the journal. The
/// server keeps them all.
pub(crate) async fn measure(bench: &mut Bench) -> Result<Vec<Measure>> {
    let total = bench.count(20_000, 1_000);
    if !bench.server.is_own() {
        // What another keeps is not known.
        return Ok(Vec::new());
    }
    let retain = (total * 2).to_string();
    let server = Server::start(&bench.bed, "events", &["--retain-count", &retain]).await?;
    let gantry = Gantry::connect(&bench.bed, &server.socket, fastest(bench)).await?;

    let name = format!("{SUBSCRIBERS} subscribers × {total} events");
    let mut live = Measure::new(format!("{name}, live, as they are made"), "deliveries/s");
    let mut stored = Measure::new(format!("{name}, stored"), "deliveries/s").aim(
        GANTRY,
        Versus::Nothing,
        Bound::AtLeast(200_000.0),
    );
    let mut missing = Measure::new(format!("{name}, missing"), "events").aim(
        GANTRY,
        Versus::Nothing,
        Bound::AtMost(0.0),
    );
    let deliveries = (total * SUBSCRIBERS) as f64;

    let subscribers = subscribe(&server, total, None).await?;
    let begin = Instant::now();
    produce(bench, &gantry, total).await?;
    missing.push(GANTRY, deliveries - collect(subscribers).await? as f64);
    live.push(GANTRY, deliveries / begin.elapsed().as_secs_f64());
    for _ in 0..bench.count(5, 2) {
        let begin = Instant::now();
        let beginning = Some(Timestamp { seconds: 1, nanos: 0 });
        let subscribers = subscribe(&server, total, beginning).await?;
        missing.push(GANTRY, deliveries - collect(subscribers).await? as f64);
        stored.push(GANTRY, deliveries / begin.elapsed().as_secs_f64());
    }
    Ok(vec![live.more_is_better(), stored.more_is_better(), missing])
}

fn fastest(bench: &Bench) -> &'static str {
    bench.runtimes().last().map_or("runc", |runtime| runtime.name)
}

type Subscriber = tokio::task::JoinHandle<usize>;

/// Each has a connection of its own and counts until it has them all, or none comes any more.
async fn subscribe(
    server: &Server,
    total: usize,
    timestamp: Option<Timestamp>,
) -> Result<Vec<Subscriber>> {
    let mut subscribers = Vec::new();
    for _ in 0..SUBSCRIBERS {
        let mut api = Api::new(connect(&server.socket).await?);
        let request = EventsRequest { timestamp, ..EventsRequest::default() };
        let mut stream = api.events(request).await.context("Events")?.into_inner();
        subscribers.push(tokio::spawn(async move {
            let mut count = 0;
            let silence = Duration::from_secs(30);
            while count < total
                && let Ok(Ok(Some(_))) = tokio::time::timeout(silence, stream.message()).await
            {
                count += 1;
            }
            count
        }));
    }
    Ok(subscribers)
}

async fn collect(subscribers: Vec<Subscriber>) -> Result<usize> {
    let mut count = 0;
    for subscriber in subscribers {
        count += subscriber.await.context("a subscriber")?;
    }
    Ok(count)
}

/// Each container has a start and an exit, and pauses and resumes in between.
async fn produce(bench: &Bench, gantry: &Gantry, total: usize) -> Result<()> {
    let pauses = (total / SOURCES).saturating_sub(2) / 2;
    ensure!(SOURCES * (pauses + 1) * 2 == total, "{total} events cannot be shared out");
    let mut sources = Vec::new();
    for source in 0..SOURCES {
        let bundle = bench.bed.bundle(&format!("events-{source}"), &["sleep", "1000000"])?;
        let gantry = gantry.clone();
        sources.push(tokio::spawn(async move {
            let (pid, exit) = gantry.create(&bundle, None).await?;
            for _ in 0..pauses {
                gantry.set_status(&bundle.id, "paused").await?;
                gantry.set_status(&bundle.id, "running").await?;
            }
            crate::proc::kill(pid);
            exit.arrived().await
        }));
    }
    for source in sources {
        source.await.context("a source of events")??;
    }
    Ok(())
}
