//! What containerd answers, operation by operation.

use std::time::{Duration, SystemTime};

use gantry_domain::Namespace;
use tempfile::TempDir;

use super::{container, namespace, open};
use crate::{
    AnyValue, Container, Kind, LABEL_EXPIRE, Labels, Lease, Resource, Store, StoreError,
    filter::Filters,
};

/// A new store, in a directory that lives as long.
fn new() -> (TempDir, Store) {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    (dir, store)
}

fn labels(labels: &[(&str, &str)]) -> Labels {
    labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[track_caller]
fn assert_refused<T: std::fmt::Debug>(result: Result<T, StoreError>, kind: Kind, message: &str) {
    let error = result.unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (kind, message));
}

/// The ids of each page of a list.
async fn pages(store: &Store, namespace: &Namespace, filters: &[&str]) -> Vec<Vec<String>> {
    let filters = Filters::parse(filters).unwrap();
    let (mut pages, mut after) = (Vec::new(), None);
    loop {
        let page = store.container_page(namespace, &filters, after).await.unwrap();
        pages.push(page.containers.into_iter().map(|container| container.id).collect());
        after = page.after;
        if after.is_none() {
            return pages;
        }
    }
}

async fn ids(store: &Store, namespace: &Namespace, filters: &[&str]) -> Vec<String> {
    pages(store, namespace, filters).await.concat()
}

#[tokio::test]
async fn a_container_is_kept_as_it_was_created() {
    let (dir, store) = new();
    let before = SystemTime::now();
    let any = |url: &str| AnyValue { type_url: url.to_owned(), value: vec![0, 0xff, 7] };
    let given = Container {
        labels: labels(&[("a.b/c", "d"), ("empty", "")]),
        image: "docker.io/library/busybox:latest".to_owned(),
        snapshotter: "overlayfs".to_owned(),
        snapshot_key: "a key: 1".to_owned(),
        sandbox: "s".to_owned(),
        // Go's zero time, as its clients send.
        created_at: SystemTime::UNIX_EPOCH - Duration::from_secs(62_135_596_800),
        updated_at: SystemTime::UNIX_EPOCH - Duration::from_secs(62_135_596_800),
        extensions: [("x".to_owned(), any("unknown/type"))].into(),
        ..container("c")
    };
    let ns = namespace("moby");
    let created = store.create_container(&ns, given.clone()).await.unwrap();
    assert!(created.created_at >= before && created.created_at == created.updated_at);
    let expected = Container {
        created_at: created.created_at,
        updated_at: created.created_at,
        labels: labels(&[("a.b/c", "d")]),
        ..given
    };
    assert_eq!(created, expected);
    store.close().await;
    let store = open(dir.path());
    assert_eq!(store.container(&ns, "c").await.unwrap(), expected);
}

