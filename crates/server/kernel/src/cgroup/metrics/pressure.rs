//! Files `*.pressure` of v2 (pressure stall information): how long tasks waited for a resource.

use std::path::Path;

use nix::errno::Errno;

use crate::cgroup::{CgroupError, file::Reader};

/// How long tasks waited.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pressure {
    /// Some of them.
    pub some: PressureLine,
    /// All of them.
    pub full: PressureLine,
}

/// Percent of the last 10, 60 and 300 seconds, and microseconds in all.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[allow(missing_docs, reason = "the kernel's names, see accounting/psi.rst")]
pub struct PressureLine {
    pub avg10: f64,
    pub avg60: f64,
    pub avg300: f64,
    pub total: u64,
}

/// `None` without such a file.
pub(super) fn pressure(reader: &mut Reader, path: &Path) -> Result<Option<Pressure>, CgroupError> {
    let text = match reader.read_present(path) {
        Ok(Some(text)) => text,
        Ok(None) => return Ok(None),
        // The kernel was started with `psi=0`.
        Err(CgroupError::Io { cause, .. })
            if cause.raw_os_error() == Some(Errno::EOPNOTSUPP as i32) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let mut pressure = Pressure::default();
    for line in text.lines() {
        let malformed = || CgroupError::malformed(path, line);
        match line.split_once(' ').ok_or_else(malformed)? {
            ("some", values) => pressure.some = pressure_line(values).ok_or_else(malformed)?,
            ("full", values) => pressure.full = pressure_line(values).ok_or_else(malformed)?,
            _ => {}
        }
    }
    Ok(Some(pressure))
}

/// "avg10=0.50 avg60=0.00 avg300=0.00 total=1234".
fn pressure_line(values: &str) -> Option<PressureLine> {
    let mut line = PressureLine::default();
    for (key, value) in values.split(' ').filter_map(|pair| pair.split_once('=')) {
        match key {
            "avg10" => line.avg10 = value.parse().ok()?,
            "avg60" => line.avg60 = value.parse().ok()?,
            "avg300" => line.avg300 = value.parse().ok()?,
            "total" => line.total = value.parse().ok()?,
            _ => {}
        }
    }
    Some(line)
}
