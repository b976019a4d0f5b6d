//! `State`: what the supervisor knows of containers, with what the kernel knows of their processes.

use std::thread::available_parallelism;

use gantry_api::types;
use tonic::Status;

use super::convert;
use crate::supervisor::ContainerView;

/// Few enough to be read in less time than it takes to share them out.
const FEW: usize = 32;

/// Each takes some ten microseconds of the kernel's time. Many are shared out among the processors,
/// and no other call waits behind them.
pub(super) async fn containers(views: Vec<ContainerView>) -> Result<Vec<types::Container>, Status> {
    if views.len() <= FEW {
        return Ok(read(&views));
    }
    let processors = available_parallelism().map_or(1, std::num::NonZero::get);
    let share = views.len().div_ceil(processors).max(FEW);
    let mut views = views.into_iter().peekable();
    let mut shares = Vec::new();
    while views.peek().is_some() {
        let views: Vec<_> = views.by_ref().take(share).collect();
        shares.push(tokio::task::spawn_blocking(move || read(&views)));
    }
    let mut containers = Vec::new();
    for share in shares {
        let failed = |error| Status::internal(format!("cannot read the state: {error}"));
        containers.extend(share.await.map_err(failed)?);
    }
    Ok(containers)
}

fn read(views: &[ContainerView]) -> Vec<types::Container> {
    views.iter().map(convert::container).collect()
}
