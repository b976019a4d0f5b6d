//! What a create, a read and an open cost: `cargo test --release -p gantry-store -- --ignored measure --nocapture`,
//! with TMPDIR on the disk in question.

use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{container, namespace, open};
use crate::{AnyValue, Container, Store, filter::Filters};

const COUNT: usize = 1000;

/// A container as dockerd makes them, with a spec of 10 KiB.
fn typical(number: usize) -> Container {
    let spec = AnyValue { type_url: "types.containerd.io/x".to_owned(), value: vec![7; 10 << 10] };
    Container { spec: Some(spec), ..container(&format!("{number:064x}")) }
}

fn show(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let mean = times.iter().sum::<Duration>() / u32::try_from(times.len()).unwrap();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    eprintln!("{what}: mean {mean:?}, median {:?}, p99 {:?}", at(50), at(99));
}

async fn create(store: Store, numbers: std::ops::Range<usize>) -> Vec<Duration> {
    let mut times = Vec::new();
    for number in numbers {
        let (began, container) = (Instant::now(), typical(number));
        store.create_container(&namespace("moby"), container).await.unwrap();
        times.push(began.elapsed());
    }
    times
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures"]
async fn measure() {
    let dir = TempDir::new().unwrap();
    let began = Instant::now();
    let store = open(dir.path());
    eprintln!("open of a new store: {:?}", began.elapsed());
    show("a create, one after the other", create(store.clone(), 0..COUNT).await);
    let ns = namespace("moby");
    let mut times = Vec::new();
    for number in 0..COUNT {
        let began = Instant::now();
        store.container(&ns, &typical(number).id).await.unwrap();
        times.push(began.elapsed());
    }
    show("a get", times);
    let began = Instant::now();
    let mut after = None;
    loop {
        after = store.container_page(&ns, &Filters::default(), after).await.unwrap().after;
        if after.is_none() {
            break;
        }
    }
    eprintln!("a list of {COUNT}: {:?}", began.elapsed());
    let length =
        |dir: &TempDir| dir.path().join(crate::engine::FILE).metadata().unwrap().len() >> 10;
    eprintln!("the file: {} KiB", length(&dir));
    // As a crash leaves it.
    let crashed = TempDir::new().unwrap();
    std::fs::copy(dir.path().join(crate::engine::FILE), crashed.path().join(crate::engine::FILE))
        .unwrap();
    store.close().await;
    for (what, dir) in [("closed", &dir), ("crashed", &crashed)] {
        let began = Instant::now();
        let store = open(dir.path());
        eprintln!("open of {COUNT} that was {what}: {:?}", began.elapsed());
        store.close().await;
    }
    let memory = |which| {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        eprintln!("{}", status.lines().find(|line| line.starts_with(which)).unwrap());
    };
    memory("RssAnon");
    let store = open(dir.path());
    let began = Instant::now();
    let clients =
        (0..32).map(|n| tokio::spawn(create(store.clone(), COUNT + n * 50..COUNT + n * 50 + 50)));
    let mut times = Vec::new();
    for client in clients.collect::<Vec<_>>() {
        times.extend(client.await.unwrap());
    }
    let rate = times.len() as f64 / began.elapsed().as_secs_f64();
    show(&format!("a create of 32 at once ({rate:.0} per second)"), times);
    eprintln!("the file: {} KiB", length(&dir));
    memory("RssAnon");
    memory("VmHWM");
}
