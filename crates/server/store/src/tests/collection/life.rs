//! A store that is changed and collected at random, and its model.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use fastrand::Rng;
use tempfile::TempDir;

use super::{
    directory,
    model::{Lease, Model, Object, Says, labels},
};
use crate::{
    Algorithm, Container, Descriptor, Digest, Image, LABEL_EXPIRE, Labels, NewBlob, NewIngest,
    Node, NodeKind, Removed, Resource, Snapshot, Store, StoreError,
    filter::Filters,
    tests::{container, namespace, open},
};

pub(super) const NAMESPACES: [&str; 2] = ["a", "b"];

/// Of each kind there are so many names, so that they meet.
const NAMES: u8 = 8;

pub(super) struct Life {
    seed: u64,
    pub(super) dice: Rng,
    dir: TempDir,
    pub(super) store: Store,
    pub(super) model: Model,
    /// How many directories of snapshots there were.
    pub(super) directories: u64,
}

fn digest(number: u8) -> Digest {
    Digest::new(Algorithm::Sha256, &[number; 32])
}

pub(super) fn node(kind: NodeKind, ns: &str, key: impl Into<String>) -> Node {
    Node { kind, namespace: namespace(ns).as_str().to_owned(), key: key.into() }
}

impl Life {
    pub(super) fn begin(seed: u64) -> Self {
        let dir = directory();
        let store = open(dir.path());
        let (dice, model) = (Rng::with_seed(seed), Model::default());
        Self { seed, dice, dir, store, model, directories: 0 }
    }

    /// Some random changes.
    pub(super) async fn change(&mut self, most: usize) {
        for _ in 0..self.dice.usize(0..=most) {
            let ns = self.dice.choice(NAMESPACES).unwrap();
            match self.dice.u8(0..22) {
                0..3 => self.put(ns).await,
                3 => self.relabel(ns).await,
                4 => self.delete_blob(ns).await,
                5 => self.begin_write(ns).await,
                6 => self.make_lease(ns).await,
                7 => self.delete_lease(ns).await,
                8..10 => self.lease(ns).await,
                10 => self.contain(ns).await,
                11..13 => self.make_image(ns).await,
                13 => self.delete_image(ns).await,
                14..17 => self.make_snapshot(ns).await,
                17..19 => self.commit_snapshot(ns).await,
                19 => self.relabel_snapshot(ns).await,
                20 => self.remove_snapshot(ns).await,
                _ => self.delete_container(ns).await,
            }
        }
    }

    pub(super) fn name(&mut self, prefix: &str) -> String {
        format!("{prefix}{}", self.dice.u8(0..NAMES))
    }

    pub(super) fn some_blob(&mut self) -> Digest {
        digest(self.dice.u8(0..NAMES))
    }

    /// Any node that a label can name.
    fn some_node(&mut self, ns: &str) -> Node {
        match self.dice.u8(0..6) {
            0..3 => node(NodeKind::Blob, ns, self.some_blob().as_str()),
            3 => node(NodeKind::Snapshot, ns, format!("native/{}", self.name("k"))),
            4 => node(NodeKind::Image, ns, self.name("i")),
            _ => node(NodeKind::Container, ns, self.name("c")),
        }
    }

    pub(super) fn says(&mut self, ns: &str) -> Vec<Says> {
        let mut says = Vec::new();
        for _ in 0..self.dice.u8(0..4) {
            let other = self.some_node(ns);
            says.push(match self.dice.u8(0..8) {
                0 => Says::Root,
                1..3 => Says::ReferredToBy(other),
                // No label refers to a container.
                _ if other.kind == NodeKind::Container => Says::ReferredToBy(other),
                _ => Says::RefersTo(other),
            });
        }
        says
    }

    /// A lease that is there, or none.
    pub(super) fn some_lease(&mut self, ns: &'static str) -> Option<String> {
        let id = self.name("l");
        self.model.leases.contains_key(&(ns, id.clone())).then_some(id)
    }

