//! `ctr events`.

use std::{fs::File, process::Stdio};

use crate::{
    ctr_containers::create,
    ctr_tasks::{self, WAITS, becomes},
    dockerd::Client,
    host::{Host, eventually, succeeds},
};

/// A subscriber that gets all events from now on.
async fn subscribe(host: &Host, name: &str) -> Client {
    let path = host.path(name);
    let file = File::create(&path).expect("a file for events");
    let mut command = host.ctr(&["events"]);
    command.stdin(Stdio::null()).stdout(file.try_clone().expect("a file")).stderr(file);
    let subscriber = Client::new(command, path);
    // Only an event shows that a subscription has begun.
    let mut count = 0;
    eventually("the subscriber hears something", || {
        count += 1;
        succeeds(host.ctr(&["namespaces", "create", &format!("{name}-{count}")]));
        subscriber.output().contains("/namespaces/create")
    })
    .await;
    subscriber
}

/// Topics of one container's events so far, with its namespace and what the test looks for in the events.
fn topics(host: &Host, events: &Client, id: &str) -> Vec<String> {
    let id = [format!("\"container_id\":\"{id}\""), format!("\"id\":\"{id}\"")];
    let output = events.output();
    let lines = output.lines().filter(|line| id.iter().any(|id| line.contains(id)));
    lines
        .map(|line| {
            let mut words = line.split(' ').skip_while(|word| *word != "UTC").skip(1);
            assert_eq!(words.next(), Some(host.name()), "the namespace: {line}");
            words.next().expect("a topic").to_owned()
        })
        .collect()
}

#[tokio::test]
async fn a_subscriber_hears_the_life_of_a_task_in_order() {
    let host = Host::make().await;
    let events = subscribe(&host, "events").await;
    create(&host, "one", &[], WAITS);
    succeeds(host.ctr(&["containers", "label", "one", "a=b"]));
    succeeds(host.ctr(&["tasks", "start", "--detach", "one"]));
    succeeds(host.ctr(&["tasks", "pause", "one"]));
    succeeds(host.ctr(&["tasks", "resume", "one"]));
    let exec = ["tasks", "exec", "--exec-id", "extra", "one", "sh", "-c", "exit 3"];
    assert_eq!(host.ctr(&exec).output().expect("run ctr").status.code(), Some(3));
    succeeds(host.ctr(&["tasks", "kill", "one"]));
    becomes(&host, "one", "STOPPED").await;
    ctr_tasks::remove(&host, "one").await;
    events.prints("/containers/delete").await;
    let expected = [
        "/containers/create",
        "/containers/update",
        "/tasks/create",
        "/tasks/start",
        "/tasks/paused",
        "/tasks/resumed",
        "/tasks/exec-added",
        "/tasks/exec-started",
        "/tasks/exit",
        "/tasks/exit",
        "/tasks/delete",
        "/containers/delete",
    ];
    assert_eq!(topics(&host, &events, "one"), expected, "{}", events.output());
    let output = events.output();
    let mut exits = output.lines().filter(|line| line.contains(" /tasks/exit "));
    let exec = exits.next().expect("the exec's exit");
    assert!(exec.contains("\"id\":\"extra\"") && exec.contains("\"exit_status\":3"), "{exec}");
    let init = exits.next().expect("the exit of init");
    assert!(init.contains("\"id\":\"one\"") && init.contains("\"exit_status\":5"), "{init}");
    let delete = output.lines().find(|line| line.contains(" /tasks/delete ")).expect("a delete");
    assert!(delete.contains("\"exit_status\":5") && delete.contains("\"exited_at\":"), "{delete}");
    drop(events);
    host.finish().await;
}

#[tokio::test]
async fn every_subscriber_gets_short_lives_from_start_to_exit() {
    let host = Host::make().await;
    let subscribers = [subscribe(&host, "first").await, subscribe(&host, "second").await];
    let rootfs = host.text("rootfs");
    for id in ["short-1", "short-2", "short-3"] {
        let run = ["run", "--rm", "--env", "PATH=/bin", "--rootfs", &rootfs, id, "true"];
        succeeds(host.ctr(&run));
    }
    for events in &subscribers {
        for id in ["short-1", "short-2", "short-3"] {
            let life = [
                "/containers/create",
                "/tasks/create",
                "/tasks/start",
                "/tasks/exit",
                "/tasks/delete",
                "/containers/delete",
            ];
            eventually("all of a life", || topics(&host, events, id).len() >= life.len()).await;
            assert_eq!(topics(&host, events, id), life, "{}", events.output());
        }
    }
    drop(subscribers);
    host.finish().await;
}

#[tokio::test]
async fn oom_is_published_before_the_exit() {
    let host = Host::make().await;
    let events = subscribe(&host, "events").await;
    create(&host, "eats", &["--memory-limit", "16777216"], "exec tail /dev/zero");
    succeeds(host.ctr(&["tasks", "start", "--detach", "eats"]));
    becomes(&host, "eats", "STOPPED").await;
    let removed = host.ctr(&["tasks", "rm", "eats"]).output().expect("run ctr");
    let text = String::from_utf8_lossy(&removed.stderr).into_owned();
    assert!(text.contains("non-zero exit code 137"), "{text}");
    succeeds(host.ctr(&["containers", "rm", "eats"]));
    events.prints("/containers/delete").await;
    let topics = topics(&host, &events, "eats");
    let at = |topic: &str| topics.iter().position(|t| t == topic);
    assert!(at("/tasks/oom").is_some() && at("/tasks/oom") < at("/tasks/exit"), "{topics:?}");
    drop(events);
    host.finish().await;
}

#[tokio::test]
async fn exits_from_before_a_program_began_are_not_delivered_to_it() {
    let host = Host::make().await;
    create(&host, "early", &[], "exit 3");
    succeeds(host.ctr(&["tasks", "start", "--detach", "early"]));
    becomes(&host, "early", "STOPPED").await;
    // A program is taken to have begun when the clock of processes says so, within a tenth of a second.
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    let events = subscribe(&host, "events").await;
    create(&host, "late", &[], "exit 4");
    succeeds(host.ctr(&["tasks", "start", "--detach", "late"]));
    becomes(&host, "late", "STOPPED").await;
    events.prints("/tasks/exit").await;
    assert_eq!(topics(&host, &events, "early"), [""; 0], "{}", events.output());
    for id in ["early", "late"] {
        ctr_tasks::remove(&host, id).await;
    }
    drop(events);
    host.finish().await;
}
