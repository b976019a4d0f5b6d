//! Lists of blobs and of writes.

use gantry_api::containerd::content::{
    ListContentRequest, ListStatusesRequest, Status as WriteStatus,
};

use tokio::task::JoinSet;

use super::{KEEPER, NOTHING, Session, commit, keep, leased, put, stat, write_at};
use crate::{Bed, of};

async fn blobs(bed: &Bed, namespace: &str, filters: &[&str]) -> Vec<Vec<String>> {
    let filters = filters.iter().map(|filter| (*filter).to_owned()).collect();
    let request = of(namespace, ListContentRequest { filters });
    let mut stream = bed.content().list(request).await.unwrap().into_inner();
    let mut messages = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        messages.push(message.info.into_iter().map(|info| info.digest).collect());
    }
    messages
}

async fn writes(bed: &Bed, filters: &[&str]) -> Vec<WriteStatus> {
    let filters = filters.iter().map(|filter| (*filter).to_owned()).collect();
    let request = of("ns", ListStatusesRequest { filters });
    bed.content().list_statuses(request).await.unwrap().into_inner().statuses
}

#[tokio::test]
async fn blobs_are_listed_by_hundreds() {
    let Some(bed) = Bed::start().await else { return };
    assert_eq!(blobs(&bed, "ns", &[]).await, Vec::<Vec<String>>::new());
    // At the same time: each waits for the disk.
    keep(&bed, "ns").await;
    let mut writing = JoinSet::new();
    for number in 0..101 {
        let client = bed.content();
        writing.spawn(async move {
            let reference = format!("w{number}");
            let session =
                Session::try_begin(client, |stream| leased("ns", KEEPER, stream), &reference).await;
            session.unwrap().ask(commit(0, "", &[number])).await.unwrap().digest
        });
    }
    let mut all = writing.join_all().await;
    put(&bed, "other", b"").await;
    all.sort();
    assert_eq!(blobs(&bed, "ns", &[]).await, [&all[..100], &all[100..]]);
    let filters = [&*format!("digest=={}", all[7]), &format!("digest=={}", all[3])];
    assert_eq!(blobs(&bed, "ns", &filters).await, [[all[3].clone(), all[7].clone()]]);
    assert_eq!(blobs(&bed, "ns", &["labels.x"]).await, Vec::<Vec<String>>::new());
    assert_eq!(blobs(&bed, "other", &["digest~=/^sha256/"]).await, [[NOTHING]]);
    bed.server.finish().await;
}

#[tokio::test]
async fn writes_under_way_are_listed() {
    let Some(bed) = Bed::start().await else { return };
    let mut sessions = Vec::new();
    for (name, total, expected) in [("b", 7, ""), ("a b", 0, NOTHING)] {
        let mut session = Session::begin(&bed, "ns", name).await;
        session.ask(stat(total, expected)).await.unwrap();
        session.ask(write_at(0, name.as_bytes())).await.unwrap();
        sessions.push(session);
    }
    let facts = |status: &WriteStatus| {
        (status.r#ref.clone(), status.offset, status.total, status.expected.clone())
    };
    let all = writes(&bed, &[]).await;
    let wanted =
        [("a b".to_owned(), 3, 0, NOTHING.to_owned()), ("b".to_owned(), 1, 7, String::new())];
    assert_eq!(all.iter().map(facts).collect::<Vec<_>>(), wanted);
    assert!(all.iter().all(|write| write.started_at.is_some() && write.updated_at.is_some()));
    assert_eq!(writes(&bed, &["ref==b"]).await, all[1..]);
    assert_eq!(writes(&bed, &["ref==c"]).await, []);
    for session in sessions {
        session.end().await;
    }
    bed.server.finish().await;
}
