//! The store as a whole.

mod collection;
mod content;
mod crash;
mod damage;
mod full_disk;
mod images;
mod measure;
mod operations;
mod power_cut;
mod queue;
mod snapshots;

use std::time::{Duration, SystemTime};

use gantry_domain::Namespace;
use proptest::{
    collection::{btree_map, vec},
    option,
    prelude::*,
};

use crate::{AnyValue, Container, Runtime, Store};

pub(crate) fn namespace(name: &str) -> Namespace {
    Namespace::named(name).unwrap()
}

pub(crate) fn any_value() -> impl Strategy<Value = AnyValue> {
    ("[a-z./]{0,12}", vec(any::<u8>(), 0..40))
        .prop_map(|(type_url, value)| AnyValue { type_url, value })
}

/// Any container whatsoever but for times before 1970.
pub(crate) fn any_container() -> impl Strategy<Value = Container> {
    let key = prop_oneof![Just("a".to_owned()), Just("a.b/c".to_owned()), ".{0,6}"];
    let labels = btree_map(key.clone(), "[^\\x00]{1,6}", 0..4);
    let texts = ("[a-z]{1,8}", ".{0,8}", ".{0,8}", ".{0,8}", ".{0,8}", ".{0,8}");
    let anys = (option::of(any_value()), option::of(any_value()));
    let times = (0..4_000_000_000_u64, 0..1_000_000_000_u32, any::<u32>());
    (labels, texts, anys, btree_map(key, any_value(), 0..4), times).prop_map(
        |(labels, texts, (options, spec), extensions, (seconds, nanoseconds, later))| {
            let (id, image, name, snapshotter, snapshot_key, sandbox) = texts;
            let created_at = SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds);
            let updated_at = created_at + Duration::from_nanos(later.into());
            let runtime = Runtime { name, options };
            Container {
                id,
                labels,
                image,
                runtime,
                spec,
                snapshotter,
                snapshot_key,
                created_at,
                updated_at,
                extensions,
                sandbox,
            }
        },
    )
}

/// A container that can be stored.
pub(crate) fn container(id: &str) -> Container {
    Container {
        id: id.to_owned(),
        runtime: Runtime { name: "io.containerd.runc.v2".to_owned(), options: None },
        spec: Some(AnyValue { type_url: "spec".to_owned(), value: b"{}".to_vec() }),
        ..Container::default()
    }
}

/// The store in `dir`, which is as it was left.
pub(crate) fn open(dir: &std::path::Path) -> Store {
    let (store, recovery) = Store::open(dir).unwrap();
    assert!(recovery.is_clean(), "{recovery}");
    store
}
