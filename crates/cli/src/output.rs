//! Standard output: lines, JSON and tables, and no panic when nobody reads them.

use std::{
    io::{self, Write},
    time::Duration,
};

use serde::Serialize;

use crate::failure::Failure;

/// Prints one line.
pub(crate) fn line(text: impl AsRef<str>) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{}", text.as_ref()).map_err(|e| Failure::output(&e))
}

/// Prints data as it is, at once.
pub(crate) fn raw(data: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(data).and_then(|()| stdout.flush());
    written.map_err(|e| Failure::output(&e))
}

/// Prints one line of JSON.
pub(crate) fn json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value);
    line(text.map_err(|error| Failure::new(format!("write JSON: {error}")))?)
}

/// Prints rows in columns as wide as their widest cell.
pub(crate) fn table<const N: usize>(rows: &[[String; N]]) -> Result<(), Failure> {
    let widths: [usize; N] =
        std::array::from_fn(|i| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0));
    rows.iter().try_for_each(|row| {
        let cells: Vec<_> = row.iter().zip(widths).map(|(cell, w)| format!("{cell:<w$}")).collect();
        line(cells.join("   ").trim_end())
    })
}

/// Text that may hold anything, such as arguments, without characters that a terminal obeys.
pub(crate) fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter.is_control() {
            true => printable.extend(letter.escape_debug()),
            false => printable.push(letter),
        }
    }
    printable
}

/// A number of bytes for people.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 1024 {
        return format!("{count}B");
    }
    // Three digits are shown, so the precision that is lost does not matter.
    #[allow(clippy::cast_precision_loss)]
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let decimals = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.decimals$}{}", UNITS[unit])
}

/// A duration for people, by its largest unit.
pub(crate) fn age(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_three_digits() {
        assert_eq!(bytes(0), "0B");
        assert_eq!(bytes(1023), "1023B");
        assert_eq!(bytes(1024), "1.00KiB");
        assert_eq!(bytes(64 << 20), "64.0MiB");
        assert_eq!(bytes(500 << 30), "500GiB");
    }

    #[test]
    fn ages_have_one_unit() {
        let ages = [119, 120, 7_199, 7_200, 172_799, 172_800, 40_000_000];
        let shown = ages.map(|seconds| age(Duration::from_secs(seconds)));
        assert_eq!(shown, ["119s", "2m", "119m", "2h", "47h", "2d", "462d"]);
    }
}
