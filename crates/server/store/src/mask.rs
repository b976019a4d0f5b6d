//! Updates of what a field mask names.

use crate::{Container, Labels, StoreError};

/// The fields that are replaced if no mask says which.
const MUTABLE: [&str; 5] = ["labels", "spec", "extensions", "image", "snapshotkey"];

/// Takes from `new` what the paths of `mask` name, or all that can be changed if there are none.
pub(crate) fn apply(
    container: &mut Container,
    mut new: Container,
    mask: &[String],
) -> Result<(), StoreError> {
    if mask.is_empty() {
        let immutable = |field: &str, shown: &str| {
            Err(StoreError::invalid(field, format!("{shown} field is immutable")))
        };
        if container.snapshotter != new.snapshotter {
            return immutable("container.snapshotter", "container.Snapshotter");
        }
        if container.runtime.name != new.runtime.name {
            return immutable("container.runtime.name", "container.Runtime.Name");
        }
    }
    // A path may be named twice, and a map and an entry of it: nothing is taken out of `new` before all
    // paths that copy from it were.
    for path in mask {
        if let Some(key) = path.strip_prefix("labels.") {
            set_label(&mut container.labels, &new.labels, key);
        } else if let Some(key) = path.strip_prefix("extensions.") {
            match new.extensions.get(key) {
                Some(value) => container.extensions.insert(key.to_owned(), value.clone()),
                None => container.extensions.remove(key),
            };
        } else if path == "labels" {
            container.labels.clone_from(&new.labels);
        } else if path == "extensions" {
            container.extensions.clone_from(&new.extensions);
        } else if !MUTABLE.contains(&path.as_str()) {
            let message = format!("cannot update {path:?} field on {:?}", container.id);
            return Err(StoreError::invalid("update_mask", message));
        }
    }
    let is_named = |name: &str| mask.is_empty() || mask.iter().any(|path| path == name);
    if is_named("spec") {
        container.spec = new.spec.take();
    }
    if is_named("image") {
        container.image = std::mem::take(&mut new.image);
    }
    if is_named("snapshotkey") {
        container.snapshot_key = std::mem::take(&mut new.snapshot_key);
    }
    if mask.is_empty() {
        container.labels = new.labels;
        container.extensions = new.extensions;
    }
    container.labels.retain(|_, value| !value.is_empty());
    Ok(())
}

/// Sets it to the new value, or deletes it if there is none.
pub(crate) fn set_label(labels: &mut Labels, new: &Labels, key: &str) {
    match new.get(key).filter(|value| !value.is_empty()) {
        Some(value) => labels.insert(key.to_owned(), value.clone()),
        None => labels.remove(key),
    };
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;
    use crate::{AnyValue, tests::any_container};

    /// As field_mask.proto has it: path by path, each on its own.
    fn naive(mut container: Container, new: &Container, mask: &[String]) -> Option<Container> {
        let all: Vec<_> = MUTABLE.iter().map(|path| (*path).to_owned()).collect();
        for path in if mask.is_empty() { &all } else { mask } {
            let (field, key) = path.split_once('.').unwrap_or((path, ""));
            match (field, path.contains('.')) {
                ("labels", false) => container.labels = new.labels.clone(),
                ("labels", true) => {
                    let value = new.labels.get(key).cloned().unwrap_or_default();
                    container.labels.insert(key.to_owned(), value);
                }
                ("extensions", false) => container.extensions = new.extensions.clone(),
                ("extensions", true) => {
                    container.extensions.remove(key);
                    let value = new.extensions.get(key).cloned();
                    container.extensions.extend(value.map(|value| (key.to_owned(), value)));
                }
                ("spec", false) => container.spec = new.spec.clone(),
                ("image", false) => container.image = new.image.clone(),
                ("snapshotkey", false) => container.snapshot_key = new.snapshot_key.clone(),
                _ => return None,
            }
        }
        container.labels.retain(|_, value| !value.is_empty());
        Some(container)
    }

    fn path() -> impl Strategy<Value = String> {
        const PATHS: [&str; 11] = [
            "labels",
            "spec",
            "extensions",
            "image",
            "snapshotkey",
            "labels.a",
            "labels.a.b/c",
            "labels.",
            "extensions.a",
            "extensions.a.b/c",
            "labels.empty",
        ];
        const WRONG: [&str; 7] =
            ["id", "runtime.name", "snapshotter", "created_at", "labelsx", "", "spec.x"];
        prop_oneof![20 => select(&PATHS[..]), 1 => select(&WRONG[..])].prop_map(str::to_owned)
    }

    proptest! {
        #[test]
        fn a_mask_does_what_its_paths_say(
            stored in any_container(),
            new in any_container(),
            mask in vec(path(), 0..5),
        ) {
            let mut new = new;
            if mask.is_empty() {
                new.snapshotter.clone_from(&stored.snapshotter);
                new.runtime.name.clone_from(&stored.runtime.name);
            }
            let expected = naive(stored.clone(), &new, &mask);
            let mut updated = stored;
            let result = apply(&mut updated, new, &mask);
            prop_assert_eq!(result.is_ok(), expected.is_some());
            if let Some(expected) = expected {
                prop_assert_eq!(updated, expected);
            }
        }
    }

    #[test]
    fn what_cannot_be_changed_is_named() {
        let mut stored = Container { id: "c".into(), ..Container::default() };
        let mut message = |new: &Container, mask: &[&str]| {
            let mask: Vec<_> = mask.iter().map(|path| (*path).to_owned()).collect();
            apply(&mut stored, new.clone(), &mask).unwrap_err().to_string()
        };
        let mut new = Container::default();
        let cannot = r#"cannot update "runtime.name" field on "c": invalid argument"#;
        assert_eq!(message(&new, &["runtime.name"]), cannot);
        new.runtime.name = "x".into();
        assert_eq!(
            message(&new, &[]),
            "container.Runtime.Name field is immutable: invalid argument"
        );
        new.snapshotter = "x".into();
        assert_eq!(
            message(&new, &[]),
            "container.Snapshotter field is immutable: invalid argument"
        );
        new.spec = Some(AnyValue::default());
        assert!(apply(&mut stored, new, &["spec".into()]).is_ok());
    }
}
