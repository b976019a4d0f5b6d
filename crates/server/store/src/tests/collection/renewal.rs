//! What is renewed in the middle of a collection has all that it refers to, or is gone.

use std::{collections::BTreeSet, time::SystemTime};

use super::{
    life::{Life, NAMESPACES, node},
    model::Says,
};
use crate::{Algorithm, Digest, Node, NodeKind};

/// So many graphs are tried.
const LIVES: u64 = 40;

const BLOBS: u8 = 12;
const IMAGES: u8 = 3;

fn digest(number: u8) -> Digest {
    Digest::new(Algorithm::Sha256, &[number; 32])
}

fn blob(ns: &str, number: u8) -> Node {
    node(NodeKind::Blob, ns, digest(number).as_str())
}

impl Life {
    /// Blobs, each of which refers to some of those before it, and images of them that have expired.
    async fn make_images(&mut self) {
        let ns = NAMESPACES[0];
        // Digests are in no relation to what refers to what.
        let mut numbers: Vec<u8> = (0..BLOBS).collect();
        self.dice.shuffle(&mut numbers);
        for at in 0..numbers.len() {
            let mut others: Vec<u8> = numbers[..at].to_vec();
            self.dice.shuffle(&mut others);
            others.truncate(self.dice.usize(0..4));
            let says = others.iter().map(|other| Says::RefersTo(blob(ns, *other))).collect();
            self.put_as(ns, digest(numbers[at]), says, None).await;
        }
        for number in 0..IMAGES {
            let target = digest(numbers[usize::from(BLOBS - 1 - number)]);
            self.make_image_as(ns, format!("i{number}"), &target, Vec::new(), true).await;
        }
    }

    /// Has an image expire no more, or keeps a blob, if it is there.
    async fn renew(&mut self) {
        let there: Vec<_> = self.model.objects.keys().cloned().collect();
        let Some(renewed) = self.dice.choice(&there).cloned() else { return };
        let ns = NAMESPACES[0];
        match renewed.kind {
            NodeKind::Image => {
                let target = self.model.objects[&renewed].parts[0].key.clone();
                let target = Digest::parse(&target).unwrap();
                self.make_image_as(ns, renewed.key, &target, Vec::new(), false).await;
            }
            _ => {
                let says = self.model.objects[&renewed].says.clone();
                let says = says.into_iter().chain([Says::Root]).collect();
                self.relabel_as(ns, &Digest::parse(&renewed.key).unwrap(), says).await;
            }
        }
    }
}

#[tokio::test]
async fn what_is_renewed_has_all_its_content_or_is_gone() {
    for seed in 0..LIVES {
        let mut life = Life::begin(seed);
        life.make_images().await;
        let before: BTreeSet<Node> = life.model.objects.keys().cloned().collect();
        let mut collection = life.store.collect(SystemTime::now()).await.unwrap().unwrap();
        loop {
            let most = life.dice.usize(1..4);
            let nodes = collection.next_piece(most);
            if nodes.is_empty() {
                break;
            }
            if life.dice.u8(0..6) == 0 {
                life.renew().await;
            }
            for removed in collection.remove(nodes).await.unwrap() {
                let gone = life.node(removed).await;
                life.model.objects.remove(&gone).unwrap();
            }
        }
        collection.end().await.unwrap();
        let found = life.found().await;
        let lost: Vec<_> =
            life.model.kept().into_iter().filter(|kept| !found.contains(kept)).collect();
        assert!(lost.iter().all(|lost| !before.contains(lost)), "life {seed}: {lost:?}");
    }
}
