//! When a client's process was started.

use std::{
    fs,
    time::{Duration, SystemTime},
};

use gantry_domain::Timestamp;
use gantry_kernel::process_start_time;

/// Clock ticks of /proc in a second, see times(2): the same on every architecture that the server supports.
const TICKS: u64 = 100;

/// When the process with this pid was started, by the clock as it is set now. `None` if that is not known: there is
/// no such process any more, or none that the server can see.
pub(super) fn began(pid: u32) -> Option<Timestamp> {
    let start = process_start_time(pid).ok().flatten()?;
    let start = Duration::from_millis(start * (1000 / TICKS));
    let age = since_boot()?.checked_sub(start).unwrap_or_default();
    Some(SystemTime::now().checked_sub(age)?.into())
}

/// The time since boot from /proc/uptime, which start times of processes are measured by, too.
fn since_boot() -> Option<Duration> {
    let uptime = fs::read_to_string("/proc/uptime").ok()?;
    let seconds: f64 = uptime.split_ascii_whitespace().next()?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
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
