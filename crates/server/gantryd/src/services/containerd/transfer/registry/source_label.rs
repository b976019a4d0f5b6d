//! From which repositories content came: a label of each blob, by which a push to the same registry need not send it.

use gantry_content::Content;
use gantry_domain::Namespace;
use gantry_images::label::DISTRIBUTION_SOURCE;
use gantry_registry::Reference;
use gantry_store::{Digest, Labels, StoreError, check_blob_labels};
use tonic::Status;

use crate::services::containerd::status::of_store;

/// The label for one repository.
pub(in super::super) struct SourceLabel {
    key: String,
    repository: String,
}

impl SourceLabel {
    pub(in super::super) fn of(reference: &Reference) -> Self {
        let key = format!("{DISTRIBUTION_SOURCE}.{}", reference.host_name());
        Self { key, repository: reference.repository().to_owned() }
    }

    /// Notes that a blob is in the repository. A blob that is in too many is not noted any more, as in containerd.
    pub(in super::super) async fn note(
        &self,
        content: &Content,
        namespace: &Namespace,
        digest: &Digest,
    ) -> Result<(), Status> {
        let store = content.store();
        let blob = match store.blob(namespace, digest).await {
            // The registry has what is not here.
            Err(StoreError::NotFound(_)) => return Ok(()),
            blob => blob.map_err(of_store)?,
        };
        let noted = self.noted(&blob.labels);
        let with = with(noted, &self.repository);
        let labels = Labels::from([(self.key.clone(), with.clone())]);
        if with == noted || check_blob_labels(&labels).is_err() {
            return Ok(());
        }
        let mask = vec![format!("labels.{}", self.key)];
        match store.update_blob(namespace, digest, labels, mask).await {
            // All of its labels together are too long.
            Ok(_) | Err(StoreError::Invalid { .. }) => Ok(()),
            Err(error) => Err(of_store(error)),
        }
    }

    /// The repositories that have a blob with these labels; none if they are not known.
    pub(in super::super) fn noted<'a>(&self, labels: &'a Labels) -> &'a str {
        labels.get(&self.key).map_or("", String::as_str)
    }

    /// The repository, of those that have a blob, whose name begins most like this one's.
    pub(in super::super) fn nearest(&self, noted: &str) -> Option<String> {
        let others =
            noted.split(',').filter(|other| !other.is_empty() && *other != self.repository);
        let alike = |other: &&str| {
            let parts = other.split('/').zip(self.repository.split('/'));
            parts.take_while(|(one, other)| one == other).count()
        };
        others.max_by_key(alike).map(ToOwned::to_owned)
    }
}

/// A list of repositories with one more, in order.
fn with(noted: &str, repository: &str) -> String {
    let mut all: Vec<_> =
        noted.split(',').filter(|one| !one.is_empty()).chain([repository]).collect();
    all.sort_unstable();
    all.dedup();
    all.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_noted_once_and_in_order() {
        assert_eq!(with("", "b"), "b");
        assert_eq!(with("a,c", "b"), "a,b,c");
        assert_eq!(with("a,b", "b"), "a,b");
    }

    #[test]
    fn the_nearest_repository_is_the_one_whose_name_begins_most_alike() {
        let label = SourceLabel::of(&Reference::parse("h.example:5000/a/b/c:t").unwrap());
        let key = "containerd.io/distribution.source.h.example".to_owned();
        assert_eq!(label.noted(&Labels::from([(key, "x".to_owned())])), "x");
        assert_eq!(label.noted(&Labels::new()), "");
        assert_eq!(label.nearest("x/y,a/b/d,a/c").as_deref(), Some("a/b/d"));
        assert_eq!(label.nearest("a/b/c"), None);
        assert_eq!(label.nearest(""), None);
    }
}
