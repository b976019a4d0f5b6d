//! Order within a container, under load: start first, execs' exits, init's exit last. Every test
//! here has its events checked by `Server::finish`.

use std::{fs, sync::Arc};

use Runtime::{Crun, Runc};
use gantry_api::event_type;
use gantry_tests::{Runtime, Server, events::listing};
use rstest::rstest;
use tokio::task::JoinSet;
use tonic::Code;

#[rstest]
#[tokio::test]
async fn instant_exits_come_after_their_starts(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(server) = Server::start(runtime).await else { return };
    let mut creates = JoinSet::new();
    for number in 0..40 {
        let container = server.container(&format!("c{number}")).without_pipes();
        creates.spawn(container.args(&["true"]).create());
    }
    for container in creates.join_all().await {
        assert_eq!(container.unwrap().init.exit().await, 0);
    }
    assert_eq!(server.service.events.all().len(), 80);
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn execs_end_before_init_when_all_are_killed(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(server) = Server::start(runtime).await else { return };
    let container = Arc::new(server.container("c").create().await.unwrap());
    let mut execs = JoinSet::new();
    for number in 0..20 {
        let exec = container.exec(&format!("e{number}")).without_pipes();
        execs.spawn(exec.args(&["sleep", "1000000"]).start());
    }
    let execs = execs.join_all().await;
    container.init.kill().await;
    for exec in execs {
        let exec = exec.unwrap();
        assert!(exec.has_exited(), "{} after init", exec.id);
        assert_eq!(exec.exit().await, 137);
    }
    server.finish().await;
}

/// Init ends while execs are being started: each of them either was started, and has its exit, or
/// was refused, and has no events.
#[rstest]
#[tokio::test]
async fn execs_that_race_with_the_end(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(server) = Server::start(runtime).await else { return };
    for round in 0..5 {
        let id = format!("c{round}");
        let container = server.container(&id).without_pipes().sh("sleep 0.05; exit 6");
        let container = container.create().await.unwrap();
        let mut execs = JoinSet::new();
        for number in 0..10 {
            let exec = container.exec(&format!("e{number}")).without_pipes();
            execs.spawn(exec.args(&["sleep", "1000000"]).start());
        }
        let results = execs.join_all().await;
        assert_eq!(container.init.exit().await, 6);
        let events = server.service.events.all();
        let own = events.iter().filter(|event| event.id == id);
        let started = own.filter(|event| event.r#type == event_type::START_PROCESS).count();
        let answered = results.iter().filter(|result| result.is_ok()).count();
        // A caller may get an error if the process ended right after its start.
        assert!(answered <= started, "{answered} of {started}:\n{}", listing(&events));
        for result in results {
            if let Err(error) = result {
                let code = error.code();
                let fits = matches!(code, Code::NotFound | Code::FailedPrecondition);
                assert!(fits || gantry_tests::programs::is_incumbent(), "{error:?}");
            }
        }
    }
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn one_of_many_creates_of_an_id_wins(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(server) = Server::start(runtime).await else { return };
    server.container("c").without_pipes().args(&["true"]).create().await.unwrap().init.exit().await;
    // The winner lives until the last one has lost.
    let go = server.work().join("rootfs/go");
    for round in 0..3 {
        let script = format!("until [ -e /go ]; do sleep 0.01; done; exit {round}");
        let mut creates = JoinSet::new();
        for _ in 0..8 {
            creates.spawn(server.container("c").without_pipes().sh(&script).create());
        }
        let results = creates.join_all().await;
        fs::write(&go, "").unwrap();
        let mut winners = results.into_iter().filter_map(|result| match result {
            Ok(container) => Some(container),
            Err(error) => {
                let taken = matches!(error.code(), Code::AlreadyExists | Code::Aborted);
                assert!(taken || gantry_tests::programs::is_incumbent(), "{error:?}");
                None
            }
        });
        let winner = winners.next().expect("one is created");
        assert!(winners.next().is_none(), "only one is created");
        assert_eq!(winner.init.exit().await, round);
        fs::remove_file(&go).unwrap();
    }
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn pauses_and_resumes_are_in_order(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(server) = Server::start(runtime).await else { return };
    let container = server.container("c").create().await.unwrap();
    for _ in 0..10 {
        container.set_status("paused").await.unwrap();
        container.set_status("running").await.unwrap();
    }
    container.init.kill().await;
    let events = server.service.events.all();
    let types: Vec<_> = events[1..21].iter().map(|event| event.r#type.as_str()).collect();
    assert_eq!(types, [event_type::PAUSE, event_type::RESUME].repeat(10));
    server.finish().await;
}
