//! What ids, labels and resources may be.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::{Container, Digest, Labels, Resource, StoreError};

/// Longest id in bytes, as containerd has it.
const MAX_ID: usize = 76;

/// Longest label in bytes, key and value together, as containerd has it.
const MAX_LABEL: usize = 4096;

/// Longest id of a lease and of a resource in bytes, which may be any text.
const MAX_TEXT: usize = 4096;

/// How much of a key an error shows.
const SHOWN: usize = 64;

/// Checks that `id` is `[A-Za-z0-9]+([._-][A-Za-z0-9]+)*`, as containerd has it of ids and names.
///
/// # Errors
/// What is wrong, in containerd's words.
pub fn check_identifier(id: &str) -> Result<(), String> {
    let problem = if id.is_empty() {
        "identifier must not be empty".to_owned()
    } else if id.len() > MAX_ID {
        let start = beginning(id);
        format!("identifier {start:?} greater than maximum length ({MAX_ID} characters)")
    } else if id.split(['.', '_', '-']).any(|part| part.is_empty() || !is_alphanumeric(part)) {
        format!("identifier {id:?} must match ^[A-Za-z0-9]+(?:[._-](?:[A-Za-z0-9]+))*$")
    } else {
        return Ok(());
    };
    Err(problem)
}

pub(crate) fn id(field: &str, shown: &str, id: &str) -> Result<(), StoreError> {
    check_identifier(id)
        .map_err(|problem| StoreError::invalid(field, format!("{shown}: {problem}")))
}

fn is_alphanumeric(part: &str) -> bool {
    part.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Not more of it than an error should show.
pub(crate) fn beginning(text: &str) -> &str {
    let end = text.char_indices().map(|(at, _)| at).find(|at| *at >= SHOWN);
    &text[..end.unwrap_or(text.len())]
}

pub(crate) fn labels(field: &str, shown: &str, labels: &Labels) -> Result<(), StoreError> {
    for (key, value) in labels {
        let length = key.len() + value.len();
        if length > MAX_LABEL {
            let message = format!(
                "{shown}: label key and value length ({length} bytes) greater than maximum size \
                 ({MAX_LABEL} bytes), key: {}",
                beginning(key)
            );
            return Err(StoreError::invalid(format!("{field}.{}", beginning(key)), message));
        }
    }
    Ok(())
}

/// Checks what labels a blob may have.
///
/// # Errors
/// [`StoreError::Invalid`] if one is too long.
pub fn check_blob_labels(blob: &Labels) -> Result<(), StoreError> {
    labels("labels", "info.Labels", blob)
}

/// A time that a caller says is to be stored: records have none before 1970.
pub(crate) fn epoch(field: &str, at: Option<SystemTime>) -> Result<(), StoreError> {
    match at {
        Some(at) if at < UNIX_EPOCH => {
            Err(StoreError::invalid(field, format!("{field} must not be before 1970")))
        }
        _ => Ok(()),
    }
}

/// What holds of each stored container. `context` begins the message.
pub(crate) fn container(context: &str, container: &Container) -> Result<(), StoreError> {
    let wrong = |field: &str, problem: &str| {
        Err(StoreError::invalid(format!("container.{field}"), format!("{context}: {problem}")))
    };
    id("container.id", &format!("{context}: container.ID"), &container.id)?;
    if container.extensions.contains_key("") {
        return wrong("extensions", "container.Extension keys must not be zero-length");
    }
    labels("container.labels", &format!("{context}: containers.Labels"), &container.labels)?;
    if container.runtime.name.is_empty() {
        return wrong("runtime.name", "container.Runtime.Name must be set");
    }
    if container.spec.is_none() {
        return wrong("spec", "container.Spec must be set");
    }
    if !container.snapshot_key.is_empty() && container.snapshotter.is_empty() {
        let problem = "container.Snapshotter must be set if container.SnapshotKey is set";
        return wrong("snapshotter", problem);
    }
    Ok(())
}

/// An id that may be any text, but neither empty nor without bound.
pub(crate) fn text(field: &str, text: &str) -> Result<(), StoreError> {
    if text.is_empty() {
        return Err(StoreError::invalid(field, format!("{field} must not be empty")));
    }
    if text.len() > MAX_TEXT {
        let message =
            format!("{field} is {} bytes long, at most {MAX_TEXT} are allowed", text.len());
        return Err(StoreError::invalid(field, message));
    }
    Ok(())
}

pub(crate) fn resource(resource: &Resource) -> Result<(), StoreError> {
    let Resource { kind, id } = resource;
    text("resource.id", id)?;
    text("resource.type", kind)?;
    let (family, name) = kind.split_once('/').map_or((&**kind, None), |(f, name)| (f, Some(name)));
    let wrong = |message: String| Err(StoreError::invalid("resource.type", message));
    match (family, name) {
        ("content", None) => Digest::parse(id).map(drop).map_err(|problem| {
            let message = format!("invalid content resource id {}: {problem}", beginning(id));
            StoreError::invalid("resource.id", message)
        }),
        ("images" | "ingests", None) => Ok(()),
        ("content" | "images" | "ingests", Some(_)) => {
            wrong(format!("invalid resource type {}", beginning(kind)))
        }
        ("snapshots", Some(name)) if !name.is_empty() && !name.contains('/') => Ok(()),
        ("snapshots", _) => wrong(format!("invalid snapshot resource type {}", beginning(kind))),
        _ => {
            let message = format!("resource type {} not supported yet", beginning(kind));
            Err(StoreError::Unimplemented(message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_containerd() {
        for good in ["a", "0", "a.b_c-d", &"x".repeat(76)] {
            assert!(id("f", "s", good).is_ok(), "{good}");
        }
        for bad in ["", ".", "a..b", "-a", "a-", "a/b", "ä", "a b", &"x".repeat(77)] {
            assert!(id("f", "s", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_label_is_bounded_and_its_error_too() {
        let key = "ä".repeat(40);
        let fits = Labels::from([(key.clone(), "x".repeat(4096 - 80))]);
        assert!(labels("f", "s", &fits).is_ok());
        let error = labels("f", "s", &Labels::from([(key, "x".repeat(4097 - 80))])).unwrap_err();
        let message =
            "label key and value length (4097 bytes) greater than maximum size (4096 bytes)";
        assert!(error.to_string().contains(message), "{error}");
        assert!(error.to_string().len() < 200, "{error}");
    }

    #[test]
    fn resources_are_of_known_kinds() {
        let of = |kind: &str, id: &str| resource(&Resource { kind: kind.into(), id: id.into() });
        let digest = format!("sha256:{}", "0a".repeat(32));
        for (kind, id) in [
            ("content", &*digest),
            ("ingests", "a ref: 1"),
            ("images", "docker.io/library/busybox:latest"),
            ("snapshots/overlayfs", "extract-1 sha256:2"),
        ] {
            assert!(of(kind, id).is_ok(), "{kind} {id}");
        }
        for (kind, id) in [
            ("content", "sha256:0a"),
            ("content", "x"),
            ("content", &*digest.to_uppercase()),
            ("content/x", &*digest),
            ("images/x", "x"),
            ("snapshots", "x"),
            ("snapshots/a/b", "x"),
            ("snapshots/", "x"),
            ("ingests", ""),
            ("ingests", &*"x".repeat(5000)),
        ] {
            assert!(matches!(of(kind, id), Err(StoreError::Invalid { .. })), "{kind} {id}");
        }
        assert!(matches!(of("leases", "x"), Err(StoreError::Unimplemented(_))));
    }
}
