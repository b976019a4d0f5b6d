//! What each request of a write does.

use gantry_api::containerd::{
    content::{AbortRequest, DeleteContentRequest, WriteContentRequest},
    leases::{CreateRequest, ListResourcesRequest},
};
use tonic::Code;

use super::{
    ABC, LONG_ABC, NOTHING, Session, commit, info, leased, offset, put, read, stat, write_at,
};
use crate::{Bed, assert_refused, of};

#[tokio::test]
async fn a_blob_is_written_piece_by_piece() {
    let Some(bed) = Bed::start().await else { return };
    let mut session = Session::begin(&bed, "ns", "layer: 1").await;
    let begun = session.ask(stat(3, ABC)).await.unwrap();
    assert_eq!((begun.offset, begun.total, &*begun.digest), (0, 3, NOTHING));
    assert!(begun.started_at.is_some() && begun.updated_at.is_some(), "{begun:?}");
    let one = session.ask(write_at(0, b"a")).await.unwrap();
    assert_eq!((one.offset, one.total, one.started_at), (1, 0, None));
    // 0 is the beginning: what was written is dropped.
    session.ask(write_at(0, b"a")).await.unwrap();
    assert_eq!(session.ask(write_at(1, b"b")).await.unwrap().offset, 2);
    assert_eq!(offset(&bed, "ns", "layer: 1").await.unwrap(), 2);
    let mut last = commit(2, ABC, b"c");
    last.labels = [("k".to_owned(), "v".to_owned()), ("e".to_owned(), String::new())].into();
    let done = session.ask(last).await.unwrap();
    assert_eq!((done.offset, &*done.digest), (3, ABC));
    session.end().await;
    let info = info(&bed, "ns", ABC).await.unwrap();
    assert_eq!((info.size, info.labels), (3, [("k".to_owned(), "v".to_owned())].into()));
    assert_eq!(read(&bed, "ns", ABC, 0, 0).await.unwrap(), b"abc");
    let gone = r#"could not get status for ref "layer: 1": reference layer: 1: not found"#;
    assert_refused(offset(&bed, "ns", "layer: 1").await, Code::NotFound, gone);
    bed.server.finish().await;
}

#[tokio::test]
async fn a_wrong_request_is_refused_and_keeps_what_was_written() {
    let Some(bed) = Bed::start().await else { return };
    let session = || Session::begin(&bed, "ns", "w");
    let nameless = Session::begin(&bed, "ns", "").await.ask(stat(0, "")).await;
    assert_refused(nameless, Code::InvalidArgument, "first message must have a reference");
    session().await.ask(write_at(0, b"abc")).await.unwrap();
    let begun = async || loop {
        // The call before may not be over yet.
        let mut session = session().await;
        match session.ask(stat(0, "")).await {
            Ok(begun) => break (session, begun),
            Err(error) => assert_eq!(error.code(), Code::Unavailable, "{error}"),
        }
    };
    let wrong = begun().await.0.ask(write_at(2, b"d")).await;
    assert_refused(wrong, Code::OutOfRange, "write @2 must occur at current offset 3");
    let wrong = begun().await.0.ask(commit(4, "", b"d")).await;
    assert_refused(wrong, Code::OutOfRange, "write @4 must occur at current offset 3");
    let wrong = begun().await.0.ask(WriteContentRequest { total: 4, ..commit(3, "", b"") }).await;
    let words = r#""w" failed size validation: 3 != 4: failed precondition"#;
    assert_refused(wrong, Code::FailedPrecondition, words);
    let wrong = begun().await.0.ask(commit(3, NOTHING, b"")).await;
    let words = format!("unexpected commit digest {ABC}, expected {NOTHING}: failed precondition");
    assert_refused(wrong, Code::FailedPrecondition, &words);
    for expected in ["md5:00", "abc", "sha256:00"] {
        let wrong = begun().await.0.ask(commit(3, expected, b"")).await.unwrap_err();
        assert_eq!(wrong.code(), Code::InvalidArgument, "{wrong}");
        assert!(wrong.message().contains("digest"), "{wrong}");
    }
    let (mut session, status) = begun().await;
    assert_eq!((status.offset, &*status.digest), (3, ABC));
    assert_eq!(session.ask(commit(3, LONG_ABC, b"")).await.unwrap().digest, LONG_ABC);
    assert_eq!(read(&bed, "ns", LONG_ABC, 1, 1).await.unwrap(), b"b");
    let long = Session::begin(&bed, "ns", &"r".repeat(4097)).await.ask(stat(0, "")).await;
    assert_eq!(long.unwrap_err().code(), Code::InvalidArgument);
    bed.server.finish().await;
}

