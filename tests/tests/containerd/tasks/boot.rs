//! Tasks do not outlive a boot, and containers do.

use std::fs;

use gantry_api::{
    INIT,
    containerd::tasks::{GetRequest, ListTasksRequest},
};
use gantry_tests::{PATIENCE, cgroup, processes};
use tonic::Code;

use super::{NewTask, finish};
use crate::{
    Bed, any, assert_refused,
    events::{next, publish, subscribe},
    of,
};

/// Ends all processes of a test, its shims first, as nobody is left to write down how a process ends when a
/// machine goes down.
async fn end_all(bed: &Bed) {
    let mut found = processes::belonging_to(bed.server.work(), &bed.server.service.cgroup);
    found.sort_by_key(|process| !process.comm.contains("shim"));
    assert!(found.len() >= 6, "{found:?}");
    for process in found {
        processes::kill(process.pid);
        assert!(processes::ends_within(process.pid, PATIENCE).await);
    }
}

#[tokio::test]
async fn tasks_of_an_earlier_boot_are_gone_and_their_containers_are_not() {
    let Some(mut bed) = Bed::start().await else { return };
    let other = bed.server.container("other-api").create().await.unwrap();
    let cgroups = {
        let created = NewTask::new(&bed, "ns", "created").create().await.unwrap();
        let running = NewTask::new(&bed, "ns", "running").create().await.unwrap();
        running.start("").await.unwrap();
        running.exec("e", "sleep 1000").await.unwrap();
        running.start("e").await.unwrap();
        let ended = NewTask::new(&bed, "other", "ended").sh("exit 3").create().await.unwrap();
        ended.start("").await.unwrap();
        ended.wait("").await.unwrap();
        [created.cgroup.clone(), running.cgroup.clone(), ended.cgroup.clone()]
    };
    let file = bed.server.state_dir().join("boot.json");
    let boot = fs::read_to_string(&file).unwrap();
    bed.server.kill().await;
    end_all(&bed).await;
    cgroups.iter().for_each(|cgroup| cgroup::remove(cgroup));
    fs::write(&file, "\"b51a2ab3-30b6-4f77-a1c9-2b9e3f5f4e4d\"").unwrap();
    let position = bed.server.service.events.position();
    bed.server.start_again().await;

    bed.server.logs("tasks of before are discarded").await;
    for (namespace, id) in [("ns", "created"), ("ns", "running"), ("other", "ended")] {
        bed.get(namespace, id).await.unwrap();
        let request = GetRequest { container_id: id.to_owned(), exec_id: String::new() };
        let got = bed.tasks().get(of(namespace, request)).await;
        assert_refused(got, Code::NotFound, &format!("task {id} not found"));
        let listed = bed.tasks().list(of(namespace, ListTasksRequest::default())).await.unwrap();
        assert_eq!(listed.into_inner().tasks, []);
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), boot);
    // There are no exits of them.
    let mut events = subscribe(&bed, &[]).await;
    publish(&bed, "ns", "/mark", any("mark", b"")).await.unwrap();
    assert_eq!(next(&mut events).await.topic, "/mark");
    // types.API reports the end as an exit with an unknown status.
    let status = bed.server.service.events.wait_exit(position, &other.id, INIT).await;
    assert_eq!(status, 255);
    // What was there before is in nobody's way.
    let again = NewTask::new(&bed, "ns", "running").create().await.unwrap();
    again.start("").await.unwrap();
    again.end().await;
    finish(bed).await;
}
