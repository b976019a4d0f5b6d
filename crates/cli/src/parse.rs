//! Values as people write them on a command line: sizes, durations, points in time.

use std::time::{Duration, SystemTime};

use gantry_client::Timestamp;

/// `64m`, `1g`, `512k` (powers of 1024, also `64MiB`), or bytes.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = split_number(text);
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(format!("{unit:?} is no unit of size: want b, k, m, g or t")),
    };
    let number: u64 = number.parse().map_err(|_| format!("{text:?} is no size such as 64m"))?;
    number.checked_mul(1 << shift).ok_or_else(|| format!("{text:?} is too large"))
}

/// `500ms`, `10s`, `5m`, `2h`, `1d`, or seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split_number(text);
    let milliseconds: u64 = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60 * 1000,
        "h" => 60 * 60 * 1000,
        "d" => 24 * 60 * 60 * 1000,
        _ => return Err(format!("{unit:?} is no unit of time: want ms, s, m, h or d")),
    };
    let number: u64 = number.parse().map_err(|_| format!("{text:?} is no duration such as 10s"))?;
    let total = number.checked_mul(milliseconds).ok_or_else(|| format!("{text:?} is too long"))?;
    Ok(Duration::from_millis(total))
}

/// A duration that is not zero.
pub(crate) fn interval(text: &str) -> Result<Duration, String> {
    let interval = duration(text)?;
    if interval.is_zero() { Err("an interval cannot be zero".to_owned()) } else { Ok(interval) }
}

/// RFC 3339, `@` and seconds since 1970, or a duration before now.
pub(crate) fn time(text: &str) -> Result<Timestamp, String> {
    if let Some(seconds) = text.strip_prefix('@') {
        let seconds = seconds.parse().map_err(|_| format!("{text:?} has no number of seconds"))?;
        return Ok(Timestamp { seconds, nanos: 0 });
    }
    if let Ok(ago) = duration(text) {
        let time = SystemTime::now().checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH);
        return Ok(time.into());
    }
    text.parse().map_err(|_| {
        format!("{text:?} is no time: want 2017-05-04T12:00:00Z, @1493899200 or 10m (ago)")
    })
}

fn split_number(text: &str) -> (&str, &str) {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_count_in_powers_of_1024() {
        assert_eq!(size("64m"), Ok(64 << 20));
        assert_eq!(size("1GiB"), Ok(1 << 30));
        assert_eq!(size("4096"), Ok(4096));
        for wrong in ["", "m", "-1", "1x", "1.5g", "99999999999t"] {
            size(wrong).unwrap_err();
        }
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7200)));
        assert_eq!(duration("3"), Ok(Duration::from_secs(3)));
        duration("3 s").unwrap_err();
        interval("0").unwrap_err();
    }

    #[test]
    fn times_are_absolute_or_ago() {
        assert_eq!(time("@12"), Ok(Timestamp { seconds: 12, nanos: 0 }));
        assert_eq!(time("1970-01-01T00:01:00Z"), Ok(Timestamp { seconds: 60, nanos: 0 }));
        let ago = time("10m").unwrap();
        let now = Timestamp::from(SystemTime::now());
        assert!((599..=601).contains(&(now.seconds - ago.seconds)));
        time("yesterday").unwrap_err();
    }
}
