//! A record of a snapshot, as `codec` has records.

use gantry_domain::Namespace;

use super::{Snapshot, SnapshotKind, SnapshotUsage};
use crate::{
    codec::{Fault, Fields, VERSION, put, put_labels, put_number, put_time},
    tables::{self, Attempt},
};

/// Its key is the record's.
pub(super) fn encode(snapshot: &Snapshot) -> Vec<u8> {
    let Snapshot { key: _, kind, parent, labels, created_at, updated_at, directory, usage } =
        snapshot;
    let mut record = vec![VERSION];
    record.push(match kind {
        SnapshotKind::View => 1,
        SnapshotKind::Active => 2,
        SnapshotKind::Committed => 3,
    });
    put(&mut record, parent.as_bytes());
    put_number(&mut record, *directory);
    put_number(&mut record, usage.inodes);
    put_number(&mut record, usage.bytes);
    put_time(&mut record, *created_at);
    put_time(&mut record, *updated_at);
    put_labels(&mut record, labels);
    record
}

fn decode_fields(key: &str, record: &[u8]) -> Result<Snapshot, Fault> {
    let mut fields = Fields::of(record)?;
    let kind = match fields.array()? {
        [1] => SnapshotKind::View,
        [2] => SnapshotKind::Active,
        [3] => SnapshotKind::Committed,
        _ => return Err("it is of an unknown kind"),
    };
    let snapshot = Snapshot {
        key: key.to_owned(),
        kind,
        parent: fields.text()?,
        directory: fields.number()?,
        usage: SnapshotUsage { inodes: fields.number()?, bytes: fields.number()? },
        created_at: fields.time()?,
        updated_at: fields.time()?,
        labels: fields.labels()?,
    };
    fields.end(snapshot)
}

pub(crate) fn decode(namespace: &str, key: &str, record: &[u8]) -> Attempt<Snapshot> {
    let what = || format!("snapshot {key:?} in namespace {:?}", shown(namespace));
    tables::decoded(what, decode_fields(key, record))
}

fn shown(namespace: &str) -> String {
    Namespace::from_record(namespace)
        .map_or_else(|| namespace.to_owned(), |namespace| namespace.name().to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::{Container, tests::any_container};

    proptest! {
        #[test]
        fn a_snapshot_comes_back_byte_for_byte(
            like in any_container(), kind in 0..3_u8, numbers in any::<[u64; 3]>(),
        ) {
            let Container { id, labels, created_at, updated_at, .. } = like;
            let kind = [SnapshotKind::View, SnapshotKind::Active, SnapshotKind::Committed][usize::from(kind)];
            let [directory, inodes, bytes] = numbers;
            let snapshot = Snapshot {
                key: id,
                kind,
                parent: like.image,
                labels,
                created_at,
                updated_at,
                directory,
                usage: SnapshotUsage { inodes, bytes },
            };
            let record = encode(&snapshot);
            prop_assert_eq!(decode_fields(&snapshot.key, &record), Ok(snapshot.clone()));
            for length in 0..record.len() {
                prop_assert!(decode_fields(&snapshot.key, &record[..length]).is_err());
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in vec(prop_oneof![Just(1), any::<u8>()], 0..200)) {
            let _ = decode_fields("k", &bytes);
        }
    }
}
