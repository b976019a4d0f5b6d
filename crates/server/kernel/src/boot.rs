//! Which boot of the machine this is, and the time since.

use std::{fs, io, time::Duration};

use nix::time::{ClockId, clock_gettime};

/// A UUID that changes with each boot, see random(4).
pub const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The boot's UUID, as text.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string(BOOT_ID)?.trim().to_owned())
}

/// A clock tick of /proc, see times(2): as long on every architecture that the server supports.
pub const TICK: Duration = Duration::from_millis(10);

/// The time since boot in clock ticks, in which /proc/pid/stat has the start times of processes (field 22).
pub fn ticks_since_boot() -> io::Result<u64> {
    let time = Duration::from(clock_gettime(ClockId::CLOCK_BOOTTIME)?);
    Ok(u64::try_from(time.as_nanos() / TICK.as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process_start_time;

    #[test]
    fn a_process_starts_after_boot_and_before_now() {
        let own = process_start_time(std::process::id()).unwrap().unwrap();
        let now = ticks_since_boot().unwrap();
        assert!(process_start_time(1).unwrap().unwrap() < own && own <= now);
        assert!(TICK * u32::try_from(now - own).unwrap() < Duration::from_secs(3600));
    }
}
