//! Moments, as the messages of all APIs have them.

use std::time::{Duration, UNIX_EPOCH};

use prost_types::Timestamp;

use crate::rpc::BadField;

/// 0001-01-01T00:00:00Z in seconds since the epoch: the first moment of a `Timestamp`, and Go's zero time,
/// which stands for no time.
pub(super) const YEAR_ONE: i64 = -62_135_596_800;

/// 9999-12-31T23:59:59Z, the last second of a `Timestamp`.
pub(super) const YEAR_9999: i64 = 253_402_300_799;

pub(super) fn timestamp(at: gantry_domain::Timestamp) -> Timestamp {
    Timestamp::from(UNIX_EPOCH + Duration::from_nanos(at.0))
}

/// As a message. One that is longer than a message can have is the longest.
pub(super) fn nearest_duration(duration: Duration) -> prost_types::Duration {
    let longest = prost_types::Duration { seconds: i64::MAX, nanos: 999_999_999 };
    prost_types::Duration::try_from(duration).unwrap_or(longest)
}

/// The moment that a field of a request has, clamped to the epoch, since no event is earlier.
pub(super) fn moment(
    field: &'static str,
    at: &Timestamp,
) -> Result<gantry_domain::Timestamp, BadField> {
    if !(0..1_000_000_000).contains(&at.nanos) {
        return Err(BadField::new(field, "nanos must be 0 to 999999999"));
    }
    if !(YEAR_ONE..=YEAR_9999).contains(&at.seconds) {
        return Err(BadField::new(field, "must be of the years 1 to 9999"));
    }
    let Ok(seconds) = u64::try_from(at.seconds) else { return Ok(gantry_domain::Timestamp(0)) };
    let nanos = u64::from(at.nanos.cast_unsigned());
    Ok(gantry_domain::Timestamp(seconds.saturating_mul(1_000_000_000).saturating_add(nanos)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_keeps_its_nanoseconds() {
        let at = timestamp(gantry_domain::Timestamp(1_700_000_000_123_456_789));
        assert_eq!(at, Timestamp { seconds: 1_700_000_000, nanos: 123_456_789 });
    }

    #[test]
    fn moments_are_those_of_the_log() {
        let time = |seconds, nanos| moment("after_time", &Timestamp { seconds, nanos });
        assert_eq!(time(1, 5).unwrap(), gantry_domain::Timestamp(1_000_000_005));
        assert_eq!(time(-1, 5).unwrap(), gantry_domain::Timestamp(0));
        assert_eq!(time(YEAR_9999, 0).unwrap(), gantry_domain::Timestamp(u64::MAX));
        for (seconds, nanos) in [(0, -1), (0, 1_000_000_000), (YEAR_9999 + 1, 0), (YEAR_ONE - 1, 0)]
        {
            assert_eq!(time(seconds, nanos).unwrap_err().field, "after_time");
        }
    }
}
