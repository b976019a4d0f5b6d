//! Which boot of the machine this is.

use std::{fs, io};

/// A UUID that changes with each boot, see random(4).
pub const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The boot's UUID, as text.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string(BOOT_ID)?.trim().to_owned())
}
