//! When a client's process was started.

use std::time::SystemTime;

use gantry_domain::Timestamp;
use gantry_kernel::{TICK, process_start_time, ticks_since_boot};

/// When the process with this pid was started, by the clock as it is set now. `None` if that is not known: there is
/// no such process any more, or none that the server can see.
pub(super) fn began(pid: u32) -> Option<Timestamp> {
    let start = process_start_time(pid).ok().flatten()?;
    let age = ticks_since_boot().ok()?.saturating_sub(start);
    let age = TICK.checked_mul(u32::try_from(age).ok()?)?;
    Some(SystemTime::now().checked_sub(age)?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_begins_after_those_before_it() {
        let own = began(std::process::id()).unwrap();
        assert!(own <= SystemTime::now().into());
        assert!(began(1).unwrap() < own);
        // Higher than any pid can be.
        assert_eq!(began(u32::MAX), None);
    }
}
