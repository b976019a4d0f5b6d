//! Images, call by call.

use std::time::{Duration, SystemTime};

use gantry_domain::Namespace;
use tempfile::TempDir;

use super::{namespace, open};
use crate::{
    Algorithm, Descriptor, Digest, Image, Kind, LABEL_EXPIRE, Labels, Resource, Store, StoreError,
    engine::{Engine, FILE},
    filter::Filters,
    images::table::decode,
    tables::{self, IMAGES, Next},
};

fn digest(byte: u8) -> String {
    Digest::new(Algorithm::Sha256, &[byte; 32]).to_string()
}

fn labels(labels: &[(&str, &str)]) -> Labels {
    labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn image(name: &str, byte: u8) -> Image {
    let target = Descriptor {
        media_type: "application/vnd.oci.image.index.v1+json".to_owned(),
        digest: digest(byte),
        size: 10,
        annotations: labels(&[("a", "1"), ("b.c/d", "2"), ("empty", "")]),
    };
    let labels = labels(&[("a", "1"), ("b.c/d", "2"), ("empty", "")]);
    Image { name: name.to_owned(), labels, target, ..Image::default() }
}

#[track_caller]
fn assert_refused<T: std::fmt::Debug>(result: Result<T, StoreError>, kind: Kind, message: &str) {
    let error = result.unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (kind, message));
}

async fn create(store: &Store, namespace: &Namespace, image: Image) -> Result<Image, StoreError> {
    store.create_image(namespace, image, None, None).await
}

async fn update(
    store: &Store,
    namespace: &Namespace,
    image: &Image,
    mask: &[&str],
) -> Result<Image, StoreError> {
    let mask = mask.iter().map(|path| (*path).to_owned()).collect();
    store.update_image(namespace, image.clone(), mask, None, None).await
}

async fn delete(store: &Store, namespace: &Namespace, name: &str) -> Result<(), StoreError> {
    store.delete_image(namespace, name, None, None).await
}

async fn names(store: &Store, namespace: &Namespace, filters: &[&str]) -> Vec<String> {
    let filters = Filters::parse(filters).unwrap();
    let (mut names, mut after) = (Vec::new(), None);
    loop {
        let page = store.image_page(namespace, &filters, after).await.unwrap();
        names.extend(page.images.into_iter().map(|image| image.name));
        after = page.after;
        if after.is_none() {
            return names;
        }
    }
}

