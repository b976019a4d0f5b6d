//! Many containers that end at once: few runtimes delete them at a time, and a runtime that hangs delays
//! no others.

use std::{fs, path::PathBuf, time::Duration};

use gantry_tests::{Container, Runtime, Server, improves, patiently, runtime::wrapper};
use tokio::task::JoinSet;

/// Runtimes at work when more are asked for.
fn turns() -> usize {
    (2 * std::thread::available_parallelism().unwrap().get()).max(4)
}

async fn make(server: &Server, count: usize, runtime: &str) -> Vec<Container> {
    let mut creates = JoinSet::new();
    for number in 0..count {
        let container = server.container(&format!("c{number}")).without_pipes();
        let container = container.runtime(Runtime::Runc);
        let container = container.request(|request| request.runtime = runtime.to_owned());
        creates.spawn(container.create());
    }
    let created = patiently("the starts", creates.join_all()).await;
    created.into_iter().map(Result::unwrap).collect()
}

async fn kill_all(containers: Vec<Container>) {
    let mut kills = JoinSet::new();
    for container in containers {
        kills.spawn(async move { container.init.kill().await });
    }
    let statuses = patiently("the ends", kills.join_all()).await;
    assert!(statuses.iter().all(|status| *status == 137), "{statuses:?}");
}

/// The most that were at work together, of a log of beginnings and ends.
fn most_together(log: &PathBuf) -> usize {
    let log = fs::read_to_string(log).unwrap();
    let (mut now, mut most) = (0, 0);
    for line in log.lines() {
        now = if line == "+" { now + 1 } else { now - 1 };
        most = most.max(now);
    }
    most
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn few_runtimes_delete_together() {
    if improves("one for each container, all at once") {
        return;
    }
    let Some(server) = Server::own(Runtime::Runc).await else { return };
    let log = server.work().join("deletes");
    let script = format!(
        r#"if [ "$command" = delete ]; then
            echo + >> {log}; runc "$@"; status=$?; echo - >> {log}; exit $status
        fi"#,
        log = log.display()
    );
    let runtime = wrapper(server.work(), Runtime::Runc, &script);
    let count = 10 * turns();
    let containers = make(&server, count, runtime.to_str().unwrap()).await;
    kill_all(containers).await;
    let most = most_together(&log);
    println!("{count} ends, {most} deletes at once");
    // With all processors busy some take over a second, and are not waited for.
    assert!(most <= count / 2, "{most} of {count} at once");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_does_not_wait_for_deletes_that_hang() {
    if improves("it waits for them") {
        return;
    }
    let Some(server) = Server::own(Runtime::Runc).await else { return };
    let hang = server.work().join("hang");
    fs::write(&hang, "").unwrap();
    let file = hang.display();
    let script = format!("while [ $command = delete ] && [ -e {file} ]; do sleep 0.1; done");
    let runtime = wrapper(server.work(), Runtime::Runc, &script);
    let stuck = make(&server, 3 * turns(), runtime.to_str().unwrap()).await;
    let lively = server.container("lively").without_pipes().create().await.unwrap();
    let stuck = tokio::spawn(kill_all(stuck));
    // A delete that hangs has a minute.
    let end = tokio::time::timeout(Duration::from_secs(40), lively.init.kill()).await;
    assert_eq!(end, Ok(137), "at once");
    assert!(!stuck.is_finished());
    fs::remove_file(&hang).unwrap();
    stuck.await.unwrap();
    server.finish().await;
}
