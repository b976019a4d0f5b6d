//! What tasks use, all read at once.

use std::borrow::Cow;

use gantry_api::containerd::types::Metric;
use gantry_domain::Namespace;
use gantry_store::filter::{self, Filters};
use gantry_supervisor::{ContainerMetrics, ContainerView, Supervisor};

use crate::services::containerd::metrics;

/// Metrics of the tasks of a namespace that match the filters, in the order of their ids. One that cannot be
/// read is left out.
pub(super) async fn read(
    supervisor: &Supervisor,
    namespace: &Namespace,
    filters: &Filters,
) -> Vec<Metric> {
    let mut tasks = supervisor.containers(namespace);
    tasks.retain(|task| matches(filters, namespace, task.id().as_str()));
    let metric = |view: &ContainerView, read: ContainerMetrics| Metric {
        timestamp: Some(read.at.into()),
        id: view.id.to_string(),
        data: Some(metrics::metrics(read)),
    };
    supervisor.metrics(&tasks, metric).await
}

fn matches(filters: &Filters, namespace: &Namespace, id: &str) -> bool {
    filters.matches(&|path| match path.first().map(String::as_str) {
        Some("id") => filter::field(id),
        Some("namespace") => Some(Cow::Borrowed(namespace.name())),
        _ => None,
    })
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
