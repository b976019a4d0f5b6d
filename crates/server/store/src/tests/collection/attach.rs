//! Changes that have something kept in the middle of a collection that may be about to remove it.

use std::time::{Duration, SystemTime};

use super::{
    life::{Life, node},
    model::{Object, Says},
};
use crate::{Digest, NewIngest, Node, NodeKind, Resource, tests::namespace};

impl Life {
    /// Has something that nothing refers to kept, in any way there is.
    pub(super) async fn attach(&mut self) {
        let kept = self.model.kept();
        let lost = self.model.objects.keys().filter(|node| !kept.contains(node));
        let lost: Vec<_> = lost.cloned().collect();
        let Some(lost) = self.dice.choice(&lost).cloned() else { return };
        let ns = super::life::NAMESPACES[usize::from(lost.namespace.ends_with('b'))];
        match lost.kind {
            NodeKind::Blob => self.attach_blob(ns, lost).await,
            NodeKind::Snapshot => self.attach_snapshot(ns, lost).await,
            NodeKind::Ingest => self.begin_anew(ns, lost).await,
            _ => self.refer_from_a_container(ns, lost).await,
        }
    }

    async fn attach_blob(&mut self, ns: &'static str, lost: Node) {
        let digest = Digest::parse(&lost.key).unwrap();
        match self.dice.u8(0..8) {
            0 => self.relabel_as(ns, &digest, vec![Says::Root]).await,
            1 => {
                let id = self.name("c");
                self.contain_as(ns, id.clone(), Vec::new()).await;
                let container = node(NodeKind::Container, ns, id);
                self.relabel_as(ns, &digest, vec![Says::ReferredToBy(container)]).await;
            }
            2 => self.refer_from_a_container(ns, lost).await,
            3 => self.refer_from_a_blob(ns, lost).await,
            4 => {
                let name = self.name("i");
                self.make_image_as(ns, name, &digest, Vec::new(), false).await;
            }
            5 => self.keep_by_a_lease(ns, "content", digest.as_str(), lost).await,
            6 => self.expect(ns, digest).await,
            _ => self.expect(if ns == "a" { "b" } else { "a" }, digest).await,
        }
    }

    pub(super) async fn refer_from_a_container(&mut self, ns: &'static str, lost: Node) {
        let id = self.name("c");
        self.contain_as(ns, id, vec![Says::RefersTo(lost)]).await;
    }

    /// From one that is kept already, or from a new one.
    async fn refer_from_a_blob(&mut self, ns: &'static str, lost: Node) {
        let kept = self.model.kept();
        let from =
            |n: &&Node| n.kind == NodeKind::Blob && **n != lost && n.namespace == lost.namespace;
        let from = self.model.objects.keys().filter(from).find(|node| kept.contains(node));
        match from.map(|from| Digest::parse(&from.key).unwrap()) {
            Some(from) => self.relabel_as(ns, &from, vec![Says::RefersTo(lost)]).await,
            None => {
                let new = self.some_blob();
                self.put_as(ns, new, vec![Says::Root, Says::RefersTo(lost)], None).await;
            }
        }
    }

    pub(super) async fn keep_by_a_lease(
        &mut self,
        ns: &'static str,
        kind: &str,
        id: &str,
        lost: Node,
    ) {
        let known = self.model.leases.iter_mut().rfind(|((of, _), _)| *of == ns);
        let Some(((_, lease), known)) = known else {
            return;
        };
        let resource = Resource { kind: kind.to_owned(), id: id.to_owned() };
        self.store.add_resource(&namespace(ns), lease, resource).await.unwrap();
        known.resources.insert(lost);
    }

    /// Begins a write of a blob, which the namespace may have, so that a lease gets it.
    async fn expect(&mut self, ns: &'static str, digest: Digest) {
        let (reference, lease) = (self.name("r"), self.some_lease(ns));
        self.begin_as(ns, reference, Some(digest), lease, true).await;
    }

    /// Goes on with a write that is stale.
    async fn begin_anew(&mut self, ns: &'static str, lost: Node) {
        match self.dice.bool() {
            true => self.keep_by_a_lease(ns, "ingests", &lost.key.clone(), lost).await,
            false => self.begin_as(ns, lost.key, None, None, true).await,
        }
    }

    pub(super) async fn begin_as(
        &mut self,
        ns: &'static str,
        reference: String,
        expected: Option<Digest>,
        lease: Option<String>,
        is_fresh: bool,
    ) {
        let expires_at = match is_fresh {
            true => SystemTime::now() + Duration::from_secs(3600),
            false => SystemTime::UNIX_EPOCH,
        };
        let new = NewIngest {
            reference: reference.clone(),
            total: 0,
            expected: expected.clone(),
            lease: lease.clone(),
            expires_at,
        };
        let begun = self.store.begin_ingest(&namespace(ns), new).await.unwrap();
        let blob = expected.map(|digest| node(NodeKind::Blob, ns, digest.as_str()));
        let ingest = match begun {
            crate::Beginning::Begun(ingest) => ingest,
            crate::Beginning::Exists => {
                self.note_leased(ns, lease.as_ref(), blob.unwrap());
                return;
            }
        };
        let write = node(NodeKind::Ingest, ns, reference);
        self.note_leased(ns, lease.as_ref(), write.clone());
        let before = self.model.objects.get(&write).is_some_and(|before| before.is_kept);
        let object = Object {
            is_kept: if lease.is_some() { before } else { is_fresh },
            shares: ingest.is_shared.then(|| blob.as_ref().unwrap().key.clone()),
            needs: blob.into_iter().collect(),
            ..Object::default()
        };
        self.model.objects.insert(write, object);
    }
}
