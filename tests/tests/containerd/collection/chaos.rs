//! Clients that write the same blobs at the same time, under leases that come and go, and collections all the time.

use gantry_api::containerd::{content::ReadContentRequest, leases::CreateRequest};
use gantry_tests::processes;
use rustix::process::Signal;
use tonic::{Code, Status};

use super::{files, lease, put, release};
use crate::{Bed, of};

const ROUNDS: u8 = 8;

#[tokio::test]
async fn nothing_is_lost_and_nothing_is_left() {
    let Some(mut bed) = Bed::start().await else { return };
    tokio::join!(live(&bed, 0), live(&bed, 1), live(&bed, 2), live(&bed, 3));
    assert_eq!(files(&bed), 0, "each has waited for its collection");

    // Once more with a server that is killed in the middle of it all.
    let killed = async {
        live(&bed, 3).await;
        processes::signal(bed.server.pid(), Signal::KILL);
    };
    tokio::join!(until_killed(&bed, 0), until_killed(&bed, 1), until_killed(&bed, 2), killed);
    bed.server.kill().await;
    bed.server.start_again().await;
    for client in 0..3 {
        // One whose lease was deleted already.
        let _ = release(&bed, "ns", &format!("l{client}")).await;
    }
    lease(&bed, "ns", "last", &[]).await;
    release(&bed, "ns", "last").await.unwrap();
    assert_eq!(files(&bed), 0);
    bed.server.finish().await;
}

/// As a pull and a removal of what was pulled.
async fn live(bed: &Bed, client: u8) {
    for round in 0..ROUNDS {
        once(bed, client, round).await.unwrap();
    }
}

async fn until_killed(bed: &Bed, client: u8) {
    for round in 0.. {
        if let Err(error) = once(bed, client, round).await {
            assert_ne!(error.code(), Code::NotFound, "{error}");
            return;
        }
    }
}

async fn once(bed: &Bed, client: u8, round: u8) -> Result<(), Status> {
    let id = format!("l{client}");
    let request = CreateRequest { id: id.clone(), ..Default::default() };
    bed.leases().create(of("ns", request)).await?;
    let data = |layer: u8| vec![round % 3, layer];
    let mut layers = Vec::new();
    for layer in 0..4 {
        layers.push(put_or_have(bed, &id, &data(layer), &[]).await?);
    }
    let names: Vec<_> = layers.iter().map(String::as_str).collect();
    let manifest = put_or_have(bed, &id, &data(9), &names).await?;
    for digest in layers.iter().chain([&manifest]) {
        let request = ReadContentRequest { digest: digest.clone(), offset: 0, size: 0 };
        let mut read = bed.content().read(of("ns", request)).await?.into_inner();
        assert_eq!(read.message().await?.unwrap().data[0], round % 3);
    }
    release(bed, "ns", &id).await
}

/// Another client may have written it, or be writing it.
async fn put_or_have(
    bed: &Bed,
    lease: &str,
    data: &[u8],
    refers_to: &[&str],
) -> Result<String, Status> {
    loop {
        match put(bed, "ns", lease, data, refers_to).await {
            Err(error) if error.code() == Code::AlreadyExists => {
                // Under the lease, too: `content DIGEST: already exists`.
                let digest = error.message().split(' ').nth(1).unwrap();
                return Ok(digest.trim_end_matches(':').to_owned());
            }
            Err(error) if error.message().starts_with("ref ") => {
                tokio::task::yield_now().await;
            }
            other => return other,
        }
    }
}
