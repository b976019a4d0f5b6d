//! Names of layers on top of each other.

use gantry_store::{Algorithm, Digest};
use sha2::{Digest as _, Sha256};

/// The chain ids of layers, of which these are the digests without compression: each names its layer with all that are
/// below, see config.md of the OCI image specification.
#[must_use]
pub fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        let id = match chain.last() {
            None => diff_id.clone(),
            Some(below) => {
                let text = format!("{below} {diff_id}");
                Digest::new(Algorithm::Sha256, &Sha256::digest(text))
            }
        };
        chain.push(id);
    }
    chain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_begins_with_its_lowest_layer() {
        let diff_id = |byte| Digest::new(Algorithm::Sha256, &[byte; 32]);
        assert!(chain_ids(&[]).is_empty());
        let chain = chain_ids(&[diff_id(1), diff_id(2), diff_id(3)]);
        assert_eq!(chain[0], diff_id(1));
        // printf '%s %s' sha256:0101… sha256:0202… | sha256sum
        let second = format!("{} {}", diff_id(1), diff_id(2));
        assert_eq!(chain[1], Digest::new(Algorithm::Sha256, &Sha256::digest(second)));
        assert_eq!(chain_ids(&[diff_id(1), diff_id(2)]), chain[..2]);
        assert_ne!(chain_ids(&[diff_id(2), diff_id(1)])[1], chain[1]);
    }
}