#[tokio::test]
async fn a_write_has_one_caller() {
    let Some(bed) = Bed::start().await else { return };
    let mut first = Session::begin(&bed, "ns", "w").await;
    first.ask(write_at(0, b"abc")).await.unwrap();
    let second = Session::begin(&bed, "ns", "w").await.ask(stat(0, "")).await.unwrap_err();
    assert_eq!(second.code(), Code::Unavailable);
    assert!(second.message().starts_with("ref w locked for "), "{second}");
    // In another namespace it is another one.
    Session::begin(&bed, "other", "w").await.ask(stat(0, "")).await.unwrap();
    first.end().await;
    let mut second = Session::begin(&bed, "ns", "w").await;
    assert_eq!(second.ask(stat(0, "")).await.unwrap().offset, 3);
    // Given up by somebody else, it comes to nothing.
    let abort = AbortRequest { r#ref: "w".to_owned() };
    bed.content().abort(of("ns", abort.clone())).await.unwrap();
    assert_eq!(second.ask(commit(3, "", b"")).await.unwrap_err().code(), Code::NotFound);
    let gone = bed.content().abort(of("ns", abort)).await;
    assert_refused(gone, Code::NotFound, "reference w: not found");
    assert_eq!(info(&bed, "ns", ABC).await.unwrap_err().code(), Code::NotFound);
    bed.server.finish().await;
}

#[tokio::test]
async fn what_is_there_is_not_written_again() {
    let Some(bed) = Bed::start().await else { return };
    assert_eq!(put(&bed, "ns", b"abc").await, ABC);
    let known = Session::begin(&bed, "ns", "w").await.ask(stat(3, ABC)).await;
    let words = format!("content {ABC}: already exists");
    assert_refused(known, Code::AlreadyExists, &words);
    assert!(offset(&bed, "ns", "w").await.is_err(), "it has not begun");
    // It comes to be known later, and in the end.
    let mut session = Session::begin(&bed, "ns", "w").await;
    session.ask(write_at(0, b"abc")).await.unwrap();
    let known = session.ask(stat(3, ABC)).await;
    assert_refused(known, Code::AlreadyExists, &format!("blob with expected digest {ABC} exists"));
    assert!(offset(&bed, "ns", "w").await.is_err(), "it is over");
    let known = Session::begin(&bed, "ns", "v").await.ask(commit(0, "", b"abc")).await;
    assert_refused(known, Code::AlreadyExists, &words);
    assert!(offset(&bed, "ns", "v").await.is_err(), "it is over");

    // Another namespace does not see it, and has it as soon as it says which one it wants.
    assert_eq!(info(&bed, "other", ABC).await.unwrap_err().code(), Code::NotFound);
    let mut session = Session::begin(&bed, "other", "w").await;
    let begun = session.ask(stat(0, ABC)).await.unwrap();
    assert_eq!((begun.offset, begun.total, &*begun.digest), (3, 0, ABC));
    session.ask(commit(3, ABC, b"")).await.unwrap();
    assert_eq!(read(&bed, "other", ABC, 0, 0).await.unwrap(), b"abc");
    bed.server.finish().await;
}

#[tokio::test]
async fn a_lease_gets_what_is_written_under_it() {
    let Some(bed) = Bed::start().await else { return };
    let under = async |lease: &'static str| {
        let to = |stream| leased("ns", lease, stream);
        Session::try_begin(bed.content(), to, "w").await.unwrap()
    };
    let none = under("none").await.ask(stat(0, "")).await;
    assert_refused(none, Code::NotFound, "lease does not exist: not found");
    let request = CreateRequest { id: "l".to_owned(), ..CreateRequest::default() };
    bed.leases().create(of("ns", request)).await.unwrap();
    let resources = async || {
        let request = ListResourcesRequest { id: "l".to_owned() };
        let listed = bed.leases().list_resources(of("ns", request)).await.unwrap();
        let resources = listed.into_inner().resources.into_iter();
        resources.map(|resource| (resource.r#type, resource.id)).collect::<Vec<_>>()
    };
    let mut session = under("l").await;
    session.ask(write_at(0, b"abc")).await.unwrap();
    assert_eq!(resources().await, [("ingests".to_owned(), "w".to_owned())]);
    session.ask(commit(3, "", b"")).await.unwrap();
    assert_eq!(resources().await, [("content".to_owned(), ABC.to_owned())]);
    let empty = put(&bed, "ns", b"").await;
    let known = under("l").await.ask(stat(0, &empty)).await.unwrap_err();
    assert_eq!(known.code(), Code::AlreadyExists);
    assert_eq!(resources().await.len(), 2);
    // Also what has come while a write was under way.
    let mut session = under("l").await;
    session.ask(write_at(0, b"x")).await.unwrap();
    let later = put(&bed, "ns", b"later").await;
    let known = session.ask(stat(1, &later)).await.unwrap_err();
    assert_eq!(known.code(), Code::AlreadyExists);
    let kept = ("content".to_owned(), later.clone());
    assert!(resources().await.contains(&kept));
    let request = DeleteContentRequest { digest: later };
    bed.content().delete(leased("ns", "l", request)).await.unwrap();
    assert!(!resources().await.contains(&kept));
    bed.server.finish().await;
}

#[tokio::test]
async fn a_write_outlives_the_server() {
    let Some(mut bed) = Bed::start().await else { return };
    let mut session = Session::begin(&bed, "ns", "w").await;
    session.ask(write_at(0, b"a")).await.unwrap();
    bed.server.kill().await;
    assert!(session.ask(write_at(1, b"b")).await.is_err());
    bed.server.start_again().await;
    let mut session = Session::begin(&bed, "ns", "w").await;
    assert_eq!(session.ask(stat(0, "")).await.unwrap().offset, 1);
    session.ask(write_at(1, b"b")).await.unwrap();
    // A server that stops does not wait for a client that has more data.
    let (ended, after) = bed.server.end(rustix::process::Signal::TERM).await;
    assert!(ended.success() && after < std::time::Duration::from_secs(2), "{ended} {after:?}");
    bed.server.start_again().await;
    let mut session = Session::begin(&bed, "ns", "w").await;
    assert_eq!(session.ask(commit(2, ABC, b"c")).await.unwrap().digest, ABC);
    assert_eq!(read(&bed, "ns", ABC, 0, 0).await.unwrap(), b"abc");
    bed.server.finish().await;
}
