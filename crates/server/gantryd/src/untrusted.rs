//! What must hold for any text and any message from outside, for `fuzz/`.

use prost_types::Any;

/// A configuration file, of gantryd or of containerd: read, or refused.
pub fn config(text: &str) {
    crate::config::check_file(text);
}

/// The content of an `Any` of a request about tasks: read, or refused.
pub fn any(type_url: &str, value: &[u8]) {
    crate::services::containerd::check_any(&Any {
        type_url: type_url.to_owned(),
        value: value.to_vec(),
    });
}
