//! Times as Go writes them: `1m30s`, `1.5s`, `300ms`.

use std::time::Duration;

/// As long as nobody waits.
const MOST: f64 = 1e6;

/// # Errors
/// That the text is no such time.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time as 1m30s, 1.5s or 300ms");
    let mut seconds = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, after) = rest.split_at(digits);
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let factor = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return Err(wrong()),
        };
        seconds += number.parse::<f64>().map_err(|_| wrong())? * factor;
        rest = after;
    }
    let is_time = !text.is_empty() && seconds.is_finite();
    if is_time { Ok(Duration::from_secs_f64(seconds.min(MOST))) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_go_reads_them() {
        for (text, millis) in
            [("1s", 1000), ("1m30s", 90_000), ("1.5s", 1500), ("300ms", 300), ("2h", 7_200_000)]
        {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(parse("9999999999h"), Ok(Duration::from_secs(1_000_000)));
        for wrong in ["", "1", "s", "1x", "-1s", "1..s", "1s2"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
