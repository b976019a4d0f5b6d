//! `State`: what the supervisor knows of containers, with what the kernel knows of their processes.

use std::thread::available_parallelism;

use gantry_api::types;
use tonic::Status;

use super::convert;
use crate::supervisor::{ContainerHandle, ContainerView};

/// Few enough to be read in less time than it takes to share them out.
const FEW: usize = 32;

/// Shares for each processor: the first ones are read while the tasks of further containers are
/// still being asked.
const SHARES_PER_PROCESSOR: usize = 2;

/// Reading one takes some ten microseconds of the kernel's time. Many are shared out among the processors,
/// and no other call waits behind them.
pub(super) async fn containers(
    handles: Vec<ContainerHandle>,
) -> Result<Vec<types::Container>, Status> {
    if handles.len() <= FEW {
        return Ok(read(views(&handles).await));
    }
    let processors = available_parallelism().map_or(1, std::num::NonZero::get);
    let mut shares = Vec::new();
    for share in handles.chunks(handles.len().div_ceil(SHARES_PER_PROCESSOR * processors).max(FEW))
    {
        let views = views(share).await;
        shares.push(tokio::task::spawn_blocking(move || read(views)));
    }
    let mut containers = Vec::with_capacity(handles.len());
    for share in shares {
        let failed = |error| Status::internal(format!("cannot read the state: {error}"));
        containers.extend(share.await.map_err(failed)?);
    }
    Ok(containers)
}

/// One that is starting, or has just ended, is not there.
async fn views(handles: &[ContainerHandle]) -> Vec<ContainerView> {
    let mut views = Vec::with_capacity(handles.len());
    for handle in handles {
        views.extend(handle.view().await);
    }
    views
}

fn read(views: Vec<ContainerView>) -> Vec<types::Container> {
    views.into_iter().map(convert::container).collect()
}