#[tokio::test]
async fn an_image_is_its_namespaces_until_it_is_deleted() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let [a, b] = ["a", "b"].map(namespace);
    let created = create(&store, &a, image("x:1 ä", 1)).await.unwrap();
    let kept = labels(&[("a", "1"), ("b.c/d", "2")]);
    assert_eq!((&created.labels, &created.target.annotations), (&kept, &kept));
    assert_eq!(created.created_at, created.updated_at);
    assert!(created.created_at > SystemTime::UNIX_EPOCH);
    assert_eq!(store.image(&a, "x:1 ä").await.unwrap(), created);
    let unknown = r#"image "x:1 ä": not found"#;
    assert_refused(store.image(&b, "x:1 ä").await, Kind::NotFound, unknown);
    assert_refused(delete(&store, &b, "x:1 ä").await, Kind::NotFound, unknown);
    let again = create(&store, &a, image("x:1 ä", 2)).await;
    assert_refused(again, Kind::AlreadyExists, r#"image "x:1 ä": already exists"#);
    create(&store, &b, image("x:1 ä", 2)).await.unwrap();

    store.close().await;
    let store = open(dir.path());
    assert_eq!(store.image(&a, "x:1 ä").await.unwrap(), created);
    let full = "namespace \"a\" must be empty, but it still has images: failed precondition";
    assert_refused(store.delete_namespace(&a).await, Kind::FailedPrecondition, full);
    delete(&store, &a, "x:1 ä").await.unwrap();
    assert_refused(delete(&store, &a, "x:1 ä").await, Kind::NotFound, unknown);
    store.delete_namespace(&a).await.unwrap();
    assert_eq!(store.image(&b, "x:1 ä").await.unwrap().target.digest, digest(2));
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let ns = namespace("ns");
    let target = |change: &dyn Fn(&mut Descriptor)| {
        let mut image = image("x", 1);
        change(&mut image.target);
        image
    };
    let long = Image { labels: labels(&[("k", &"v".repeat(4096))]), ..image("x", 1) };
    let label = "image.Labels: label key and value length (4097 bytes) greater than maximum size \
                 (4096 bytes), key: k: invalid argument";
    let name = "image.name is 4097 bytes long, at most 4096 are allowed: invalid argument";
    for (wrong, field, message) in [
        (image("", 1), "image.name", "image name must not be empty: invalid argument"),
        (image(&"n".repeat(4097), 1), "image.name", name),
        (long, "image.labels.k", label),
        (
            target(&|target| target.digest = "x".to_owned()),
            "image.target.digest",
            r#"Target.Digest "x" invalid: invalid checksum digest format: invalid argument"#,
        ),
        (
            target(&|target| target.size = 0),
            "image.target.size",
            "Target.Size must be greater than zero: invalid argument",
        ),
        (
            target(&|target| target.media_type.clear()),
            "image.target.media_type",
            "Target.MediaType must be set: invalid argument",
        ),
    ] {
        let error = create(&store, &ns, wrong).await.unwrap_err();
        assert_eq!((error.field(), error.to_string().as_str()), (Some(field), message));
        assert_eq!(error.kind(), Kind::InvalidArgument);
    }
    let missing = update(&store, &ns, &image("", 1), &[]).await;
    let message = "image name is required for update: invalid argument";
    assert_refused(missing, Kind::InvalidArgument, message);
    let early = Some(SystemTime::UNIX_EPOCH - Duration::from_nanos(1));
    let early = store.create_image(&ns, image("x", 1), None, early).await;
    let message = "source_date_epoch must not be before 1970: invalid argument";
    assert_refused(early, Kind::InvalidArgument, message);
    assert_eq!(store.namespaces().await.unwrap(), [], "nothing was made");
}

#[tokio::test]
async fn a_mask_says_what_is_changed() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let ns = namespace("ns");
    let unknown = update(&store, &ns, &image("x", 1), &[]).await;
    assert_refused(unknown, Kind::NotFound, r#"image "x": not found"#);
    let first = create(&store, &ns, image("x", 1)).await.unwrap();
    let mut new = image("x", 2);
    new.labels = labels(&[("b.c/d", "3"), ("new", "4"), ("empty", "")]);
    new.target.annotations = labels(&[("b.c/d", "5")]);
    new.target.media_type = "m".to_owned();
    let both = labels(&[("a", "1"), ("b.c/d", "2")]);
    for (mask, labels, target) in [
        (&["labels.b.c/d", "labels.a"][..], labels(&[("b.c/d", "3")]), first.target.clone()),
        (&["labels"], labels(&[("b.c/d", "3"), ("new", "4")]), first.target.clone()),
        (
            &["annotations.b.c/d"],
            both.clone(),
            Descriptor {
                annotations: labels(&[("a", "1"), ("b.c/d", "5")]),
                ..first.target.clone()
            },
        ),
        (
            &["annotations"],
            both.clone(),
            Descriptor { annotations: labels(&[("b.c/d", "5")]), ..first.target.clone() },
        ),
        (&["annotations.a", "target"], both.clone(), new.target.clone()),
        (
            &["target", "labels.new"],
            labels(&[("a", "1"), ("b.c/d", "2"), ("new", "4")]),
            new.target.clone(),
        ),
        (&[], labels(&[("b.c/d", "3"), ("new", "4")]), new.target.clone()),
    ] {
        let updated = update(&store, &ns, &new, mask).await.unwrap();
        assert_eq!((&updated.labels, &updated.target), (&labels, &target), "{mask:?}");
        assert_eq!(updated.created_at, first.created_at);
        assert!(updated.updated_at >= first.updated_at);
        assert_eq!(store.image(&ns, "x").await.unwrap(), updated);
        update(&store, &ns, &first, &[]).await.unwrap();
    }
    // Of what is not named it does not matter what it is.
    let nothing = Image { target: Descriptor::default(), ..new.clone() };
    update(&store, &ns, &nothing, &["labels.new"]).await.unwrap();
    let wrong = update(&store, &ns, &nothing, &["labels", "target"]).await;
    let message = r#"Target.Digest "" invalid: invalid checksum digest format: invalid argument"#;
    assert_refused(wrong, Kind::InvalidArgument, message);
    let wrong = update(&store, &ns, &new, &["labels", "name"]).await;
    let message = r#"cannot update "name" field on image "x": invalid argument"#;
    assert_refused(wrong, Kind::InvalidArgument, message);
    let now = store.image(&ns, "x").await.unwrap();
    assert_eq!(now.labels, labels(&[("a", "1"), ("b.c/d", "2"), ("new", "4")]), "nothing half");
}

