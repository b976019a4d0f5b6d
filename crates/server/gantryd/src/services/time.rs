//! Moments, as the messages of all APIs have them.

use std::time::{Duration, UNIX_EPOCH};

use prost_types::Timestamp;

/// 0001-01-01T00:00:00Z in seconds since the epoch: the first moment of a `Timestamp`, and Go's zero time,
/// which stands for no time.
pub(super) const YEAR_ONE: i64 = -62_135_596_800;

/// 9999-12-31T23:59:59Z, the last second of a `Timestamp`.
pub(super) const YEAR_9999: i64 = 253_402_300_799;

pub(super) fn timestamp(at: gantry_domain::Timestamp) -> Timestamp {
    Timestamp::from(UNIX_EPOCH + Duration::from_nanos(at.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_keeps_its_nanoseconds() {
        let at = timestamp(gantry_domain::Timestamp(1_700_000_000_123_456_789));
        assert_eq!(at, Timestamp { seconds: 1_700_000_000, nanos: 123_456_789 });
    }
}
