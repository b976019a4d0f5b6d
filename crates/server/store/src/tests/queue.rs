//! Many calls at the same time.

use std::{
    pin::Pin,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
};

use tempfile::TempDir;

use super::{container, namespace, open};
use crate::{
    AnyValue, Container, Descriptor, Image, Kind, LABEL_EXPIRE, Labels, Store, StoreError,
    filter::Filters,
};

type Call = Pin<Box<dyn Future<Output = Result<(), StoreError>>>>;

/// A change in the queue that signals when it is being made, and goes on when the test lets it.
fn slow(store: &Store) -> (Call, Receiver<()>, SyncSender<()>) {
    let (begun, begins) = sync_channel(0);
    let (end, may_end) = sync_channel::<()>(0);
    let store = store.clone();
    let mut slow: Call = Box::pin(async move {
        let change = move |_: &redb::WriteTransaction| {
            begun.send(()).unwrap();
            may_end.recv().unwrap();
            Ok(())
        };
        store.0.write(0, change).await
    });
    assert!(at_once(&mut slow).is_none());
    (slow, begins, end)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_answered_before_all_that_is_written_with_it_is_committed() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let ns = namespace("ns");
    let (first, begins, end) = slow(&store);
    begins.recv().unwrap();
    let mut creates = Vec::new();
    for id in ["a", "b"] {
        creates.push(Box::pin(store.create_container(&ns, container(id))));
        assert!(at_once(creates.last_mut().unwrap()).is_none());
    }
    // All three in one transaction.
    let (last, begins_last, end_last) = slow(&store);
    let mut refused = Box::pin(store.delete_container(&ns, "none"));
    assert!(at_once(&mut refused).is_none());
    end.send(()).unwrap();
    first.await.unwrap();
    begins_last.recv().unwrap();
    for create in &mut creates {
        assert!(at_once(create).is_none());
    }
    assert_eq!(store.container(&ns, "a").await.unwrap_err().kind(), Kind::NotFound);
    end_last.send(()).unwrap();
    last.await.unwrap();
    for create in creates {
        create.await.unwrap();
    }
    assert_eq!(refused.await.unwrap_err().kind(), Kind::NotFound);
    assert_eq!(store.container(&ns, "b").await.unwrap().id, "b");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_writes_nothing_though_others_of_its_transaction_are_committed() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let ns = namespace("ns");
    store.create_lease(&ns, "l", Labels::new()).await.unwrap();
    let target = Descriptor {
        media_type: "text".to_owned(),
        digest: format!("sha256:{}", "0".repeat(64)),
        size: 1,
        ..Descriptor::default()
    };
    let labels = [(LABEL_EXPIRE.to_owned(), "2100-01-01T00:00:00Z".to_owned())].into();
    let image = Image { name: "i".to_owned(), labels, target, ..Image::default() };
    store.create_image(&ns, image.clone(), None, None).await.unwrap();
    let (slow, begins, end) = slow(&store);
    begins.recv().unwrap();
    let mut refused = Box::pin(store.create_image(&ns, image, Some("l".to_owned()), None));
    assert!(at_once(&mut refused).is_none());
    let mut beside = Box::pin(store.create_container(&ns, container("a")));
    assert!(at_once(&mut beside).is_none());
    end.send(()).unwrap();
    slow.await.unwrap();
    assert_eq!(refused.await.unwrap_err().kind(), Kind::AlreadyExists);
    beside.await.unwrap();
    assert_eq!(store.resource_page(&ns, "l", None).await.unwrap().resources, []);
}

/// A deletion whose caller goes away in the middle of it is a reason to collect all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_counts_though_its_caller_has_gone() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let ns = namespace("ns");
    store.create_lease(&ns, "l", Labels::new()).await.unwrap();
    let (first, begins, end) = slow(&store);
    begins.recv().unwrap();
    let mut deletion = Box::pin(store.delete_lease(&ns, "l"));
    assert!(at_once(&mut deletion).is_none());
    // In the same transaction, after the deletion.
    let (last, begins_last, end_last) = slow(&store);
    end.send(()).unwrap();
    first.await.unwrap();
    begins_last.recv().unwrap();
    drop(deletion);
    end_last.send(()).unwrap();
    last.await.unwrap();
    assert_eq!(store.lease_page(&ns, &Filters::default(), None).await.unwrap().leases, []);
    assert!(at_once(store.garbage()).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_and_refusals_do_not_wait_for_what_is_written() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let ns = namespace("ns");
    store.create_container(&ns, container("a")).await.unwrap();
    let (slow, begins, end) = slow(&store);
    begins.recv().unwrap();
    assert_eq!(store.container(&ns, "a").await.unwrap().id, "a");

    // By number.
    let (mut waiting, mut refused) = (Vec::new(), 0);
    let abandoned = store.create_container(&ns, container("abandoned"));
    assert!(at_once(abandoned).is_none());
    for number in 0..1100 {
        let mut create = Box::pin({
            let (store, ns) = (store.clone(), ns.clone());
            async move { store.create_container(&ns, container(&format!("c{number}"))).await }
        });
        match at_once(&mut create) {
            Some(result) => {
                assert_eq!(result.unwrap_err().kind(), Kind::ResourceExhausted);
                refused += 1;
            }
            None => waiting.push(create),
        }
    }
    assert_eq!((waiting.len(), refused), (1023, 77));
    end.send(()).unwrap();
    slow.await.unwrap();
    for create in waiting {
        create.await.unwrap();
    }
    // Nobody waited for it any more.
    let missing = store.container(&ns, "abandoned").await.unwrap_err();
    assert_eq!(missing.kind(), Kind::NotFound);
    let c1022 = Filters::parse(&["id==c1022", "id==c1023"]).unwrap();
    let mut page = store.container_page(&ns, &c1022, None).await.unwrap();
    while page.containers.is_empty() {
        page = store.container_page(&ns, &c1022, page.after).await.unwrap();
    }
    assert_eq!(page.containers[0].id, "c1022");

    // By size.
    let spec = Some(AnyValue { type_url: String::new(), value: vec![0; 65 << 20] });
    let huge = Container { spec, ..container("huge") };
    let error = store.create_container(&ns, huge).await.unwrap_err();
    assert_eq!(error.kind(), Kind::ResourceExhausted);
}

/// What the future gives at once.
fn at_once<F: Future>(future: F) -> Option<F::Output> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(output) => Some(output),
        std::task::Poll::Pending => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_that_create_the_same_one_does() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let ns = namespace("ns");
    for round in 0..20 {
        let create = || {
            let (store, ns) = (store.clone(), ns.clone());
            tokio::spawn(async move {
                store.create_container(&ns, container(&format!("c{round}"))).await
            })
        };
        let creates: Vec<_> = (0..8).map(|_| create()).collect();
        let mut kinds = Vec::new();
        for create in creates {
            kinds.push(create.await.unwrap().map(drop).map_err(|error| error.kind()));
        }
        assert_eq!(kinds.iter().filter(|kind| kind.is_ok()).count(), 1);
        assert!(kinds.iter().all(|kind| matches!(kind, Ok(()) | Err(Kind::AlreadyExists))));
    }
}
