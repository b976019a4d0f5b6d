//! Containers as messages, and as they are stored.

use gantry_api::containerd::containers;
use gantry_store::{AnyValue, Container, Runtime};
use prost_types::Any;

/// A container to be stored. Its times are ignored: clients send Go's zero time, the year 1.
pub(super) fn to_stored(message: containers::Container) -> Container {
    let runtime = message.runtime.unwrap_or_default();
    Container {
        id: message.id,
        labels: message.labels,
        image: message.image,
        runtime: Runtime { name: runtime.name, options: runtime.options.map(any_value) },
        spec: message.spec.map(any_value),
        snapshotter: message.snapshotter,
        snapshot_key: message.snapshot_key,
        extensions: message.extensions.into_iter().map(|(k, v)| (k, any_value(v))).collect(),
        sandbox: message.sandbox,
        ..Container::default()
    }
}

/// A stored container.
pub(super) fn from_stored(container: Container) -> containers::Container {
    let Runtime { name, options } = container.runtime;
    containers::Container {
        id: container.id,
        labels: container.labels,
        image: container.image,
        runtime: Some(containers::container::Runtime { name, options: options.map(any) }),
        spec: container.spec.map(any),
        snapshotter: container.snapshotter,
        snapshot_key: container.snapshot_key,
        created_at: Some(container.created_at.into()),
        updated_at: Some(container.updated_at.into()),
        extensions: container.extensions.into_iter().map(|(k, v)| (k, any(v))).collect(),
        sandbox: container.sandbox,
    }
}

/// As it was sent.
pub(super) fn any(AnyValue { type_url, value }: AnyValue) -> Any {
    Any { type_url, value }
}

fn any_value(Any { type_url, value }: Any) -> AnyValue {
    AnyValue { type_url, value }
}
