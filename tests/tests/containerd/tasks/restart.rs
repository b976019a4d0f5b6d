//! Tasks go on while the server is away, and are found when it is back.

use std::time::Duration;

use gantry_api::containerd::{
    task_types::Status as State,
    tasks::{GetRequest, ListTasksRequest},
};
use gantry_tests::{Runtime, Server, eventually, patiently, processes};
use rstest::rstest;
use rustix::process::Signal;
use tonic::Code;

use super::{
    NewTask,
    control::{pause, resume},
    finish,
};
use crate::{Bed, assert_refused, of};

#[rstest]
#[tokio::test]
async fn tasks_are_as_they_were(#[values(Signal::TERM, Signal::KILL)] signal: Signal) {
    let Some(mut bed) = Bed::start_with(Server::setup(Runtime::Runc)).await else { return };
    let before = {
        let created = NewTask::new(&bed, "ns", "created").sh("exit 3").create().await.unwrap();
        let running = NewTask::new(&bed, "ns", "running").create().await.unwrap();
        running.start("").await.unwrap();
        running.exec("added", "exit 4").await.unwrap();
        running.exec("ended", "exit 5").await.unwrap();
        running.start("ended").await.unwrap();
        running.wait("ended").await.unwrap();
        let ends = NewTask::new(&bed, "ns", "ends").create().await.unwrap();
        ends.start("").await.unwrap();
        let ended = NewTask::new(&bed, "ns", "ended").sh("exit 6").create().await.unwrap();
        ended.start("").await.unwrap();
        ended.wait("").await.unwrap();
        let mut seen = Vec::new();
        for (task, exec) in
            [(&created, ""), (&running, ""), (&running, "added"), (&running, "ended"), (&ended, "")]
        {
            seen.push((task.kept(), exec, task.get(exec).await.unwrap()));
        }
        (seen, ends.kept(), ends.pid)
    };
    let (seen, ends, pid) = before;
    bed.server.end(signal).await;
    processes::kill(pid);
    assert!(processes::ends_within(pid, gantry_tests::PATIENCE).await);
    bed.server.start_again().await;
    // The first that is asked: nothing of it is from before.
    let expected = [
        ("created", State::Created),
        ("ended", State::Stopped),
        ("ends", State::Stopped),
        ("running", State::Running),
    ];
    assert_eq!(listed(&bed).await, expected.map(|(id, state)| (id.to_owned(), state)));
    let ends = ends.again(&bed);
    let exit = patiently("Wait", ends.wait("")).await.unwrap();
    assert_eq!(exit.exit_status, 137);
    assert_eq!(ends.state("").await, State::Stopped);
    for (task, exec, process) in &seen {
        let now = task.again(&bed).get(exec).await.unwrap();
        assert_eq!(now, *process, "{exec}");
    }
    let task = |at: usize| seen[at].0.again(&bed);
    let (created, running, ended) = (task(0), task(1), task(4));
    created.start("").await.unwrap();
    assert_eq!(created.wait("").await.unwrap().exit_status, 3);
    running.start("added").await.unwrap();
    assert_eq!(running.wait("added").await.unwrap().exit_status, 4);
    assert_eq!(running.wait("ended").await.unwrap().exit_status, 5);
    assert_eq!(running.delete_exec("ended").await.unwrap().exit_status, 5);
    let again = "cannot start a stopped process: unknown";
    assert_refused(ended.start("").await, Code::Unknown, again);
    assert_eq!(ended.delete().await.unwrap().exit_status, 6);
    assert_eq!(ends.delete().await.unwrap().exit_status, 137);
    created.end().await;
    running.end().await;
    finish(bed).await;
}

