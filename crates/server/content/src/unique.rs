//! References that nobody has named.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

/// The time in nanoseconds since the epoch, and a number: no other call of any server gives the same two.
#[must_use]
pub fn unique() -> (u128, u64) {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (now.as_nanos(), NUMBER.fetch_add(1, Ordering::Relaxed))
}
