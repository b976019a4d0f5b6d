//! What tasks use, all read at once.

use std::{borrow::Cow, time::Duration};

use futures_util::{StreamExt, stream};
use gantry_api::containerd::types::Metric;
use gantry_domain::Namespace;
use gantry_store::filter::{self, Filters};
use gantry_supervisor::{ContainerHandle, Supervisor};
use tokio::time::{Instant, timeout_at};

use crate::services::containerd::metrics;

/// How many tasks are read at once: reading waits for the kernel, and on a few threads.
const AT_ONCE: usize = 64;

/// How long all of it may take. What is not read by then is left out.
const DEADLINE: Duration = Duration::from_secs(5);

/// Metrics of the tasks of a namespace that match the filters, in the order of their ids. One that cannot be
/// read is left out.
pub(super) async fn read(
    supervisor: &Supervisor,
    namespace: &Namespace,
    filters: &Filters,
) -> Vec<Metric> {
    let mut tasks = supervisor.containers(namespace);
    tasks.retain(|task| matches(filters, namespace, task.id().as_str()));
    let deadline = Instant::now() + DEADLINE;
    let reading = tasks.into_iter().map(|task| one(supervisor, task, deadline));
    stream::iter(reading).buffered(AT_ONCE).filter_map(|metric| async { metric }).collect().await
}

fn matches(filters: &Filters, namespace: &Namespace, id: &str) -> bool {
    filters.matches(&|path| match path.first().map(String::as_str) {
        Some("id") => filter::field(id),
        Some("namespace") => Some(Cow::Borrowed(namespace.name())),
        _ => None,
    })
}

async fn one(supervisor: &Supervisor, task: ContainerHandle, deadline: Instant) -> Option<Metric> {
    let id = task.id();
    match timeout_at(deadline, supervisor.metrics(&task)).await {
        Ok(Ok(read)) => Some(Metric {
            timestamp: Some(read.at.into()),
            id: id.to_string(),
            data: Some(metrics::metrics(read)),
        }),
        Ok(Err(error)) => {
            tracing::debug!(%id, %error, "a task is left out of Metrics");
            None
        }
        Err(_) => {
            tracing::warn!(%id, "a task is left out of Metrics: it could not be read in time");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_have_an_id_and_a_namespace() {
        let namespace = Namespace::named("n").unwrap();
        let matches =
            |filter: &str| matches(&Filters::parse(&[filter]).unwrap(), &namespace, "task");
        for good in ["", "id==task", "namespace==n", "id~=^ta,namespace==n", "id!=other"] {
            assert!(matches(good), "{good}");
        }
        for bad in ["id==other", "namespace==@n", "runtime==runc", "labels.a"] {
            assert!(!matches(bad), "{bad}");
        }
    }
}
