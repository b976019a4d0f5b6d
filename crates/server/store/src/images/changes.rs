//! What an image may be, and updates of what a field mask names.

use std::collections::BTreeMap;

use super::Image;
use crate::{Digest, StoreError, mask::set_label, validate};

/// Takes from `new` what the paths of `mask` name, one after the other, or everything if there are none.
pub(super) fn apply(image: &mut Image, new: Image, mask: &[String]) -> Result<(), StoreError> {
    if mask.is_empty() {
        image.labels = new.labels;
        image.target = new.target;
        return Ok(());
    }
    for path in mask {
        if let Some(key) = path.strip_prefix("labels.") {
            set_label(&mut image.labels, &new.labels, key);
        } else if let Some(key) = path.strip_prefix("annotations.") {
            set_label(&mut image.target.annotations, &new.target.annotations, key);
        } else {
            match path.as_str() {
                "labels" => image.labels.clone_from(&new.labels),
                "target" => image.target.clone_from(&new.target),
                "annotations" => {
                    image.target.annotations.clone_from(&new.target.annotations);
                }
                _ => {
                    let path = validate::beginning(path);
                    let message = format!("cannot update {path:?} field on image {:?}", image.name);
                    return Err(StoreError::invalid("update_mask", message));
                }
            }
        }
    }
    Ok(())
}

/// What holds of each stored image.
pub(super) fn check(image: &Image) -> Result<(), StoreError> {
    let wrong =
        |field: &str, problem: String| Err(StoreError::invalid(format!("image.{field}"), problem));
    if image.name.is_empty() {
        return wrong("name", "image name must not be empty".to_owned());
    }
    validate::text("image.name", &image.name)?;
    validate::labels("image.labels", "image.Labels", &image.labels)?;
    let target = &image.target;
    if let Err(problem) = Digest::parse(&target.digest) {
        let problem = format!("Target.Digest {:?} invalid: {problem}", target.digest);
        return wrong("target.digest", problem);
    }
    if target.size == 0 {
        return wrong("target.size", "Target.Size must be greater than zero".to_owned());
    }
    if target.media_type.is_empty() {
        return wrong("target.media_type", "Target.MediaType must be set".to_owned());
    }
    Ok(())
}

/// Empty labels and annotations are none.
pub(super) fn drop_empty(image: &mut Image) {
    let drop = |map: &mut BTreeMap<String, String>| map.retain(|_, value| !value.is_empty());
    drop(&mut image.labels);
    drop(&mut image.target.annotations);
}
