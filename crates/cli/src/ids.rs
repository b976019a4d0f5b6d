//! Names that nobody else has.

use std::fs;

use crate::failure::Failure;

/// Eight random digits.
pub(crate) fn random() -> Result<String, Failure> {
    let path = "/proc/sys/kernel/random/uuid";
    let id = fs::read_to_string(path).map_err(|e| Failure::io(path, &e))?;
    Ok(id[..8].to_owned())
}
