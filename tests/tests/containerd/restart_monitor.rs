//! The restart monitor, by the labels that nerdctl sets.

use std::{fs, path::PathBuf, time::Duration};

use gantry_api::containerd::{
    containers::{DeleteContainerRequest, UpdateContainerRequest},
    event_types::TaskStart,
    from_any,
    task_types::Status as State,
    tasks::{DeleteTaskRequest, GetRequest, KillRequest, PauseTaskRequest},
    types::Envelope,
};
use gantry_tests::{PATIENCE, eventually, patiently, processes};
use prost_types::FieldMask;
use serde_json::json;
use tonic::{Code, Status, Streaming};

use crate::{
    Bed, assert_refused, container,
    events::{next, subscribe},
    of,
    tasks::{NewTask, Task, finish},
};

const STARTS: &str = "topic==\"/tasks/start\"";

fn label(name: &str) -> String {
    format!("containerd.io/restart.{name}")
}

/// A container with these labels. Its first task is made by the test, unless it is left out.
fn labelled<'a>(bed: &'a Bed, id: &str, labels: &[(&str, &str)]) -> NewTask<'a> {
    let mut new = NewTask::new(bed, "ns", id);
    for (name, value) in labels {
        new.container.labels.insert(label(name), (*value).to_owned());
    }
    new
}

async fn started<'a>(new: NewTask<'a>) -> Task<'a> {
    let task = new.create().await.unwrap();
    task.start("").await.unwrap();
    task
}

/// Changes one label, as a client does.
async fn set(bed: &Bed, id: &str, name: &str, value: &str) {
    let mut changed = container(id);
    changed.labels.insert(label(name), value.to_owned());
    let update_mask = Some(FieldMask { paths: vec![format!("labels.{}", label(name))] });
    let request = UpdateContainerRequest { container: Some(changed), update_mask };
    bed.containers().update(of("ns", request)).await.unwrap();
}

/// How often the container was restarted, as its label says.
async fn count(bed: &Bed, id: &str) -> Option<String> {
    bed.get("ns", id).await.unwrap().labels.get(&label("count")).cloned()
}

/// The next container that is started, and its pid.
async fn next_start(starts: &mut Streaming<Envelope>) -> (String, u32) {
    let event = next(starts).await.event.unwrap();
    let start: TaskStart = from_any(&event).unwrap().unwrap();
    (start.container_id, start.pid)
}

async fn state(bed: &Bed, id: &str) -> Result<(State, u32), Status> {
    let request = GetRequest { container_id: id.to_owned(), exec_id: String::new() };
    let process = bed.tasks().get(of("ns", request)).await?.into_inner().process.unwrap();
    Ok((process.status(), process.pid))
}

/// Polls until a condition holds for which there is no event.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let looking = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    patiently(what, looking).await;
}

/// Deletes a container and whatever runs of it, though a monitor may start it again meanwhile.
async fn remove(bed: &Bed, id: &str) {
    until(&format!("{id} is deleted"), async || {
        let (container_id, exec_id) = (id.to_owned(), String::new());
        let kill = KillRequest { container_id, exec_id, signal: 9, all: true };
        let _ = bed.tasks().kill(of("ns", kill)).await;
        let delete = DeleteTaskRequest { container_id: id.to_owned() };
        let _ = bed.tasks().delete(of("ns", delete)).await;
        let delete = DeleteContainerRequest { id: id.to_owned() };
        bed.containers().delete(of("ns", delete)).await.is_ok()
    })
    .await;
}

/// A file for output, and its URI.
fn log_file(bed: &Bed, id: &str) -> (PathBuf, String) {
    let path = bed.server.work().join(format!("{id}.log"));
    let uri = format!("file://{}", path.display());
    (path, uri)
}

#[tokio::test]
async fn what_ends_is_started_again_until_it_is_deleted() {
    let Some(bed) = Bed::start().await else { return };
    let (path, uri) = log_file(&bed, "c");
    let labels = [("status", "running"), ("policy", "always"), ("loguri", &*uri)];
    let mut starts = subscribe(&bed, &[STARTS]).await;
    let mut task = started(labelled(&bed, "c", &labels).sh("echo run; exit 0")).await;
    let mut pids = Vec::new();
    for _ in 0..3 {
        let (id, pid) = next_start(&mut starts).await;
        assert_eq!(id, "c");
        pids.push(pid);
    }
    assert!(pids[0] == task.pid && pids[1] != pids[2], "{pids:?}");
    // The first run had the streams of its client.
    task.pipes.stdout_until("run\n").await;
    eventually("both runs are in the file", || {
        fs::read_to_string(&path).is_ok_and(|text| text.starts_with("run\nrun\n"))
    })
    .await;
    let restarts: u32 = count(&bed, "c").await.unwrap().parse().unwrap();
    assert!(restarts >= 2);
    remove(&bed, "c").await;
    let gone = state(&bed, "c").await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);
    finish(bed).await;
}

