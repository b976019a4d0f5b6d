//! Which events a subscriber reads.

use std::sync::Arc;

use gantry_domain::{ContainerId, ContainerKey, Event, Namespace};

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

/// Which events count as received once their subscriber has read them.
#[derive(Clone)]
pub(crate) enum Wanted {
    Of(Filter),
    /// It runs under a lock of the log, for events that are kept until they are received.
    Matching(Arc<dyn Fn(&Event) -> bool + Send + Sync>),
    /// Its subscriber only watches.
    Nothing,
}

impl Wanted {
    pub(crate) fn includes(&self, event: &Event) -> bool {
        match self {
            Self::Of(filter) => filter.matches(&event.container),
            Self::Matching(matches) => matches(event),
            Self::Nothing => false,
        }
    }
}

impl From<Filter> for Wanted {
    fn from(filter: Filter) -> Self {
        Self::Of(filter)
    }
}
