//! The server dies at each step of a write in turn. What was answered is there then, a call that is made again
//! succeeds or says that it was done, and no file is left over.

use std::{fs, path::Path};

use gantry_api::containerd::content::{AbortRequest, DeleteContentRequest};
use gantry_failpoints::{DIRECTORY, Point};
use gantry_tests::{Runtime, Server, variants};
use tonic::{Code, Status};

use super::{ABC, Session, commit, info, offset, read, write_at};
use crate::{Bed, of};

/// Each is reached in the life of a blob, and of a write that is given up.
const POINTS: [Point; 7] = [
    Point::ServerIngestBegun,
    Point::ServerIngestMade,
    Point::ServerBlobSynced,
    Point::ServerBlobPlaced,
    Point::ServerBlobRecorded,
    Point::ServerBlobForgotten,
    Point::ServerIngestForgotten,
];

#[tokio::test]
async fn a_server_may_die_at_each_step_of_a_write() {
    let Some(variant) = variants::find("failpoints") else { return };
    let armed = tempfile::tempdir().unwrap();
    let setup = Server::setup(Runtime::Runc).variant(&variant);
    let setup = setup.variable(DIRECTORY, armed.path().to_str().unwrap());
    let Some(mut bed) = Bed::start_with(setup).await else { return };
    for point in POINTS {
        let file = armed.path().join(point.name());
        fs::write(&file, "").unwrap();
        live(&mut bed).await;
        assert!(!file.exists(), "{point:?} was not reached");
        assert_eq!(files(&bed), [""; 0], "after {point:?}");
    }
    bed.server.finish().await;
}

/// A blob and a write come and go.
async fn live(bed: &mut Bed) {
    loop {
        match write(bed).await {
            Ok(()) => break,
            Err(error) if error.code() == Code::AlreadyExists => break,
            Err(error) => revive(bed, &error).await,
        }
    }
    assert_eq!(info(bed, "ns", ABC).await.unwrap().size, 3);
    assert_eq!(read(bed, "ns", ABC, 0, 0).await.unwrap(), b"abc");
    assert!(offset(bed, "ns", "w").await.is_err(), "the write is over");
    assert_eq!(files(bed).len(), 1);
    loop {
        let request = DeleteContentRequest { digest: ABC.to_owned() };
        match bed.content().delete(of("ns", request)).await {
            Ok(_) => break,
            Err(error) if error.code() == Code::NotFound => break,
            Err(error) => revive(bed, &error).await,
        }
    }
    assert!(info(bed, "ns", ABC).await.is_err());
    let mut left = Session::begin(bed, "ns", "left").await;
    left.ask(write_at(0, b"abc")).await.unwrap();
    left.end().await;
    loop {
        let request = AbortRequest { r#ref: "left".to_owned() };
        match bed.content().abort(of("ns", request)).await {
            Ok(_) => break,
            Err(error) if error.code() == Code::NotFound => break,
            Err(error) => revive(bed, &error).await,
        }
    }
    assert!(offset(bed, "ns", "left").await.is_err());
}

/// As a client does that has all data: at once, and from where the server is.
async fn write(bed: &Bed) -> Result<(), Status> {
    let mut session = Session::begin(bed, "ns", "w").await;
    session.ask(write_at(0, b"ab")).await?;
    session.ask(commit(2, ABC, b"c")).await.map(drop)
}

/// The server that has died begins again, and has opened its content when it answers.
async fn revive(bed: &mut Bed, error: &Status) {
    assert!(
        [Code::Unavailable, Code::Unknown, Code::Cancelled, Code::Internal].contains(&error.code()),
        "{error:?}"
    );
    bed.server.kill().await;
    bed.server.start_again().await;
    let _ = offset(bed, "ns", "w").await;
}

/// All files of content.
fn files(bed: &Bed) -> Vec<String> {
    let mut files = Vec::new();
    below(&bed.server.root().join("content"), &mut files);
    files
}

fn below(dir: &Path, files: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            below(&path, files);
        } else {
            files.push(path.display().to_string());
        }
    }
}
