//! What a restarted daemon finds.

use std::{fs::File, io::Write, time::Duration};

use gantry_client::{Restore, Restored, Stdio, oci_spec::runtime::Spec, types};
use tokio::{
    io::AsyncReadExt,
    time::{Instant, timeout},
};

use crate::fake::{Fake, PATIENCE};

/// Starts a container in an earlier life of the daemon.
async fn earlier_life(fake: &Fake) {
    let client = fake.client().await;
    let create = client.create("web", &fake.bundle()).spec(Spec::default());
    create.stdin(Stdio::Pipe).stdout(Stdio::Pipe).start().await.unwrap();
}

#[tokio::test]
async fn a_running_container_is_taken_up_with_its_pipes() {
    let fake = Fake::start().await;
    earlier_life(&fake).await;
    // What a shim holds.
    let both =
        |name| File::options().read(true).write(true).open(fake.bundle().join(name)).unwrap();
    let (stdin, mut stdout) = (both("init-stdin"), both("init-stdout"));
    stdout.write_all(b"meanwhile").unwrap();

    let client = fake.client().await;
    let restored = client.restore("web", &fake.bundle(), Restore::Reattach).await.unwrap();
    let Restored::Running(container) = restored else { panic!("{restored:?}") };
    let streams = container.take_stdio();
    assert!(streams.stdin.is_some());
    let mut read = [0; 9];
    streams.stdout.unwrap().read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"meanwhile");
    fake.inner.exit("web", 6);
    assert_eq!(container.wait().await.unwrap().status, 6);
    drop(stdin);
}

#[tokio::test]
async fn a_container_that_has_ended_has_its_status_and_last_words() {
    let fake = Fake::start().await;
    earlier_life(&fake).await;
    let path = fake.bundle().join("init-stdout");
    let mut lingering = File::options().read(true).write(true).open(path).unwrap();
    lingering.write_all(b"last words").unwrap();
    fake.inner.exit("web", 7);

    let client = fake.client().await;
    let restored = client.restore("web", &fake.bundle(), Restore::Reattach).await.unwrap();
    let Restored::Exited { exit, stdio, .. } = restored else { panic!("{restored:?}") };
    assert_eq!(exit.status, 7);
    let mut all = Vec::new();
    let read = timeout(PATIENCE, stdio.stdout.unwrap().read_to_end(&mut all)).await;
    read.unwrap().unwrap();
    assert_eq!(all, b"last words");
}

#[tokio::test]
async fn a_container_that_nobody_remembers_has_an_unknown_status() {
    let fake = Fake::start().await;
    let client = fake.client().await;
    let restored = client.restore("web", &fake.bundle(), Restore::Reattach).await.unwrap();
    assert!(matches!(restored, Restored::Exited { exit, .. } if exit.status == 255));
}

#[tokio::test]
async fn a_paused_container_is_resumed_before_it_is_stopped() {
    let fake = Fake::start().await;
    fake.inner.add("web", "/bundle", types::Process::default());
    fake.inner.deadly.lock().unwrap().insert(15, 143);
    let client = fake.client().await;
    client.container("web").pause().await.unwrap();
    let restored = client.restore("web", &fake.bundle(), Restore::Stop).await.unwrap();
    assert!(matches!(restored, Restored::Exited { exit, .. } if exit.status == 143));
    assert_eq!(fake.log(), ["set web paused", "set web running", "signal web/init 15"]);
}

#[tokio::test]
async fn stopping_gets_rougher() {
    let fake = Fake::start().await;
    fake.inner.add("web", "/bundle", types::Process::default());
    fake.inner.deadly.lock().unwrap().insert(9, 137);
    let container = fake.client().await.container("web");
    let exit = container.stop(Duration::from_millis(50)).await.unwrap();
    assert_eq!(exit.status, 137);
    assert_eq!(fake.log(), ["signal web/init 15", "signal web/init 9"]);

    fake.inner.add("stuck", "/bundle", types::Process::default());
    fake.inner.deadly.lock().unwrap().clear();
    let begun = Instant::now();
    let container = fake.client().await.container("stuck");
    assert_eq!(container.stop(Duration::from_millis(50)).await.unwrap().status, 255);
    assert!(begun.elapsed() < PATIENCE);
}

#[tokio::test]
async fn many_are_restored_at_once() {
    let fake = Fake::start().await;
    for id in 0..20 {
        fake.inner.publish("exit", &format!("c{id}/init"), id);
    }
    let client = fake.client().await;
    let believed = (0..20).map(|id| (format!("c{id}"), fake.bundle()));
    let mut restored = client.restore_all(believed, Restore::Reattach).await;
    restored.sort_by_key(|(id, _)| id[1..].parse::<u32>().unwrap());
    for (number, (_, restored)) in (0..20).zip(restored) {
        let Ok(Restored::Exited { exit, .. }) = restored else { panic!("{restored:?}") };
        assert_eq!(exit.status, number);
    }
}
