//! What must hold of any update, for `fuzz/`.

use crate::{AnyValue, Container, Labels, Runtime, mask};

/// A container in which every value is this one.
fn container(value: &str) -> Container {
    let labels: Labels = ["a", "b.c", value].map(|key| (key.to_owned(), value.to_owned())).into();
    let any = AnyValue { type_url: value.to_owned(), value: value.as_bytes().to_vec() };
    Container {
        id: "c".to_owned(),
        labels,
        image: value.to_owned(),
        runtime: Runtime { name: "r".to_owned(), options: None },
        spec: Some(any.clone()),
        snapshot_key: value.to_owned(),
        extensions: ["a", "b.c", value].map(|key| (key.to_owned(), any.clone())).into(),
        ..Container::default()
    }
}

/// The paths of an update's mask: what nobody can change stays, what is named is the new one's, and doing
/// it again changes nothing.
pub fn mask(paths: &[String], value: &str) {
    let (old, new) = (container("old"), container(value));
    let mut updated = old.clone();
    if mask::apply(&mut updated, new.clone(), paths).is_err() {
        return;
    }
    let fixed = |container: &Container| {
        (container.id.clone(), container.runtime.clone(), container.snapshotter.clone())
    };
    assert_eq!(fixed(&updated), fixed(&old));
    assert!(updated.labels.values().all(|value| !value.is_empty()), "an empty label");
    let named = |field: &str| paths.is_empty() || paths.iter().any(|path| path == field);
    let image = if named("image") { &new.image } else { &old.image };
    let spec = if named("spec") { &new.spec } else { &old.spec };
    assert_eq!((&updated.image, &updated.spec), (image, spec));
    let mut again = updated.clone();
    assert!(mask::apply(&mut again, new, paths).is_ok(), "refused the second time");
    assert_eq!(again, updated);
}
