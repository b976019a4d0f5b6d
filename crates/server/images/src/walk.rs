//! The way from a document to all that it refers to.

use std::collections::HashSet;

use gantry_store::Digest;

use crate::{Descriptor, ImageError};

/// How much one document may refer to in all, which is more than any image has.
const MOST: usize = 100_000;

/// A walk, which comes to each digest once, the first child of a document before the second. Who walks says what children
/// there are.
pub struct Walk {
    root: Digest,
    seen: HashSet<Digest>,
    /// Those that are to be visited, the next one last.
    ahead: Vec<Descriptor>,
}

impl Walk {
    /// Begins at this document.
    #[must_use]
    pub fn from(root: Descriptor) -> Self {
        let seen = HashSet::from([root.digest.clone()]);
        Self { root: root.digest.clone(), seen, ahead: vec![root] }
    }

    /// What comes next; `None` at the end.
    #[allow(clippy::should_implement_trait, reason = "children are added meanwhile")]
    pub fn next(&mut self) -> Option<Descriptor> {
        self.ahead.pop()
    }

    /// These are next, but for those that were found before.
    ///
    /// # Errors
    /// [`ImageError::TooMuch`]: the walk is not to be continued.
    pub fn add(&mut self, children: Vec<Descriptor>) -> Result<(), ImageError> {
        let begin = self.ahead.len();
        for child in children {
            if self.seen.len() >= MOST {
                return Err(ImageError::TooMuch { root: self.root.clone(), most: MOST });
            }
            if self.seen.insert(child.digest.clone()) {
                self.ahead.push(child);
            }
        }
        self.ahead[begin..].reverse();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use gantry_store::{Algorithm, Labels};

    use super::*;

    fn descriptor(number: u32) -> Descriptor {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        Descriptor {
            media_type: String::new(),
            digest: Digest::new(Algorithm::Sha256, &bytes),
            size: 1,
            urls: Vec::new(),
            annotations: Labels::new(),
            platform: None,
        }
    }

    #[test]
    fn each_digest_is_visited_once_and_children_in_their_order() {
        let children = |number| match number {
            0 => vec![1, 2, 3],
            1 => vec![4, 2],
            // Back to where it came from, which no honest document can do.
            4 => vec![0, 1, 4],
            _ => vec![],
        };
        let mut walk = Walk::from(descriptor(0));
        let mut visited = Vec::new();
        while let Some(next) = walk.next() {
            let number = u32::from_str_radix(&next.digest.hex()[..8], 16).unwrap();
            visited.push(number);
            walk.add(children(number).into_iter().map(descriptor).collect()).unwrap();
        }
        assert_eq!(visited, [0, 1, 4, 2, 3]);
    }

    #[test]
    fn a_walk_has_an_end() {
        let mut walk = Walk::from(descriptor(0));
        let many = |from: u32| (from..from + 60_000).map(descriptor).collect::<Vec<_>>();
        walk.add(many(1)).unwrap();
        walk.add(many(1)).unwrap();
        let error = walk.add(many(60_001)).unwrap_err();
        assert!(error.to_string().contains("more than 100000"), "{error}");
    }
}
