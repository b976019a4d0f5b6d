//! `State`: what the supervisor knows of containers, with what the kernel knows of their processes.

use std::{sync::Arc, thread::available_parallelism, time::Duration};

use gantry_api::types;
use tokio::time::{Instant, timeout_at};
use tonic::metadata::{AsciiMetadataValue, MetadataMap};

use super::convert;
use crate::{
    cgroup::Cgroup,
    disk::Disks,
    supervisor::{ContainerHandle, ContainerView, see},
};

/// How long containers may take to answer; those that do not are told as they were last known.
const ANSWER_DEADLINE: Duration = Duration::from_secs(2);

/// How long it may take then to read who is in them, which is milliseconds.
const READ_DEADLINE: Duration = Duration::from_secs(1);

/// Few enough containers to be read in less time than it takes to share them out.
const FEW: usize = 32;

/// Few enough cgroups within one container's for the same.
const FEW_NESTED: usize = 16;

/// Shares for each processor.
const SHARES_PER_PROCESSOR: usize = 2;

/// Longest list of names in the metadata, in bytes.
const MAX_NAMES: usize = 4096;

/// Containers as they are, or were last known.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) containers: Vec<types::Container>,
    /// Ids of those that were last known so.
    stale: Vec<String>,
}

/// A container whose processes' pids are known, or have to be read by somebody who may wait.
struct Row {
    view: ContainerView,
    pids: Option<Vec<u32>>,
}

impl Listing {
    /// Reading one container's pids takes some ten microseconds of the kernel's time. Many are shared
    /// out among the processors, and no other call waits behind them.
    pub(super) async fn of(disks: &Disks, handles: &[ContainerHandle]) -> Self {
        let few = handles.len() <= FEW;
        let views = see(handles, Instant::now() + ANSWER_DEADLINE).await;
        let mut rows: Vec<Row> = views.into_iter().map(|view| Row::new(view, few)).collect();
        read_rest(disks, &mut rows).await;
        let mut listing = Self::default();
        for row in rows {
            listing.push(row);
        }
        listing
    }

    fn push(&mut self, row: Row) {
        if row.view.is_stale || row.pids.is_none() {
            self.stale.push(row.view.id.to_string());
        }
        self.containers.push(row.message());
    }

    /// Names those that did not answer, in the log and in the answer's metadata.
    pub(super) fn tell_stale(&self, metadata: &mut MetadataMap) {
        if self.stale.is_empty() {
            return;
        }
        let names = self.stale.join(",");
        tracing::warn!(containers = names, "do not answer, and are told as last known");
        let end = if names.len() <= MAX_NAMES {
            names.len()
        } else {
            names[..MAX_NAMES].rfind(',').unwrap_or(0)
        };
        // Ids are of letters, digits and some signs of ASCII.
        if let Ok(value) = AsciiMetadataValue::try_from(&names[..end]) {
            metadata.insert(gantry_api::STALE_CONTAINERS_METADATA, value);
        }
    }
}

/// A container that was just made, or the only one that is asked for.
pub(super) async fn container(disks: &Disks, view: ContainerView) -> types::Container {
    let mut rows = [Row::new(view, true)];
    read_rest(disks, &mut rows).await;
    let [row] = rows;
    row.message()
}

impl Row {
    /// `read` says whether few are read at once; what takes long is not.
    fn new(view: ContainerView, read: bool) -> Self {
        let pids = match &view.cgroup {
            // One whose cgroup is gone has no processes any more.
            Some(cgroup) if read => cgroup.pids_of_few(FEW_NESTED).unwrap_or(Some(Vec::new())),
            Some(_) => None,
            None => Some(Vec::new()),
        };
        Self { view, pids }
    }

    /// One whose pids could not be read has those of the processes that are its own.
    fn message(self) -> types::Container {
        let own = || self.view.processes.iter().map(|(_, pid)| *pid).collect();
        let pids = self.pids.unwrap_or_else(own);
        convert::container(self.view, pids)
    }
}

/// Reads what was not read yet on threads that may wait.
async fn read_rest(disks: &Disks, rows: &mut [Row]) {
    let unread = rows.iter().enumerate().filter(|(_, row)| row.pids.is_none());
    let missing: Vec<(usize, Arc<Cgroup>)> =
        unread.filter_map(|(at, row)| Some((at, row.view.cgroup.clone()?))).collect();
    if missing.is_empty() {
        return;
    }
    let deadline = Instant::now() + READ_DEADLINE;
    let processors = available_parallelism().map_or(1, std::num::NonZero::get);
    let size = missing.len().div_ceil(SHARES_PER_PROCESSOR * processors);
    let shares: Vec<_> = missing
        .chunks(size)
        .map(|share| tokio::spawn(read_share(disks.clone(), share.to_vec())))
        .collect();
    for share in shares {
        // What is read too late, or by a task that was ended, stays unread.
        let read = timeout_at(deadline, share).await.ok().and_then(Result::ok);
        for (at, pids) in read.unwrap_or_default() {
            rows[at].pids = Some(pids);
        }
    }
}

async fn read_share(disks: Disks, share: Vec<(usize, Arc<Cgroup>)>) -> Vec<(usize, Vec<u32>)> {
    let Some((_, first)) = share.first() else { return Vec::new() };
    let place = first.path().to_owned();
    let read = move |_: &std::path::Path| {
        let pids = |cgroup: &Cgroup| cgroup.pids().unwrap_or_default();
        share.iter().map(|(at, cgroup)| (*at, pids(cgroup))).collect()
    };
    match disks.run("read the processes of", &place, read).await {
        Ok(pids) => pids,
        Err(error) => {
            tracing::warn!(%error, "cannot list processes");
            Vec::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_names_are_told_as_far_as_they_fit() {
        let mut metadata = MetadataMap::new();
        Listing::default().tell_stale(&mut metadata);
        assert!(metadata.is_empty());
        let stale = (0..1000).map(|number| format!("container-{number}")).collect();
        Listing { stale, ..Listing::default() }.tell_stale(&mut metadata);
        let names = metadata.get(gantry_api::STALE_CONTAINERS_METADATA).unwrap().to_str().unwrap();
        assert!(names.len() <= MAX_NAMES && names.len() > MAX_NAMES - 20, "{}", names.len());
        assert!(names.split(',').all(|name| name.starts_with("container-")), "{names}");
    }
}