#[tokio::test]
async fn a_caller_can_say_the_time() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let ns = namespace("ns");
    let [early, late] = [7, 9].map(|n| SystemTime::UNIX_EPOCH + Duration::from_secs(n));
    let created = store.create_image(&ns, image("x", 1), None, Some(early)).await.unwrap();
    assert_eq!((created.created_at, created.updated_at), (early, early));
    let updated = store.update_image(&ns, image("x", 2), Vec::new(), None, Some(late)).await;
    let updated = updated.unwrap();
    assert_eq!((updated.created_at, updated.updated_at), (early, late));
    assert_eq!(store.image(&ns, "x").await.unwrap(), updated);
}

#[tokio::test]
async fn an_image_is_deleted_if_it_names_what_its_caller_thinks() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let ns = namespace("ns");
    create(&store, &ns, image("x", 1)).await.unwrap();
    let delete = |name, byte| store.delete_image(&ns, name, Some(digest(byte)), None);
    let message = format!("image \"x\" has target {}, not {}: not found", digest(1), digest(2));
    assert_refused(delete("x", 2).await, Kind::NotFound, &message);
    assert_refused(delete("y", 1).await, Kind::NotFound, r#"image "y": not found"#);
    delete("x", 1).await.unwrap();
    assert_eq!(names(&store, &ns, &[]).await, [""; 0]);
}

#[tokio::test]
async fn filters_say_which_are_listed() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let ns = namespace("ns");
    for (name, byte) in [("b", 2), ("a", 1), ("c", 3)] {
        let mut image = image(name, byte);
        image.labels.insert("n".to_owned(), name.to_owned());
        image.target.annotations.insert("n.o/p".to_owned(), name.to_owned());
        create(&store, &ns, image).await.unwrap();
    }
    create(&store, &namespace("ns2"), image("z", 9)).await.unwrap();
    let by_digest = format!("target.digest=={},labels.a", digest(2));
    for (filters, expected) in [
        (&[][..], &["a", "b", "c"][..]),
        (&["name==b"], &["b"]),
        (&[&by_digest], &["b"]),
        (&["target.mediatype~=index"], &["a", "b", "c"]),
        (&["labels.n==a", "annotations.\"n.o/p\"==c"], &["a", "c"]),
        (&["target"], &[]),
        (&["target.size"], &[]),
        (&["size==10"], &[]),
    ] {
        assert_eq!(names(&store, &ns, filters).await, expected, "{filters:?}");
    }
}