    pub(super) fn note_leased(&mut self, ns: &'static str, lease: Option<&String>, node: Node) {
        if let Some(lease) = lease.and_then(|id| self.model.leases.get_mut(&(ns, id.clone()))) {
            lease.resources.insert(node);
        }
    }

    async fn put(&mut self, ns: &'static str) {
        let (digest, says, lease) = (self.some_blob(), self.says(ns), self.some_lease(ns));
        self.put_as(ns, digest, says, lease).await;
    }

    pub(super) async fn put_as(
        &mut self,
        ns: &'static str,
        digest: Digest,
        says: Vec<Says>,
        lease: Option<String>,
    ) {
        let begin = NewIngest {
            reference: "put".to_owned(),
            total: 0,
            expected: None,
            lease: None,
            expires_at: SystemTime::now() + Duration::from_secs(3600),
        };
        self.store.begin_ingest(&namespace(ns), begin).await.unwrap();
        let new = NewBlob {
            reference: "put".to_owned(),
            digest: digest.clone(),
            size: 1,
            labels: labels(&says),
            lease: lease.clone(),
            checked: Some(1),
        };
        let made = self.store.commit_blob(&namespace(ns), new).await.unwrap();
        let blob = node(NodeKind::Blob, ns, digest.as_str());
        self.note_leased(ns, lease.as_ref(), blob.clone());
        assert_eq!(made, !self.model.objects.contains_key(&blob), "life {}", self.seed);
        if made {
            self.model.objects.insert(blob, Object { says, ..Object::default() });
        }
    }

    async fn relabel(&mut self, ns: &'static str) {
        let (digest, says) = (self.some_blob(), self.says(ns));
        self.relabel_as(ns, &digest, says).await;
    }

    pub(super) async fn relabel_as(&mut self, ns: &'static str, digest: &Digest, says: Vec<Says>) {
        let new = labels(&says);
        let updated = self.store.update_blob(&namespace(ns), digest, new, Vec::new()).await;
        let known = self.model.objects.get_mut(&node(NodeKind::Blob, ns, digest.as_str()));
        assert_eq!(updated.is_ok(), known.is_some(), "life {}", self.seed);
        if let Some(known) = known {
            known.says = says;
        }
    }

    async fn delete_blob(&mut self, ns: &'static str) {
        let digest = self.some_blob();
        let deleted = self.store.delete_blob(&namespace(ns), &digest, None).await;
        let known = self.model.objects.remove(&node(NodeKind::Blob, ns, digest.as_str()));
        assert_eq!(deleted.is_ok(), known.is_some(), "life {}", self.seed);
    }

    /// Begins a write that is stale already, or is not.
    async fn begin_write(&mut self, ns: &'static str) {
        let (reference, lease) = (self.name("r"), self.some_lease(ns));
        let expected = self.dice.bool().then(|| self.some_blob());
        let is_fresh = self.dice.bool();
        self.begin_as(ns, reference, expected, lease, is_fresh).await;
    }

    async fn make_lease(&mut self, ns: &'static str) {
        let (id, is_flat, is_over) = (self.name("l"), self.dice.bool(), self.dice.u8(0..4) == 0);
        let mut labels = Labels::new();
        if is_flat {
            labels.insert("containerd.io/gc.flat".to_owned(), "x".to_owned());
        }
        let end = if is_over { "2001-01-01T00:00:00Z" } else { "2201-01-01T00:00:00Z" };
        labels.insert(LABEL_EXPIRE.to_owned(), end.to_owned());
        if self.store.create_lease(&namespace(ns), &id, labels).await.is_ok() {
            let lease = Lease { is_flat, is_over, ..Lease::default() };
            assert!(self.model.leases.insert((ns, id), lease).is_none(), "life {}", self.seed);
        }
    }

