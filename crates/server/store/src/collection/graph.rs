//! The mark: which nodes are reached from the roots.

use std::collections::HashMap;

use super::node::Node;

/// How far a node is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reach {
    /// It is not.
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

#[derive(Debug)]
struct Known {
    reach: Reach,
    parts: Vec<usize>,
    others: Vec<usize>,
    /// Those that name it by a back reference.
    dependants: Vec<usize>,
}

impl Graph {
    /// Notes what a node refers to; it may be known already.
    pub(super) fn refer(&mut self, node: Node, references: References) {
        let number = self.number(node);
        let parts = references.parts.into_iter().map(|node| self.number(node)).collect();
        let others = references.others.into_iter().map(|node| self.number(node)).collect();
        self.nodes[number].parts = parts;
        self.nodes[number].others = others;
    }

    /// Notes that `dependant` is kept as long as `node` is.
    pub(super) fn depend(&mut self, dependant: Node, node: Node) {
        let (dependant, node) = (self.number(dependant), self.number(node));
        self.nodes[node].dependants.push(dependant);
    }

    /// Keeps a node, and what is reached from it.
    pub(super) fn keep(&mut self, node: Node, reach: Reach) {
        let mut waiting = vec![(self.number(node), reach)];
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
        self.refer(node.clone(), references);
        let number = self.number(node.clone());
        // What it refers to now was not followed.
        self.nodes[number].reach = Reach::Not;
        self.keep(node, Reach::Full);
    }

    pub(super) fn reach(&self, node: &Node) -> Reach {
        self.numbers.get(node).map_or(Reach::Not, |number| self.nodes[*number].reach)
    }

    fn number(&mut self, node: Node) -> usize {
        let next = self.nodes.len();
        let number = *self.numbers.entry(node).or_insert(next);
        if number == next {
            let (parts, others, dependants) = Default::default();
            self.nodes.push(Known { reach: Reach::Not, parts, others, dependants });
        }
        number
    }
}