/// What the kernel can say of a process that lives, its shim need not.
#[tokio::test]
async fn a_list_does_not_wait_for_a_stopped_shim() {
    let Some(mut bed) = Bed::start().await else { return };
    let kept = {
        let task = NewTask::new(&bed, "ns", "c").create().await.unwrap();
        task.start("").await.unwrap();
        pause(&bed, &task).await.unwrap();
        task.kept()
    };
    let shim = processes::busy_shim(bed.server.work(), &bed.server.service.cgroup);
    // The server gives a shim two seconds. On a machine on which a list takes as long, it is tried again.
    let mut is_first = false;
    for _ in 0..5 {
        processes::signal(shim, Signal::STOP);
        bed.server.kill().await;
        bed.server.start_again().await;
        let (container_id, exec_id) = ("c".to_owned(), String::new());
        let (request, mut client) = (GetRequest { container_id, exec_id }, bed.tasks());
        let asked = tokio::spawn(async move { client.get(of("ns", request)).await });
        for _ in 0..2 {
            assert_eq!(listed(&bed).await, [("c".to_owned(), State::Paused)]);
        }
        is_first = !asked.is_finished();
        processes::signal(shim, Signal::CONT);
        let process = asked.await.unwrap().unwrap().into_inner().process.unwrap();
        assert_eq!(process.status(), State::Paused);
        if is_first {
            break;
        }
    }
    assert!(is_first, "lists were answered after the shim was waited for");
    let task = kept.again(&bed);
    resume(&bed, &task).await.unwrap();
    assert_eq!(listed(&bed).await, [("c".to_owned(), State::Running)]);
    task.end().await;
    finish(bed).await;
}

/// That it has ended the kernel says; how, only the shim.
#[tokio::test]
async fn what_has_ended_is_not_listed_as_running() {
    let Some(mut bed) = Bed::start().await else { return };
    let (kept, pid) = {
        let task = NewTask::new(&bed, "ns", "c").create().await.unwrap();
        task.start("").await.unwrap();
        (task.kept(), task.pid)
    };
    let shim = processes::busy_shim(bed.server.work(), &bed.server.service.cgroup);
    processes::signal(shim, Signal::STOP);
    bed.server.kill().await;
    processes::kill(pid);
    assert!(processes::ends_within(pid, gantry_tests::PATIENCE).await);
    bed.server.start_again().await;
    let listed_now = listed(&bed).await;
    // The server gives up on the shim after some seconds.
    let expected = [State::Unknown, State::Stopped].map(|state| [("c".to_owned(), state)]);
    assert!(expected.iter().any(|expected| listed_now == expected), "{listed_now:?}");
    processes::signal(shim, Signal::CONT);
    let task = kept.again(&bed);
    assert_eq!(patiently("Wait", task.wait("")).await.unwrap().exit_status, 137);
    assert_eq!(listed(&bed).await, [("c".to_owned(), State::Stopped)]);
    assert_eq!(task.delete().await.unwrap().exit_status, 137);
    finish(bed).await;
}

/// All tasks, in the order of their ids.
async fn listed(bed: &Bed) -> Vec<(String, State)> {
    let listed = bed.tasks().list(of("ns", ListTasksRequest::default())).await.unwrap();
    let tasks = listed.into_inner().tasks.into_iter();
    tasks.map(|task| (task.id.clone(), task.status())).collect()
}

/// A wait has no end of its own.
#[tokio::test]
async fn a_server_that_stops_does_not_wait_for_those_who_wait() {
    let Some(mut bed) = Bed::start().await else { return };
    let (kept, waiting) = {
        let task = NewTask::new(&bed, "ns", "c").create().await.unwrap();
        task.start("").await.unwrap();
        let waiting = tokio::spawn(task.waiting(""));
        // Requests of one connection are read in turn.
        task.state("").await;
        (task.kept(), waiting)
    };
    let (status, after) = bed.server.end(Signal::TERM).await;
    assert!(status.success());
    assert!(after < Duration::from_millis(1500), "{after:?}");
    assert!(waiting.await.unwrap().is_err());
    bed.server.start_again().await;
    let task = kept.again(&bed);
    eventually("it still runs", || processes::command(task.pid).is_some()).await;
    task.end().await;
    finish(bed).await;
}
