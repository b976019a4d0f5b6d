//! When a client's process began.

use std::{
    fs,
    time::{Duration, SystemTime},
};

use gantry_domain::Timestamp;
use gantry_kernel::process_start_time;

/// Clock ticks of /proc in a second, see times(2): so on every architecture that Rust's server runs on.
const TICKS: u64 = 100;

/// When the process began that has this pid, by today's clock. `None` if that cannot be told: there is no such
/// process any more, or none that the server sees.
pub(super) fn began(pid: u32) -> Option<Timestamp> {
    let start = process_start_time(pid).ok().flatten()?;
    let start = Duration::from_millis(start * (1000 / TICKS));
    let age = since_boot()?.checked_sub(start).unwrap_or_default();
    Some(SystemTime::now().checked_sub(age)?.into())
}

/// The first number of /proc/uptime, of the same clock as the start of a process.
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