#[tokio::test]
async fn failures_are_counted_to_their_bound() {
    let Some(bed) = Bed::start().await else { return };
    let labels = [("status", "running"), ("policy", "on-failure:2")];
    let mut starts = subscribe(&bed, &[STARTS]).await;
    let fails = started(labelled(&bed, "fails", &labels).sh("exit 3")).await;
    for _ in 0..3 {
        assert_eq!(next_start(&mut starts).await.0, "fails");
    }
    until("it has ended", async || state(&bed, "fails").await.unwrap().0 == State::Stopped).await;
    assert_eq!(fails.wait("").await.unwrap().exit_status, 3);
    // One that fails later is restarted, twice, and the first is not.
    let other = started(labelled(&bed, "other", &labels).sh("exit 4")).await;
    for _ in 0..3 {
        assert_eq!(next_start(&mut starts).await.0, "other");
    }
    until("it has ended", async || state(&bed, "other").await.unwrap().0 == State::Stopped).await;
    for task in [fails, other] {
        assert_eq!(count(&bed, &task.id).await.as_deref(), Some("2"));
        task.delete().await.unwrap();
    }
    finish(bed).await;
}

#[tokio::test]
async fn who_is_stopped_stays_stopped() {
    let Some(bed) = Bed::start().await else { return };
    let of_policy = |id, policy| labelled(&bed, id, &[("status", "running"), ("policy", policy)]);
    let stopped = started(of_policy("stopped", "unless-stopped")).await;
    let never = started(of_policy("never", "no")).await;
    let witness = started(of_policy("witness", "unless-stopped")).await;
    let mut starts = subscribe(&bed, &[STARTS]).await;
    set(&bed, "stopped", "explicitly-stopped", "true").await;
    for task in [&stopped, &never, &witness] {
        task.kill("", 9).await.unwrap();
        // The last one may be restarted by then.
        if task.id != witness.id {
            task.wait("").await.unwrap();
        }
    }
    // It has ended after the others.
    let (id, pid) = next_start(&mut starts).await;
    assert!(id == "witness" && pid != witness.pid);
    for task in [&stopped, &never] {
        assert_eq!(task.state("").await, State::Stopped);
        assert_eq!(count(&bed, &task.id).await, None);
    }
    assert_eq!(count(&bed, "witness").await.as_deref(), Some("1"));
    // A frozen one runs, and is stopped all the same.
    let container_id = &witness.id;
    // Its start is published a moment before it can be paused.
    until("it is paused", async || {
        let pause = PauseTaskRequest { container_id: container_id.clone() };
        bed.tasks().pause(of("ns", pause)).await.is_ok()
    })
    .await;
    set(&bed, "witness", "status", "stopped").await;
    until("its task is gone", async || state(&bed, "witness").await.is_err()).await;
    let gone = state(&bed, "witness").await;
    assert_refused(gone, Code::NotFound, "task witness not found");
    assert!(processes::ends_within(pid, PATIENCE).await);
    for task in [stopped, never] {
        task.delete().await.unwrap();
    }
    finish(bed).await;
}

/// What was not done while there was no server is done at once when it is back.
#[tokio::test]
async fn a_restarted_server_catches_up_with_all_containers() {
    let Some(mut bed) = Bed::start().await else { return };
    let always = [("status", "running"), ("policy", "always")];
    let (ended, lives) = {
        let ended = started(labelled(&bed, "ended", &always)).await;
        let lives = started(labelled(&bed, "lives", &always)).await;
        labelled(&bed, "new", &always).create_container().await.unwrap();
        let cannot =
            |config: &mut serde_json::Value| config["process"]["args"] = json!(["/nosuch"]);
        labelled(&bed, "fails", &always).config(cannot).create_container().await.unwrap();
        let mut snapshot = labelled(&bed, "snapshot", &always);
        snapshot.container.snapshotter = "overlayfs".to_owned();
        snapshot.container.snapshot_key = "key".to_owned();
        snapshot.create_container().await.unwrap();
        let unknown = [("status", "running"), ("policy", "sometimes")];
        labelled(&bed, "unknown", &unknown).create_container().await.unwrap();
        (ended.pid, lives.pid)
    };
    bed.server.kill().await;
    processes::kill(ended);
    assert!(processes::ends_within(ended, PATIENCE).await);
    bed.server.start_again().await;
    for id in ["ended", "new"] {
        until(&format!("{id} runs"), async || {
            state(&bed, id).await.is_ok_and(|(state, pid)| state == State::Running && pid != ended)
        })
        .await;
        assert_eq!(count(&bed, id).await.as_deref(), Some("1"));
    }
    assert_eq!(state(&bed, "lives").await.unwrap(), (State::Running, lives));
    // The monitor logs why, and tries again.
    let failures = || bed.server.log().matches("it cannot be restarted").count();
    eventually("it fails twice", || failures() >= 2).await;
    bed.server.logs("snapshot key does not exist: not found").await;
    bed.server.logs("sometimes").await;
    for id in ["snapshot", "unknown"] {
        assert_eq!(state(&bed, id).await.unwrap_err().code(), Code::NotFound);
    }
    for id in ["ended", "lives", "new", "fails", "snapshot"] {
        remove(&bed, id).await;
    }
    finish(bed).await;
}
