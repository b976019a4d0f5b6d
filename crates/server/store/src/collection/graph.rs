//! The mark: which nodes are reached from the roots.

use std::{cmp::Reverse, collections::HashMap};

use super::node::Node;

/// How far a node is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reach {
    /// It is not.
    #[default]
    Not,
    /// With what it consists of (a snapshot's parents, an image's target), as resources of a flat lease are.
    Flat,
    /// With all that it refers to, and all that says so itself.
    Full,
}

/// What a node refers to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct References {
    /// What it consists of.
    pub(super) parts: Vec<Node>,
    /// What its labels name, and for a write what it will be.
    pub(super) others: Vec<Node>,
}

/// Nodes and how far each is kept. What is kept once stays so.
#[derive(Debug, Default)]
pub(super) struct Graph {
    numbers: HashMap<Node, usize>,
    nodes: Vec<Known>,
}

#[derive(Debug, Default)]
struct Known {
    reach: Reach,
    /// Of one that can be removed: its place in the order in which those of its kind were made, or 0 if that is no matter.
    made: Option<u64>,
    parts: Vec<usize>,
    others: Vec<usize>,
    /// Those that name it by a back reference.
    dependants: Vec<usize>,
}

impl Known {
    /// Its references, in any order.
    fn reference(&self, at: usize) -> Option<usize> {
        self.parts.iter().chain(&self.others).chain(&self.dependants).nth(at).copied()
    }
}

impl Graph {
    /// Notes what a node refers to; it may be known already. Gives its number.
    pub(super) fn refer(&mut self, node: Node, references: References) -> usize {
        let number = self.number(node);
        let parts = references.parts.into_iter().map(|node| self.number(node)).collect();
        let others = references.others.into_iter().map(|node| self.number(node)).collect();
        self.nodes[number].parts = parts;
        self.nodes[number].others = others;
        number
    }

    /// Notes that it can be removed if it is not reached. `made` is greater if it was made later, or 0 for all of a kind.
    pub(super) fn can_be_removed(&mut self, number: usize, made: u64) {
        self.nodes[number].made = Some(made);
    }

    /// Notes that `dependant` is kept as long as `node` is.
    pub(super) fn depend(&mut self, dependant: Node, node: Node) {
        let (dependant, node) = (self.number(dependant), self.number(node));
        self.nodes[node].dependants.push(dependant);
    }

    /// Keeps a node, and what is reached from it.
    pub(super) fn keep(&mut self, number: usize, reach: Reach) {
        let mut waiting = vec![(number, reach)];
        while let Some((number, reach)) = waiting.pop() {
            let known = &mut self.nodes[number];
            if known.reach >= reach {
                continue;
            }
            known.reach = reach;
            waiting.extend(known.parts.iter().map(|part| (*part, reach)));
            if reach == Reach::Full {
                let further = known.others.iter().chain(&known.dependants);
                waiting.extend(further.map(|other| (*other, Reach::Full)));
            }
        }
    }

    /// Keeps a node whose references have changed, and what is reached from it now.
    pub(super) fn keep_changed(&mut self, node: Node, references: References) {
        let number = self.refer(node, references);
        // What it refers to now was not followed.
        self.nodes[number].reach = Reach::Not;
        self.keep(number, Reach::Full);
    }

    pub(super) fn reach(&self, node: &Node) -> Reach {
        self.numbers.get(node).map_or(Reach::Not, |number| self.nodes[*number].reach)
    }

    /// Those that are not reached and can be removed, in an order in which one that is kept in the middle of the removal
    /// has still all that it refers to: each kind after those that refer to it as a rule, and in a kind what refers before
    /// what it refers to. Snapshots go by age alone, as none can be removed before its children, whatever labels say.
    pub(super) fn removable(&self) -> Vec<Node> {
        let ends = self.ends();
        let made = |number: usize| self.nodes[number].made;
        let mut found: Vec<(&Node, usize)> = self.numbers.iter().map(|(n, at)| (n, *at)).collect();
        found.retain(|(_, at)| made(*at).is_some() && self.nodes[*at].reach == Reach::Not);
        found.sort_unstable_by_key(|(node, at)| (node.kind, Reverse((made(*at), ends[*at]))));
        found.into_iter().map(|(node, _)| node.clone()).collect()
    }

    /// When a walk along all references that need not be kept leaves each node: one that refers to others is left after
    /// them, unless they refer to each other. By number.
    fn ends(&self) -> Vec<usize> {
        let mut is_seen: Vec<_> = self.nodes.iter().map(|n| n.reach == Reach::Full).collect();
        let (mut ends, mut count) = (vec![0; self.nodes.len()], 0);
        for first in 0..self.nodes.len() {
            if std::mem::replace(&mut is_seen[first], true) {
                continue;
            }
            // Those that the walk is in, and how many of their references it has followed.
            let mut open = vec![(first, 0)];
            while let Some((number, followed)) = open.last_mut() {
                match self.nodes[*number].reference(*followed) {
                    Some(next) => {
                        *followed += 1;
                        if !std::mem::replace(&mut is_seen[next], true) {
                            open.push((next, 0));
                        }
                    }
                    None => {
                        ends[*number] = count;
                        count += 1;
                        open.pop();
                    }
                }
            }
        }
        ends
    }

    /// That of a node, which is known from now on.
    pub(super) fn number(&mut self, node: Node) -> usize {
        let next = self.nodes.len();
        let number = *self.numbers.entry(node).or_insert(next);
        if number == next {
            self.nodes.push(Known::default());
        }
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NodeKind;

    fn blob(key: &str) -> Node {
        Node::new(NodeKind::Blob, "ns", key)
    }

    #[test]
    fn what_refers_is_removed_before_what_it_refers_to() {
        let mut graph = Graph::default();
        let references: [(&str, &[&str]); 7] = [
            ("layer", &[]),
            ("image", &["manifest", "layer"]),
            ("kept", &["x"]),
            ("x", &["y"]),
            ("y", &["x"]),
            ("manifest", &["config", "layer"]),
            ("config", &["layer"]),
        ];
        for (key, others) in references {
            let others = others.iter().copied().map(blob).collect();
            let number = graph.refer(blob(key), References { parts: Vec::new(), others });
            graph.can_be_removed(number, 0);
        }
        // Many in a row are no deep recursion, and what is not there has no place.
        for number in 0..100_000 {
            let others = vec![blob(&(number + 1).to_string())];
            graph.refer(blob(&number.to_string()), References { parts: Vec::new(), others });
        }
        let kept = graph.number(blob("kept"));
        graph.keep(kept, Reach::Full);
        let order = ["image", "manifest", "config", "layer"].map(blob);
        assert_eq!(graph.removable(), order);
    }
}
