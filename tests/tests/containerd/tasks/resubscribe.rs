//! Which exits a new subscription begins with: after a restart of the server, dockerd subscribes again and lists nothing.

use std::{
    fs,
    sync::atomic::{AtomicU64, Ordering},
};

use gantry_api::containerd::{
    event_types::{TaskExit, TaskOom},
    from_any, topic,
    types::Envelope,
};
use gantry_tests::{eventually, processes};
use rstest::rstest;
use rustix::process::Signal;
use tonic::Streaming;

use super::{NewTask, finish};
use crate::{
    Bed, any,
    events::{next, publish, subscribe},
};

/// Container, process and status of the exits that a subscriber gets before the mark of this call.
async fn exits(bed: &Bed, stream: &mut Streaming<Envelope>) -> Vec<(String, String, u32)> {
    static MARKS: AtomicU64 = AtomicU64::new(0);
    let mark = any("mark", &MARKS.fetch_add(1, Ordering::Relaxed).to_ne_bytes());
    publish(bed, "ns", "/mark", mark.clone()).await.unwrap();
    let mut exits = Vec::new();
    loop {
        let envelope = next(stream).await;
        match envelope.topic.as_str() {
            "/mark" if envelope.event.as_ref() == Some(&mark) => return exits,
            topic::TASK_EXIT => {
                let exit: TaskExit = from_any(&envelope.event.unwrap()).unwrap().unwrap();
                exits.push((exit.container_id, exit.id, exit.exit_status));
            }
            topic::TASK_OOM => {
                let oom: TaskOom = from_any(&envelope.event.unwrap()).unwrap().unwrap();
                panic!("{oom:?}");
            }
            _ => {}
        }
    }
}

fn exit(container: &str, process: &str, status: u32) -> (String, String, u32) {
    (container.to_owned(), process.to_owned(), status)
}

#[rstest]
#[tokio::test]
async fn a_new_subscription_begins_with_the_exits_of_the_meantime(
    #[values(Signal::TERM, Signal::KILL)] signal: Signal,
) {
    let Some(mut bed) = Bed::start().await else { return };
    let filters = ["namespace==ns,topic~=|^/tasks/|", "topic==\"/mark\""];
    let (kept, pids) = {
        let ended = async |id, script| {
            let task = NewTask::new(&bed, "ns", id).sh(script).create().await.unwrap();
            task.start("").await.unwrap();
            task.wait("").await.unwrap();
            task
        };
        ended("deleted", "exit 1").await.delete().await.unwrap();
        let seen = ended("seen", "exit 3").await;
        let mut stream = subscribe(&bed, &filters).await;
        assert_eq!(exits(&bed, &mut stream).await, [exit("seen", "seen", 3)]);
        // They count as delivered for a later subscriber with matching filters, too.
        let mut other = subscribe(&bed, &filters).await;
        assert_eq!(exits(&bed, &mut other).await, []);
        let live = ended("live", "exit 4").await;
        assert_eq!(exits(&bed, &mut stream).await, [exit("live", "live", 4)]);

        let ends = NewTask::new(&bed, "ns", "ends").create().await.unwrap();
        ends.start("").await.unwrap();
        let lives = NewTask::new(&bed, "ns", "lives").create().await.unwrap();
        lives.start("").await.unwrap();
        lives.exec("e", "exec sleep 1000000").await.unwrap();
        let exec = lives.start("e").await.unwrap();
        assert_eq!(exits(&bed, &mut stream).await, []);
        let journal = bed.server.state_dir().join("events.journal");
        let noted = || {
            let journal = fs::read_to_string(&journal).unwrap_or_default();
            journal.lines().filter(|line| line.contains(r#"{"told":["#)).count() >= 2
        };
        eventually("the receipts are noted", noted).await;
        let pids = [exec, ends.pid];
        ([seen.kept(), live.kept(), ends.kept(), lives.kept()], pids)
    };
    bed.server.end(signal).await;
    for pid in pids {
        processes::kill(pid);
        assert!(processes::ends_within(pid, gantry_tests::PATIENCE).await);
    }
    bed.server.start_again().await;
    // The server may find out these exits only after the first subscription.
    kept[2].again(&bed).wait("").await.unwrap();
    kept[3].again(&bed).wait("e").await.unwrap();
    // To a subscriber whose filters exclude them, they are not delivered.
    let mut other = subscribe(&bed, &["topic==\"/mark\""]).await;
    assert_eq!(exits(&bed, &mut other).await, []);
    let mut stream = subscribe(&bed, &filters).await;
    let mut seen = exits(&bed, &mut stream).await;
    seen.sort();
    assert_eq!(seen, [exit("ends", "ends", 137), exit("lives", "e", 137)]);
    let mut again = subscribe(&bed, &filters).await;
    assert_eq!(exits(&bed, &mut again).await, []);
    drop((stream, other, again));
    for task in &kept {
        task.again(&bed).end().await;
    }
    finish(bed).await;
}