#[tokio::test]
async fn a_long_list_has_pages() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let ns = namespace("ns");
    for number in 0..6 {
        let mut image = image(&format!("i{number}"), number);
        image.target.annotations.insert("long".to_owned(), "v".repeat(100 << 10));
        create(&store, &ns, image).await.unwrap();
    }
    let page = store.image_page(&ns, &Filters::default(), None).await.unwrap();
    assert_eq!((page.images.len(), page.after.as_deref()), (3, Some("i2")));
    assert_eq!(names(&store, &ns, &[]).await, ["i0", "i1", "i2", "i3", "i4", "i5"]);
}

/// As in containerd: all others need no lease, and may name one that is not there.
#[tokio::test]
async fn a_lease_keeps_an_image_that_would_end() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let ns = namespace("ns");
    let lease = |id: &str| Some(id.to_owned());
    store.create_lease(&ns, "l", Labels::new()).await.unwrap();
    store.create_image(&ns, image("plain", 1), lease("none"), None).await.unwrap();
    store.create_image(&ns, image("later", 1), lease("l"), None).await.unwrap();
    assert_eq!(store.resource_page(&ns, "l", None).await.unwrap().resources, []);
    let mut ends = image("ends", 1);
    ends.labels.insert(LABEL_EXPIRE.to_owned(), "2100-01-01T00:00:00Z".to_owned());
    let unknown = store.create_image(&ns, ends.clone(), lease("none"), None).await;
    assert_refused(unknown, Kind::NotFound, "lease does not exist: not found");
    store.create_image(&ns, ends.clone(), lease("l"), None).await.unwrap();
    let later = Image { name: "later".to_owned(), ..ends };
    let mask = || vec!["labels".to_owned()];
    let unknown = store.update_image(&ns, later.clone(), mask(), lease("none"), None).await;
    assert_refused(unknown, Kind::NotFound, "lease does not exist: not found");
    store.update_image(&ns, later, mask(), lease("l"), None).await.unwrap();
    let resource = |id: &str| Resource { kind: "images".to_owned(), id: id.to_owned() };
    assert_eq!(
        store.resource_page(&ns, "l", None).await.unwrap().resources,
        ["ends", "later"].map(resource)
    );
    store.delete_image(&ns, "ends", None, lease("l")).await.unwrap();
    delete(&store, &ns, "later").await.unwrap();
    assert_eq!(store.resource_page(&ns, "l", None).await.unwrap().resources, [resource("later")]);
}

#[tokio::test]
async fn images_of_all_namespaces_are_read_in_one_transaction() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    for (ns, name) in [("b", "x"), ("a", "y"), ("a", "x")] {
        create(&store, &namespace(ns), image(name, 1)).await.unwrap();
    }
    store.close().await;
    let (engine, _) = Engine::open(dir.path()).unwrap();
    let read = engine.read(|transaction| {
        let table = transaction.open_table(IMAGES).unwrap();
        let mut found = Vec::new();
        tables::scan_all(&table, "image", |namespace, name, record| {
            let image = decode(&namespace, name, record)?;
            assert_eq!(image.target.digest, digest(1));
            found.push(format!("{}/{}", namespace.name(), image.name));
            Ok(if found.len() < 2 { Next::Continue } else { Next::Stop })
        })
        .unwrap();
        Ok(found)
    });
    assert_eq!(read.unwrap(), ["a/x", "a/y"]);
}

#[tokio::test]
async fn a_file_of_an_earlier_version_has_no_images() {
    let dir = TempDir::new().unwrap();
    let ns = namespace("ns");
    let store = open(dir.path());
    store.create_lease(&ns, "l", Labels::new()).await.unwrap();
    store.close().await;
    drop(store);
    let database = redb::Database::open(dir.path().join(FILE)).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.delete_table(IMAGES).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let store = open(dir.path());
    assert_eq!(store.lease_page(&ns, &Filters::default(), None).await.unwrap().leases.len(), 1);
    assert_eq!(names(&store, &ns, &[]).await, [""; 0]);
    create(&store, &ns, image("x", 1)).await.unwrap();
}
