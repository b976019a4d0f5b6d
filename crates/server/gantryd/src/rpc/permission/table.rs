//! The role that each call needs. A call that is not here does not exist for any client, and a test compares this
//! with the contracts.
//!
//! A call of an observer only reads, and only what the server has: where a request names a file or a program of the
//! host that the server, which is root, then opens or runs, it is one of an admin. docs/access.md has the table, too,
//! and SECURITY.md says why an exec is an admin's.

use std::{collections::HashMap, sync::LazyLock};

use crate::access::Role::{self, Admin, Observer, Operator};

/// The calls of each service.
pub(super) const TABLE: &[(&str, &[(&str, Role)])] = &[
    (
        "containerd.services.containers.v1.Containers",
        &[
            ("Get", Observer),
            ("List", Observer),
            ("ListStream", Observer),
            ("Create", Admin),
            ("Update", Admin),
            ("Delete", Admin),
        ],
    ),
    (
        "containerd.services.content.v1.Content",
        &[
            ("Info", Observer),
            ("List", Observer),
            ("Read", Observer),
            ("Status", Observer),
            ("ListStatuses", Observer),
            ("Update", Admin),
            ("Delete", Admin),
            ("Write", Admin),
            ("Abort", Admin),
        ],
    ),
    ("containerd.services.diff.v1.Diff", &[("Apply", Admin), ("Diff", Admin)]),
    (
        "containerd.services.events.v1.Events",
        &[("Subscribe", Observer), ("Publish", Admin), ("Forward", Admin)],
    ),
    (
        "containerd.services.images.v1.Images",
        &[
            ("Get", Observer),
            ("List", Observer),
            ("Create", Admin),
            ("Update", Admin),
            ("Delete", Admin),
        ],
    ),
    (
        "containerd.services.introspection.v1.Introspection",
        // PluginInfo runs the runtime that the request names.
        &[("Plugins", Observer), ("Server", Observer), ("PluginInfo", Admin)],
    ),
    (
        "containerd.services.leases.v1.Leases",
        &[
            ("List", Observer),
            ("ListResources", Observer),
            ("Create", Admin),
            ("Delete", Admin),
            ("AddResource", Admin),
            ("DeleteResource", Admin),
        ],
    ),
    (
        "containerd.services.namespaces.v1.Namespaces",
        &[
            ("Get", Observer),
            ("List", Observer),
            ("Create", Admin),
            ("Update", Admin),
            ("Delete", Admin),
        ],
    ),
    (
        "containerd.services.snapshots.v1.Snapshots",
        &[
            ("Mounts", Observer),
            ("Stat", Observer),
            ("List", Observer),
            ("Usage", Observer),
            ("Prepare", Admin),
            ("View", Admin),
            ("Commit", Admin),
            ("Remove", Admin),
            ("Update", Admin),
            ("Cleanup", Admin),
        ],
    ),
    ("containerd.services.streaming.v1.Streaming", &[("Stream", Admin)]),
    (
        "containerd.services.tasks.v1.Tasks",
        &[
            ("Get", Observer),
            ("List", Observer),
            ("ListPids", Observer),
            ("Metrics", Observer),
            ("Wait", Observer),
            ("Kill", Operator),
            ("Pause", Operator),
            ("Resume", Operator),
            ("ResizePty", Operator),
            ("CloseIO", Operator),
            // JSON for the runtime, which may allow the container further devices.
            ("Update", Admin),
            ("Create", Admin),
            ("Start", Admin),
            ("Delete", Admin),
            ("DeleteProcess", Admin),
            ("Exec", Admin),
            ("Checkpoint", Admin),
        ],
    ),
    ("containerd.services.transfer.v1.Transfer", &[("Transfer", Admin)]),
    ("containerd.services.version.v1.Version", &[("Version", Observer)]),
    (
        "gantry.v1.ContainerService",
        &[
            ("Watch", Observer),
            ("Wait", Observer),
            ("List", Observer),
            ("Get", Observer),
            // What is typed into a container is done there as whoever reads it, root perhaps.
            ("Attach", Admin),
        ],
    ),
    ("gantry.v1.ServerService", &[("GetMeasures", Observer), ("ListUsage", Observer)]),
    ("grpc.health.v1.Health", &[("Check", Observer), ("Watch", Observer)]),
    ("grpc.reflection.v1.ServerReflection", &[("ServerReflectionInfo", Observer)]),
    ("grpc.reflection.v1alpha.ServerReflection", &[("ServerReflectionInfo", Observer)]),
    (
        "types.API",
        &[
            ("GetServerVersion", Observer),
            ("State", Observer),
            ("Events", Observer),
            ("Stats", Observer),
            ("Signal", Operator),
            ("UpdateContainer", Operator),
            ("UpdateProcess", Operator),
            ("CreateContainer", Admin),
            ("AddProcess", Admin),
            ("CreateCheckpoint", Admin),
            ("DeleteCheckpoint", Admin),
            // It reads a directory that the request names.
            ("ListCheckpoint", Admin),
        ],
    ),
];

