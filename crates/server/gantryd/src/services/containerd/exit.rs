//! Ends of processes and moments, in the terms of containerd's messages.

use std::time::{Duration, UNIX_EPOCH};

use gantry_domain::ExitStatus;
use prost_types::Timestamp;

/// Of a process of which nobody saw the end.
const STATUS_UNKNOWN: u32 = 255;

/// The exit code, or 128 and the number of the signal.
pub(super) fn status(status: ExitStatus) -> u32 {
    match status {
        ExitStatus::Code(code) => code.into(),
        ExitStatus::Signal(signal) => 128 + u32::from(signal),
        ExitStatus::Unknown => STATUS_UNKNOWN,
    }
}

pub(super) fn timestamp(at: gantry_domain::Timestamp) -> Timestamp {
    Timestamp::from(UNIX_EPOCH + Duration::from_nanos(at.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_a_status_above_128() {
        assert_eq!(status(ExitStatus::Code(42)), 42);
        assert_eq!(status(ExitStatus::Signal(9)), 137);
        assert_eq!(status(ExitStatus::Unknown), 255);
    }

    #[test]
    fn a_moment_keeps_its_nanoseconds() {
        let at = timestamp(gantry_domain::Timestamp(1_700_000_000_123_456_789));
        assert_eq!(at, Timestamp { seconds: 1_700_000_000, nanos: 123_456_789 });
    }
}
