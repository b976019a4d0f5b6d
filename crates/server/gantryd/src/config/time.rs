//! Lengths of time in flags and in the configuration.

use std::time::Duration;

use super::{ConfigError, value};

/// A time as Go writes it, which is what daemons of 2017 pass: "2m", "1m30s", "500ms".
pub(super) fn duration(
    key: &'static str,
    given: Option<String>,
    default: &str,
) -> Result<Duration, ConfigError> {
    let text = given.unwrap_or_else(|| default.to_owned());
    let mut rest = text.as_str();
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let (number, behind) = rest.split_at(digits);
        let letters = behind.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(letters);
        let seconds = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(value(key, format!("{text:?} is not a time such as 90s or 2m"))),
        };
        let part = number.parse().ok().map(|number: f64| number * seconds);
        let part = part.and_then(|part| Duration::try_from_secs_f64(part).ok());
        total += part.ok_or_else(|| value(key, format!("{text:?} is not a time")))?;
        rest = behind;
    }
    if total.is_zero() && key != "linger" {
        return Err(value(key, "must be longer than nothing".to_owned()));
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_in_go() {
        let time = |text: &str| duration("start_timeout", Some(text.to_owned()), "");
        assert_eq!(time("1m30s").unwrap(), Duration::from_secs(90));
        assert_eq!(time("1.5s").unwrap(), Duration::from_millis(1500));
        for bad in ["", "0s", "5", "x", "-1s", "s", "1d"] {
            assert!(time(bad).is_err(), "{bad}");
        }
    }
}
