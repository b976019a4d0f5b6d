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
pub(super) async fn containers(
    mut views: Vec<ContainerView>,
) -> Result<Vec<types::Container>, Status> {
    let processors = available_parallelism().map_or(1, std::num::NonZero::get);
    let share = views.len().div_ceil(processors).max(FEW);
    let mut others = Vec::new();
    while views.len() > FEW {
        let views = views.split_off(views.len().saturating_sub(share));
        others.push(tokio::task::spawn_blocking(move || read(&views)));
    }
    let mut containers = read(&views);
    for other in others.into_iter().rev() {
        let failed = |error| Status::internal(format!("cannot read the state: {error}"));
        containers.extend(other.await.map_err(failed)?);
    }
    Ok(containers)
}

fn read(views: &[ContainerView]) -> Vec<types::Container> {
    views.iter().map(convert::container).collect()
}
