//! Changes of snapshots.

use super::{
    life::{Life, node},
    model::{Object, Says, labels},
};
use crate::{CommittedSnapshot, NewSnapshot, Node, NodeKind, SnapshotUsage, tests::namespace};

const SNAPSHOTTER: &str = "native";

fn snapshot(ns: &str, key: &str) -> Node {
    node(NodeKind::Snapshot, ns, format!("{SNAPSHOTTER}/{key}"))
}

impl Life {
    /// Makes one on another one, if that can be a parent.
    pub(super) async fn make_snapshot(&mut self, ns: &'static str) {
        let (key, parent, says) = (self.name("k"), self.name("k"), self.says(ns));
        let parent = if self.dice.u8(0..4) > 0 { parent } else { String::new() };
        let lease = self.some_lease(ns);
        let new = NewSnapshot {
            snapshotter: SNAPSHOTTER.to_owned(),
            key: key.clone(),
            parent: parent.clone(),
            is_view: false,
            labels: labels(&says),
            lease: lease.clone(),
        };
        let ns_ = namespace(ns);
        let Ok(below) = self.store.snapshot_foundation(&ns_, &new).await else { return };
        self.directories += 1;
        let below = below.first().copied();
        self.store.add_snapshot(&ns_, new, self.directories, below).await.unwrap();
        let made = snapshot(ns, &key);
        self.note_leased(ns, lease.as_ref(), made.clone());
        let parts = match parent.is_empty() {
            true => Vec::new(),
            false => vec![snapshot(ns, &parent)],
        };
        let object = Object { says, parts, ..Object::default() };
        assert!(self.model.objects.insert(made, object).is_none());
    }

    /// Commits one as another name.
    pub(super) async fn commit_snapshot(&mut self, ns: &'static str) {
        let (key, name, says) = (self.name("k"), self.name("k"), self.says(ns));
        let ns_ = namespace(ns);
        let found = self.store.committable_snapshot(&ns_, SNAPSHOTTER, &key, &name).await;
        let Ok(found) = found else { return };
        let lease = self.some_lease(ns);
        let committed = CommittedSnapshot {
            snapshotter: SNAPSHOTTER.to_owned(),
            key: key.clone(),
            directory: found.directory,
            name: name.clone(),
            labels: labels(&says),
            usage: SnapshotUsage::default(),
            lease: lease.clone(),
        };
        self.store.commit_snapshot(&ns_, committed).await.unwrap();
        let (active, committed) = (snapshot(ns, &key), snapshot(ns, &name));
        let before = self.model.objects.remove(&active).unwrap();
        self.model.objects.insert(committed.clone(), Object { says, ..before });
        if let Some(lease) = lease.and_then(|id| self.model.leases.get_mut(&(ns, id))) {
            lease.resources.remove(&active);
            lease.resources.insert(committed);
        }
    }

    pub(super) async fn relabel_snapshot(&mut self, ns: &'static str) {
        let (key, says) = (self.name("k"), self.says(ns));
        self.relabel_snapshot_as(ns, &key, says).await;
    }

    pub(super) async fn relabel_snapshot_as(
        &mut self,
        ns: &'static str,
        key: &str,
        says: Vec<Says>,
    ) {
        let ns_ = namespace(ns);
        let updated = self.store.update_snapshot(&ns_, SNAPSHOTTER, key, labels(&says), Vec::new());
        let is_updated = updated.await.is_ok();
        let known = self.model.objects.get_mut(&snapshot(ns, key));
        assert_eq!(is_updated, known.is_some());
        if let Some(known) = known {
            known.says = says;
        }
    }

    pub(super) async fn remove_snapshot(&mut self, ns: &'static str) {
        let key = self.name("k");
        let removed = self.store.remove_snapshot(&namespace(ns), SNAPSHOTTER, &key, None).await;
        if removed.is_ok() {
            assert!(self.model.objects.remove(&snapshot(ns, &key)).is_some());
        }
    }

    /// Has one that nothing refers to kept.
    pub(super) async fn attach_snapshot(&mut self, ns: &'static str, lost: Node) {
        let key = lost.key.split_once('/').unwrap().1.to_owned();
        match self.dice.u8(0..4) {
            0 => self.relabel_snapshot_as(ns, &key, vec![Says::Root]).await,
            1 => self.keep_by_a_lease(ns, "snapshots/native", &key, lost).await,
            2 => self.refer_from_a_container(ns, lost).await,
            _ => {
                for _ in 0..4 {
                    self.make_snapshot(ns).await;
                    self.commit_snapshot(ns).await;
                }
            }
        }
    }
}
