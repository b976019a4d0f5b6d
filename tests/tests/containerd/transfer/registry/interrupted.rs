//! Pulls that are broken off, and several at a time.

use gantry_api::containerd::{
    images::DeleteImageRequest,
    leases::{CreateRequest, DeleteRequest},
    to_any,
};
use gantry_tests::patiently;
use tonic::Code;

use super::{
    super::{left, request, target},
    Proxy, named, pull, reference, unpacked, with_large,
};
use crate::{Bed, content::offset, of};

const LAYER: usize = 8 << 20;

/// So much of the registry's answers is passed on at first.
const HALF: u64 = 4 << 20;

/// Waits until the layer is fetched as far as it comes.
async fn half(bed: &Bed, digest: &str) {
    let reference = format!("layer-{digest}");
    let written = async {
        while offset(bed, "ns", &reference).await.unwrap_or(0) < 1 << 20 {
            tokio::task::yield_now().await;
        }
    };
    patiently("a part of the layer is there", written).await;
}

/// Has all be collected that nothing refers to.
async fn collect(bed: &Bed) {
    let id = "collect".to_owned();
    let lease = CreateRequest { id: id.clone(), ..CreateRequest::default() };
    bed.leases().create(of("ns", lease)).await.unwrap();
    bed.leases().delete(of("ns", DeleteRequest { id, sync: true })).await.unwrap();
}

#[tokio::test]
async fn a_pull_goes_on_where_a_killed_server_was() {
    let work = tempfile::tempdir().unwrap();
    let Some((registry, layer)) = with_large(work.path(), LAYER).await else { return };
    let proxy = Proxy::start(&registry, HALF).await;
    let Some(mut bed) = Bed::start().await else { return };
    let from = reference(&proxy.host(), "large:v1");
    let mut client = bed.transfer();
    let request = request("ns", to_any(&from), to_any(&unpacked(named(&from.reference))), "");
    let mut pulling = Box::pin(client.transfer(request));
    tokio::select! {
        done = &mut pulling => panic!("{done:?}"),
        () = half(&bed, &layer) => {}
    }
    collect(&bed).await;
    bed.server.kill().await;
    assert!(patiently("the call ends", pulling).await.is_err());
    bed.server.start_again().await;
    proxy.open();
    patiently("the rest", pull(&bed, "ns", &from)).await.unwrap();
    let asked = registry.answered(&format!("GET /v2/large/blobs/{layer}"));
    assert!(asked.last().unwrap().ends_with(" 206"), "{asked:?}");
    target(&bed, "ns", &from.reference).await.unwrap();
    bed.server.finish().await;
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_what_came_for_the_next() {
    let work = tempfile::tempdir().unwrap();
    let Some((registry, layer)) = with_large(work.path(), LAYER).await else { return };
    let proxy = Proxy::start(&registry, HALF).await;
    let Some(bed) = Bed::start().await else { return };
    let from = reference(&proxy.host(), "large:v1");
    tokio::select! {
        done = pull(&bed, "ns", &from) => panic!("{done:?}"),
        () = half(&bed, &layer) => {}
    }
    // Nothing is left but the beginning of the layer.
    let left = async { while left(&bed, "ns").await != [format!("layer-{layer}")] {} };
    patiently("the lease is gone", left).await;
    assert_eq!(target(&bed, "ns", &from.reference).await.unwrap_err().code(), Code::NotFound);
    collect(&bed).await;
    proxy.open();
    patiently("the rest", pull(&bed, "ns", &from)).await.unwrap();
    let asked = registry.answered(&format!("GET /v2/large/blobs/{layer}"));
    assert!(asked.last().unwrap().ends_with(" 206"), "{asked:?}");
    bed.server.finish().await;
}

#[tokio::test]
async fn what_several_want_is_fetched_once_and_not_collected_meanwhile() {
    let work = tempfile::tempdir().unwrap();
    let Some((registry, layer)) = with_large(work.path(), LAYER).await else { return };
    let proxy = Proxy::start(&registry, HALF).await;
    let Some(bed) = Bed::start().await else { return };
    let from = reference(&proxy.host(), "large:v1");
    let meanwhile = async {
        half(&bed, &layer).await;
        for _ in 0..3 {
            collect(&bed).await;
        }
        proxy.open();
    };
    let pulls = async {
        tokio::join!(pull(&bed, "ns", &from), pull(&bed, "ns", &from), pull(&bed, "ns", &from))
    };
    let all = Box::pin(async { tokio::join!(pulls, meanwhile) });
    let (pulled, ()) = patiently("all", all).await;
    pulled.0.unwrap();
    pulled.1.unwrap();
    pulled.2.unwrap();
    let asked = registry.answered(&format!("GET /v2/large/blobs/{layer}"));
    assert_eq!(asked.len(), 1, "{asked:?}");
    // Another namespace need not fetch it any more.
    patiently("another namespace", pull(&bed, "other", &from)).await.unwrap();
    let asked = registry.answered(&format!("GET /v2/large/blobs/{layer}"));
    assert_eq!(asked.len(), 1, "{asked:?}");
    for namespace in ["ns", "other"] {
        target(&bed, namespace, &from.reference).await.unwrap();
        assert_eq!(left(&bed, namespace).await, Vec::<String>::new());
        let request = DeleteImageRequest { name: from.reference.clone(), sync: true, target: None };
        bed.images().delete(of(namespace, request)).await.unwrap();
    }
    bed.server.finish().await;
}

#[tokio::test]
async fn a_pull_that_hangs_holds_up_no_other_namespace() {
    let work = tempfile::tempdir().unwrap();
    let Some((registry, layer)) = with_large(work.path(), LAYER).await else { return };
    let proxy = Proxy::start(&registry, HALF).await;
    let Some(bed) = Bed::start().await else { return };
    let (slow, fast) =
        (reference(&proxy.host(), "large:v1"), reference(&registry.host(), "large:v1"));
    let other = async {
        half(&bed, &layer).await;
        patiently("the other namespace", pull(&bed, "other", &fast)).await.unwrap();
        target(&bed, "other", &fast.reference).await.unwrap();
    };
    let mut hanging = Box::pin(pull(&bed, "ns", &slow));
    tokio::select! {
        done = &mut hanging => panic!("{done:?}"),
        () = other => {}
    }
    proxy.open();
    patiently("the rest", hanging).await.unwrap();
    target(&bed, "ns", &slow.reference).await.unwrap();
    for namespace in ["ns", "other"] {
        assert_eq!(left(&bed, namespace).await, Vec::<String>::new());
    }
    bed.server.finish().await;
}
