//! The server, or a shim, dies at each of its failpoints in turn. Afterwards every process that was
//! reported has one exit with its true status, the caller's retry succeeds, and nothing is left.
//!
//! Needs gantryd and gantry-shim with the feature `failpoints`, see `tests/variants.sh`; `docs/chaos.md`
//! says how to run one case.

mod cases;
mod journal;
mod outcome;
mod story;

use std::{env, sync::Arc};

use gantry_failpoints::Point;
use gantry_tests::{Runtime, skip, variants};
use tokio::{sync::Semaphore, task::JoinSet};

use crate::{cases::Case, story::Story};

/// Cases at a time: a dying server is waited for more than worked on.
const AT_ONCE: usize = 4;

#[tokio::test(flavor = "multi_thread")]
async fn each_point_may_be_the_last() {
    let Some(variant) = variants::find("failpoints") else { return };
    if !Runtime::Runc.is_installed() {
        return skip("runc is not installed");
    }
    // One point, to look at a failure.
    let wanted = env::var("GANTRY_FAILPOINT").ok();
    let points = Point::ALL
        .iter()
        .filter(|point| wanted.as_ref().is_none_or(|wanted| wanted == point.name()));
    let cases: Vec<Case> = points.flat_map(|point| cases::of(*point)).collect();
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let mut running = JoinSet::new();
    for case in cases {
        let (variant, turns) = (variant.clone(), Arc::clone(&turns));
        running.spawn(async move {
            let _turn = turns.acquire_owned().await.expect("not closed");
            // A task of its own, so that its panic is known as its.
            let ended = tokio::spawn(Story::run(variant, case)).await;
            ended.err().map(|error| format!("{case:?}: {error}"))
        });
    }
    let failed: Vec<String> = running.join_all().await.into_iter().flatten().collect();
    assert!(failed.is_empty(), "{} cases failed: {failed:#?}", failed.len());
}
