//! Sizes as systemd writes them: "512M".

use super::{ConfigError, value};

/// A number of bytes, with a suffix for a power of 1024: K, M, G or T. None if none was given.
pub(super) fn size(key: &'static str, given: Option<String>) -> Result<Option<u64>, ConfigError> {
    let Some(text) = given else { return Ok(None) };
    let bytes = bytes(&text);
    let problem = || value(key, format!("{text:?} is not a size such as 512M or 1G"));
    bytes.map(Some).ok_or_else(problem)
}

fn bytes(text: &str) -> Option<u64> {
    let unit = ["K", "M", "G", "T"].into_iter().zip(1..).find(|(unit, _)| text.ends_with(unit));
    let (number, power) = match unit {
        Some((unit, power)) => (text.strip_suffix(unit)?, power),
        None => (text, 0),
    };
    // Rust's parser accepts a plus, too.
    let digits = number.bytes().all(|digit| digit.is_ascii_digit());
    let number: u64 = number.parse().ok().filter(|&number| digits && number > 0)?;
    number.checked_mul(1024_u64.pow(power))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_as_in_systemd() {
        let size = |text: &str| size("memory_max", Some(text.to_owned()));
        assert_eq!(size("4096").unwrap(), Some(4096));
        assert_eq!(size("512M").unwrap(), Some(512 << 20));
        assert_eq!(size("2T").unwrap(), Some(2 << 40));
        for bad in ["", "0", "0K", "K", "1k", "+1", "-1", "1.5G", "1 G", "99999999999T"] {
            assert!(size(bad).is_err(), "{bad:?}");
        }
    }
}