    async fn delete_lease(&mut self, ns: &'static str) {
        let id = self.name("l");
        let deleted = self.store.delete_lease(&namespace(ns), &id).await;
        let known = self.model.leases.remove(&(ns, id));
        assert_eq!(deleted.is_ok(), known.is_some(), "life {}", self.seed);
    }

    /// Has a lease keep something, or keep it no longer.
    async fn lease(&mut self, ns: &'static str) {
        let Some(lease) = self.some_lease(ns) else { return };
        let (kind, id, node) = match self.dice.u8(0..4) {
            1 => {
                let name = self.name("i");
                ("images", name.clone(), node(NodeKind::Image, ns, name))
            }
            0 => {
                let reference = self.name("r");
                ("ingests", reference.clone(), node(NodeKind::Ingest, ns, reference))
            }
            _ => {
                let digest = self.some_blob().to_string();
                ("content", digest.clone(), node(NodeKind::Blob, ns, digest))
            }
        };
        let resource = Resource { kind: kind.to_owned(), id };
        let known = self.model.leases.get_mut(&(ns, lease.clone())).unwrap();
        if self.dice.u8(0..3) == 0 {
            self.store.delete_resource(&namespace(ns), &lease, resource).await.unwrap();
            known.resources.remove(&node);
        } else {
            self.store.add_resource(&namespace(ns), &lease, resource).await.unwrap();
            known.resources.insert(node);
        }
    }

    /// Makes a container, or changes one.
    async fn contain(&mut self, ns: &'static str) {
        let (id, mut says) = (self.name("c"), self.says(ns));
        says.retain(|says| !matches!(says, Says::ReferredToBy(_)));
        self.contain_as(ns, id, says).await;
    }

    pub(super) async fn contain_as(&mut self, ns: &'static str, id: String, says: Vec<Says>) {
        let new = Container { labels: labels(&says), ..container(&id) };
        let created = self.store.create_container(&namespace(ns), new.clone()).await;
        if let Err(StoreError::AlreadyExists(_)) = created {
            self.store.update_container(&namespace(ns), new, Vec::new()).await.unwrap();
        }
        let object = Object { says, is_kept: true, ..Object::default() };
        self.model.objects.insert(node(NodeKind::Container, ns, id), object);
    }

    async fn delete_container(&mut self, ns: &'static str) {
        let id = self.name("c");
        let deleted = self.store.delete_container(&namespace(ns), &id).await;
        let known = self.model.objects.remove(&node(NodeKind::Container, ns, id));
        assert_eq!(deleted.is_ok(), known.is_some(), "life {}", self.seed);
    }

    /// Makes an image, which may be over already, or changes one.
    async fn make_image(&mut self, ns: &'static str) {
        let (name, digest, says) = (self.name("i"), self.some_blob(), self.says(ns));
        let is_over = self.dice.u8(0..4) > 0;
        self.make_image_as(ns, name, &digest, says, is_over).await;
    }

    pub(super) async fn make_image_as(
        &mut self,
        ns: &'static str,
        name: String,
        digest: &Digest,
        says: Vec<Says>,
        is_over: bool,
    ) {
        let mut labels = labels(&says);
        let says = says.into_iter().filter(|says| *says != Says::Root).collect();
        if is_over {
            labels.insert(LABEL_EXPIRE.to_owned(), "2001-01-01T00:00:00Z".to_owned());
        }
        let target = Descriptor {
            media_type: "text".to_owned(),
            digest: digest.to_string(),
            size: 1,
            ..Descriptor::default()
        };
        let new = Image { name: name.clone(), labels, target, ..Image::default() };
        let created = self.store.create_image(&namespace(ns), new.clone(), None, None).await;
        if let Err(StoreError::AlreadyExists(_)) = created {
            self.store.update_image(&namespace(ns), new, Vec::new(), None, None).await.unwrap();
        }
        let parts = vec![node(NodeKind::Blob, ns, digest.as_str())];
        let object = Object { says, is_kept: !is_over, parts, ..Object::default() };
        self.model.objects.insert(node(NodeKind::Image, ns, name), object);
    }