#[tokio::test]
async fn what_is_refused_has_the_words_of_containerd() {
    use Kind::{AlreadyExists, InvalidArgument, NotFound};
    let (_dir, store) = new();
    let ns = namespace("ns");
    let missing = r#"container "c" in namespace "ns": not found"#;
    assert_refused(store.container(&ns, "c").await, NotFound, missing);
    let update = store.update_container(&ns, container("c"), vec![]).await;
    assert_refused(update, NotFound, r#"container "c": not found"#);
    assert_refused(store.delete_container(&ns, "c").await, NotFound, "container c: not found");
    store.create_container(&ns, container("c")).await.unwrap();
    let again = store.create_container(&ns, container("c")).await;
    assert_refused(again, AlreadyExists, r#"container "c": already exists"#);

    let mut bad =
        vec![("container.id", container(""), "container.ID: identifier must not be empty")];
    bad.push((
        "container.id",
        container("a/b"),
        r#"container.ID: identifier "a/b" must match ^[A-Za-z0-9]+(?:[._-](?:[A-Za-z0-9]+))*$"#,
    ));
    let no_spec = Container { spec: None, ..container("x") };
    bad.push(("container.spec", no_spec, "container.Spec must be set"));
    let mut no_runtime = container("x");
    no_runtime.runtime.name.clear();
    bad.push(("container.runtime.name", no_runtime, "container.Runtime.Name must be set"));
    let no_snapshotter = Container { snapshot_key: "k".to_owned(), ..container("x") };
    let message = "container.Snapshotter must be set if container.SnapshotKey is set";
    bad.push(("container.snapshotter", no_snapshotter, message));
    let mut no_key = container("x");
    no_key.extensions.insert(String::new(), AnyValue::default());
    bad.push(("container.extensions", no_key, "container.Extension keys must not be zero-length"));
    let long = Container { labels: labels(&[("k", &"v".repeat(4096))]), ..container("x") };
    let message = "containers.Labels: label key and value length (4097 bytes) greater than \
                   maximum size (4096 bytes), key: k";
    bad.push(("container.labels.k", long, message));
    for (field, container, message) in bad {
        let error = store.create_container(&ns, container).await.unwrap_err();
        assert_eq!(error.field(), Some(field));
        let message = format!("create container failed validation: {message}: invalid argument");
        assert_refused(Err::<(), _>(error), InvalidArgument, &message);
    }
    assert_eq!(ids(&store, &ns, &[]).await, ["c"]);
}

#[tokio::test]
async fn an_update_changes_what_its_mask_names() {
    let (_dir, store) = new();
    let ns = namespace("ns");
    let created = Container { labels: labels(&[("a", "1"), ("b", "2")]), ..container("c") };
    let created = store.create_container(&ns, created).await.unwrap();
    let new = Container { labels: labels(&[("a", ""), ("z.y/x", "3")]), ..container("c") };
    let mask = ["labels.a", "labels.z.y/x"].map(str::to_owned).to_vec();
    let updated = store.update_container(&ns, new, mask).await.unwrap();
    assert_eq!(updated.labels, labels(&[("b", "2"), ("z.y/x", "3")]));
    assert_eq!(updated.created_at, created.created_at);
    assert!(updated.updated_at > created.updated_at);
    assert_eq!(store.container(&ns, "c").await.unwrap(), updated);

    for mask in [vec!["runtime.name".to_owned()], vec!["image".to_owned(), "id".to_owned()]] {
        let new = Container { image: "i".to_owned(), ..container("c") };
        let refused = store.update_container(&ns, new, mask.clone()).await;
        let path = &mask[mask.len() - 1];
        let message = format!(r#"cannot update "{path}" field on "c": invalid argument"#);
        assert_refused(refused, Kind::InvalidArgument, &message);
    }
    let no_spec = Container { spec: None, ..container("c") };
    let refused = store.update_container(&ns, no_spec, vec![]).await;
    let message = "update failed validation: container.Spec must be set: invalid argument";
    assert_refused(refused, Kind::InvalidArgument, message);
    assert_eq!(store.container(&ns, "c").await.unwrap(), updated);
    let replaced = store.update_container(&ns, container("c"), vec![]).await.unwrap();
    assert_eq!(replaced.labels, Labels::new());
}

#[tokio::test]
async fn namespaces_do_not_meet() {
    let (_dir, store) = new();
    let [a, b, long] = ["a", "a.b", "a.b-c"].map(namespace);
    for (ns, image) in [(&a, "1"), (&b, "2")] {
        let container = Container { image: image.to_owned(), ..container("c") };
        store.create_container(ns, container).await.unwrap();
        store.create_lease(ns, "l", labels(&[("of", image)])).await.unwrap();
    }
    let resource = |id: &str| Resource { kind: "ingests".to_owned(), id: id.to_owned() };
    store.add_resource(&a, "l", resource("x")).await.unwrap();
    assert_eq!(store.container(&a, "c").await.unwrap().image, "1");
    assert_eq!(store.container(&b, "c").await.unwrap().image, "2");
    assert_eq!(ids(&store, &a, &["image==2"]).await, [""; 0]);
    assert_eq!(ids(&store, &long, &[]).await, [""; 0]);
    assert_eq!(store.resource_page(&b, "l", None).await.unwrap().resources, []);
    store.delete_container(&a, "c").await.unwrap();
    store.delete_lease(&a, "l").await.unwrap();
    assert_eq!(ids(&store, &b, &["id==c", "nothing"]).await, ["c"]);
    assert_eq!(store.lease_page(&b, &Filters::default(), None).await.unwrap().leases.len(), 1);
    // A lease of the same id does not have what the former one kept.
    store.create_lease(&a, "l", Labels::new()).await.unwrap();
    assert_eq!(store.resource_page(&a, "l", None).await.unwrap().resources, []);
}

#[tokio::test]
async fn a_list_comes_in_pages_and_in_order() {
    let (_dir, store) = new();
    let ns = namespace("ns");
    let spec = AnyValue { type_url: String::new(), value: vec![7; 600 << 10] };
    for id in ["c", "a", "b-1", "b", "d"] {
        let container = Container { spec: Some(spec.clone()), ..container(id) };
        store.create_container(&ns, container).await.unwrap();
    }
    let pages = pages(&store, &ns, &[]).await;
    assert_eq!(pages, [vec!["a", "b"], vec!["b-1", "c"], vec!["d"]]);
    let filters = ["id==d", "runtime.name~=runc,id==a", "labels.x"];
    assert_eq!(ids(&store, &ns, &filters).await, ["a", "d"]);
}

#[tokio::test]
async fn a_namespace_lives_as_in_containerd() {
    let (_dir, store) = new();
    let [made, came] = ["made", "came"].map(namespace);
    assert_eq!(store.namespace_labels(&made).await.unwrap(), Labels::new());
    assert_eq!(store.namespaces().await.unwrap(), []);
    let given = labels(&[("containerd.io/defaults/runtime", "r"), ("empty", "")]);
    let stored = store.create_namespace(&made, given).await.unwrap();
    assert_eq!(stored, labels(&[("containerd.io/defaults/runtime", "r")]));
    let again = store.create_namespace(&made, Labels::new()).await;
    assert_refused(again, Kind::AlreadyExists, r#"namespace "made": already exists"#);
    store.create_container(&came, container("c")).await.unwrap();
    let again = store.create_namespace(&came, Labels::new()).await;
    assert_refused(again, Kind::AlreadyExists, r#"namespace "came": already exists"#);
    let all = [(came.clone(), Labels::new()), (made.clone(), stored)];
    assert_eq!(store.namespaces().await.unwrap(), all);

    let new = labels(&[("a", "1"), ("b", "2")]);
    let updated = store.update_namespace(&came, new.clone(), vec!["labels.a".to_owned()]).await;
    assert_eq!(updated.unwrap(), labels(&[("a", "1")]));
    let updated = store.update_namespace(&came, new.clone(), vec!["labels".to_owned()]).await;
    assert_eq!(updated.unwrap(), new);
    let refused = store.update_namespace(&came, new, vec!["name".to_owned()]).await;
    let message = r#"cannot update "name" field: invalid argument"#;
    assert_refused(refused, Kind::InvalidArgument, message);
    let replaced = store.update_namespace(&came, labels(&[("c", "3")]), vec![]).await.unwrap();
    assert_eq!(replaced, labels(&[("c", "3")]));
    assert_eq!(store.namespace_labels(&came).await.unwrap(), replaced);

    let full =
        r#"namespace "came" must be empty, but it still has containers: failed precondition"#;
    assert_refused(store.delete_namespace(&came).await, Kind::FailedPrecondition, full);
    store.create_lease(&came, "l", Labels::new()).await.unwrap();
    store.delete_container(&came, "c").await.unwrap();
    // It stays when its last object goes, and its leases go with it.
    assert_eq!(store.namespaces().await.unwrap().len(), 2);
    store.delete_namespace(&came).await.unwrap();
    let gone = r#"namespace "came": not found"#;
    assert_refused(store.delete_namespace(&came).await, Kind::NotFound, gone);
    assert_eq!(store.lease_page(&came, &Filters::default(), None).await.unwrap().leases, []);
}

#[tokio::test]
async fn a_lease_keeps_resources_until_it_ends() {
    let (dir, store) = new();
    let ns = namespace("ns");
    let unknown = r#"lease "l": not found"#;
    assert_refused(store.resource_page(&ns, "l", None).await, Kind::NotFound, unknown);
    assert_refused(store.delete_lease(&ns, "l").await, Kind::NotFound, unknown);
    let expires = labels(&[("containerd.io/gc.expire", "2026-11-29T13:00:00+01:00")]);
    store.create_lease(&ns, "l", expires).await.unwrap();
    let again = store.create_lease(&ns, "l", Labels::new()).await;
    assert_refused(again, Kind::AlreadyExists, r#"lease "l": already exists"#);
    let never = labels(&[("containerd.io/gc.expire", "never"), ("containerd.io/gc.flat", "1")]);
    let made = store.create_lease(&ns, "", never).await.unwrap();
    let end = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_953_600);
    assert_eq!(store.first_lease_end().await.unwrap(), Some(end));
    assert_ne!(made.id, store.create_lease(&ns, "", Labels::new()).await.unwrap().id);
    let filters = Filters::parse(&[r#"labels."containerd.io/gc.flat""#]).unwrap();
    assert_eq!(store.lease_page(&ns, &filters, None).await.unwrap().leases, [made]);

    let resource = |kind: &str, id: &str| Resource { kind: kind.to_owned(), id: id.to_owned() };
    let blob = resource("content", &format!("sha256:{}", "0".repeat(64)));
    let snapshot = resource("snapshots/overlayfs", "extract-1 sha256:2");
    for added in [&snapshot, &blob, &blob] {
        store.add_resource(&ns, "l", added.clone()).await.unwrap();
    }
    let missing = store.add_resource(&ns, "none", blob.clone()).await;
    assert_refused(missing, Kind::NotFound, r#"lease "none": not found"#);
    let other = store.add_resource(&ns, "l", resource("leases", "x")).await;
    let message = "resource type leases not supported yet: not implemented";
    assert_refused(other, Kind::Unimplemented, message);
    store.close().await;
    let store = open(dir.path());
    assert_eq!(
        store.resource_page(&ns, "l", None).await.unwrap().resources,
        [blob.clone(), snapshot.clone()]
    );
    store.delete_resource(&ns, "l", blob.clone()).await.unwrap();
    store.delete_resource(&ns, "l", blob).await.unwrap();
    assert_eq!(store.resource_page(&ns, "l", None).await.unwrap().resources, [snapshot]);

    let end = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_953_600);
    assert_eq!(store.expire_leases(end - Duration::from_nanos(1)).await.unwrap(), []);
    let expired = store.expire_leases(end).await.unwrap();
    assert!(matches!(&expired[..], [(of, Lease { id, .. })] if *of == ns && id == "l"));
    assert_refused(store.resource_page(&ns, "l", None).await, Kind::NotFound, unknown);
    assert_eq!(store.lease_page(&ns, &Filters::default(), None).await.unwrap().leases.len(), 2);
    // Go's zero time.
    let zero = Labels::from([(LABEL_EXPIRE.to_owned(), "0001-01-01T00:00:00Z".to_owned())]);
    store.create_lease(&ns, "zero", zero).await.unwrap();
    assert_eq!(store.expire_leases(SystemTime::now()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn long_lists_of_leases_and_of_their_resources_have_pages() {
    let (_dir, store) = new();
    let ns = namespace("ns");
    // 80 of about 4 KiB are more than a page.
    let name = |number: usize| format!("{number:04}{}", "x".repeat(4000));
    for number in 0..80 {
        store.create_lease(&ns, &name(number), Labels::new()).await.unwrap();
        let (kind, id) = (["images", "ingests"][number % 2].to_owned(), name(number));
        store.add_resource(&ns, &name(0), Resource { kind, id }).await.unwrap();
    }
    let (mut listed, mut pages, mut after) = (Vec::new(), 0, None);
    loop {
        let page = store.lease_page(&ns, &Filters::default(), after).await.unwrap();
        listed.extend(page.leases.into_iter().map(|lease| lease.id));
        (pages, after) = (pages + 1, page.after);
        if after.is_none() {
            break;
        }
    }
    assert!(pages > 1 && listed.iter().cloned().eq((0..80).map(name)), "{pages}");
    let (mut listed, mut pages, mut after) = (Vec::new(), 0, None);
    loop {
        let page = store.resource_page(&ns, &name(0), after).await.unwrap();
        listed.extend(page.resources.into_iter().map(|resource| resource.id));
        (pages, after) = (pages + 1, page.after);
        if after.is_none() {
            break;
        }
    }
    let all = (0..80).step_by(2).chain((1..80).step_by(2)).map(name);
    assert!(pages > 1 && listed.iter().cloned().eq(all), "{pages}");
}

#[tokio::test]
async fn what_is_closed_says_so_and_what_is_open_is_not_shared() {
    let (dir, store) = new();
    let taken = Store::open(dir.path()).map(drop).unwrap_err();
    assert!(matches!(taken, StoreError::InUse { .. }), "{taken}");
    store.close().await;
    let ns = namespace("ns");
    let refused = store.container(&ns, "c").await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Unavailable);
    let refused = store.create_container(&ns, container("c")).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Unavailable);
    store.close().await;
    open(dir.path());
}
