//! Messages of what the store and the files know.

use gantry_api::containerd::{
    snapshots::{Info, Kind, UsageResponse},
    types,
};
use gantry_domain::Mount;
use gantry_store::{Snapshot, SnapshotKind, SnapshotUsage};

pub(super) fn info(snapshot: Snapshot) -> Info {
    let kind = match snapshot.kind {
        SnapshotKind::View => Kind::View,
        SnapshotKind::Active => Kind::Active,
        SnapshotKind::Committed => Kind::Committed,
    };
    Info {
        name: snapshot.key,
        parent: snapshot.parent,
        kind: kind.into(),
        created_at: Some(snapshot.created_at.into()),
        updated_at: Some(snapshot.updated_at.into()),
        labels: snapshot.labels,
    }
}

pub(super) fn mounts(mounts: Vec<Mount>) -> Vec<types::Mount> {
    let mount = |Mount { kind, source, target, options }| types::Mount {
        r#type: kind,
        source,
        target,
        options,
    };
    mounts.into_iter().map(mount).collect()
}

pub(super) fn usage(usage: SnapshotUsage) -> UsageResponse {
    // No disk has more.
    let signed = |number| i64::try_from(number).unwrap_or(i64::MAX);
    UsageResponse { size: signed(usage.bytes), inodes: signed(usage.inodes) }
}
