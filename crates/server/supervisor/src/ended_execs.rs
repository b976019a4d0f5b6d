//! Remembers ended execs, to distinguish them from ids that never existed.

use std::{
    collections::VecDeque,
    hash::{BuildHasher, RandomState},
};

use gantry_domain::ProcessId;

/// How many are remembered. A container that is checked each second for a year has millions.
const REMEMBERED: usize = 1024;

/// The last execs of a container that have ended. Kept as hashes: of two ids that share one, the
/// other is taken for ended too, which happens to nobody in 2^64.
#[derive(Default)]
pub(crate) struct EndedExecs {
    hashes: VecDeque<u64>,
    hasher: RandomState,
}

impl EndedExecs {
    pub(crate) fn insert(&mut self, process: &ProcessId) {
        if self.hashes.len() == REMEMBERED {
            self.hashes.pop_front();
        }
        self.hashes.push_back(self.hasher.hash_one(process));
    }

    pub(crate) fn contains(&self, process: &ProcessId) -> bool {
        self.hashes.contains(&self.hasher.hash_one(process))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_remembered() {
        let mut ended = EndedExecs::default();
        let id = |number: usize| ProcessId::parse(&format!("e{number}")).unwrap();
        for number in 0..=REMEMBERED {
            assert!(!ended.contains(&id(number)));
            ended.insert(&id(number));
        }
        assert!(!ended.contains(&id(0)) && ended.contains(&id(1)));
        assert!(ended.contains(&id(REMEMBERED)));
        assert_eq!(ended.hashes.len(), REMEMBERED);
    }
}
