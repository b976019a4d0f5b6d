//! Paths in requests, checked once: all other code has absolute paths without `..`.

use std::path::{Component, Path, PathBuf};

use gantry_domain::Stdio;

use crate::rpc::BadField;

/// PATH_MAX of limits.h, with its final NUL.
const MAX_PATH: usize = 4096;

pub(super) fn optional(field: &'static str, path: &str) -> Result<Option<PathBuf>, BadField> {
    if path.is_empty() { Ok(None) } else { absolute(field, path).map(Some) }
}

/// A path, or what stands for a pipe of the server's.
pub(super) fn stream(field: &'static str, path: &str) -> Result<Option<PathBuf>, BadField> {
    if path == Stdio::HELD { Ok(Some(path.into())) } else { optional(field, path) }
}

pub(super) fn absolute(field: &'static str, path: &str) -> Result<PathBuf, BadField> {
    if path.len() >= MAX_PATH {
        let problem = format!("is {} bytes long, at most {} are allowed", path.len(), MAX_PATH - 1);
        return Err(BadField::new(field, problem));
    }
    if path.contains('\0') {
        return Err(BadField::new(field, "must not contain a NUL"));
    }
    let path = Path::new(path);
    if !path.is_absolute() {
        return Err(BadField::new(field, format!("must be an absolute path, is {path:?}")));
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(BadField::new(field, format!("must not contain '..': {path:?}")));
    }
    Ok(path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_absolute_and_plain() {
        assert!(absolute("f", "/a/b").is_ok());
        for bad in ["", "a", "../a", "/a/../b", "/a\0", &format!("/{}", "x".repeat(4096))] {
            assert!(absolute("f", bad).is_err(), "{bad:?}");
        }
        assert_eq!(optional("f", "").unwrap(), None);
        assert_eq!(stream("f", "gantry://").unwrap(), Some("gantry://".into()));
        for bad in ["gantry:///a", "gantry:", "Gantry://"] {
            assert!(stream("f", bad).is_err(), "{bad:?}");
        }
    }
}
