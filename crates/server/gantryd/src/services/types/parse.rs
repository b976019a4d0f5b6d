//! Fields of requests, checked once: behind this, an id is an id and a path is a path.

use gantry_domain::{ContainerId, ProcessId, Stdio};

use crate::rpc::BadField;
pub(super) use crate::services::path::{absolute as absolute_path, optional as optional_path};

pub(super) fn container_id(id: &str) -> Result<ContainerId, BadField> {
    ContainerId::parse(id).map_err(|error| BadField::new("id", error.to_string()))
}

pub(super) fn process_id(pid: &str) -> Result<ProcessId, BadField> {
    ProcessId::parse(pid).map_err(|error| BadField::new("pid", error.to_string()))
}

/// A name that becomes a directory; the rules are those of an id.
pub(super) fn name(field: &'static str, name: &str) -> Result<String, BadField> {
    match ContainerId::parse(name) {
        Ok(name) => Ok(name.into()),
        Err(error) => Err(BadField::new(field, error.to_string())),
    }
}

pub(super) fn stdio(stdin: &str, stdout: &str, stderr: &str) -> Result<Stdio, BadField> {
    Ok(Stdio {
        stdin: optional_path("stdin", stdin)?,
        stdout: optional_path("stdout", stdout)?,
        stderr: optional_path("stderr", stderr)?,
    })
}

/// Strings that become arguments of programs. How many they are, and how long, was looked at when they
/// arrived (`super::admission`).
pub(super) fn strings(field: &'static str, strings: Vec<String>) -> Result<Vec<String>, BadField> {
    if strings.iter().any(|string| string.contains('\0')) {
        return Err(BadField::new(field, "must not contain a NUL"));
    }
    Ok(strings)
}

/// A signal's number, see signal(7), or 0, which asks whether the process lives, see kill(2).
pub(super) fn signal(signal: u32) -> Result<i32, BadField> {
    match i32::try_from(signal) {
        Ok(number @ 0..=64) => Ok(number),
        _ => Err(BadField::new("signal", format!("must be 0 to 64, is {signal}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_those_of_linux() {
        assert!(signal(65).is_err() && signal(u32::MAX).is_err());
        assert_eq!((signal(0).unwrap(), signal(64).unwrap()), (0, 64));
    }
}