/// The roles, by the path with which HTTP names a call.
static ROLES: LazyLock<HashMap<String, Role>> = LazyLock::new(|| {
    let calls = |(service, calls): &'static (&str, &[(&str, Role)])| {
        calls.iter().map(move |(call, role)| (format!("/{service}/{call}"), *role))
    };
    TABLE.iter().flat_map(calls).collect()
});

/// The paths of all calls.
pub(crate) fn paths() -> impl Iterator<Item = &'static str> {
    ROLES.keys().map(String::as_str)
}

/// The path of a call as it is in the table.
pub(crate) fn known(path: &str) -> Option<&'static str> {
    needed(path).map(|(path, _)| path)
}

/// The path of a call as it is in the table, and the role that the call needs.
pub(super) fn needed(path: &str) -> Option<(&'static str, Role)> {
    ROLES.get_key_value(path).map(|(path, role)| (path.as_str(), *role))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message;
    use prost_types::FileDescriptorSet;

    use super::*;
    use crate::serve::DESCRIPTORS;

    /// Every call of every service that reflection shows, which is every service that is served.
    #[test]
    fn every_call_has_a_role_and_every_role_a_call() {
        let mut served = BTreeSet::new();
        let reflection = [
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ];
        for descriptors in DESCRIPTORS.into_iter().chain(reflection) {
            for file in FileDescriptorSet::decode(descriptors).unwrap().file {
                for service in &file.service {
                    let calls = service.method.iter().map(|method| method.name().to_owned());
                    let name = format!("{}.{}", file.package(), service.name());
                    served.extend(calls.map(|call| format!("/{name}/{call}")));
                }
            }
        }
        let listed: BTreeSet<_> = ROLES.keys().cloned().collect();
        let without: Vec<_> = served.difference(&listed).collect();
        let unknown: Vec<_> = listed.difference(&served).collect();
        assert!(without.is_empty(), "calls without a role in the table: {without:?}");
        assert!(unknown.is_empty(), "roles of calls that no contract has: {unknown:?}");
        let rows: usize = TABLE.iter().map(|(_, calls)| calls.len()).sum();
        assert_eq!(rows, listed.len(), "a call is in the table twice");
    }

    /// docs/access.md has a row for each service.
    #[test]
    fn the_documentation_has_all_roles() {
        let text = include_str!("../../../../../../docs/access.md");
        for (service, calls) in TABLE {
            let of = |role: Role| {
                let calls = calls.iter().filter(|(_, needed)| *needed == role);
                let calls: Vec<_> = calls.map(|(call, _)| *call).collect();
                if calls.is_empty() { String::new() } else { format!(" {}", calls.join(", ")) }
            };
            let cells = [Observer, Operator, Admin].map(of).join(" |");
            let row = format!("| `{service}` |{cells} |");
            assert!(text.lines().any(|line| line == row), "docs/access.md has no {row}");
        }
    }

    #[test]
    fn what_could_make_somebody_root_is_for_admins() {
        for path in [
            "/types.API/CreateContainer",
            "/types.API/AddProcess",
            "/types.API/ListCheckpoint",
            "/containerd.services.tasks.v1.Tasks/Exec",
            "/containerd.services.tasks.v1.Tasks/Update",
            "/containerd.services.diff.v1.Diff/Apply",
            "/containerd.services.introspection.v1.Introspection/PluginInfo",
        ] {
            assert_eq!(needed(path), Some((path, Admin)));
        }
        for path in
            ["", "/", "/types.API", "/types.API/NoSuchCall", "/types.API/State/", "types.API/State"]
        {
            assert_eq!(needed(path), None, "{path}");
        }
    }
}