    async fn delete_image(&mut self, ns: &'static str) {
        let name = self.name("i");
        let deleted = self.store.delete_image(&namespace(ns), &name, None, None).await;
        let known = self.model.objects.remove(&node(NodeKind::Image, ns, name));
        assert_eq!(deleted.is_ok(), known.is_some(), "life {}", self.seed);
    }

    /// A collection, while everything goes on if `is_busy`, and which a new server may cut short.
    pub(super) async fn collect(&mut self, is_busy: bool) -> bool {
        let found = self.store.collect(SystemTime::now()).await.unwrap();
        let Some(mut collection) = found else { return false };
        loop {
            if is_busy {
                self.change(2).await;
                self.attach().await;
            }
            let nodes = collection.next_piece(2);
            if nodes.is_empty() {
                return collection.end().await.unwrap();
            }
            let kept = self.model.kept();
            for removed in collection.remove(nodes).await.unwrap() {
                let gone = self.node(removed).await;
                assert!(!kept.contains(&gone), "life {}: {gone:?} was kept", self.seed);
                assert!(self.model.objects.remove(&gone).is_some(), "life {}", self.seed);
            }
            if is_busy && self.dice.u8(0..20) == 0 {
                self.store.close().await;
                self.store = open(self.dir.path());
                return true;
            }
        }
    }

    /// What was removed; nothing is left of it.
    pub(super) async fn node(&self, removed: Removed) -> Node {
        match removed {
            Removed::Blob { namespace, digest, is_last } => {
                let unknown = self.store.unknown_blobs(vec![digest.clone()]).await.unwrap();
                // The same piece may have removed it from the other namespace afterwards.
                assert!(!is_last || !unknown.is_empty(), "life {}", self.seed);
                node(NodeKind::Blob, namespace.name(), digest.as_str())
            }
            Removed::Image { namespace, name } => node(NodeKind::Image, namespace.name(), name),
            Removed::Snapshot { namespace, snapshotter, key, .. } => {
                node(NodeKind::Snapshot, namespace.name(), format!("{snapshotter}/{key}"))
            }
            Removed::Ingest { namespace, reference } => {
                node(NodeKind::Ingest, namespace.name(), reference)
            }
        }
    }

    /// When nothing is changed any more, what is there is what is kept.
    pub(super) async fn settle(&mut self) {
        assert!(!self.collect(false).await, "life {}: nothing was written meanwhile", self.seed);
        let found = self.found().await;
        assert_eq!(found, self.model.left(), "life {}", self.seed);
        assert!(self.store.collect(SystemTime::now()).await.unwrap().is_none());
    }

    pub(super) async fn found(&self) -> BTreeSet<Node> {
        let (all, mut found) = (Filters::default(), BTreeSet::new());
        for ns in NAMESPACES {
            let name = namespace(ns);
            let page = self.store.blob_page(&name, &all, None).await.unwrap();
            found.extend(page.blobs.iter().map(|b| node(NodeKind::Blob, ns, b.digest.as_str())));
            let page = self.store.snapshot_page(&name, "native", &all, None).await.unwrap();
            let key = |found: &Snapshot| format!("native/{}", found.key);
            found.extend(page.snapshots.iter().map(|s| node(NodeKind::Snapshot, ns, key(s))));
            let page = self.store.image_page(&name, &all, None).await.unwrap();
            found.extend(page.images.iter().map(|i| node(NodeKind::Image, ns, &i.name)));
            let page = self.store.ingest_page(&name, &all, None).await.unwrap();
            found.extend(page.ingests.iter().map(|i| node(NodeKind::Ingest, ns, &i.reference)));
            let page = self.store.container_page(&name, &all, None).await.unwrap();
            found.extend(page.containers.iter().map(|c| node(NodeKind::Container, ns, &c.id)));
        }
        found
    }
}
