//! Which events a subscriber reads.

use gantry_domain::{ContainerId, ContainerKey, Namespace};

/// Events of one namespace, or of one container of it.
#[derive(Debug, Clone)]
pub struct Filter {
    /// The namespace.
    pub namespace: Namespace,
    /// The container, if it is not all.
    pub id: Option<ContainerId>,
}

impl Filter {
    /// All events of a namespace.
    #[must_use]
    pub fn all(namespace: Namespace) -> Self {
        Self { namespace, id: None }
    }

    /// Whether the events of a container are among those.
    #[must_use]
    pub fn matches(&self, container: &ContainerKey) -> bool {
        self.namespace == container.namespace
            && self.id.as_ref().is_none_or(|id| *id == container.id)
    }
}
