//! All or nothing: what a creation leaves, and what a failed one does not.

use std::fs;

use gantry_client::{ErrorKind, Stdio, oci_spec::runtime::Spec, types};
use tokio::io::AsyncReadExt;
use tonic::Status;

use crate::fake::{Creation, Fake};

fn names(dir: &std::path::Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> =
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_container_has_its_config_and_the_pipes_that_were_asked_for() {
    let fake = Fake::start().await;
    let client = fake.client().await;
    let create = client.create("web", &fake.bundle()).spec(Spec::default());
    let container = create.stdin(Stdio::Pipe).stderr(Stdio::Pipe).start().await.unwrap();
    assert_eq!(names(&fake.bundle()), ["config.json", "init-stderr", "init-stdin"]);
    assert_eq!(container.init().pid(), Some(42));
    let streams = container.take_stdio();
    assert!(streams.stdin.is_some() && streams.stdout.is_none() && streams.stderr.is_some());

    let state = container.state().await.unwrap();
    assert_eq!(state.processes[0].stdout, "");
    assert_eq!(state.processes[0].stderr, fake.bundle().join("init-stderr").to_str().unwrap());
    container.remove_bundle().unwrap();
    assert!(!fake.bundle().exists());
}

#[tokio::test]
async fn a_failed_creation_removes_everything_and_ends_the_streams() {
    let fake = Fake::start().await;
    let client = fake.client().await;
    let missing = "oci runtime error: exec: \"sh\": executable file not found in $PATH";
    *fake.inner.creation.lock().unwrap() = Creation::Fails(Status::unknown(missing));

    let (sender, receiver) = std::sync::mpsc::channel();
    let create = client.create("web", &fake.bundle()).spec(Spec::default()).stdout(Stdio::Pipe);
    let attach = move |streams: gantry_client::ProcessStdio| {
        sender.send(streams).map_err(std::io::Error::other)
    };
    let error = create.attach(attach).start().await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::RuntimeFailed { exit_code: 127, .. }), "{error}");
    assert_eq!(error.start_exit_code(), 127);
    assert!(error.to_string().starts_with("create container web: oci runtime error"), "{error}");
    assert!(!fake.bundle().exists());
    let mut stdout = receiver.recv().unwrap().stdout.unwrap();
    assert_eq!(stdout.read_to_end(&mut Vec::new()).await.unwrap(), 0);
}

#[tokio::test]
async fn an_attachment_that_fails_calls_the_creation_off() {
    let fake = Fake::start().await;
    let client = fake.client().await;
    let create = client.create("web", &fake.bundle()).spec(Spec::default()).stdout(Stdio::Pipe);
    let attach = |_| Err(std::io::Error::other("the disk for the log is full"));
    let error = create.attach(attach).start().await.unwrap_err();
    assert!(format!("{error:#}").contains("the disk for the log is full"), "{error:#}");
    assert!(!fake.bundle().exists());
    assert!(fake.log().is_empty());
}

#[tokio::test]
async fn the_bundle_of_a_living_container_is_not_touched() {
    let fake = Fake::start().await;
    let client = fake.client().await;
    let create = || client.create("web", &fake.bundle()).stdout(Stdio::Pipe);
    create().spec(Spec::default()).start().await.unwrap();
    let config = fs::read(fake.bundle().join("config.json")).unwrap();
    let mut other = Spec::default();
    other.set_hostname(Some("other".into()));
    let error = create().spec(other).start().await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::AlreadyExists(_)), "{error}");
    assert_eq!(fs::read(fake.bundle().join("config.json")).unwrap(), config);
    assert!(fake.bundle().join("init-stdout").exists());
}

#[tokio::test]
async fn a_container_whose_creation_was_not_answered_is_ended() {
    let fake = Fake::start().await;
    let client = fake.client().await;
    let gone = Status::deadline_exceeded("the server has given up");
    *fake.inner.creation.lock().unwrap() = Creation::SucceedsUnnoticed(gone);
    let create = client.create("web", &fake.bundle()).spec(Spec::default());
    let error = create.start().await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::DeadlineExceeded(_)), "{error}");
    assert_eq!(fake.log(), ["create web", "signal web/init 9"]);
}

#[tokio::test]
async fn an_exec_takes_after_the_first_process() {
    let fake = Fake::start().await;
    let client = fake.client().await;
    let env = vec!["A=1".to_owned(), "B=2".to_owned()];
    let init = gantry_client::types::Process { env, ..Default::default() };
    fake.inner.add("web", fake.dir.path().to_str().unwrap(), init);
    let container = client.container("web");
    let exec = container.exec_like_init("job", vec!["ls".into()]).await.unwrap();
    let size = gantry_client::ConsoleSize { width: 80, height: 24 };
    let exec = exec.env(["A=3".to_owned()]).terminal(true).console_size(size);
    let process = exec.stdout(Stdio::Pipe).stderr(Stdio::Pipe).start().await.unwrap();
    assert_eq!(fake.log(), [r#"exec ["ls"] ["B=2", "A=3"] Some("80x24")"#]);
    assert_eq!(names(fake.dir.path()), ["job-stdout", "sock"]);
    assert_eq!(process.wait().await.unwrap().status, 9);
    process.remove_pipes();
    assert_eq!(names(fake.dir.path()), ["sock"]);
}

/// More than the 4 MiB that gRPC clients accept by default.
#[tokio::test]
async fn the_state_of_many_containers_is_taken() {
    let fake = Fake::start().await;
    let labels = vec!["x".repeat(200 << 10)];
    let container = |number| {
        let id = format!("c{number}");
        (id.clone(), types::Container { id, labels: labels.clone(), ..types::Container::default() })
    };
    fake.inner.containers.lock().unwrap().extend((0..40).map(container));
    assert_eq!(fake.client().await.state().await.unwrap().containers.len(), 40);
}
