//! When streams begin and end.

use std::{fs::File, io::Write, time::Duration};

use gantry_client::{ProcessStdio, Stdio, oci_spec::runtime::Spec};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use crate::fake::{Fake, PATIENCE};

#[tokio::test]
async fn stdin_is_closed_after_the_creation_although_it_was_shut_down_before() {
    let fake = Fake::start().await;
    let client = fake.client().await;
    let feed = |streams: ProcessStdio| {
        let mut stdin = streams.stdin.ok_or(std::io::ErrorKind::NotFound)?;
        tokio::spawn(async move {
            stdin.write_all(b"all of it").await.unwrap();
            stdin.shutdown().await.unwrap();
        });
        Ok(())
    };
    let create = client.create("web", &fake.bundle()).spec(Spec::default()).stdin(Stdio::Pipe);
    let _container = create.attach(feed).start().await.unwrap();
    let closed = async {
        while fake.log().len() < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, closed).await.unwrap();
    assert_eq!(fake.log(), ["create web", "created", "close true of web/init"]);
}

#[tokio::test]
async fn dropping_stdin_does_not_end_the_input() {
    let fake = Fake::start().await;
    let client = fake.client().await;
    let create = client.create("web", &fake.bundle()).spec(Spec::default()).stdin(Stdio::Pipe);
    let container = create.start().await.unwrap();
    drop(container.take_stdio());
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(fake.log(), ["create web", "created"]);
}

/// Writes as the process would.
fn open_as_process(fake: &Fake, stream: &str) -> File {
    File::options().write(true).open(fake.bundle().join(stream)).unwrap()
}

#[tokio::test]
async fn output_ends_when_its_last_writer_has_closed_it() {
    let fake = Fake::start().await;
    let client = fake.client().await;
    let create = client.create("web", &fake.bundle()).spec(Spec::default()).stdout(Stdio::Pipe);
    // The writer must be there when the server answers, as a shim is.
    let opening = async {
        while !fake.bundle().join("init-stdout").exists() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        open_as_process(&fake, "init-stdout")
    };
    let (container, mut writer) = tokio::join!(create.start(), opening);
    let mut stdout = container.unwrap().take_stdio().stdout.unwrap();
    writer.write_all(b"last words").unwrap();
    let mut read = vec![0; 10];
    stdout.read_exact(&mut read).await.unwrap();
    assert_eq!(read, b"last words");
    let early = timeout(Duration::from_millis(50), stdout.read(&mut read)).await;
    assert!(early.is_err(), "ended although its writer lives");
    drop(writer);
    let end = timeout(PATIENCE, stdout.read(&mut read)).await.unwrap();
    assert_eq!(end.unwrap(), 0);
}

#[tokio::test]
async fn output_ends_after_the_exit_although_a_background_child_holds_it() {
    let fake = Fake::start().await;
    let client = fake.client().await;
    let create = client.create("web", &fake.bundle()).spec(Spec::default()).stdout(Stdio::Pipe);
    let opening = async {
        while !fake.bundle().join("init-stdout").exists() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        open_as_process(&fake, "init-stdout")
    };
    let (container, mut child) = tokio::join!(create.start(), opening);
    let mut stdout = container.unwrap().take_stdio().stdout.unwrap();
    child.write_all(&[7; 5000]).unwrap();
    fake.inner.exit("web", 0);
    let mut all = Vec::new();
    timeout(PATIENCE, stdout.read_to_end(&mut all)).await.unwrap().unwrap();
    assert_eq!(all, [7; 5000]);
}
