//! What is kept when the server ends, in whatever way.

use std::{fs, os::unix::fs::PermissionsExt};

use gantry_api::containerd::{
    leases::{CreateRequest, ListRequest},
    namespaces::ListNamespacesRequest,
};
use gantry_tests::programs;
use rustix::process::Signal;
use tokio::task::JoinSet;

use crate::{Bed, container, of};

#[tokio::test]
async fn metadata_outlives_a_restart() {
    let Some(mut bed) = Bed::start().await else { return };
    let created = bed.create("ns", container("c")).await.unwrap();
    let lease = CreateRequest { id: "l".to_owned(), ..CreateRequest::default() };
    bed.leases().create(of("ns", lease)).await.unwrap();
    for signal in [Signal::TERM, Signal::KILL] {
        bed.server.end(signal).await;
        bed.server.start_again().await;
        assert_eq!(bed.get("ns", "c").await.unwrap(), created);
        let leases = bed.leases().list(of("ns", ListRequest::default())).await.unwrap();
        assert_eq!(leases.into_inner().leases.len(), 1);
        let namespaces = bed.namespaces().list(ListNamespacesRequest::default()).await.unwrap();
        assert_eq!(namespaces.into_inner().namespaces.len(), 1);
    }
    assert!(!bed.server.log().contains("metadata of containers is lost"));
    bed.server.finish().await;
}

/// What was answered is there, and what was not is there whole or not at all.
#[tokio::test]
async fn a_kill_after_an_answer_loses_nothing() {
    let Some(mut bed) = Bed::start().await else { return };
    let mut kept: Vec<String> = Vec::new();
    for round in 0..5 {
        let mut creating = JoinSet::new();
        for number in 0..8 {
            let mut client = bed.containers();
            creating.spawn(async move {
                let mut answered = Vec::new();
                for step in 0.. {
                    let id = format!("r{round}-{number}-{step}");
                    let container = Some(container(&id));
                    let request =
                        gantry_api::containerd::containers::CreateContainerRequest { container };
                    if client.create(of("ns", request)).await.is_err() {
                        break;
                    }
                    answered.push(id);
                }
                answered
            });
        }
        // At some moment in the middle of all that.
        while bed.get("ns", &format!("r{round}-0-{round}")).await.is_err() {}
        bed.server.kill().await;
        kept.extend(creating.join_all().await.into_iter().flatten());
        bed.server.start_again().await;
        for id in &kept {
            bed.get("ns", id).await.unwrap_or_else(|error| panic!("{id}: {error:?}"));
        }
    }
    assert!(kept.len() > 5, "{kept:?}");
    bed.server.finish().await;
}

#[tokio::test]
async fn damaged_metadata_is_put_aside() {
    let Some(mut bed) = Bed::start().await else { return };
    bed.create("ns", container("c")).await.unwrap();
    bed.server.end(Signal::TERM).await;
    let file = bed.server.root().join("metadata.redb");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o077, 0, "specs hold secrets");
    fs::write(&file, "no database").unwrap();
    bed.server.start_again().await;
    assert!(bed.get("ns", "c").await.is_err());
    bed.create("ns", container("c")).await.unwrap();
    bed.server.logs("the metadata of containers is lost").await;
    let aside = bed.server.root().join("metadata.redb.corrupt-1");
    assert_eq!(fs::read(aside).unwrap(), b"no database");
    bed.server.finish().await;
}

/// A server without its metadata would show none of its containers.
#[tokio::test]
async fn without_a_root_there_is_no_server() {
    let Some(bed) = Bed::start().await else { return };
    let work = tempfile::tempdir().unwrap();
    let path = |name: &str| work.path().join(name);
    fs::write(path("file"), "").unwrap();
    let in_use = bed.server.root();
    for (root, words) in [(path("file"), "cannot make"), (in_use, "in use by another server")] {
        let output = std::process::Command::new("timeout")
            .arg("60")
            .arg(programs::server())
            .arg("-l")
            .arg(path("sock"))
            .arg("--state-dir")
            .arg(path("state"))
            .arg("--root")
            .arg(&root)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(words) && said.contains(root.to_str().unwrap()), "{said}");
    }
    bed.server.finish().await;
}
